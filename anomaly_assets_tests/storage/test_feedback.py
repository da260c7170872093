"""Versions of the feedback are stored once and for all; the tables go with their revision."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from anomaly_assets.detection.feedback.adjustment import Adjustment, Rule
from anomaly_assets.errors import InputError
from anomaly_assets.storage import migrate
from anomaly_assets.storage.feedback import (
    NewVersion,
    add_version,
    find_version,
    list_versions,
    newest_version,
)
from anomaly_assets.storage.tables_feedback import FeedbackAction

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Database

SINCE = datetime(2026, 3, 4, 5, tzinfo=UTC)
TABLES = ("feedback_versions", "window_decisions", "rule_suggestions")


def version(author: str = "Ann") -> NewVersion:
    """Return a version to be stored."""
    rule = Rule("habit", ("steps-",), ("steps", "voice:gaps"), 0.9, 1_800_000_000, labels=(3, 4))
    return NewVersion(
        "ann",
        FeedbackAction.ACCEPT,
        SINCE,
        author,
        replaces=None,
        adjustment=Adjustment(0.75, {"steps": 0.1 + 0.2}, (rule,)),
        label_ids=(3, 4),
        effect={"labels": {"false_before": 2}},
    )


def test_what_is_stored_is_what_was_decided(database: Database) -> None:
    """Numbers and rules come back to the last bit; a version is the content of itself."""
    with database.connect() as connection:
        assert newest_version(connection) == 0
        stored = add_version(connection, version())
        assert stored.adjustment == version().adjustment
        assert (stored.content_of, stored.replaces) == (stored.feedback_id, None)
        assert stored.from_time == SINCE
        assert find_version(connection, stored.feedback_id) == stored
        assert list_versions(connection, "bob") == []
        assert newest_version(connection) == stored.feedback_id
        with pytest.raises(InputError, match="feedback list"):
            find_version(connection, 99)


@pytest.mark.parametrize("author", ["", "  ", "a\nb", "x" * 300])
def test_somebody_has_to_be_named(database: Database, author: str) -> None:
    """Nobody changes the feedback namelessly."""
    with database.connect() as connection, pytest.raises(InputError, match="name who"):
        add_version(connection, version(author))


def test_the_tables_go_with_their_revision(database: Database) -> None:
    """Down and up again on data: the tables are empty, labels stay."""
    with database.connect() as connection:
        add_version(connection, version())
        connection.execute(
            "INSERT INTO labels (entity_id, start_time, end_time, verdict) "
            "VALUES ('ann', %s, %s, 'expected')",
            (SINCE, datetime(2026, 3, 4, 6, tzinfo=UTC)),
        )
        connection.execute(
            "INSERT INTO window_decisions (entity_id, timestamp, score, threshold, trigger_code, "
            "is_alarm, option) VALUES ('ann', %s, 0.8, 0.7, 1, true, 'A')",
            (SINCE,),
        )
    migrate.downgrade(database.url, "0007")
    migrate.upgrade(database.url)
    migrate.check(database.url)
    with database.connect() as connection:
        counts = [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - constants
            for table in (*TABLES, "labels")
        ]
    assert counts == [(0,), (0,), (0,), (1,)]
