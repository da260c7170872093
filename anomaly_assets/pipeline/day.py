"""A day of one entity, as the report shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from anomaly_assets.storage.identifiers import Method
from anomaly_assets.storage.queries import top_anomalies
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange

if TYPE_CHECKING:
    from datetime import datetime

    import psycopg

    from anomaly_assets.pipeline.deployment import Entity
    from anomaly_assets.storage.queries import Anomaly
    from anomaly_assets.streams.windows import FloatArray, IntArray

    Connection = psycopg.Connection[Any]

#: Episodes shown of an entity.
MOST_ANOMALIES: Final = 5


@dataclass(frozen=True)
class Day:
    """What the tables hold of an entity's day.

    Parameters
    ----------
    entity_id
        Whose.
    scored, anomalous
        Windows with a final score's row, and windows above the threshold.
    peak, coverage
        Highest final score, and mean share of the streams observed, in [0, 1]; None without any.
    anomalies
        The episodes with the highest scores, highest first.
    silent, retrain
        Streams with too little data to be scored at the day's end, and those that need retraining.
    """

    entity_id: str
    scored: int
    anomalous: int
    peak: float | None
    coverage: float | None
    anomalies: list[Anomaly]
    silent: list[str]
    retrain: list[str]


@dataclass(frozen=True)
class DayCourse:
    """The course of an entity's day, window by window.

    Parameters
    ----------
    starts
        Starts of the windows (epoch seconds), shape ``(n_windows,)``.
    scores
        Final scores in [0, 1], same shape; NaN where unknown.
    streams
        Identifiers of the streams, in the catalogue's order.
    observed
        Whether a stream had a value, shape ``(n_streams, n_windows)``: 1.0, 0.0, or NaN in a
        window that was never produced.
    """

    starts: IntArray
    scores: FloatArray
    streams: tuple[str, ...]
    observed: FloatArray


def read_days(
    connection: Connection, start: datetime, end: datetime, threshold: float
) -> list[Day]:
    """Return the day ``[start, end)`` of every entity with a processed window, by identifier."""
    rows = connection.execute(
        "SELECT entity_id, count(*), count(*) FILTER (WHERE anomaly_score > %s), "
        "max(anomaly_score), avg(confidence) FROM anomaly_scores WHERE method = %s "
        "AND timestamp >= %s AND timestamp < %s GROUP BY entity_id ORDER BY entity_id",
        (threshold, Method.ENSEMBLE, start, end),
    ).fetchall()
    days = []
    for entity_id, scored, anomalous, peak, coverage in rows:
        anomalies, silent, retrain = _episodes_and_health(
            connection, entity_id, start, end, threshold
        )
        days.append(Day(entity_id, scored, anomalous, peak, coverage, anomalies, silent, retrain))
    return days


def _episodes_and_health(
    connection: Connection, entity_id: str, start: datetime, end: datetime, threshold: float
) -> tuple[list[Anomaly], list[str], list[str]]:
    anomalies = top_anomalies(
        connection,
        entity_id=entity_id,
        since=start,
        until=end,
        min_score=threshold,
        limit=MOST_ANOMALIES,
    )
    rows = connection.execute(
        "SELECT DISTINCT ON (stream_id) stream_id, needs_retraining, predictable "
        "FROM stream_health WHERE entity_id = %s AND timestamp >= %s AND timestamp < %s "
        "ORDER BY stream_id, timestamp DESC",
        (entity_id, start, end),
    ).fetchall()
    silent = [stream for stream, _, predictable in rows if not predictable]
    retrain = [stream for stream, needs, _ in rows if needs]
    return anomalies, silent, retrain


def read_course(
    connection: Connection, entity: Entity, start: datetime, end: datetime
) -> DayCourse:
    """Return the course of an entity's day ``[start, end)``."""
    windows = WindowRange.between(start, end)
    catalogue = entity.catalogue
    rows = {stream: row for row, stream in enumerate(catalogue.stream_ids)}
    scores = np.full(len(windows), np.nan)
    observed = np.full((len(catalogue.streams), len(windows)), np.nan)
    span = (entity.entity_id, windows.start_time, windows.end_time)
    for at, score in connection.execute(
        "SELECT timestamp, anomaly_score FROM anomaly_scores WHERE entity_id = %s "
        "AND timestamp >= %s AND timestamp < %s AND method = %s",
        (*span, Method.ENSEMBLE),
    ):
        if score is not None:
            scores[_number(windows, at)] = score
    for at, stream, missing in connection.execute(
        "SELECT timestamp, stream_id, is_missing FROM time_series_data WHERE entity_id = %s "
        "AND timestamp >= %s AND timestamp < %s",
        span,
    ):
        # A stream that the catalogue no longer has is not shown.
        if stream in rows:
            observed[rows[stream], _number(windows, at)] = 0.0 if missing else 1.0
    return DayCourse(windows.starts(), scores, catalogue.stream_ids, observed)


def _number(windows: WindowRange, at: datetime) -> int:
    return (int(at.timestamp()) - windows.start) // WINDOW_SECONDS
