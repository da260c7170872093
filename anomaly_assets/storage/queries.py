"""What people ask the tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from anomaly_assets.storage.identifiers import ENTITY_ROW, Method
from anomaly_assets.streams.windows import WINDOW_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from anomaly_assets.streams.windows import FloatArray, IntArray, WindowRange

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True)
class Anomaly:
    """An episode with a high final score, or a window by itself where none was explained.

    Parameters
    ----------
    entity_id
        Whose.
    window, score, confidence
        Its window with the highest final score, and that window's score and confidence.
    anomaly_id, summary, primary_cause, recommended_action
        Of its explanation; None where there is none.
    episode_start, episode_end, windows, ongoing
        Its extent; of an unexplained window just that window.
    suppressed_by
        Name of the rule that keeps that window from raising an alarm; None: none does.
    """

    entity_id: str
    window: datetime
    score: float
    confidence: float | None
    anomaly_id: str | None
    summary: str | None
    primary_cause: str | None
    recommended_action: str | None
    episode_start: datetime
    episode_end: datetime
    windows: int
    ongoing: bool
    suppressed_by: str | None = None


@dataclass(frozen=True)
class EntityStatus:
    """How an entity is doing.

    Parameters
    ----------
    entity_id, catalogue, time_zone
        Who; catalogue and zone are None where the default holds.
    first_window, last_reading_at, processed_until
        Its first window, newest reading and the end of the last window taken into the aggregate.
    latest_score, latest_confidence
        Of the newest window with a final score.
    anomalous_last_day
        Windows above the threshold in the day before `processed_until`, but for those that
        feedback has decided to be no alarm.
    coverage_last_day
        Share of values observed in that day, in [0, 1]; None without any.
    rejected, late_windows, late_beyond_horizon
        Readings refused, windows waiting for a replay, readings too late for one.
    """

    entity_id: str
    catalogue: str | None
    time_zone: str | None
    first_window: datetime | None
    last_reading_at: datetime | None
    processed_until: datetime | None
    latest_score: float | None
    latest_confidence: float | None
    anomalous_last_day: int
    coverage_last_day: float | None
    rejected: int
    late_windows: int
    late_beyond_horizon: int


def top_anomalies(  # noqa: PLR0913 - the filters a person may set
    connection: Connection,
    *,
    entity_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    min_score: float = 0.7,
    limit: int = 20,
) -> list[Anomaly]:
    """Return the episodes with the highest final scores, highest first.

    An episode counts by its windows between `since` and `until`. A window above `min_score` that no
    explanation covers stands for itself. Windows that feedback has decided to be no alarm are left
    out, but for those that a rule suppresses: they name it.
    """
    rows = connection.execute(
        "SELECT * FROM (SELECT DISTINCT ON (s.entity_id, coalesce(e.timestamp, s.timestamp)) "
        "s.entity_id, s.timestamp, s.anomaly_score, s.confidence, e.anomaly_id::text, "
        "e.summary, e.primary_cause, e.recommended_action, "
        "coalesce(e.timestamp, s.timestamp), "
        "coalesce(e.episode_end, s.timestamp + interval '5 minutes'), "
        "coalesce(e.windows, 1), coalesce(e.ongoing, false), d.suppressed_by "
        "FROM anomaly_scores AS s LEFT JOIN window_decisions AS d "
        "ON d.entity_id = s.entity_id AND d.timestamp = s.timestamp LEFT JOIN LATERAL ("
        "SELECT * FROM causal_explanations AS c WHERE c.entity_id = s.entity_id "
        "AND c.timestamp <= s.timestamp AND c.episode_end > s.timestamp "
        # An episode before an explanation that somebody asked for of a window in it.
        "ORDER BY c.trigger = 'forced', c.timestamp DESC LIMIT 1) AS e ON true "
        "WHERE s.method = %(method)s AND s.anomaly_score > %(min_score)s "
        "AND (d.entity_id IS NULL OR d.is_alarm OR d.suppressed_by IS NOT NULL) "
        "AND (%(entity)s::text IS NULL OR s.entity_id = %(entity)s) "
        "AND s.timestamp >= coalesce(%(since)s::timestamptz, '-infinity') "
        "AND s.timestamp < coalesce(%(until)s::timestamptz, 'infinity') "
        "ORDER BY s.entity_id, coalesce(e.timestamp, s.timestamp), s.anomaly_score DESC, "
        "s.timestamp) AS episodes "
        "ORDER BY anomaly_score DESC, timestamp, entity_id LIMIT %(limit)s",
        {
            "method": Method.ENSEMBLE,
            "min_score": min_score,
            "entity": entity_id,
            "since": since,
            "until": until,
            "limit": limit,
        },
    ).fetchall()
    return [Anomaly(*row) for row in rows]


def final_scores(connection: Connection, entity_id: str) -> tuple[IntArray, FloatArray]:
    """Return window starts (epoch seconds) and final scores of an entity, in order.

    Unknown scores are NaN.
    """
    rows = connection.execute(
        "SELECT extract(epoch FROM timestamp)::bigint, anomaly_score FROM anomaly_scores "
        "WHERE entity_id = %s AND stream_id = %s AND method = %s ORDER BY timestamp",
        (entity_id, ENTITY_ROW, Method.ENSEMBLE),
    ).fetchall()
    starts = np.array([row[0] for row in rows], dtype=np.int64)
    scores = np.array([np.nan if row[1] is None else row[1] for row in rows], dtype=np.float64)
    return starts, scores


def strongest_scores(
    connection: Connection, entity_id: str, windows: WindowRange
) -> tuple[IntArray, FloatArray]:
    """Return what decides whether windows are explained, of those that have a final score.

    Returns
    -------
    tuple of numpy.ndarray
        Window starts (epoch seconds) in order, and the highest tier-1 score, the tier-2 score and
        the final score of each, shape ``(n_windows, 3)``; NaN where unknown.
    """
    rows = connection.execute(
        "SELECT extract(epoch FROM timestamp)::bigint, "
        "max(anomaly_score) FILTER (WHERE method = %(individual)s), "
        "max(anomaly_score) FILTER (WHERE method = %(cross)s AND stream_id = %(row)s), "
        "max(anomaly_score) FILTER (WHERE method = %(final)s) FROM anomaly_scores "
        "WHERE entity_id = %(entity)s AND timestamp >= %(start)s AND timestamp < %(end)s "
        "GROUP BY timestamp HAVING bool_or(method = %(final)s) ORDER BY timestamp",
        {
            "individual": Method.INDIVIDUAL,
            "cross": Method.CROSS_STREAM,
            "final": Method.ENSEMBLE,
            "row": ENTITY_ROW,
            "entity": entity_id,
            "start": windows.start_time,
            "end": windows.end_time,
        },
    ).fetchall()
    starts = np.array([row[0] for row in rows], dtype=np.int64)
    scores = np.array([row[1:] for row in rows], dtype=np.float64).reshape(len(rows), 3)
    return starts, scores


def recent_scores(
    connection: Connection, span: timedelta, *, entity_id: str | None = None
) -> tuple[datetime | None, dict[str, list[float | None]]]:
    """Return the final scores of the last windows of every entity, or of one.

    Parameters
    ----------
    connection
        To the database.
    span
        How far back from the newest window with a final score, of whomever.
    entity_id
        Of whom; None is everybody.

    Returns
    -------
    datetime or None
        End of the newest window; None before the first score.
    dict
        Scores by entity, a value a window, oldest first; None where a window has no score.
    """
    row = connection.execute(
        "SELECT max(timestamp) FROM entities AS n, LATERAL (SELECT timestamp FROM anomaly_scores "
        "WHERE entity_id = n.entity_id AND stream_id = %(row)s AND method = %(method)s "
        "ORDER BY timestamp DESC LIMIT 1) AS newest "
        "WHERE %(entity)s::text IS NULL OR n.entity_id = %(entity)s",
        {"row": ENTITY_ROW, "method": Method.ENSEMBLE, "entity": entity_id},
    ).fetchone()
    newest: datetime | None = None if row is None else row[0]
    if newest is None:
        return None, {}
    step = timedelta(seconds=WINDOW_SECONDS)
    windows = max(1, span // step)
    first = newest - (windows - 1) * step
    scores: dict[str, list[float | None]] = {
        name: [None] * windows
        for (name,) in connection.execute(
            "SELECT entity_id FROM entities WHERE %(entity)s::text IS NULL "
            "OR entity_id = %(entity)s ORDER BY entity_id",
            {"entity": entity_id},
        )
    }
    for name, at, score in connection.execute(
        "SELECT entity_id, timestamp, anomaly_score FROM anomaly_scores "
        "WHERE stream_id = %(row)s AND method = %(method)s "
        "AND timestamp >= %(first)s AND timestamp <= %(newest)s "
        "AND (%(entity)s::text IS NULL OR entity_id = %(entity)s)",
        {
            "row": ENTITY_ROW,
            "method": Method.ENSEMBLE,
            "first": first,
            "newest": newest,
            "entity": entity_id,
        },
    ):
        if name in scores:
            scores[name][(at - first) // step] = score
    return newest + step, scores


def strongest_scores_of_many(
    connection: Connection, entities: Sequence[str], windows: WindowRange
) -> dict[str, tuple[IntArray, FloatArray]]:
    """Return what :func:`strongest_scores` does, of several entities and by identifier."""
    rows = connection.execute(
        "SELECT entity_id, extract(epoch FROM timestamp)::bigint, "
        "max(anomaly_score) FILTER (WHERE method = %(individual)s), "
        "max(anomaly_score) FILTER (WHERE method = %(cross)s AND stream_id = %(row)s), "
        "max(anomaly_score) FILTER (WHERE method = %(final)s) FROM anomaly_scores "
        "WHERE entity_id = ANY(%(entities)s) AND timestamp >= %(start)s AND timestamp < %(end)s "
        "GROUP BY entity_id, timestamp HAVING bool_or(method = %(final)s) ORDER BY timestamp",
        {
            "individual": Method.INDIVIDUAL,
            "cross": Method.CROSS_STREAM,
            "final": Method.ENSEMBLE,
            "row": ENTITY_ROW,
            "entities": list(entities),
            "start": windows.start_time,
            "end": windows.end_time,
        },
    ).fetchall()
    found: dict[str, list[tuple[Any, ...]]] = {}
    for entity_id, *row in rows:
        found.setdefault(entity_id, []).append(tuple(row))
    return {
        entity_id: (
            np.array([row[0] for row in own], dtype=np.int64),
            np.array([row[1:] for row in own], dtype=np.float64),
        )
        for entity_id, own in found.items()
    }


def scored_until(connection: Connection, entity_id: str) -> int | None:
    """Return the end (epoch seconds) of an entity's last window with a final score, if any."""
    row = connection.execute(
        "SELECT extract(epoch FROM max(timestamp))::bigint FROM anomaly_scores "
        "WHERE entity_id = %s AND stream_id = %s AND method = %s",
        (entity_id, ENTITY_ROW, Method.ENSEMBLE),
    ).fetchone()
    return None if row is None or row[0] is None else int(row[0]) + WINDOW_SECONDS


def explanation_record(connection: Connection, anomaly_id: str) -> dict[str, Any] | None:
    """Return the full record of an explanation, or None if there is none of that identifier."""
    row = connection.execute(
        "SELECT record FROM causal_explanations WHERE anomaly_id::text = %s", (anomaly_id,)
    ).fetchone()
    return None if row is None else row[0]


def entity_statuses(connection: Connection, *, threshold: float) -> list[EntityStatus]:
    """Return how every entity is doing, by identifier."""
    rows = connection.execute(
        "SELECT n.entity_id, n.catalogue, n.time_zone, n.first_window, n.last_reading_at, "
        "n.aggregated_until, latest.anomaly_score, latest.confidence, "
        "coalesce(day.anomalous, 0), cover.share, "
        "(SELECT count(*) FROM rejected_readings AS r WHERE r.entity_id = n.entity_id), "
        "(SELECT count(*) FROM late_windows AS l WHERE l.entity_id = n.entity_id), "
        "(SELECT count(*) FROM readings AS q WHERE q.entity_id = n.entity_id AND q.late) "
        "FROM entities AS n "
        "LEFT JOIN LATERAL (SELECT anomaly_score, confidence FROM anomaly_scores "
        "WHERE entity_id = n.entity_id AND stream_id = %(row)s AND method = %(method)s "
        "ORDER BY timestamp DESC LIMIT 1) AS latest ON true "
        "LEFT JOIN LATERAL (SELECT count(*) AS anomalous FROM anomaly_scores "
        "WHERE entity_id = n.entity_id AND method = %(method)s AND anomaly_score > %(threshold)s "
        "AND NOT EXISTS (SELECT FROM window_decisions AS d WHERE d.entity_id = n.entity_id "
        "AND d.timestamp = anomaly_scores.timestamp AND NOT d.is_alarm) "
        "AND timestamp >= n.aggregated_until - interval '1 day') AS day ON true "
        "LEFT JOIN LATERAL (SELECT avg((NOT is_missing)::int)::float8 AS share "
        "FROM time_series_data WHERE entity_id = n.entity_id "
        "AND timestamp >= n.aggregated_until - interval '1 day') AS cover ON true "
        "ORDER BY n.entity_id",
        {"row": ENTITY_ROW, "method": Method.ENSEMBLE, "threshold": threshold},
    ).fetchall()
    return [EntityStatus(*row) for row in rows]
