"""Results of the tiers, to and from their tables.

Writing replaces all rows of the entity in the range, in the caller's transaction or one of its own;
writing the same results again leaves the same rows. What is read back equals what was written to
the last bit, for the fields that are stored. All functions take whole blocks. Given a
:class:`~anomaly_assets.storage.pending.Pending` in place of a connection, what writes gathers rows.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from anomaly_assets.detection.health import classify_gap
from anomaly_assets.detection.results import (
    CrossStreamScores,
    EnsembleResults,
    GapScores,
    IndividualScores,
    StreamHealth,
)
from anomaly_assets.errors import InputError, StorageError
from anomaly_assets.storage import bulk
from anomaly_assets.storage.explanations import write_explanations
from anomaly_assets.storage.grids import (
    Grid,
    float_lists,
    json_lists,
    json_objects,
    microseconds,
    read_grid,
    where,
    window_numbers,
)
from anomaly_assets.storage.identifiers import ENTITY_ROW, Method, group_row
from anomaly_assets.storage.pending import replace_rows
from anomaly_assets.streams.aggregation import MissingReason
from anomaly_assets.streams.contexts import CONTEXT_NAMES, context_codes
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowBlock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from anomaly_assets.storage.database import Connection
    from anomaly_assets.storage.pending import Target
    from anomaly_assets.streams.aggregation import ReasonArray
    from anomaly_assets.streams.catalogue import Catalogue
    from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray, WindowRange

__all__ = [
    "read_cross_stream",
    "read_ensemble",
    "read_gaps",
    "read_individual",
    "read_windows",
    "write_cross_stream",
    "write_ensemble",
    "write_explanations",
    "write_gaps",
    "write_health",
    "write_individual",
    "write_windows",
]

_SECONDS_PER_HOUR = 3600


def write_windows(
    connection: Target, block: WindowBlock, reasons: ReasonArray, catalogue: Catalogue
) -> int:
    """Store aggregated values, one row for each window and stream.

    Parameters
    ----------
    connection
        A connection to the database.
    block
        The values.
    reasons
        Codes of :class:`~anomaly_assets.streams.aggregation.MissingReason`, shape of the values.
    catalogue
        Names the streams.

    Returns
    -------
    int
        Number of rows written.

    Raises
    ------
    InputError
        If the shapes do not belong together, or a missing value has no reason.
    """
    if reasons.shape != block.values.shape:
        msg = f"reasons have shape {reasons.shape}, values {block.values.shape}; give one for each"
        raise InputError(msg)
    grid = _streams_grid(block, catalogue)
    missing = ~block.available
    if (missing != (reasons != MissingReason.NONE)).any():
        msg = f"entity {block.entity_id!r}: a missing value without a reason, or a reason too many"
        raise InputError(msg)
    codes = pa.array(reasons[:, grid.order].ravel(), mask=~missing[:, grid.order].ravel())
    labels = pa.array([reason.label for reason in MissingReason], type=pa.string())
    columns = {
        **grid.key(),
        "value": grid.column(block.values),
        "is_missing": grid.column(missing),
        "missing_reason": pa.DictionaryArray.from_arrays(codes, labels).cast(pa.string()),
    }
    return _replace(connection, "time_series_data", block, columns)


def read_windows(
    connection: Connection,
    entity_id: str,
    windows: WindowRange,
    catalogue: Catalogue,
    time_zone: str,
) -> WindowBlock:
    """Load aggregated values.

    Raises
    ------
    StorageError
        If a window is not there, naming the first one.
    """
    grid = Grid(entity_id, windows, catalogue.stream_ids)
    values = read_grid(connection, "time_series_data", grid, {"value": sql.SQL("t.value")})
    return WindowBlock(entity_id, time_zone, windows, values["value"])


def write_individual(
    connection: Target, block: WindowBlock, scores: IndividualScores, catalogue: Catalogue
) -> int:
    """Store tier-1 scores, one row for each window and stream, unknown ones included.

    A row's ``confidence`` is the stream's health score. The rest of the health is stored by
    :func:`write_health`. Returns the number of rows written.
    """
    grid = _streams_grid(block, catalogue)
    columns = {
        **grid.key(),
        "method": bulk.constant(Method.INDIVIDUAL, scores.score.size),
        "anomaly_score": grid.column(scores.score),
        "confidence": grid.column(scores.health.score),
        "expected": grid.column(scores.expected),
        "deviation": grid.column(scores.deviation),
    }
    return _replace(connection, "anomaly_scores", block, columns, method=Method.INDIVIDUAL)


def read_individual(
    connection: Connection, entity_id: str, windows: WindowRange, catalogue: Catalogue
) -> IndividualScores:
    """Load tier-1 scores.

    Returns
    -------
    IndividualScores
        Exact in ``score``, ``expected``, ``deviation`` and ``health.score``. The other fields of
        ``health`` are not stored for every window and are filled with NaN, 0 and False.

    Raises
    ------
    StorageError
        If a window is not there, naming the first one.
    """
    found = read_grid(
        connection,
        "anomaly_scores",
        Grid(entity_id, windows, catalogue.stream_ids),
        {
            "score": sql.SQL("t.anomaly_score"),
            "health": sql.SQL("t.confidence"),
            "expected": sql.SQL("t.expected"),
            "deviation": sql.SQL("t.deviation"),
        },
        condition=f"t.method = '{Method.INDIVIDUAL}'",
    )
    shape = found["score"].shape
    health = StreamHealth(
        availability=np.full(shape, np.nan),
        consecutive_missing=np.zeros(shape, dtype=np.int64),
        score=found["health"],
        predictable=np.zeros(shape, dtype=np.bool_),
        accuracy=np.full(shape, np.nan),
        needs_retraining=np.zeros(shape, dtype=np.bool_),
    )
    return IndividualScores(found["score"], found["expected"], found["deviation"], health)


def write_health(
    connection: Target,
    block: WindowBlock,
    health: StreamHealth,
    catalogue: Catalogue,
    *,
    last_retrain: Sequence[datetime | None] | None = None,
) -> int:
    """Store the streams' health where it says something new.

    Stored are the first window of every hour (UTC), and the windows in which a stream's gap enters
    another class. Both follow from the window alone, so the rows do not depend on how a range is
    cut. `last_retrain` says of each stream since when its model has been a retrained one.
    Returns the number of rows written.
    """
    grid = _streams_grid(block, catalogue)
    types = np.array([stream.type for stream in catalogue.streams], dtype=object)
    missing = health.consecutive_missing
    never = [None] * len(catalogue.streams)
    classes = classify_gap(missing, types)
    entered = (missing > 0) & (classes != classify_gap(np.maximum(missing - 1, 0), types))
    hourly = block.windows.starts() % _SECONDS_PER_HOUR == 0
    told: BoolArray = (entered | hourly[:, np.newaxis])[:, grid.order].ravel()
    columns = {
        **grid.key(),
        "availability_score": grid.column(health.availability),
        "consecutive_missing": grid.column(missing),
        "health_score": grid.column(health.score),
        "gap_class": grid.column(classes.astype(np.str_)),
        "predictable": grid.column(health.predictable),
        "accuracy": grid.column(health.accuracy),
        "needs_retraining": grid.column(health.needs_retraining),
        "last_retrain_time": pa.array(
            [(last_retrain or never)[i] for i in grid.order], type=pa.timestamp("us", tz="UTC")
        ).take(pa.array(np.tile(np.arange(len(never)), len(block)))),
    }
    kept = pa.table(columns).filter(pa.array(told))
    return _replace(
        connection, "stream_health", block, dict(zip(columns, kept.columns, strict=True))
    )


def write_gaps(
    connection: Target, block: WindowBlock, gaps: GapScores, catalogue: Catalogue
) -> int:
    """Store gap patterns, one row for each window; returns their number."""
    contexts = context_codes(block.calendar, catalogue.contexts)
    n_windows = len(block)
    groups = catalogue.group_ids
    columns = {
        "entity_id": bulk.constant(block.entity_id, n_windows),
        "timestamp": bulk.moments(microseconds(block.windows)),
        "context": bulk.named(contexts, CONTEXT_NAMES),
        "availability_vector": json_objects(groups, gaps.group_available),
        "pattern_frequency": bulk.floats(gaps.pattern_frequency),
        "is_anomalous": pa.array(gaps.is_anomalous),
        "score": bulk.floats(gaps.score),
        "coordinated_groups": json_lists(groups, gaps.coordinated),
        "group_score": float_lists(gaps.group_score),
        "group_available": float_lists(gaps.group_available),
        "surprise": float_lists(gaps.surprise),
        "layout": bulk.constant(_layout(catalogue), n_windows),
    }
    return _replace(connection, "gap_patterns", block, columns)


def read_gaps(
    connection: Connection, entity_id: str, windows: WindowRange, catalogue: Catalogue
) -> GapScores:
    """Load gap patterns, every field exact.

    Raises
    ------
    StorageError
        If a window is not there, or was stored under other streams or groups, naming the first one.
    """
    groups = catalogue.group_ids
    parameters = where(entity_id, windows)
    _require_layout(connection, parameters, catalogue)
    coordinated = sql.SQL("ARRAY[{}]::float8[]").format(
        sql.SQL(", ").join(
            sql.SQL("(coordinated_groups ? {})::int").format(sql.Literal(group)) for group in groups
        )
    )
    query = sql.SQL(
        "SELECT timestamp AS at, coalesce(pattern_frequency, 'NaN') AS pattern_frequency, "
        "is_anomalous, coalesce(score, 'NaN') AS score, {} AS coordinated, group_score, "
        "group_available, surprise FROM gap_patterns "
        "WHERE entity_id = %(entity_id)s AND timestamp >= %(start)s AND timestamp < %(end)s"
    ).format(coordinated)
    found = bulk.fetch_columns(
        connection,
        query,
        parameters,
        {
            "at": "time",
            "pattern_frequency": "f8",
            "is_anomalous": "b1",
            "score": "f8",
            "coordinated": "f8[]",
            "group_score": "f8[]",
            "group_available": "f8[]",
            "surprise": "f8[]",
        },
    )
    position = _positions(found["at"], entity_id, windows)
    n_windows, n_groups = len(windows), len(groups)
    return GapScores(
        score=found["score"][position],
        group_score=found["group_score"].reshape(n_windows, n_groups)[position],
        group_available=found["group_available"].reshape(n_windows, n_groups)[position],
        surprise=found["surprise"].reshape(n_windows, len(catalogue.streams))[position],
        coordinated=found["coordinated"].reshape(n_windows, n_groups)[position] > 0.0,
        pattern_frequency=found["pattern_frequency"][position],
        is_anomalous=found["is_anomalous"][position],
    )


def write_cross_stream(
    connection: Target, block: WindowBlock, scores: CrossStreamScores, catalogue: Catalogue
) -> int:
    """Store tier-2 scores: a row for the entity, with its voices, and one for each group.

    Returns the number of rows written.
    """
    grid = _cross_stream_grid(block.entity_id, block.windows, catalogue)
    every = np.concatenate([scores.score[:, np.newaxis], scores.group_score], axis=1)
    names = sorted(scores.voices)
    stacked = [scores.voices[name] for name in names]
    voices = np.stack(stacked, axis=1) if names else np.empty((len(block), 0))
    # Voices belong to the entity's row, the first of each window.
    rows = pa.array(np.repeat(np.arange(len(block)), every.shape[1]))
    told = pa.array(np.tile(grid.order == 0, len(block)))
    metadata = _voices(names, voices).take(rows)
    columns = {
        **grid.key(),
        "method": bulk.constant(Method.CROSS_STREAM, every.size),
        "anomaly_score": grid.column(every),
        "metadata": pc.if_else(told, metadata, pa.scalar(None, pa.string())),
    }
    return _replace(connection, "anomaly_scores", block, columns, method=Method.CROSS_STREAM)


def read_cross_stream(
    connection: Connection, entity_id: str, windows: WindowRange, catalogue: Catalogue
) -> CrossStreamScores:
    """Load tier-2 scores, every field exact (a voice's -0.0 comes back as 0.0).

    Raises
    ------
    StorageError
        If a window is not there, naming the first one.
    """
    condition = f"t.method = '{Method.CROSS_STREAM}'"
    grid = _cross_stream_grid(entity_id, windows, catalogue)
    found = read_grid(
        connection,
        "anomaly_scores",
        grid,
        {"score": sql.SQL("t.anomaly_score")},
        condition=condition,
    )["score"]
    names = connection.execute(
        "SELECT DISTINCT jsonb_object_keys(metadata -> 'voices') AS name FROM anomaly_scores "
        "WHERE entity_id = %(entity_id)s AND timestamp >= %(start)s AND timestamp < %(end)s "
        "AND stream_id = %(row)s AND method = %(method)s ORDER BY name",
        {**where(entity_id, windows), "row": ENTITY_ROW, "method": Method.CROSS_STREAM},
    ).fetchall()
    voices: dict[str, FloatArray] = {}
    if names:
        # Names of voices are anybody's choice: they travel as parameters.
        parameters = {f"voice_{number}": name for number, (name,) in enumerate(names)}
        columns = {
            key: sql.SQL("(t.metadata -> 'voices' ->> {})::float8").format(sql.Placeholder(key))
            for key in parameters
        }
        read = read_grid(
            connection,
            "anomaly_scores",
            Grid(entity_id, windows, (ENTITY_ROW,)),
            columns,
            condition=condition,
            parameters=parameters,
        )
        voices = {name: read[key][:, 0] for key, name in parameters.items()}
    return CrossStreamScores(found[:, 0].copy(), found[:, 1:].copy(), voices)


def write_ensemble(
    connection: Target, entity_id: str, windows: WindowRange, final: EnsembleResults
) -> int:
    """Store the final scores, one row for each window; returns their number."""
    grid = Grid(entity_id, windows, (ENTITY_ROW,))
    columns = {
        **grid.key(),
        "method": bulk.constant(Method.ENSEMBLE, len(windows)),
        "anomaly_score": bulk.floats(final.score),
        "confidence": bulk.floats(final.confidence),
    }
    only = {"method": Method.ENSEMBLE}
    return replace_rows(connection, "anomaly_scores", entity_id, windows, columns, only=only)


def read_ensemble(connection: Connection, entity_id: str, windows: WindowRange) -> EnsembleResults:
    """Load the final scores, every field exact.

    Raises
    ------
    StorageError
        If a window is not there, naming the first one.
    """
    found = read_grid(
        connection,
        "anomaly_scores",
        Grid(entity_id, windows, (ENTITY_ROW,)),
        {"score": sql.SQL("t.anomaly_score"), "confidence": sql.SQL("t.confidence")},
        condition=f"t.method = '{Method.ENSEMBLE}'",
    )
    return EnsembleResults(found["score"][:, 0], found["confidence"][:, 0])


def _streams_grid(block: WindowBlock, catalogue: Catalogue) -> Grid:
    if block.values.shape[1] != len(catalogue.streams):
        msg = (
            f"entity {block.entity_id!r}: values of {block.values.shape[1]} streams, but "
            f"catalogue {catalogue.name!r} has {len(catalogue.streams)}; use the one they were "
            "made with"
        )
        raise InputError(msg)
    return Grid(block.entity_id, block.windows, catalogue.stream_ids)


def _cross_stream_grid(entity_id: str, windows: WindowRange, catalogue: Catalogue) -> Grid:
    return Grid(entity_id, windows, (ENTITY_ROW, *map(group_row, catalogue.group_ids)))


def _replace(
    target: Target, table: str, block: WindowBlock, columns: Mapping[str, pa.Array], **only: str
) -> int:
    return replace_rows(target, table, block.entity_id, block.windows, columns, only=only)


def _voices(names: Sequence[str], values: FloatArray) -> pa.Array:
    objects = json_objects(names, values)
    return pc.binary_join_element_wise('{"voices":', objects, "}", "")


def _layout(catalogue: Catalogue) -> str:
    text = "\x1f".join((*catalogue.group_ids, "", *catalogue.stream_ids))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _require_layout(
    connection: Connection, parameters: Mapping[str, Any], catalogue: Catalogue
) -> None:
    row = connection.execute(
        "SELECT min(timestamp) FROM gap_patterns WHERE entity_id = %(entity_id)s "
        "AND timestamp >= %(start)s AND timestamp < %(end)s AND layout <> %(layout)s",
        {**parameters, "layout": _layout(catalogue)},
    ).fetchone()
    if row is not None and row[0] is not None:
        msg = (
            f"entity {parameters['entity_id']!r}: gap_patterns of window {row[0].isoformat()} were "
            f"stored under other streams than catalogue {catalogue.name!r} has now; process the "
            "entity again"
        )
        raise StorageError(msg)


def _positions(at: IntArray, entity_id: str, windows: WindowRange) -> IntArray:
    """Return the row of each window."""
    numbers = window_numbers(at, windows)
    position = np.full(len(windows), -1)
    position[numbers] = np.arange(len(numbers))
    if (position < 0).any():
        start = int(windows.starts()[int(np.argmax(position < 0))])
        moment = type(windows)(start, start + WINDOW_SECONDS).start_time.isoformat()
        msg = (
            f"entity {entity_id!r}: gap_patterns has no row in window {moment}; "
            "process that window first"
        )
        raise StorageError(msg)
    return position
