"""The journal: idempotent, exact, and clear about what is late."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anomaly_assets.errors import InputError
from anomaly_assets.storage import journal
from anomaly_assets.storage.entities import (
    ensure_entity,
    find_entity,
    list_entities,
    quarantine,
)
from anomaly_assets.storage.journal import AppendReport
from anomaly_assets.storage.rejections import record_rejections
from anomaly_assets.streams.aggregation import Readings
from anomaly_assets.streams.catalogue import Catalogue, Group, Stream, StreamType
from anomaly_assets.streams.windows import WindowRange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly_assets.storage.database import Connection, Database

CATALOGUE = Catalogue(
    name="small",
    groups=(Group(id="body"),),
    streams=tuple(
        Stream(id=name, type=StreamType.CONTINUOUS_NOISY, group="body") for name in ("z", "a", "m")
    ),
)
START = int(datetime(2025, 12, 31, 22, tzinfo=UTC).timestamp())
DAY = WindowRange(START, START + 86_400)
HORIZON = timedelta(hours=1)
ENTITY = "o'Neill\"; DROP TABLE readings; -- 😀"


def readings(*rows: tuple[int, float, float]) -> Readings:
    """Build readings of (stream, seconds since the start, value)."""
    stream, seconds, value = (np.array(column) for column in zip(*rows, strict=True))
    return Readings.at_seconds(
        stream.astype(np.int64), START + seconds.astype(np.float64), value.astype(np.float64)
    )


def append(connection: Connection, what: Readings, entity_id: str = ENTITY) -> AppendReport:
    """Append to the journal."""
    return journal.append_readings(
        connection, entity_id, what, CATALOGUE, source="test", late_horizon=HORIZON
    )


def stored(connection: Connection, entity_id: str = ENTITY) -> list[tuple[int, int, bytes]]:
    """Return what the journal gives for aggregation, in a fixed order, values as bytes."""
    found = journal.read_readings(connection, entity_id, DAY, CATALOGUE).readings
    return sorted(
        zip(
            found.stream.tolist(),
            found.microseconds.tolist(),
            [value.tobytes() for value in found.value],
            strict=True,
        )
    )


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    """Connect to a database that knows one entity."""
    with database.connect() as opened:
        ensure_entity(opened, ENTITY)
        yield opened


def test_readings_come_back_and_twice_is_once(connection: Connection) -> None:
    """A second delivery changes nothing, and the stored value stays."""
    first = readings((0, 0, 1.5), (1, 0.000001, -2.5), (2, 86_399.999999, 1e-300))
    assert append(connection, first) == AppendReport(accepted=3)
    before = stored(connection)
    again = readings((0, 0, 99.0), (1, 0.000001, -2.5), (0, 300, 4.0))
    assert append(connection, again) == AppendReport(accepted=1, duplicate=2)
    assert set(before) < set(stored(connection))
    entity = find_entity(connection, ENTITY)
    assert entity is not None
    assert entity.first_window == DAY.start_time
    assert entity.last_reading_at == DAY.end_time - timedelta(microseconds=1)
    assert journal.last_reading_before(
        connection, ENTITY, DAY.start_time + timedelta(minutes=5)
    ) == DAY.start_time + timedelta(microseconds=1)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_floats_round_trip_exactly(connection: Connection, values: list[float]) -> None:
    """Every finite float comes back with the same bits."""
    connection.execute("DELETE FROM readings")
    numbers = np.arange(len(values), dtype=np.int64)
    append(connection, Readings(numbers % 3, (START + numbers) * 1_000_000, np.array(values)))
    found = journal.read_readings(connection, ENTITY, DAY, CATALOGUE).readings
    order = np.argsort(found.microseconds)
    assert found.value[order].tobytes() == np.array(values).tobytes()


def test_only_finite_numbers_go_in(connection: Connection) -> None:
    """NaN is refused with the stream's name, and nothing is half-written."""
    with pytest.raises(InputError, match="'a': reading 1 is nan"):
        append(connection, readings((0, 0, 1.0), (1, 0, np.nan)))
    assert stored(connection) == []


def test_unknown_entity_is_refused(connection: Connection) -> None:
    """Readings of nobody are not stored."""
    with pytest.raises(InputError, match="no entity 'nobody'"):
        append(connection, readings((0, 0, 1.0)), "nobody")


def test_late_readings_mark_their_window_and_too_late_ones_are_set_aside(
    connection: Connection,
) -> None:
    """Within the horizon: stored and marked. Beyond: stored, not aggregated, shown as late."""
    append(connection, readings((0, 0, 1.0)))
    journal.close_windows(connection, ENTITY, DAY.start_time + timedelta(hours=3))
    late = readings((0, 3 * 3600, 1.0), (1, 2 * 3600, 2.0), (2, 2 * 3600 + 1, 2.0), (1, 60, 3.0))
    assert append(connection, late) == AppendReport(accepted=4, late=2, too_late=1)
    marks = connection.execute('SELECT "window", readings FROM late_windows').fetchall()
    assert marks == [(DAY.start_time + timedelta(hours=2), 2)]
    assert append(connection, late) == AppendReport(duplicate=4)
    assert connection.execute("SELECT sum(readings) FROM late_windows").fetchone() == (2,)
    found = journal.read_readings(connection, ENTITY, DAY, CATALOGUE)
    assert len(found.readings.stream) == 4
    assert found.late.stream.tolist() == [1]
    assert journal.clear_late_windows(connection, ENTITY, DAY) == 1
    assert journal.clear_late_windows(connection, ENTITY, DAY) == 0
    assert connection.execute("SELECT readings FROM late_windows").fetchall() == [(0,)]
    assert journal.reopen(connection, ENTITY, DAY.start_time) == 1
    assert len(stored(connection)) == 5
    # What has been replayed to the end is forgotten, what came meanwhile is not.
    assert journal.forget_late_windows(connection, DAY) == 1
    assert journal.clear_late_windows(connection, ENTITY, DAY) == 1


def test_reading_in_flight_is_seen_or_late(database: Database, connection: Connection) -> None:
    """Closing waits for an append that has begun; one that begins afterwards is late."""
    closed = threading.Event()

    def close() -> None:
        with database.connect() as other:
            journal.close_windows(other, ENTITY, DAY.start_time + timedelta(minutes=30))
        closed.set()

    with ThreadPoolExecutor(1) as pool:
        with connection.transaction():
            assert append(connection, readings((0, 0, 1.0))).late == 0
            future = pool.submit(close)
            assert not closed.wait(0.2)
        future.result(timeout=30)
    assert append(connection, readings((1, 0, 1.0))).late == 1


def test_closing_never_moves_back_and_knows_the_grid(connection: Connection) -> None:
    """The watermark only rises, in whole windows."""
    end = DAY.end_time
    journal.close_windows(connection, ENTITY, end)
    journal.close_windows(connection, ENTITY, DAY.start_time)
    entity = find_entity(connection, ENTITY)
    assert entity is not None
    assert entity.aggregated_until == end
    with pytest.raises(InputError, match="not the start of a window"):
        journal.close_windows(connection, ENTITY, end + timedelta(seconds=1))


def test_concurrent_writers_with_common_rows_do_not_deadlock(database: Database) -> None:
    """Many writers of the same readings in different orders all finish; each row is there once."""
    rng = np.random.default_rng(7)
    numbers = np.arange(3_000, dtype=np.int64)
    names = ("one", "two")
    with database.connect() as connection:
        for name in names:
            ensure_entity(connection, name)

    def write(seed: int) -> int:
        order = np.random.default_rng(seed).permutation(numbers)
        what = Readings(order % 3, (START + order * 20) * 1_000_000, rng.random() + order * 1.0)
        with database.connect() as connection:
            return sum(append(connection, what, name).accepted for name in names)

    with ThreadPoolExecutor(4) as pool:
        accepted = list(pool.map(write, range(8)))
    assert sum(accepted) == len(names) * len(numbers)


def test_rejections_are_read_with_the_range_and_stored_once(connection: Connection) -> None:
    """A refused reading of a known stream and time shows in its window; a future one does not."""
    at = pa.array([START * 1_000_000 + 5] * 3, pa.int64()).cast(pa.timestamp("us", "UTC"))
    text: dict[str, Any] = {
        "entity_id": [ENTITY] * 3,
        "stream_id": ["a", "a", "unheard of"],
        "raw": ['say "no",\n', "", "\\."],
        "reason": ["not_a_number", "future_time", "unknown_stream"],
        "detail": [""] * 3,
    }
    rejected = {name: pa.array(column) for name, column in text.items()}
    rejected |= {"row_number": pa.array([2, 3, 4]), "event_time": at}
    assert record_rejections(connection, rejected, source="f.csv") == 3
    assert record_rejections(connection, rejected, source="f.csv") == 0
    raws = connection.execute("SELECT raw FROM rejected_readings ORDER BY row_number").fetchall()
    assert [raw for (raw,) in raws] == text["raw"]
    found = journal.read_readings(connection, ENTITY, DAY, CATALOGUE).rejected
    assert found.stream.tolist() == [1]
    assert found.microseconds.tolist() == [START * 1_000_000 + 5]


def test_entity_keeps_its_catalogue(connection: Connection) -> None:
    """An entity is not silently watched with another catalogue; unusable names are refused."""
    ensure_entity(connection, "ann", catalogue="default", time_zone="Europe/Berlin")
    assert ensure_entity(connection, "ann").catalogue == "default"
    with pytest.raises(InputError, match="catalogue 'default', not 'other'"):
        ensure_entity(connection, "ann", catalogue="other")
    for name in ("", "x" * 201, "line\nbreak", "nul\x00"):
        with pytest.raises(InputError, match="printable"):
            ensure_entity(connection, name)
    quarantine(connection, "ann", "catalogue is gone")
    reasons = {row.entity_id: row.quarantined_reason for row in list_entities(connection)}
    assert reasons == {"ann": "catalogue is gone", ENTITY: None}
    quarantine(connection, "ann", None)
    entity = find_entity(connection, "ann")
    assert entity is not None
    assert entity.quarantined_at is None
