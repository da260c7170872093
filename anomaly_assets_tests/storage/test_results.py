"""Results go into the tables and come back, to the last bit."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from anomaly_assets.detection.results import (
    CrossStreamScores,
    EnsembleResults,
    GapScores,
    IndividualScores,
    StreamHealth,
)
from anomaly_assets.errors import InputError, StorageError
from anomaly_assets.storage import results
from anomaly_assets.streams.aggregation import MissingReason
from anomaly_assets.streams.catalogue import Catalogue, Group, Stream, StreamType
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowBlock, WindowRange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly_assets.storage.database import Connection, Database

#: Not in alphabetical order, so that the order of rows and of arrays differ.
CATALOGUE = Catalogue(
    name="small",
    groups=(Group(id="motion"), Group(id="body")),
    streams=(
        Stream(id="steps", type=StreamType.DISCRETE_EVENTS, group="motion"),
        Stream(id="gps", type=StreamType.SPORADIC, group="motion"),
        Stream(id="heart", type=StreamType.CONTINUOUS_SMOOTH, group="body"),
    ),
)
#: Two hours around a new year, in two monthly partitions.
WINDOWS = WindowRange(1_767_225_600 - 12 * 300, 1_767_225_600 + 12 * 300)
SHAPE = (len(WINDOWS), 3)
GROUPS = (len(WINDOWS), 2)
ENTITY = "Robert'); DROP TABLE readings;--"

numbers = st.floats(allow_nan=True, allow_infinity=False)
shares = st.one_of(st.floats(0.0, 1.0), st.just(np.nan))


def grids(shape: tuple[int, ...], elements: Any) -> Any:
    """Return a strategy of float arrays."""
    return hnp.arrays(np.float64, shape, elements=elements)


def flags(shape: tuple[int, ...]) -> Any:
    """Return a strategy of bool arrays."""
    return hnp.arrays(np.bool_, shape)


def same(left: Any, right: Any) -> bool:
    """Whether two results agree in every bit, NaN being like NaN."""
    if isinstance(left, np.ndarray):
        if left.dtype == np.float64:
            left, right = (
                np.where(np.isnan(left), np.nan, left),
                np.where(np.isnan(right), np.nan, right),
            )
        return left.dtype == right.dtype and left.tobytes() == right.tobytes()
    if left is None:
        return right is None
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    return all(same(getattr(left, f.name), getattr(right, f.name)) for f in fields(left))


def a_block(values: np.ndarray | None = None) -> WindowBlock:
    """Return a block of :data:`WINDOWS`."""
    if values is None:
        values = np.arange(np.prod(SHAPE), dtype=np.float64).reshape(SHAPE)
    return WindowBlock(ENTITY, "Europe/Berlin", WINDOWS, values)


def a_health(missing: np.ndarray | None = None, score: np.ndarray | None = None) -> StreamHealth:
    """Return some health."""
    return StreamHealth(
        availability=np.full(SHAPE, 0.5),
        consecutive_missing=np.zeros(SHAPE, dtype=np.int64) if missing is None else missing,
        score=np.full(SHAPE, 0.25) if score is None else score,
        predictable=np.ones(SHAPE, dtype=np.bool_),
        accuracy=np.full(SHAPE, np.nan),
        needs_retraining=np.zeros(SHAPE, dtype=np.bool_),
    )


@pytest.fixture(scope="module")
def connection(module_database: Database) -> Iterator[Connection]:
    """One connection to a database of this module's own."""
    with module_database.connect() as opened:
        yield opened


round_trip = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


@round_trip
@given(values=grids(SHAPE, numbers))
def test_windows_round_trip(connection: Connection, values: np.ndarray) -> None:
    """Every finite float and every gap comes back as it was, denormals and -0.0 included."""
    reasons = np.where(np.isnan(values), MissingReason.STUCK, MissingReason.NONE).astype(np.int8)
    assert results.write_windows(connection, a_block(values), reasons, CATALOGUE) == values.size
    read = results.read_windows(connection, ENTITY, WINDOWS, CATALOGUE, "Europe/Berlin")
    assert same(read.values, values)
    assert (read.entity_id, read.time_zone, read.windows) == (ENTITY, "Europe/Berlin", WINDOWS)


@round_trip
@given(
    score=grids(SHAPE, shares),
    expected=grids(SHAPE, numbers),
    deviation=grids(SHAPE, numbers),
    health=grids(SHAPE, st.floats(0.0, 1.0)),
)
def test_individual_scores_round_trip(
    connection: Connection,
    score: np.ndarray,
    expected: np.ndarray,
    deviation: np.ndarray,
    health: np.ndarray,
) -> None:
    """Score, forecast, deviation and health score come back exactly."""
    written = IndividualScores(score, expected, deviation, a_health(score=health))
    results.write_individual(connection, a_block(), written, CATALOGUE)
    read = results.read_individual(connection, ENTITY, WINDOWS, CATALOGUE)
    assert same(read.score, score)
    assert same(read.expected, expected)
    assert same(read.deviation, deviation)
    assert same(read.health.score, health)


@round_trip
@given(
    gaps=st.builds(
        GapScores,
        score=grids(GROUPS[:1], shares),
        group_score=grids(GROUPS, shares),
        group_available=grids(GROUPS, shares),
        surprise=grids(SHAPE, numbers),
        coordinated=flags(GROUPS),
        pattern_frequency=grids(GROUPS[:1], shares),
        is_anomalous=flags(GROUPS[:1]),
    )
)
def test_gap_scores_round_trip(connection: Connection, gaps: GapScores) -> None:
    """Every field of the gap scores comes back exactly."""
    assert results.write_gaps(connection, a_block(), gaps, CATALOGUE) == len(WINDOWS)
    assert same(results.read_gaps(connection, ENTITY, WINDOWS, CATALOGUE), gaps)


@round_trip
@given(
    score=grids(GROUPS[:1], shares),
    group_score=grids(GROUPS, shares),
    voice=grids(GROUPS[:1], shares),
    names=st.sets(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1)),
)
def test_cross_stream_scores_round_trip(
    connection: Connection,
    score: np.ndarray,
    group_score: np.ndarray,
    voice: np.ndarray,
    names: set[str],
) -> None:
    """Score, groups and voices of any name come back exactly."""
    written = CrossStreamScores(score, group_score, dict.fromkeys(names, voice + 0.0))
    results.write_cross_stream(connection, a_block(), written, CATALOGUE)
    assert same(results.read_cross_stream(connection, ENTITY, WINDOWS, CATALOGUE), written)


@round_trip
@given(score=grids(GROUPS[:1], shares), confidence=grids(GROUPS[:1], st.floats(0.0, 1.0)))
def test_ensemble_round_trip(
    connection: Connection, score: np.ndarray, confidence: np.ndarray
) -> None:
    """Final scores come back exactly, and leave the other methods' rows alone."""
    written = EnsembleResults(score, confidence)
    assert results.write_ensemble(connection, ENTITY, WINDOWS, written) == len(WINDOWS)
    assert same(results.read_ensemble(connection, ENTITY, WINDOWS), written)


def test_part_of_a_range_can_be_read_and_replaced(connection: Connection) -> None:
    """Replacing three windows leaves those around them as they were."""
    block = a_block()
    reasons = np.zeros(SHAPE, dtype=np.int8)
    results.write_windows(connection, block, reasons, CATALOGUE)
    part = WindowRange(WINDOWS.start + 10 * WINDOW_SECONDS, WINDOWS.start + 13 * WINDOW_SECONDS)
    changed = WindowBlock(ENTITY, "UTC", part, np.full((3, 3), -1.5))
    results.write_windows(connection, changed, reasons[:3], CATALOGUE)
    read = results.read_windows(connection, ENTITY, WINDOWS, CATALOGUE, "UTC").values
    expected = block.values.copy()
    expected[10:13] = -1.5
    assert same(read, expected)


def test_missing_window_is_named(connection: Connection) -> None:
    """Reading beyond what is stored names the first absent window and what to do."""
    results.write_windows(connection, a_block(), np.zeros(SHAPE, dtype=np.int8), CATALOGUE)
    longer = WindowRange(WINDOWS.start, WINDOWS.end + WINDOW_SECONDS)
    with pytest.raises(StorageError, match=r"2026-01-01T01:00:00.*process that window first"):
        results.read_windows(connection, ENTITY, longer, CATALOGUE, "UTC")
    with pytest.raises(StorageError, match="gap_patterns has no row"):
        results.read_gaps(connection, "nobody", WINDOWS, CATALOGUE)


def test_stream_added_to_the_catalogue_is_noticed(connection: Connection) -> None:
    """Windows stored without a stream are not silently read as missing."""
    results.write_windows(connection, a_block(), np.zeros(SHAPE, dtype=np.int8), CATALOGUE)
    added = Stream(id="light", type=StreamType.CONTINUOUS_NOISY, group="body")
    grown = CATALOGUE.model_copy(update={"streams": (*CATALOGUE.streams, added)})
    grown = Catalogue.model_validate(grown.model_dump())
    with pytest.raises(StorageError, match=r"'light'.*catalogue has changed"):
        results.read_windows(connection, ENTITY, WINDOWS, grown, "UTC")


def test_reordered_catalogue_is_noticed_by_gap_patterns(connection: Connection) -> None:
    """Arrays in another order of streams are refused rather than mixed up."""
    gaps = GapScores(
        score=np.zeros(GROUPS[0]),
        group_score=np.zeros(GROUPS),
        group_available=np.ones(GROUPS),
        surprise=np.zeros(SHAPE),
        coordinated=np.zeros(GROUPS, dtype=np.bool_),
        pattern_frequency=np.zeros(GROUPS[0]),
        is_anomalous=np.zeros(GROUPS[0], dtype=np.bool_),
    )
    results.write_gaps(connection, a_block(), gaps, CATALOGUE)
    document = CATALOGUE.model_dump()
    document["streams"] = document["streams"][::-1]
    with pytest.raises(StorageError, match="other streams"):
        results.read_gaps(connection, ENTITY, WINDOWS, Catalogue.model_validate(document))


def test_missing_value_needs_a_reason(connection: Connection) -> None:
    """A gap without a reason is a bug of the caller, and said so."""
    values = np.full(SHAPE, np.nan)
    with pytest.raises(InputError, match="without a reason"):
        results.write_windows(
            connection, a_block(values), np.zeros(SHAPE, dtype=np.int8), CATALOGUE
        )


def test_health_rows_do_not_depend_on_how_a_range_is_cut(connection: Connection) -> None:
    """One call or one per window: hourly rows, and those where a gap enters a class."""
    missing = np.zeros(SHAPE, dtype=np.int64)
    missing[3:, 2] = np.arange(1, len(WINDOWS) - 2)
    health = a_health(missing)

    def rows() -> list[tuple[Any, ...]]:
        return connection.execute(
            "SELECT timestamp, stream_id, gap_class, consecutive_missing FROM stream_health "
            "WHERE entity_id = %s ORDER BY 1, 2",
            (ENTITY,),
        ).fetchall()

    results.write_health(connection, a_block(), health, CATALOGUE)
    at_once = rows()
    connection.execute("DELETE FROM stream_health")
    for number in range(len(WINDOWS)):
        one = slice(number, number + 1)
        part = StreamHealth(**{f.name: getattr(health, f.name)[one] for f in fields(health)})
        results.write_health(connection, a_block().part(number, number + 1), part, CATALOGUE)
    assert rows() == at_once
    assert len(at_once) == 2 * 3 + 2
    assert {row[2] for row in at_once} == {"none", "point_missing", "short_gap"}


def test_explanations_are_replaced_except_those_asked_for(connection: Connection) -> None:
    """Processing a range again replaces what it explained, and keeps a forced explanation."""

    def record(number: int, trigger: str) -> dict[str, Any]:
        start = WindowRange(WINDOWS.start + number * WINDOW_SECONDS, WINDOWS.end).start_time
        return {
            "anomaly_id": f"00000000-0000-0000-0000-{number:012d}",
            "window_start": start.isoformat(),
            "summary": "Heart rate rose ✓ 'quoted'",
            "mode": "fast",
            "trigger": trigger,
            "primary_cause": "exercise",
            "confidence": 0.5,
            "causal_attribution": {"contributions": {"heart": 0.7}, "unexplained": 0.3},
            "temporal_sequence": [],
            "evidence": {"context": "work_hours"},
            "alternative_explanations": [],
            "recommended_action": "Nothing to do.",
        }

    first = [record(0, "final_score"), record(1, "forced")]
    assert results.write_explanations(connection, ENTITY, WINDOWS, first) == 2
    results.write_explanations(connection, ENTITY, WINDOWS, [record(2, "final_score")])
    found = connection.execute(
        "SELECT trigger, record ->> 'summary', causal_attribution -> 'unexplained' "
        "FROM causal_explanations WHERE entity_id = %s ORDER BY timestamp",
        (ENTITY,),
    ).fetchall()
    assert found == [
        ("forced", "Heart rate rose ✓ 'quoted'", 0.3),
        ("final_score", "Heart rate rose ✓ 'quoted'", 0.3),
    ]
