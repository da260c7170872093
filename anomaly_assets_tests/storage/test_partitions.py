"""Monthly partitions: made where needed, by anybody."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from anomaly_assets.errors import InputError
from anomaly_assets.storage.partitions import ensure_partitions
from anomaly_assets.storage.tables import PARTITIONED

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Connection, Database

NOVEMBER = datetime(2025, 11, 30, 23, 59, tzinfo=UTC)
FEBRUARY = datetime(2026, 2, 1, tzinfo=UTC)


def insert(connection: Connection, moment: datetime) -> None:
    """Insert a reading."""
    connection.execute(
        "INSERT INTO readings (entity_id, event_time, stream_id, value, source) "
        "VALUES ('e', %s, 's', 1, 'test')",
        (moment,),
    )


def test_months_across_a_year_are_made_once(database: Database) -> None:
    """Every month touched gets a partition in each table; a second call makes none."""
    with database.connect() as connection:
        made = ensure_partitions(connection, NOVEMBER, FEBRUARY)
        assert len(made) == 4 * len(PARTITIONED)
        assert "readings_2025_12" in made
        assert ensure_partitions(connection, NOVEMBER, FEBRUARY) == []
        for moment in (NOVEMBER, datetime(2025, 12, 31, 23, 59, 59, 999999, UTC), FEBRUARY):
            insert(connection, moment)


def test_concurrent_callers_do_not_collide(database: Database) -> None:
    """Two that need the same months at once both succeed, even amid transactions."""

    def make(_: int) -> None:
        with database.connect() as connection, connection.transaction():
            connection.execute("SELECT count(*) FROM readings")
            ensure_partitions(connection, NOVEMBER, FEBRUARY)
            connection.execute("SELECT count(*) FROM readings")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(make, range(4)))


def test_making_partitions_waits_for_no_writer(database: Database) -> None:
    """A month is made while another session has uncommitted rows in the table."""
    with database.connect() as writer, database.connect() as other:
        ensure_partitions(writer, NOVEMBER, NOVEMBER)
        with writer.transaction():
            insert(writer, NOVEMBER)
            other.execute("SET statement_timeout = '5s'")
            assert ensure_partitions(other, FEBRUARY, FEBRUARY)


def test_senseless_requests_are_refused(database: Database) -> None:
    """Naive moments and spans of centuries do not reach the server."""
    with database.connect() as connection:
        with pytest.raises(InputError, match="aware"):
            ensure_partitions(connection, NOVEMBER.replace(tzinfo=None), FEBRUARY)
        with pytest.raises(InputError, match="200 years"):
            ensure_partitions(connection, datetime(1601, 1, 1, tzinfo=UTC), FEBRUARY)
