"""``webhooks``: added with their secret, listed without, tried out, resumed and removed."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from anomaly_assets.live.webhooks import SIGNATURE_HEADER, verify
from anomaly_assets.settings import settings
from anomaly_assets.storage.webhooks import list_webhooks, note_delivery
from anomaly_assets_tests.cli.test_commands import call, deployed, refused
from anomaly_assets_tests.live.receivers import Receiver, http_receiver
from anomaly_assets_tests.pipeline.people import execute

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anomaly_assets.storage.database import Database

SECRET = re.compile(r"^whsec_[A-Za-z0-9_-]{43}$", re.MULTILINE)


@pytest.fixture
def deployment(database: Database, tmp_path: Path) -> Iterator[Database]:
    """Return the database of a deployment that watches ann, made that of the settings."""
    execute(database, "INSERT INTO entities (entity_id) VALUES ('ann')")
    with deployed(database, tmp_path):
        yield database


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """Listen on this machine, which webhooks may reach."""
    monkeypatch.setenv("ANOMALY_ASSETS_WEBHOOK_NETWORKS", '["127.0.0.0/8"]')
    settings.cache_clear()
    with http_receiver() as receiver:
        yield receiver


def added(receiver: Receiver, *options: object) -> dict[str, Any]:
    """Return what ``webhooks add`` prints as JSON."""
    document: dict[str, Any] = call("webhooks", "add", receiver.url(), *options, "--json").document
    return document


def test_the_printed_secret_proves_what_is_posted(deployment: Database, receiver: Receiver) -> None:
    """The last line is the secret, alone; what ``test`` posts is signed with it."""
    shown = call("webhooks", "add", receiver.url(), "--entity", "ann").out
    (secret,) = SECRET.findall(shown)
    assert shown.endswith(f"\n{secret}\n")
    assert "anomaly, explanation of entity ann" in shown
    assert "X-Anomaly-Signature is t=SECONDS,v1=HEX" in shown
    assert "secret-path" not in shown
    with deployment.connect() as connection:
        (stored,) = list_webhooks(connection)
    assert (stored.url, stored.entity_id) == (receiver.url(), "ann")
    assert call("webhooks", "test", stored.webhook_id).code == 0
    (posted,) = receiver.posted
    assert verify(secret, posted.body, posted.headers[SIGNATURE_HEADER], now=time.time())


def test_events_are_those_asked_for(deployment: Database, receiver: Receiver) -> None:
    """The option may be given more than once; without it, what matters most."""
    assert deployment.name
    assert added(receiver)["events"] == ["anomaly", "explanation"]
    assert added(receiver, "--event", "window", "--event", "anomaly")["events"] == [
        "anomaly",
        "window",
    ]


def test_a_secret_of_the_settings_is_named_not_shown(
    deployment: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever set it knows it."""
    assert deployment.name
    monkeypatch.setenv("ANOMALY_ASSETS_WEBHOOK_SECRET", "chosen-by-the-operator")
    settings.cache_clear()
    shown = call("webhooks", "add", receiver.url()).out
    assert "signed with ANOMALY_ASSETS_WEBHOOK_SECRET" in shown
    assert "chosen" not in shown


def test_unknown_entities_are_noted(deployment: Database, receiver: Receiver) -> None:
    """A webhook may come before the first reading, and a slip of the pen is seen."""
    assert deployment.name
    shown = call("webhooks", "add", receiver.url(), "--entity", "nobody").out
    assert "nothing is known of an entity 'nobody' yet" in shown
    assert added(receiver, "--entity", "nobody")["entity_known"] is False


def test_the_list_shows_how_they_fare(deployment: Database, receiver: Receiver) -> None:
    """In use, failed or paused, and why; neither secret nor path."""
    assert "no webhook" in call("webhooks", "list").out
    first, second = added(receiver), added(receiver, "--entity", "ann")
    with deployment.connect() as connection:
        note_delivery(connection, second["webhook_id"], "no answer: away", disable_after=1)
    shown = call("webhooks", "list").out
    assert "no answer: away" in shown
    assert "paused" in shown
    documents = call("webhooks", "list", "--json").document
    assert [one["in_use"] for one in documents] == [True, False]
    assert "secret-path" not in shown + json.dumps(documents)
    (only,) = call("webhooks", "list", "--entity", "ann", "--json").document
    assert only["webhook_id"] == second["webhook_id"]
    assert first["secret"] not in shown + json.dumps(documents)


def test_a_paused_one_is_resumed(deployment: Database, receiver: Receiver) -> None:
    """It is in use again, and says so."""
    number = added(receiver)["webhook_id"]
    with deployment.connect() as connection:
        note_delivery(connection, number, "away", disable_after=1)
    assert "in use" in call("webhooks", "resume", number).out
    with deployment.connect() as connection:
        (stored,) = list_webhooks(connection)
    assert stored.in_use


def test_a_removed_one_is_gone(deployment: Database, receiver: Receiver) -> None:
    """What is told of it is what it was."""
    number = added(receiver)["webhook_id"]
    assert call("webhooks", "remove", number, "--json").document["webhook_id"] == number
    with deployment.connect() as connection:
        assert list_webhooks(connection) == []


def test_a_test_that_does_not_arrive_is_a_failure(deployment: Database, receiver: Receiver) -> None:
    """It says why, with exit code 1, and changes nothing about the webhook."""
    assert deployment.name
    number = added(receiver)["webhook_id"]
    receiver.answers = [503, 302]
    outcome = call("webhooks", "test", number)
    assert outcome.code == 1
    assert "answered 503" in outcome.out
    outcome = call("webhooks", "test", number, "--json")
    assert (outcome.code, outcome.document["error"]) == (1, "answered 302, not 200")
    assert call("webhooks", "list", "--json").document[0]["failures"] == 0


@pytest.mark.parametrize("command", ["remove", "resume", "test"])
def test_unknown_numbers_are_refused(deployment: Database, command: str) -> None:
    """One line that says where the numbers are."""
    assert deployment.name
    assert "no webhook has the number 999" in refused("webhooks", command, 999)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://example.com/", "https://host/path"),
        ("https://ann:pass-word@example.com/", "user or password"),
        ("http://127.0.0.1/secret-path", "ANOMALY_ASSETS_WEBHOOK_NETWORKS"),
    ],
)
def test_dangerous_addresses_are_refused(deployment: Database, url: str, why: str) -> None:
    """With what to do about it, and without what may be secret."""
    said = refused("webhooks", "add", url)
    assert why in said
    assert "secret-path" not in said
    assert "pass-word" not in said
    with deployment.connect() as connection:
        assert list_webhooks(connection) == []
