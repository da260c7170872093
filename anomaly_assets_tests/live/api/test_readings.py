"""``POST /v1/readings``: durable before it is answered, row by row, and nothing counted twice."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest
import zstandard

from anomaly_assets_tests.live.api.serving import JSON, NDJSON, URL, Served, count, ndjson, reading

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Database


def test_single_reading_is_stored(served: Served, database: Database) -> None:
    """One reading is in the journal when 202 comes, as sent."""
    answer = served.client.post(URL, json=reading())
    assert answer.status_code == 202
    assert answer.json()["accepted"] == 1
    with database.connect() as connection:
        row = connection.execute("SELECT entity_id, stream_id, value, source FROM readings")
        assert row.fetchall() == [("ann", "heart_rate", 62.5, "api")]


@pytest.mark.parametrize("packing", ["", "gzip", "zstd"])
@pytest.mark.parametrize("kind", ["json", "ndjson"])
def test_batches_of_every_form_are_stored(
    served: Served, database: Database, packing: str, kind: str
) -> None:
    """JSON arrays and NDJSON, plain and packed, of several entities, are all stored."""
    rows = [reading(i, f"e{i % 7}") for i in range(5000)]
    body = json.dumps(rows).encode() if kind == "json" else ndjson(rows)
    packed = {"": body, "gzip": gzip.compress(body), "zstd": zstandard.compress(body)}[packing]
    headers = (JSON if kind == "json" else NDJSON) | (
        {"Content-Encoding": packing} if packing else {}
    )
    answer = served.client.post(URL, content=packed, headers=headers)
    assert answer.status_code == 202, answer.text
    assert answer.json() == {
        "accepted": 5000,
        "duplicates": 0,
        "rejected": 0,
        "rows": [],
        "first_look": None,
        "first_looks": [],
        "scored_elsewhere": {},
    }
    assert count(database) == 5000


def test_bad_rows_are_refused_one_by_one(served: Served, database: Database) -> None:
    """Good rows of a batch are stored; bad ones get number and reason, and are recorded."""
    rows = [
        reading(0),
        reading(1, stream_id="nonsense"),
        reading(2, value=float("nan")),
        reading(3, value="many"),
        reading(4, timestamp="yesterday"),
        reading(5, timestamp="2999-01-01T00:00:00Z"),
        reading(6, value=None),
        reading(7, value=9e99),
        reading(8, entity=""),
        reading(9, value=True),
        [1, 2],
        reading(11),
    ]
    answer = served.client.post(URL, content=json.dumps(rows), headers=JSON)
    assert answer.status_code == 202, answer.text
    document = answer.json()
    assert document["accepted"] == 2
    assert [(row["row"], row["reason"]) for row in document["rows"]] == [
        (2, "unknown_stream"),
        (3, "not_finite"),
        (4, "not_a_number"),
        (5, "wrong_time"),
        (6, "future_time"),
        (7, "empty_value"),
        (8, "out_of_range"),
        (9, "missing_entity"),
        (10, "not_a_number"),
        (11, "malformed_row"),
    ]
    with database.connect() as connection:
        recorded = connection.execute(
            "SELECT row_number, reason FROM rejected_readings ORDER BY 1"
        ).fetchall()
    assert recorded == [(row["row"], row["reason"]) for row in document["rows"]]


def test_repeated_bad_rows_are_recorded_once(served: Served, database: Database) -> None:
    """A sender that repeats the same bad batch does not fill the table."""
    for _ in range(3):
        answer = served.client.post(URL, json=[reading(0, value="x"), reading(1, value="y")])
        assert answer.status_code == 422
        assert answer.json()["rejected"] == 2
    assert count(database, "rejected_readings") == 2


def test_readings_sent_again_are_duplicates(served: Served, database: Database) -> None:
    """A reading of the same stream and time is acknowledged again, and the first value stays."""
    assert served.client.post(URL, json=[reading(0), reading(1)]).json()["accepted"] == 2
    again = served.client.post(URL, json=[reading(1, value=80), reading(2), reading(2, value=70)])
    assert again.status_code == 202
    assert (again.json()["accepted"], again.json()["duplicates"]) == (1, 2)
    with database.connect() as connection:
        rows = connection.execute("SELECT value FROM readings").fetchall()
    assert rows == [(62.5,)] * 3


def test_token_of_an_entity_names_it(served: Served, database: Database) -> None:
    """With an entity's token the rows need not say whose they are."""
    row = reading()
    del row["entity_id"]
    assert served.of_entity("bob").post(URL, json=row).status_code == 202
    with database.connect() as connection:
        assert connection.execute("SELECT entity_id FROM readings").fetchall() == [("bob",)]


def test_idempotency_key_repeats_the_answer(served: Served) -> None:
    """The same key and body get the first answer to the byte; another body is refused."""
    headers = {"Idempotency-Key": "a-key"}
    first = served.client.post(URL, json=[reading()], headers=headers)
    again = served.client.post(URL, json=[reading()], headers=headers)
    assert first.json()["accepted"] == 1
    assert again.content == first.content
    assert again.headers["idempotent-replay"] == "true"
    other = served.client.post(URL, json=[reading(1)], headers=headers)
    assert other.status_code == 422
    unusable = served.client.post(URL, json=[reading()], headers={"Idempotency-Key": "k" * 201})
    assert unusable.status_code == 422


def test_idempotency_key_of_a_failed_request_is_free(served: Served) -> None:
    """A request that was refused may be corrected under the same key."""
    headers = {"Idempotency-Key": "a-key", **JSON}
    assert served.client.post(URL, content=b"[{", headers=headers).status_code == 422
    answer = served.client.post(URL, json=[reading()], headers={"Idempotency-Key": "a-key"})
    assert answer.status_code == 202


def test_names_are_data(served: Served, database: Database) -> None:
    """SQL, quotes, emoji and control characters in names do no harm."""
    names = ["'; DROP TABLE readings; --", 'o"Neill', "😀", "a\x00b", "\ud800", "x" * 500, "%s"]
    rows = [reading(i, name) for i, name in enumerate(names)]
    rows += [reading(i, stream_id=name) for i, name in enumerate(names)]
    body = json.dumps(rows)
    answer = served.client.post(URL, content=body, headers=JSON)
    assert answer.status_code == 202, answer.text
    with database.connect() as connection:
        stored = {row[0] for row in connection.execute("SELECT entity_id FROM readings")}
    assert {*names[:3], "a\N{REPLACEMENT CHARACTER}b", "%s"} <= stored
    assert answer.json()["accepted"] + answer.json()["rejected"] == len(rows)
