"""What is refused: wrong tokens, other people's readings, hostile bodies, and too much at once."""

from __future__ import annotations

import gzip
import json
import resource
import socket
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

import pytest
import zstandard

from anomaly_assets.live.tokens import TokenBook
from anomaly_assets.settings import Settings
from anomaly_assets_tests.live.api.serving import (
    JSON,
    NDJSON,
    URL,
    Served,
    count,
    ndjson,
    reading,
    serving,
    wait_until,
)
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.storage.database import Database

LIMIT = Settings.model_fields["live_max_body_bytes"].default
READS = (
    "/v1/anomalies",
    "/v1/streams",
    "/v1/events",
    f"/v1/explanations/{'0' * 8}-{'0000-' * 3}{'0' * 12}",
)


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def expired(served: Served) -> str:
    secret = served.tokens.create("old", expires=datetime.now(tz=UTC) + timedelta(hours=1))
    with served.deployment.database.connect() as connection:
        connection.execute(
            "UPDATE api_tokens SET created_at = now() - interval '2 hours', "
            "expires_at = now() - interval '1 hour' WHERE name = 'old'"
        )
    return secret


def revoked(served: Served) -> str:
    secret = served.tokens.create("gone")
    (number,) = (one.token_id for one in served.tokens.tokens() if one.name == "gone")
    served.tokens.revoke(number)
    return secret


def test_missing_wrong_expired_and_revoked_tokens_are_refused(
    database: Database, tmp_path: Path
) -> None:
    """Without a good token every route answers 401 with a challenge, and nothing is stored."""
    tokens = TokenBook(database, failures_per_minute=1000)
    with serving(deployment_of(database, tmp_path), tokens=tokens) as served:
        refuse_everything(served)
    assert count(database) == 0


def refuse_everything(served: Served) -> None:
    unknown = "aa_" + "A" * 43
    secrets = [None, "x", unknown, "aa_" + "é" * 43, expired(served), revoked(served)]
    for secret in secrets:
        headers = [] if secret is None else [(b"authorization", b"Bearer " + secret.encode())]
        client = served.as_token(None)
        answers = [client.post(URL, json=reading(), headers=headers)]
        answers += [client.get(path, headers=headers) for path in READS]
        for answer in answers:
            assert answer.status_code == 401, (secret, answer.url)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert secret in (None, "x") or secret not in answer.text


def test_who_tries_many_tokens_has_to_wait(database: Database, tmp_path: Path) -> None:
    """After twenty refused ones in a minute no token is looked up for that address, good or not.

    Whoever has shown a good one before goes on, and the answers tell a good one from no other.
    """
    proxy = IPv4Network("127.0.0.1/32")
    deployment = deployment_of(database, tmp_path)
    deployment.settings = deployment.settings.model_copy(update={"live_trusted_proxies": (proxy,)})
    with serving(deployment) as served:
        path = "/v1/anomalies"
        assert served.client.get(path).status_code == 200
        guesses = [served.as_token(f"aa_{number:043d}") for number in range(22)]
        answers = [guess.get(path) for guess in guesses]
        assert [answer.status_code for answer in answers] == [401] * 20 + [429] * 2
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        fresh = served.as_token(served.tokens.create("fresh"))
        refused = fresh.get(path)
        assert refused.status_code == 429
        assert refused.text == answers[-1].text
        assert served.client.get(path).status_code == 200
        elsewhere = {"X-Forwarded-For": "192.0.2.1, 198.51.100.7"}
        assert fresh.get(path, headers=elsewhere).status_code == 200
        assert fresh.get(path).status_code == 200


def test_nobody_but_a_proxy_says_where_a_request_comes_from(served: Served) -> None:
    """Another address in every request helps nobody who tries tokens."""
    codes = [
        served.as_token("aa_" + "B" * 43)
        .get("/v1/anomalies", headers={"X-Forwarded-For": f"192.0.2.{number}"})
        .status_code
        for number in range(22)
    ]
    assert codes == [401] * 20 + [429] * 2
    assert len(served.tokens.failures) == 1


def test_tokens_do_only_what_they_may(served: Served) -> None:
    """A token that only writes reads nothing; one that only reads writes nothing."""
    writes = served.of_entity("ann", read=False)
    assert [writes.get(path).status_code for path in READS] == [403] * len(READS)
    assert writes.post(URL, json=reading()).status_code == 202
    assert served.of_entity("ann", write=False).post(URL, json=reading()).status_code == 403


def test_another_entitys_token_sends_and_reads_nothing(served: Served, database: Database) -> None:
    """One row of somebody else's refuses the request, and reading it is refused too."""
    bob = served.of_entity("bob")
    answer = bob.post(URL, json=[reading(0, "bob"), reading(1, "ann")])
    assert answer.status_code == 403
    assert count(database) == 0
    assert bob.post(URL, content=ndjson([reading(0, "ann")]), headers=NDJSON).status_code == 403
    for path in ("/v1/anomalies", "/v1/streams", "/v1/events"):
        assert bob.get(path, params={"entity_id": "ann"}).status_code == 403


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"[", 422),
        (b"[{}", 422),
        (b"[{},]", 422),
        (b"{} {}", 422),
        (b"null", 422),
        (b"\xff\xfe", 422),
        (b"[" * 100_000, 422),
        (b'{"a":' * 1000, 422),
        (b"[" + b'{"value":' + b"9" * 4_000_000 + b"}]", 422),
        (b'{"value":' + b"9" * 4000 + b"}", 422),
        (b'{"value":1e99999}', 422),
        (b'{"value":NaN,"entity_id":"ann"}', 422),
        (b'{"entity_id":"\\ud800","value":{"a":[1,2,{"b":"\\udfff"}]}}', 422),
        (b"[" + b"{}," * 10_000 + b"{}]", 413),
        (b"[" + b"0," * 1_000_000 + b"0]", 413),
        (b" " * (LIMIT + 1), 413),
    ],
)
def test_hostile_documents_are_refused(served: Served, body: bytes, status: int) -> None:
    """Broken, deep, endless and huge documents are refused, and the next request is served."""
    assert served.client.post(URL, content=body, headers=JSON).status_code == status
    assert served.client.post(URL, json=reading()).status_code == 202


def test_other_types_and_encodings_are_refused(served: Served) -> None:
    """Only JSON and NDJSON in UTF-8, and only gzip and zstd, are understood."""
    for headers in (
        {"Content-Type": "text/csv"},
        {"Content-Type": ""},
        {"Content-Type": "application/json; charset=utf-16"},
        JSON | {"Content-Encoding": "br"},
        JSON | {"Content-Encoding": "gzip, gzip"},
    ):
        answer = served.client.post(URL, content=b"[]", headers=headers)
        assert answer.status_code == 415, headers
    for encoding in ("gzip", "zstd"):
        answer = served.client.post(
            URL, content=b"no such thing", headers=JSON | {"Content-Encoding": encoding}
        )
        assert answer.status_code == 422


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
@pytest.mark.parametrize("filling", [b" ", b"\n", b"[", b"0,"])
def test_bombs_are_refused_in_bounded_memory(served: Served, packing: str, filling: bytes) -> None:
    """A body that unpacks to 2 GB ends at the limit, and memory with it."""
    million = filling * (1 << 20)
    if packing == "gzip":
        bomb = gzip.compress(million) * (2048 // len(filling))
    else:
        bomb = zstandard.compress(million) * (2048 // len(filling))
    before = peak_megabytes()
    answer = served.client.post(URL, content=bomb, headers=JSON | {"Content-Encoding": packing})
    assert answer.status_code == 413, answer.text
    assert peak_megabytes() - before < 100


def test_million_rows_stream_in_bounded_memory(served: Served) -> None:
    """An NDJSON stream of a million blank, short and bad lines holds little at any time."""
    served.client.post(URL, json=reading())
    before = peak_megabytes()
    body = zstandard.compress(b"\n" * 1_000_000 + b"1\n" * 20_000 + ndjson([reading()] * 30_000))
    answer = served.client.post(URL, content=body, headers=NDJSON | {"Content-Encoding": "zstd"})
    assert answer.status_code == 202, answer.text
    document = answer.json()
    assert (document["accepted"], document["duplicates"]) == (0, 30_000)
    assert document["rejected"] == 20_000
    assert len(document["rows"]) == 1000
    assert count(served.deployment.database, "rejected_readings") == 20_000
    assert peak_megabytes() - before < 150


def test_declared_length_is_refused_unread(served: Served) -> None:
    """A body that says it is too long is refused before it comes."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        secret = served.client.headers["authorization"]
        connection.sendall(
            f"POST {URL} HTTP/1.1\r\nHost: x\r\nAuthorization: {secret}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {10**15}\r\n\r\n".encode()
        )
        assert b" 413 " in connection.recv(65536).split(b"\r\n")[0] + b" "


def test_senders_that_vanish_do_no_harm(served: Served, database: Database) -> None:
    """A connection that breaks in the middle of a body stores nothing and is forgotten."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        secret = served.client.headers["authorization"]
        connection.sendall(
            f"POST {URL} HTTP/1.1\r\nHost: x\r\nAuthorization: {secret}\r\n"
            f"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n[".encode()
        )
    wait_until(lambda: served.app.state.context.memory.used == 0, "its memory is given back")
    assert served.client.post(URL, json=reading()).status_code == 202
    assert count(database) == 1


def test_too_much_at_once_is_told_when_to_come_again(database: Database, tmp_path: Path) -> None:
    """Beyond its rate a sender gets 429 and Retry-After; others go on."""
    deployment = deployment_of(database, tmp_path)
    slow = deployment.settings.model_copy(
        update={"live_readings_per_second": 10.0, "live_burst_seconds": 1.0}
    )
    deployment.settings = slow
    with serving(deployment) as served:
        first = served.client.post(URL, json=[reading(i) for i in range(10)])
        assert first.status_code == 202
        second = served.client.post(URL, json=[reading(i) for i in range(10)])
        assert second.status_code == 429
        assert int(second.headers["retry-after"]) >= 1
        other = served.of_entity("bob").post(URL, json=reading(0, "bob"))
        assert other.status_code == 202


def test_too_many_requests_are_told_when_to_come_again(database: Database, tmp_path: Path) -> None:
    """Questions count too."""
    deployment = deployment_of(database, tmp_path)
    deployment.settings = deployment.settings.model_copy(
        update={"live_requests_per_second": 0.1, "live_burst_seconds": 30.0}
    )
    with serving(deployment) as served:
        codes = [served.client.get("/v1/anomalies").status_code for _ in range(4)]
        assert codes == [200, 200, 200, 429]
        assert json.loads(served.client.get("/v1/health/live").content)["status"] == "alive"
