"""Old readings become hourly values that stand for every one of them, and only then go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from anomaly_assets.errors import InputError, StorageError
from anomaly_assets.storage import retention
from anomaly_assets.storage.partitions import ensure_partitions
from anomaly_assets.storage.retention import Piece, aggregate_and_drop, boundary, old_pieces
from anomaly_assets.storage.timescale import Capabilities
from anomaly_assets_tests.pipeline.people import append, execute, query, reading

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Database

NATIVE = Capabilities()
MARCH = datetime(2025, 3, 1, tzinfo=UTC)
APRIL = datetime(2025, 4, 1, tzinfo=UTC)
PIECE = Piece("partitions.readings_2025_03", MARCH, APRIL)
HOUR = timedelta(hours=1)


@pytest.fixture
def march(database: Database) -> Database:
    """Return a database with two people's readings of March and April, all processed."""
    for entity_id in ("ann", "bob"):
        for minutes, value in ((0, 60.0), (10, 70.0), (50, 65.0), (60, 80.0), (60 * 24 * 31, 90.0)):
            at = MARCH + timedelta(minutes=minutes)
            append(database, entity_id, reading("heart_rate", at, value))
    execute(database, "UPDATE entities SET aggregated_until = '2025-05-01'")
    return database


def drop(database: Database, piece: Piece = PIECE) -> retention.Dropped | None:
    """Aggregate and drop a piece of a server without TimescaleDB."""
    with database.connect() as connection:
        return aggregate_and_drop(connection, NATIVE, piece)


def left(database: Database) -> int:
    """Return the number of readings of March."""
    return query(database, "SELECT count(*) FROM readings WHERE event_time < '2025-04-01'")[0][0]


@pytest.mark.parametrize(
    ("now", "months", "expected"),
    [
        ("2026-11-23T10:00+00:00", 6, "2026-05-23T10:00+00:00"),
        ("2026-08-31T10:00+00:00", 6, "2026-02-28T10:00+00:00"),
        ("2024-03-31T00:00+00:00", 1, "2024-02-29T00:00+00:00"),
        ("2026-01-01T01:00+02:00", 1, "2025-11-30T23:00+00:00"),
    ],
)
def test_calendar_months_are_counted_in_utc(now: str, months: int, expected: str) -> None:
    """A day that the earlier month does not have is its last one."""
    found = boundary(datetime.fromisoformat(now), months)
    assert found == datetime.fromisoformat(expected)


def test_zero_months_keep_everything() -> None:
    """There is no moment then before which readings are old."""
    assert boundary(MARCH, 0) is None


def test_only_whole_old_months_are_pieces(march: Database) -> None:
    """A month that holds the moment stays until its last reading is old."""
    with march.connect() as connection:
        assert old_pieces(connection, NATIVE, APRIL - timedelta(seconds=1)) == []
        assert old_pieces(connection, NATIVE, APRIL + 20 * 24 * HOUR) == [PIECE]


def test_hourly_values_say_what_the_readings_said(march: Database) -> None:
    """Count, mean, extremes, sum, newest value, and first and last time, by hour and stream."""
    dropped = drop(march)
    assert dropped == retention.Dropped(PIECE, 8, 4)
    assert left(march) == 0
    rows = query(
        march,
        "SELECT hour, readings, late, mean, min, max, sum, last, first_event, last_event "
        "FROM readings_hourly WHERE entity_id = 'ann' AND stream_id = 'heart_rate' ORDER BY hour",
    )
    minutes = timedelta(minutes=1)
    assert rows == [
        (MARCH, 3, 0, 65.0, 60.0, 70.0, 195.0, 65.0, MARCH, MARCH + 50 * minutes),
        (MARCH + HOUR, 1, 0, 80.0, 80.0, 80.0, 80.0, 80.0, MARCH + HOUR, MARCH + HOUR),
    ]
    assert query(march, "SELECT DISTINCT raw_from FROM entities") == [(APRIL,)]
    assert query(march, "SELECT count(*) FROM readings") == [(2,)]


def test_a_second_run_changes_nothing(march: Database) -> None:
    """What has gone is not there to be aggregated again."""
    drop(march)
    before = query(march, "SELECT * FROM readings_hourly ORDER BY 1, 2")
    assert drop(march) is None
    assert query(march, "SELECT * FROM readings_hourly ORDER BY 1, 2") == before


def test_a_kill_leaves_the_month_whole(march: Database) -> None:
    """Until the transaction ends nothing has happened, and the next run does it all."""
    execute(
        march,
        "CREATE FUNCTION break() RETURNS event_trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); END $$",
    )
    execute(march, "CREATE EVENT TRIGGER killed ON sql_drop EXECUTE FUNCTION break()")
    with pytest.raises(psycopg.OperationalError):
        drop(march)
    assert left(march) == 8
    assert query(march, "SELECT count(*) FROM readings_hourly") == [(0,)]
    execute(march, "DROP EVENT TRIGGER killed")
    assert drop(march) == retention.Dropped(PIECE, 8, 4)


def test_nothing_goes_when_the_counts_disagree(march: Database) -> None:
    """An hour that comes to stand for fewer readings than there are keeps them all."""
    execute(
        march,
        "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN NEW.readings := greatest(NEW.readings - 1, 1); RETURN NEW; END $$",
    )
    execute(
        march,
        "CREATE TRIGGER lossy BEFORE INSERT ON readings_hourly "
        "FOR EACH ROW EXECUTE FUNCTION lose()",
    )
    with pytest.raises(StorageError, match=r"'ann'.*there are 4, the hourly values stand for 3"):
        drop(march)
    assert left(march) == 8
    assert query(march, "SELECT count(*) FROM readings_hourly") == [(0,)]


def test_windows_that_were_not_processed_keep_their_readings(march: Database) -> None:
    """The reason names whose they are; readings beyond the horizon ask for no window."""
    execute(march, "UPDATE entities SET aggregated_until = '2025-03-31' WHERE entity_id = 'bob'")
    with march.connect() as connection:
        outlook = retention.look_at(connection, PIECE)
    assert outlook.waiting == ("bob",)
    assert "bob" in outlook.reason
    assert drop(march) is None
    assert left(march) == 8
    execute(march, "UPDATE readings SET late = true WHERE entity_id = 'bob'")
    assert drop(march) == retention.Dropped(PIECE, 8, 4)
    assert query(
        march, "SELECT entity_id, sum(late) FROM readings_hourly GROUP BY 1 ORDER BY 1"
    ) == [("ann", 0), ("bob", 4)]


def test_a_window_marked_for_a_replay_keeps_its_readings(march: Database) -> None:
    """Late readings that no run has taken in yet are not lost."""
    append(march, "ann", reading("heart_rate", MARCH + 30 * 24 * HOUR))
    execute(
        march,
        "INSERT INTO late_windows (entity_id, \"window\", readings) VALUES ('ann', %s, 1)",
        MARCH + 30 * 24 * HOUR,
    )
    assert drop(march) is None
    execute(march, "DELETE FROM late_windows")
    assert drop(march) is not None


def test_months_that_come_again_are_added_up(march: Database) -> None:
    """A person whose older history is imported later is aggregated in its turn, nobody twice."""
    drop(march)
    append(march, "cyd", reading("heart_rate", MARCH, 50.0))
    execute(march, "UPDATE entities SET aggregated_until = '2025-05-01'")
    assert drop(march) == retention.Dropped(PIECE, 1, 1)
    assert query(
        march, "SELECT entity_id, sum(readings) FROM readings_hourly GROUP BY 1 ORDER BY 1"
    ) == [("ann", 4), ("bob", 4), ("cyd", 1)]


def test_readings_of_the_same_hour_are_joined(march: Database) -> None:
    """Values that reach an hour in two goes are those of one."""
    with march.connect() as connection:
        ensure_partitions(connection, MARCH, MARCH)
        connection.execute(
            "INSERT INTO readings_hourly VALUES ('ann', %(at)s, 'heart_rate', 2, 1, 40, 30, 50, "
            "80, 30, %(at)s, %(last)s)",
            {"at": MARCH, "last": MARCH + timedelta(minutes=55)},
        )
    assert drop(march) == retention.Dropped(PIECE, 8, 4)
    rows = query(
        march,
        "SELECT readings, late, mean, min, max, sum, last, last_event FROM readings_hourly "
        "WHERE entity_id = 'ann' AND hour = %s",
        MARCH,
    )
    assert rows == [(5, 1, 55.0, 30.0, 70.0, 275.0, 30.0, MARCH + timedelta(minutes=55))]


def test_the_journal_takes_no_reading_of_a_dropped_time(march: Database) -> None:
    """What slips past the door is refused as a whole statement, with the limit; later ones pass."""
    drop(march)
    with pytest.raises(InputError, match=r"'ann'.*2025-04-01 00:00.*send them again"):
        append(march, "ann", reading("heart_rate", APRIL - HOUR))
    append(march, "ann", reading("heart_rate", APRIL + HOUR))
    assert query(march, "SELECT count(*) FROM readings WHERE entity_id = 'ann'") == [(2,)]


def test_a_writer_at_work_is_waited_for(march: Database) -> None:
    """A reading that is being stored is either counted or the month stays; never lost."""
    with march.connect() as writer, writer.transaction():
        writer.execute(
            "INSERT INTO readings (entity_id, event_time, stream_id, value, source) "
            "VALUES ('ann', %s, 'steps', 1, 'test')",
            (MARCH + HOUR,),
        )
        with pytest.raises(psycopg.errors.LockNotAvailable):
            drop(march)
    assert drop(march) == retention.Dropped(PIECE, 9, 5)
