"""``alerts``: tried out, listed with what kept them back, snoozed and unsnoozed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from anomaly_assets.live.alerts.policy import Policy
from anomaly_assets.settings import settings
from anomaly_assets.storage.alerts import list_snoozes, save_alerts
from anomaly_assets_tests.cli.test_commands import call, deployed, refused
from anomaly_assets_tests.live.alerts.world import World
from anomaly_assets_tests.live.receivers import Receiver, http_receiver
from anomaly_assets_tests.pipeline.people import execute

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anomaly_assets.storage.database import Database

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
def deployment(database: Database, tmp_path: Path) -> Iterator[Database]:
    """Return the database of a deployment that watches ann, made that of the settings."""
    execute(database, "INSERT INTO entities (entity_id) VALUES ('ann'), ('bob')")
    with deployed(database, tmp_path):
        yield database


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Listen for messages."""
    with http_receiver() as receiver:
        yield receiver


def send_to(patch: pytest.MonkeyPatch, *urls: str) -> None:
    """Make these the addresses of the settings."""
    patch.setenv("ANOMALY_ASSETS_ALERT_URLS", json.dumps(urls))
    settings.cache_clear()


def store(database: Database) -> None:
    """Store an alert that was sent, one that is held, and one that reached nobody."""
    world = World(Policy(per_hour=3))
    for entity in ("ann", "bob", "eve"):
        world.see(entity)
        world.tell()
        world.pass_time(minutes=1)
    with database.connect() as connection:
        save_alerts(connection, [alert.row() for alert in world.book])


class TestTest:
    """``alerts test``: whether messages arrive, before it matters."""

    def test_every_address_is_tried_once(
        self, deployment: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A message arrives as of the severity asked for; a failure is told by its place."""
        assert deployment.name
        send_to(monkeypatch, receiver.url("json"), "json://user:hush-hush@127.0.0.1:1/token-4711")
        outcome = call("alerts", "test", "--severity", "critical", "--json")
        assert outcome.code == 1
        first, second = outcome.document
        assert (first["address"], first["error"]) == ("1: JSON", None)
        assert second["address"] == "2: JSON"
        assert second["error"]
        for secret in ("hush-hush", "token-4711"):
            assert secret not in outcome.out + outcome.err
        (posted,) = receiver.posted
        assert "this is a test" in json.loads(posted.body)["title"]
        assert json.loads(posted.body)["type"] == "failure"

    def test_for_people(
        self, deployment: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One line an address, and exit code 0 where all went well."""
        assert deployment.name
        send_to(monkeypatch, receiver.url("json"))
        outcome = call("alerts", "test")
        assert (outcome.code, outcome.out) == (0, "1: JSON: sent\n")

    def test_without_addresses_it_says_what_to_set(self, deployment: Database) -> None:
        """Nothing to try is an error with the remedy."""
        assert deployment.name
        assert "ANOMALY_ASSETS_ALERT_URLS" in refused("alerts", "test")

    def test_an_unusable_address_is_one_line(
        self, deployment: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is named by its place, not shown."""
        assert deployment.name
        send_to(monkeypatch, "gopher://hush-hush")
        said = refused("alerts", "test")
        assert "address 1" in said
        assert "hush" not in said


class TestList:
    """``alerts list``: what people were told, and what waits."""

    def test_what_stands_where(self, deployment: Database) -> None:
        """Newest first, with status and reason; of an entity or a status if asked."""
        store(deployment)
        alerts = call("alerts", "list", "--json").document["alerts"]
        assert {a["entity_id"]: a["status"] for a in alerts} == {
            "ann": "sent",
            "bob": "sent",
            "eve": "held",
        }
        assert {a["held_because"] for a in alerts} == {None, "rate_limit"}
        (ann,) = call("alerts", "list", "--entity", "ann", "--json").document["alerts"]
        assert ann["summary"] == "ann did something odd."
        held = call("alerts", "list", "--status", "held", "--json").document["alerts"]
        assert [alert["entity_id"] for alert in held] == ["eve"]
        assert call("alerts", "list", "--from", "2030-01-01", "--json").document["alerts"] == []

    def test_what_was_withdrawn(self, deployment: Database) -> None:
        """It is listed as such, beside the notice that says so."""
        world = World()
        world.see("ann")
        world.tell()
        world.see("ann", anomalous=False)
        world.tell()
        with deployment.connect() as connection:
            save_alerts(connection, [alert.row() for alert in world.book])
        (one,) = call("alerts", "list", "--status", "withdrawn", "--json").document["alerts"]
        assert (one["withdrawn"], one["notice"]) == (True, False)
        alerts = call("alerts", "list", "--json").document["alerts"]
        assert sorted(alert["notice"] for alert in alerts) == [False, True]
        assert "withdrawn" in call("alerts", "list").out

    def test_for_people(self, deployment: Database) -> None:
        """A table, or the word that there is none."""
        assert "no alert" in call("alerts", "list").out
        store(deployment)
        shown = " ".join(call("alerts", "list").out.split())
        assert "episode" in shown
        assert "held" in shown

    def test_unknown_entities_are_refused(self, deployment: Database) -> None:
        """Nobody of that name is an error, not an empty list."""
        assert deployment.name
        assert "known entities" in refused("alerts", "list", "--entity", "nobody")


class TestSnooze:
    """``alerts snooze`` and ``unsnooze``."""

    def test_it_is_stored_and_ended(self, deployment: Database) -> None:
        """Entity, rule, author and end are on record; unsnooze ends it now."""
        made = call(
            *("alerts", "snooze", "8h", "--entity", "ann", "--rule", "episode"),
            *("--by", "Ann B.", "--note", "moving house", "--json"),
        ).document
        with deployment.connect() as connection:
            (stored,) = list_snoozes(connection)
        assert (stored.entity_id, stored.rule, stored.author) == ("ann", "episode", "Ann B.")
        left = stored.ends_at - datetime.now(tz=UTC)
        assert timedelta(hours=7, minutes=55) < left <= timedelta(hours=8)
        shown = call("alerts", "list").out
        assert "alerts of rule episode of ann" in shown
        assert "moving house" in shown
        assert call("alerts", "unsnooze", made["snooze_id"]).code == 0
        with deployment.connect() as connection:
            assert list_snoozes(connection) == []

    @pytest.mark.parametrize("span", ["", "8", "-1h", "0m", "1y", "999999w", "8h; x"])
    def test_no_span_of_time(self, deployment: Database, span: str) -> None:
        """It says what one looks like."""
        assert deployment.name
        assert "30m, 8h" in refused("alerts", "snooze", "--", span)

    def test_unknown_entities_and_numbers_are_refused(self, deployment: Database) -> None:
        """A snooze of nobody would go unnoticed."""
        assert deployment.name
        assert "known entities" in refused("alerts", "snooze", "8h", "--entity", "nobody")
        assert "no snooze has the number 999" in refused("alerts", "unsnooze", 999)
