"""Figures of a range of windows: what a run of Dagster shows of itself, one statement each."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

    from anomaly_assets.streams.windows import WindowRange

    Connection = psycopg.Connection[Any]

Figures = dict[str, float]


@dataclass(frozen=True)
class Rates:
    """How many windows of a range are anomalous.

    Parameters
    ----------
    share
        Of all windows with a score; None without one.
    worst
        Anomalous windows of the hour with most of them, by entity, where there are any.
    """

    share: float | None
    worst: dict[str, int]


def anomaly_rates(connection: Connection, windows: WindowRange, threshold: float) -> Rates:
    """Count the anomalous windows of a range, and of each hour that ends with one of them."""
    row = connection.execute(
        "SELECT avg((anomaly_score > %s)::int)::float8 FROM anomaly_scores WHERE timestamp >= %s "
        "AND timestamp < %s AND method = 'ensemble' AND anomaly_score IS NOT NULL",
        (threshold, windows.start_time, windows.end_time),
    ).fetchone()
    worst = connection.execute(
        "SELECT entity_id, max(n) FROM (SELECT entity_id, timestamp, count(*) OVER "
        "(PARTITION BY entity_id ORDER BY timestamp "
        "RANGE BETWEEN interval '55 minutes' PRECEDING AND CURRENT ROW) AS n "
        "FROM anomaly_scores WHERE method = 'ensemble' AND anomaly_score > %(threshold)s "
        "AND timestamp >= %(start)s::timestamptz - interval '55 minutes' "
        "AND timestamp < %(end)s) AS hours WHERE timestamp >= %(start)s "
        "GROUP BY entity_id ORDER BY entity_id",
        {"threshold": threshold, "start": windows.start_time, "end": windows.end_time},
    ).fetchall()
    return Rates(None if row is None else row[0], dict(worst))


def available_at_the_end(connection: Connection, windows: WindowRange) -> dict[str, float]:
    """Return the share of streams with a value in each entity's last window of a range."""
    rows = connection.execute(
        "SELECT t.entity_id, avg((NOT t.is_missing)::int)::float8 FROM time_series_data AS t "
        "JOIN (SELECT entity_id, max(timestamp) AS last FROM time_series_data "
        "WHERE timestamp >= %(start)s AND timestamp < %(end)s GROUP BY entity_id) AS n "
        "ON t.entity_id = n.entity_id AND t.timestamp = n.last "
        "WHERE t.timestamp >= %(start)s AND t.timestamp < %(end)s "
        "GROUP BY t.entity_id ORDER BY t.entity_id",
        {"start": windows.start_time, "end": windows.end_time},
    ).fetchall()
    return dict(rows)


_FIGURES: Mapping[str, str] = {
    "readings": (
        "SELECT avg((NOT is_missing)::int)::float8 AS streams_available_ratio, "
        "(count(*) FILTER (WHERE is_missing))::float8 AS values_missing "
        "FROM time_series_data WHERE timestamp >= %(start)s AND timestamp < %(end)s"
    ),
    # The newest health of each stream that the range has, which holds one an hour and at each gap.
    "health": (
        "SELECT avg(nullif(accuracy, 'NaN')) AS model_accuracy, "
        "avg(availability_score) AS availability, avg(health_score) AS health, "
        "max(300.0 * consecutive_missing)::float8 AS missing_longest_seconds, "
        "(count(*) FILTER (WHERE needs_retraining))::float8 AS streams_need_retraining "
        "FROM (SELECT DISTINCT ON (entity_id, stream_id) * FROM stream_health "
        "WHERE timestamp >= %(start)s::timestamptz - interval '1 hour' AND timestamp < %(end)s "
        "ORDER BY entity_id, stream_id, timestamp DESC) AS newest"
    ),
    "ensemble": (
        "SELECT avg((anomaly_score > %(threshold)s)::int)::float8 AS anomaly_rate, "
        "(count(*) FILTER (WHERE anomaly_score > %(threshold)s))::float8 AS anomalous_windows, "
        "max(anomaly_score) AS highest_score, avg(confidence) AS confidence, "
        "(SELECT (count(*) FILTER (WHERE verdict = 'false_alarm'))::float8 / nullif(count(*), 0) "
        "FROM labels WHERE undone_at IS NULL) AS false_positive_ratio "
        "FROM anomaly_scores WHERE method = 'ensemble' "
        "AND timestamp >= %(start)s AND timestamp < %(end)s"
    ),
}


def figures(connection: Connection, what: str, windows: WindowRange, threshold: float) -> Figures:
    """Return the figures of a range that are known, and how long the database took for them.

    Parameters
    ----------
    connection
        A connection to the database.
    what
        ``readings``, ``health`` or ``ensemble``.
    windows
        The range.
    threshold
        Above this a final score is an anomaly.
    """
    started = time.perf_counter()
    cursor = connection.execute(
        _FIGURES[what],
        {"start": windows.start_time, "end": windows.end_time, "threshold": threshold},
    )
    row = cursor.fetchone() or ()
    names = [column.name for column in cursor.description or ()]
    found = {n: float(v) for n, v in zip(names, row, strict=False) if v is not None}
    return {**found, "database_query_seconds": time.perf_counter() - started}
