"""What the asset checks count, one statement each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

    from anomaly_assets.streams.windows import WindowRange

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True)
class RowsPerWindow:
    """Smallest and largest number of rows that a window of an entity has."""

    entity_id: str
    smallest: int
    largest: int


@dataclass(frozen=True)
class ScoreRanges:
    """How the scores of one method lie over a range."""

    scores: int
    unknown: int
    out_of_range: int
    scored_while_missing: int


def rows_per_window(connection: Connection, windows: WindowRange) -> list[RowsPerWindow]:
    """Count the rows of each stored window, by entity."""
    rows = connection.execute(
        "SELECT entity_id, min(n), max(n) FROM (SELECT entity_id, timestamp, count(*) AS n "
        "FROM time_series_data WHERE timestamp >= %s AND timestamp < %s "
        "GROUP BY entity_id, timestamp) AS windows GROUP BY entity_id ORDER BY entity_id",
        (windows.start_time, windows.end_time),
    ).fetchall()
    return [RowsPerWindow(*row) for row in rows]


def score_ranges(connection: Connection, windows: WindowRange, method: str) -> ScoreRanges:
    """Count known, unknown and impossible scores of a method."""
    row = connection.execute(
        "SELECT count(s.anomaly_score), count(*) - count(s.anomaly_score), "
        "count(*) FILTER (WHERE s.anomaly_score < 0 OR s.anomaly_score > 1), "
        "count(*) FILTER (WHERE s.anomaly_score IS NOT NULL AND t.is_missing) "
        "FROM anomaly_scores AS s LEFT JOIN time_series_data AS t "
        "ON t.entity_id = s.entity_id AND t.timestamp = s.timestamp AND t.stream_id = s.stream_id "
        "AND t.timestamp >= %(start)s AND t.timestamp < %(end)s "
        "WHERE s.timestamp >= %(start)s AND s.timestamp < %(end)s AND s.method = %(method)s",
        {"start": windows.start_time, "end": windows.end_time, "method": method},
    ).fetchone()
    return ScoreRanges(*(row or (0, 0, 0, 0)))
