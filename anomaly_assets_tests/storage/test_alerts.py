"""Alerts and snoozes in their tables: nothing is forgotten by a restart, nothing is there twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest

from anomaly_assets.errors import InputError
from anomaly_assets.storage.alerts import (
    AlertRow,
    AlertSeverity,
    AlertStatus,
    add_snooze,
    end_snooze,
    find_alert,
    list_alerts,
    list_snoozes,
    open_and_recent_alerts,
    prune_alerts,
    save_alerts,
)

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Connection, Database

SEEN = datetime(2026, 3, 4, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)


def alert(key: str = "episode/1/ann", **changed: Any) -> AlertRow:
    """Return an alert of ann."""
    values: dict[str, Any] = {
        "entity_id": "ann",
        "rule": "episode",
        "severity": AlertSeverity.WARNING,
        "status": AlertStatus.PENDING,
        "first_seen": SEEN,
        "last_seen": SEEN,
        "summary": "Heart rate is far above what was expected.",
        "details": {"streams": [{"actual": 0.1 + 0.2, "expected": None}], "windows": [1, 2]},
    }
    return AlertRow(key, **(values | changed))


def keys(alerts: list[AlertRow]) -> list[str]:
    return [one.alert_key for one in alerts]


def make_old(connection: Connection) -> None:
    """Make every alert one that was last stored a year ago."""
    connection.execute("UPDATE alerts SET updated_at = now() - interval '1 year'")


def test_an_alert_comes_back_as_it_was_stored(database: Database) -> None:
    """Every field is the same, floats to the last bit."""
    stored = alert(
        status=AlertStatus.SENT, anomaly_id=uuid4(), message_id="digest-1", sent_at=SEEN + HOUR
    )
    with database.connect() as connection:
        assert save_alerts(connection, [stored]) == 1
        assert find_alert(connection, stored.alert_key) == stored
        assert find_alert(connection, "other") is None


def test_the_same_key_is_the_same_alert(database: Database) -> None:
    """Stored again it is replaced, not doubled; only unknown ones count as new."""
    later = alert(severity=AlertSeverity.CRITICAL, last_seen=SEEN + HOUR, details={})
    with database.connect() as connection:
        assert save_alerts(connection, [alert(), alert("b"), alert("b", rule="other")]) == 2
        assert save_alerts(connection, [later, alert("c")]) == 1
        assert find_alert(connection, later.alert_key) == later
        found = find_alert(connection, "b")
        assert found is not None
        assert found.rule == "other"
        assert len(list_alerts(connection)) == 3


def test_alerts_are_stored_together_or_not_at_all(database: Database) -> None:
    """One that cannot be stored leaves all as they were."""
    with database.connect() as connection:
        with pytest.raises(psycopg.errors.CheckViolation):
            save_alerts(connection, [alert("a"), alert("b", last_seen=SEEN - HOUR)])
        assert list_alerts(connection) == []


def test_a_restart_finds_the_open_and_the_recent(database: Database) -> None:
    """Open ones are found however old they are, others if they or their windows are recent."""
    done = {"status": AlertStatus.SENT}
    with database.connect() as connection:
        save_alerts(
            connection,
            [
                alert("held", status=AlertStatus.HELD),
                alert("pending"),
                alert("sending", status=AlertStatus.SENDING),
                alert("past", **done),
                alert("window", last_seen=datetime.now(tz=UTC), **done),
            ],
        )
        make_old(connection)
        save_alerts(connection, [alert("stored", status=AlertStatus.GROUPED)])
        found = open_and_recent_alerts(connection, datetime.now(tz=UTC) - HOUR)
    assert keys(found) == ["held", "pending", "sending", "stored", "window"]


def test_alerts_are_listed_newest_first(database: Database) -> None:
    """By last window, of one entity, the deployment, a status or a time, at most so many."""
    with database.connect() as connection:
        save_alerts(
            connection,
            [
                alert("a"),
                alert("b", last_seen=SEEN + HOUR, status=AlertStatus.SENT),
                alert("c", last_seen=SEEN + 2 * HOUR, entity_id=""),
            ],
        )
        assert keys(list_alerts(connection)) == ["c", "b", "a"]
        assert keys(list_alerts(connection, limit=1)) == ["c"]
        assert keys(list_alerts(connection, entity_id="ann")) == ["b", "a"]
        assert keys(list_alerts(connection, entity_id="")) == ["c"]
        assert keys(list_alerts(connection, status=AlertStatus.SENT)) == ["b"]
        assert keys(list_alerts(connection, since=SEEN + HOUR)) == ["c", "b"]


def test_only_what_is_done_with_is_deleted(database: Database) -> None:
    """Old alerts that were sent, grouped or withdrawn go; open and recent ones stay."""
    with database.connect() as connection:
        save_alerts(
            connection,
            [alert(str(status), status=status) for status in AlertStatus]
            + [alert("late", status=AlertStatus.SENT, last_seen=datetime.now(tz=UTC))],
        )
        make_old(connection)
        save_alerts(connection, [alert("new", status=AlertStatus.SENT)])
        add_snooze(connection, SEEN, "Ann", starts_at=SEEN - HOUR)
        assert prune_alerts(connection, datetime.now(tz=UTC) - HOUR) == 3
        left = {one.alert_key for one in list_alerts(connection)}
        assert list_snoozes(connection, at=SEEN - HOUR) == []
    assert left == {"pending", "held", "sending", "late", "new"}


@pytest.mark.parametrize("change", ["severity = 'grave'", "status = 'lost'"])
def test_the_table_knows_its_words(database: Database, change: str) -> None:
    """Whoever writes by hand can store no severity or status that the code cannot read."""
    with database.connect() as connection:
        save_alerts(connection, [alert()])
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(f"UPDATE alerts SET {change}")  # noqa: S608 - from above


class TestSnoozes:
    """Wishes not to be told."""

    def test_they_hold_until_their_end(self, database: Database) -> None:
        """What holds now or later is listed, by its end; what is over is not."""
        with database.connect() as connection:
            long = add_snooze(connection, SEEN + 3 * HOUR, " Ann ", starts_at=SEEN, note="away")
            short = add_snooze(
                connection, SEEN + HOUR, "Bob", entity_id="ann", rule="episode", starts_at=SEEN
            )
            assert list_snoozes(connection, at=SEEN) == [short, long]
            assert list_snoozes(connection, at=SEEN + HOUR) == [long]
        assert (long.author, long.note, long.entity_id, long.rule) == ("Ann", "away", None, None)
        assert (short.entity_id, short.rule, short.ends_at) == ("ann", "episode", SEEN + HOUR)

    def test_one_begins_now_by_default(self, database: Database) -> None:
        """Without a beginning it begins when it is made."""
        end = datetime.now(tz=UTC) + HOUR
        with database.connect() as connection:
            made = add_snooze(connection, end, "Ann")
            assert made.starts_at == made.created_at
            assert list_snoozes(connection) == [made]

    def test_one_can_be_ended(self, database: Database) -> None:
        """Ended it holds no more; ended again, or after its time, it stays as it was."""
        with database.connect() as connection:
            made = add_snooze(connection, SEEN + 3 * HOUR, "Ann", starts_at=SEEN)
            ended = end_snooze(connection, made.snooze_id, at=SEEN + HOUR)
            assert ended.ends_at == SEEN + HOUR
            assert end_snooze(connection, made.snooze_id) == ended
            # Before it has begun it ends as it begins.
            early = end_snooze(connection, made.snooze_id, at=SEEN - HOUR)
            assert early.ends_at == SEEN
            with pytest.raises(InputError, match="no snooze has the number 999"):
                end_snooze(connection, 999)

    def test_pointless_ones_are_refused(self, database: Database) -> None:
        """One that is over before it begins, or that nobody wishes for."""
        with database.connect() as connection:
            with pytest.raises(InputError, match="over before it begins"):
                add_snooze(connection, SEEN, "Ann", starts_at=SEEN)
            with pytest.raises(InputError, match="name who"):
                add_snooze(connection, SEEN + HOUR, " ", starts_at=SEEN)
