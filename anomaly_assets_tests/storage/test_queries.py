"""What people and the pipeline ask the tables."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
import pytest

from anomaly_assets.detection.results import EnsembleResults, StreamHealth
from anomaly_assets.errors import StorageError
from anomaly_assets.storage import results
from anomaly_assets.storage.entities import ensure_entity
from anomaly_assets.storage.partitions import ensure_partitions
from anomaly_assets.storage.queries import (
    entity_statuses,
    explanation_record,
    final_scores,
    scored_until,
    strongest_scores,
    top_anomalies,
)
from anomaly_assets.storage.windows import entity_lock, missing_counts, stored_ranges
from anomaly_assets.streams.aggregation import MissingReason
from anomaly_assets.streams.catalogue import Catalogue, Group, Stream, StreamType
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowBlock, WindowRange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly_assets.storage.database import Connection, Database

CATALOGUE = Catalogue(
    name="small",
    groups=(Group(id="body"),),
    streams=(
        Stream(id="pulse", type=StreamType.CONTINUOUS_SMOOTH, group="body"),
        Stream(id="breath", type=StreamType.CONTINUOUS_SMOOTH, group="body"),
    ),
)
#: A full hour.
START = int(datetime(2026, 1, 10, 8, tzinfo=UTC).timestamp())
EXPLAINED = "00000000-0000-5000-8000-000000000001"


def at(number: int) -> datetime:
    """Return the start of a window, counted from :data:`START`."""
    return datetime.fromtimestamp(START + number * WINDOW_SECONDS, tz=UTC)


def some(first: int, last: int) -> WindowRange:
    """Return the windows from `first` up to but not including `last`."""
    return WindowRange(START + first * WINDOW_SECONDS, START + last * WINDOW_SECONDS)


def store_values(
    connection: Connection, entity_id: str, windows: WindowRange, values: np.ndarray | None = None
) -> None:
    """Store aggregated values; without any, all are observed."""
    if values is None:
        values = np.ones((len(windows), 2))
    reasons = np.where(np.isnan(values), MissingReason.ABSENT, MissingReason.NONE).astype(np.int8)
    block = WindowBlock(entity_id, "UTC", windows, values)
    results.write_windows(connection, block, reasons, CATALOGUE)


def store_final(connection: Connection, entity_id: str, first: int, *scores: float) -> None:
    """Store final scores of windows in a row, with a confidence of a half."""
    final = EnsembleResults(np.array(scores), np.full(len(scores), 0.5))
    results.write_ensemble(connection, entity_id, some(first, first + len(scores)), final)


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    """Connect to a database of two entities with final scores, one of them explained."""
    with database.connect() as opened:
        for name in ("ann", "bob"):
            ensure_entity(opened, name)
        store_final(opened, "ann", 0, 0.2, 0.9, np.nan, 0.75)
        store_final(opened, "bob", 0, 0.9, 0.1, 0.7)
        record = {
            "anomaly_id": EXPLAINED,
            "window_start": at(1),
            "summary": "The pulse rose.",
            "mode": "fast",
            "trigger": "final_score",
            "primary_cause": "effort",
            "confidence": 0.6,
            "recommended_action": "Nothing.",
        }
        results.write_explanations(opened, "ann", some(0, 4), [record])
        yield opened


def test_highest_scores_come_first(connection: Connection) -> None:
    """Scores above the limit are listed, highest first, equal ones by time, then by entity."""
    found = top_anomalies(connection)
    assert [(a.entity_id, a.window, a.score) for a in found] == [
        ("bob", at(0), 0.9),
        ("ann", at(1), 0.9),
        ("ann", at(3), 0.75),
    ]
    assert [a.confidence for a in found] == [0.5] * 3


def test_an_anomaly_has_its_explanation(connection: Connection) -> None:
    """Where a window was explained, the list says so; elsewhere these fields are None."""
    explained, plain = top_anomalies(connection, entity_id="ann")
    assert explained.anomaly_id == EXPLAINED
    assert explained.summary == "The pulse rose."
    assert explained.primary_cause == "effort"
    assert explained.recommended_action == "Nothing."
    assert (plain.anomaly_id, plain.summary) == (None, None)


def test_an_episode_is_listed_once(connection: Connection) -> None:
    """Windows of an explained episode are one anomaly, told by its highest; others stand alone."""
    record = {
        "anomaly_id": str(UUID(int=7)), "window_start": at(0), "episode_start": at(0),
        "episode_end": at(3), "windows": 2, "peak_score": 0.9, "ongoing": True,
        "summary": "Much.", "mode": "fast", "trigger": "final_score",
    }  # fmt: skip
    results.write_explanations(connection, "ann", some(0, 4), [record])
    episode, alone = top_anomalies(connection, entity_id="ann", min_score=0.1)
    assert (episode.window, episode.score, episode.windows) == (at(1), 0.9, 2)
    assert (episode.episode_start, episode.episode_end, episode.ongoing) == (at(0), at(3), True)
    assert (alone.window, alone.anomaly_id, alone.windows, alone.ongoing) == (at(3), None, 1, False)
    assert (alone.episode_start, alone.episode_end) == (at(3), at(4))


def test_an_episode_of_another_range_is_refused(connection: Connection) -> None:
    """An explanation that begins outside of the windows replaced would escape replacement."""
    record = {"anomaly_id": str(UUID(int=7)), "window_start": at(9), "summary": "", "mode": "fast"}
    with pytest.raises(StorageError, match="outside of the windows"):
        results.write_explanations(connection, "ann", some(0, 4), [record])


def test_what_decides_is_the_strongest_score_of_each_tier(connection: Connection) -> None:
    """Windows with a final score come in order, with NaN for a tier that said nothing."""
    starts, scores = strongest_scores(connection, "ann", some(1, 9))
    assert starts.tolist() == some(1, 4).starts().tolist()
    np.testing.assert_array_equal(scores[:, 2], [0.9, np.nan, 0.75])
    assert np.isnan(scores[:, :2]).all()
    assert strongest_scores(connection, "nobody", some(0, 9))[1].shape == (0, 3)
    assert scored_until(connection, "ann") == some(0, 4).end
    assert scored_until(connection, "nobody") is None


def test_anomalies_are_filtered(connection: Connection) -> None:
    """Entity, beginning (inclusive), end (exclusive), limit and score narrow the list."""
    assert {a.entity_id for a in top_anomalies(connection, entity_id="bob")} == {"bob"}
    assert [a.window for a in top_anomalies(connection, since=at(1))] == [at(1), at(3)]
    assert [a.window for a in top_anomalies(connection, until=at(1))] == [at(0)]
    assert len(top_anomalies(connection, limit=2)) == 2
    assert top_anomalies(connection, min_score=0.9) == []
    assert len(top_anomalies(connection, min_score=0.0)) == 6
    assert top_anomalies(connection, entity_id="nobody") == []


def test_final_scores_are_in_order_of_time(connection: Connection) -> None:
    """All final scores of one entity come in order; an unknown one is NaN."""
    starts, scores = final_scores(connection, "ann")
    assert starts.tolist() == some(0, 4).starts().tolist()
    np.testing.assert_array_equal(scores, [0.2, 0.9, np.nan, 0.75])
    starts, scores = final_scores(connection, "nobody")
    assert (starts.dtype.str[1:], starts.size) == ("i8", 0)
    assert (scores.dtype.str[1:], scores.size) == ("f8", 0)


def test_explanation_is_found_by_its_identifier(connection: Connection) -> None:
    """The record comes back whole; an unknown or impossible identifier finds nothing."""
    record = explanation_record(connection, EXPLAINED)
    assert record is not None
    assert (record["summary"], record["window_start"]) == ("The pulse rose.", at(1).isoformat())
    assert explanation_record(connection, str(UUID(int=5))) is None
    assert explanation_record(connection, "'; DROP TABLE readings; --") is None


def test_status_of_an_entity_that_is_watched(connection: Connection) -> None:
    """Latest score, anomalies and coverage of the last day, and what was refused or late."""
    day = 24 * 12
    values = np.ones((2, 2))
    values[0, 0] = np.nan
    store_values(connection, "ann", some(day, day + 2), values)
    # Before the last day: counts neither as coverage nor as an anomaly.
    store_values(connection, "ann", some(1, 2), np.full((1, 2), np.nan))
    store_final(connection, "ann", day, 0.8, 0.4)
    ensure_partitions(connection, at(0), at(0))
    connection.execute(
        "UPDATE entities SET first_window = %s, last_reading_at = %s, aggregated_until = %s "
        "WHERE entity_id = 'ann'",
        (at(0), at(day + 1) + timedelta(seconds=7), at(day + 2)),
    )
    connection.execute(
        "INSERT INTO rejected_readings (entity_id, stream_id, raw, reason, detail, source) "
        "VALUES ('ann', 'pulse', 'x', 'not_a_number', 'x is no number', 'test')"
    )
    connection.execute(
        'INSERT INTO late_windows (entity_id, "window", readings) VALUES (%s, %s, 9)',
        ("ann", at(0)),
    )
    connection.execute(
        "INSERT INTO readings (entity_id, event_time, stream_id, value, source, late) "
        "VALUES ('ann', %(at)s, 'pulse', 1, 't', true), ('ann', %(at)s, 'breath', 1, 't', false)",
        {"at": at(0)},
    )
    ann, bob = entity_statuses(connection, threshold=0.7)
    assert (ann.entity_id, ann.catalogue, ann.time_zone) == ("ann", None, None)
    assert (ann.first_window, ann.processed_until) == (at(0), at(day + 2))
    assert ann.last_reading_at == at(day + 1) + timedelta(seconds=7)
    assert (ann.latest_score, ann.latest_confidence) == (0.4, 0.5)
    assert (ann.anomalous_last_day, ann.coverage_last_day) == (2, 0.75)
    assert (ann.rejected, ann.late_windows, ann.late_beyond_horizon) == (1, 1, 1)
    assert (bob.entity_id, bob.rejected, bob.late_windows, bob.late_beyond_horizon) == (
        "bob",
        0,
        0,
        0,
    )


def test_status_of_an_entity_that_is_new(database: Database) -> None:
    """An entity without a reading has a status, with None for all that is not known."""
    with database.connect() as connection:
        assert entity_statuses(connection, threshold=0.7) == []
        ensure_entity(connection, "new", catalogue="smd", time_zone="Asia/Tokyo")
        (status,) = entity_statuses(connection, threshold=0.7)
    assert (status.catalogue, status.time_zone) == ("smd", "Asia/Tokyo")
    assert status.first_window is status.last_reading_at is status.processed_until is None
    assert status.latest_score is status.latest_confidence is status.coverage_last_day is None
    assert status.anomalous_last_day == 0


def test_stored_windows_are_joined_to_ranges(connection: Connection) -> None:
    """Windows in a row are one range; a hole begins another one, and only what is asked counts."""
    assert stored_ranges(connection, "ann", some(0, 100)) == []
    for windows in (some(10, 12), some(2, 5), some(12, 13), some(20, 21)):
        store_values(connection, "ann", windows)
    store_values(connection, "bob", some(5, 10))
    assert stored_ranges(connection, "ann", some(0, 100)) == [
        some(2, 5),
        some(10, 13),
        some(20, 21),
    ]
    assert stored_ranges(connection, "ann", some(3, 11)) == [some(3, 5), some(10, 11)]
    assert stored_ranges(connection, "ann", some(5, 10)) == []


def test_missing_counts_are_in_catalogue_order(connection: Connection) -> None:
    """The counts of a stored window come in the order of the catalogue; otherwise they are 0."""
    shape = (1, 2)
    health = StreamHealth(
        availability=np.full(shape, 0.5),
        consecutive_missing=np.array([[7, 0]]),
        score=np.full(shape, 0.5),
        predictable=np.ones(shape, dtype=np.bool_),
        accuracy=np.full(shape, np.nan),
        needs_retraining=np.zeros(shape, dtype=np.bool_),
    )
    block = WindowBlock("ann", "UTC", some(0, 1), np.array([[np.nan, 1.0]]))
    results.write_health(connection, block, health, CATALOGUE)
    assert missing_counts(connection, "ann", at(0), CATALOGUE).tolist() == [7, 0]
    assert missing_counts(connection, "ann", at(1), CATALOGUE).tolist() == [0, 0]
    assert missing_counts(connection, "bob", at(0), CATALOGUE).tolist() == [0, 0]


def can_be_had(connection: Connection, entity_id: str, component: str) -> bool:
    """Whether another session would get the lock at once; it is given back."""
    name = f"{component}\x1f{entity_id}"
    row = connection.execute(
        "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (name,)
    ).fetchone()
    assert row is not None
    if row[0]:
        connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (name,))
    return bool(row[0])


def test_lock_keeps_others_from_one_component_of_one_entity(database: Database) -> None:
    """Others must wait for the same component of the same entity, and for nothing else."""
    with database.connect() as mine, database.connect() as other:
        with entity_lock(mine, "ann", "tier1_models"):
            assert not can_be_had(other, "ann", "tier1_models")
            assert can_be_had(other, "ann", "gap_patterns")
            assert can_be_had(other, "bob", "tier1_models")
        assert can_be_had(other, "ann", "tier1_models")


def test_lock_is_given_back_after_an_error(database: Database) -> None:
    """An error inside frees the lock for others."""
    with database.connect() as mine, database.connect() as other:
        with pytest.raises(ZeroDivisionError), entity_lock(mine, "ann", "tier1_models"):
            _ = 1 / 0
        assert can_be_had(other, "ann", "tier1_models")


def test_second_writer_waits_for_the_first(database: Database) -> None:
    """Who comes second goes on as soon as the first one is done, not before."""
    order: list[str] = []
    asked = threading.Event()

    def second() -> None:
        with database.connect() as connection:
            asked.set()
            with entity_lock(connection, "ann", "tier1_models"):
                order.append("second")

    thread = threading.Thread(target=second)
    with database.connect() as connection, database.connect() as watcher:
        with entity_lock(connection, "ann", "tier1_models"):
            thread.start()
            assert asked.wait(30)
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while (watcher.execute(waiting).fetchone() or (0,))[0] == 0:
                assert thread.is_alive()
            order.append("first")
        thread.join(30)
    assert order == ["first", "second"]
