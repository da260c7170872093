"""``/v1/webhooks`` over HTTP: whose they are, what is shown, and what is refused."""

from __future__ import annotations

import asyncio
import json
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from anomaly_assets.live.webhooks import own_secret, try_webhook
from anomaly_assets.storage.webhooks import find_webhook, note_delivery
from anomaly_assets_tests.live.api.serving import JSON, Served, count, serving
from anomaly_assets_tests.live.receivers import http_receiver
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from anomaly_assets.storage.database import Database
    from anomaly_assets.storage.webhooks import Webhook

PATH = "/v1/webhooks"
URL = "http://127.0.0.1:9/hook/secret-path"


def opened(database: Database, home: Path, **options: Any) -> Any:
    """Serve a deployment whose webhooks may reach this machine."""
    deployment = deployment_of(database, home)
    update = {"webhook_networks": (IPv4Network("127.0.0.0/8"),), **options}
    deployment.settings = deployment.settings.model_copy(update=update)
    return serving(deployment)


@pytest.fixture
def local(database: Database, tmp_path: Path) -> Iterator[Served]:
    """Serve such a deployment."""
    with opened(database, tmp_path) as served:
        yield served


def add(client: httpx.Client, **wish: Any) -> dict[str, Any]:
    """Add a webhook that is welcome."""
    answer = client.post(PATH, json={"url": URL, **wish})
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


def stored(served: Served, number: int) -> Webhook:
    """Return a webhook as it stands."""
    with served.deployment.database.connect() as connection:
        found = find_webhook(connection, number)
    assert found is not None
    return found


def test_the_answer_holds_the_secret_and_the_list_does_not(local: Served) -> None:
    """It is the one that posts are signed with; of the address only the host is shown."""
    made = add(local.client)
    webhook = stored(local, made["webhook_id"])
    assert made["secret"] == own_secret(local.deployment, webhook)
    assert webhook.url == URL
    assert (made["entity_id"], made["events"]) == (None, ["anomaly", "explanation"])
    listed = local.client.get(PATH)
    assert [one["webhook_id"] for one in listed.json()["webhooks"]] == [made["webhook_id"]]
    assert listed.json()["webhooks"][0]["address"] == "http://127.0.0.1:9/..."
    for hidden in ("secret-path", made["secret"]):
        assert hidden not in listed.text


def test_what_was_added_is_posted_to(database: Database, tmp_path: Path) -> None:
    """The address that came over HTTP is the one that is reached."""
    with http_receiver() as receiver, opened(database, tmp_path) as served:
        made = add(served.client, url=receiver.url())
        webhook = stored(served, made["webhook_id"])
        assert asyncio.run(try_webhook(served.deployment, webhook)) is None
        assert len(receiver.posted) == 1


def test_an_entitys_token_has_webhooks_of_its_entity(local: Served) -> None:
    """It need not name it, may name no other, and sees and changes no other's."""
    ann, bob = local.of_entity("ann"), local.of_entity("bob")
    mine = add(ann, events=["window"])
    assert mine["entity_id"] == "ann"
    assert add(ann, entity_id="ann")["entity_id"] == "ann"
    assert ann.post(PATH, json={"url": URL, "entity_id": "bob"}).status_code == 403
    assert bob.get(PATH).json() == {"webhooks": []}
    assert bob.get(PATH, params={"entity_id": "ann"}).status_code == 403
    number = f"{PATH}/{mine['webhook_id']}"
    for answer in (bob.delete(number), bob.post(f"{number}/resume")):
        assert answer.status_code == 404
        assert answer.json() == bob.delete(f"{PATH}/999999").json()
    everybodys = add(local.client)
    assert ann.delete(f"{PATH}/{everybodys['webhook_id']}").status_code == 404
    assert local.client.delete(number).status_code == 204


@pytest.mark.parametrize(("write", "read"), [(False, True), (True, False)])
def test_it_takes_the_right_to_write_and_to_read(
    local: Served, database: Database, *, write: bool, read: bool
) -> None:
    """Who may only read changes nothing; who may only write gets no results posted."""
    made = add(local.client, entity_id="ann")
    client = local.of_entity("ann", write=write, read=read)
    assert client.post(PATH, json={"url": URL}).status_code == 403
    assert client.get(PATH).status_code == (200 if read else 403)
    number = f"{PATH}/{made['webhook_id']}"
    if not write:
        assert client.delete(number).status_code == 403
        assert client.post(f"{number}/resume").status_code == 403
    assert count(database, "webhooks") == 1


def test_a_paused_one_is_resumed_and_a_removed_one_gone(local: Served) -> None:
    """The answer shows how it stands; a second removal finds none."""
    number = add(local.client)["webhook_id"]
    with local.deployment.database.connect() as connection:
        note_delivery(connection, number, "no answer", disable_after=1)
    (listed,) = local.client.get(PATH).json()["webhooks"]
    assert (listed["in_use"], listed["failures"], listed["last_error"]) == (False, 1, "no answer")
    resumed = local.client.post(f"{PATH}/{number}/resume").json()
    assert (resumed["in_use"], resumed["failures"], resumed["last_error"]) == (True, 0, None)
    assert local.client.delete(f"{PATH}/{number}").status_code == 204
    assert local.client.delete(f"{PATH}/{number}").status_code == 404
    assert local.client.post(f"{PATH}/{number}/resume").status_code == 404


def test_the_secret_of_the_deployment_is_told_nobody(database: Database, tmp_path: Path) -> None:
    """One receiver could forge what another gets."""
    with opened(database, tmp_path, webhook_secret=SecretStr("of-the-deployment")) as served:
        answer = served.client.post(PATH, json={"url": URL})
        assert answer.json()["secret"] is None
        assert "of-the-deployment" not in answer.text


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost/",
        "http://[::1]/",
        "http://169.254.169.254/latest/meta-data",
        "http://192.168.0.1/",
        "http://no-such-host.invalid/",
        "https://user:pass-word@example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "http://",
        "http://x:0/",
        "http://x:99999/",
        "http://exa mple.com/",
        "http://x/\r\nHost: y",
        "http://" + "x" * 300 + "/",
        "",
    ],
)
def test_dangerous_addresses_are_refused(served: Served, database: Database, url: str) -> None:
    """Other schemes, private machines and what is no address: 422, and none of it repeated."""
    answer = served.client.post(PATH, json={"url": url})
    assert answer.status_code == 422, answer.text
    assert "pass-word" not in answer.text
    assert count(database, "webhooks") == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"null", 422),
        (b"[]", 422),
        (b"{}", 422),
        (b"\xff", 422),
        (b'{"url": NaN}', 422),
        (b'{"url": 1e999}', 422),
        (b'{"url": "\\ud800"}', 422),
        (b'{"url": "http://\\ud800/"}', 422),
        (b'{"\\udfff": 1, "url": "https://example.com/"}', 422),
        (b'{"url": "https://example.com/", "events": []}', 422),
        (b'{"url": "https://example.com/", "events": ["test"]}', 422),
        (b'{"url": "https://example.com/", "entity_id": "\\u0007"}', 422),
        (b'{"url": "https://example.com/", "other": 1}', 422),
        (b"[" * 10_000, 422),
        (b" " * 20_000, 413),
    ],
)
def test_hostile_bodies_are_refused(
    served: Served, database: Database, body: bytes, status: int
) -> None:
    """Whatever comes, the answer is JSON and no error of ours."""
    answer = served.client.post(PATH, content=body, headers=JSON)
    assert answer.status_code == status, answer.text
    assert json.loads(answer.content)["detail"]
    assert count(database, "webhooks") == 0
