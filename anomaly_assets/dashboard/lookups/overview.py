"""How all entities are doing."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from psycopg.rows import class_row

from anomaly_assets.storage.alerts import AlertStatus
from anomaly_assets.storage.identifiers import ENTITY_ROW, Method

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anomaly_assets.storage.database import Connection

#: An entity that has sent nothing for so long is silent.
SILENT_AFTER: Final = timedelta(hours=1)
#: Points of a sparkline: a quarter of an hour each.
SPARK_POINTS: Final = 96
_SPARK_STEP: Final = timedelta(minutes=15)
_DAY: Final = timedelta(days=1)
_TOLD: Final = (AlertStatus.PENDING, AlertStatus.HELD, AlertStatus.SENDING, AlertStatus.SENT)


class Status(StrEnum):
    """How an entity is doing, the most urgent first."""

    QUARANTINED = "quarantined"
    ANOMALOUS = "anomalous"
    SILENT = "silent"
    STARTING = "starting"
    NORMAL = "normal"


@dataclass
class Doing:
    """One entity now.

    Parameters
    ----------
    entity_id, catalogue, time_zone
        Who; catalogue and zone are None where the default holds.
    last_reading_at, processed_until
        Newest reading, and end of the last window taken into the aggregate.
    quarantined_reason
        Why it is not processed; None: it is.
    score, confidence, scored_at
        Of its newest window with a final score in the hour before `processed_until`.
    episodes
        Episodes that may still go on.
    alerts
        Alerts of the last day, as far as people were or are to be told of them.
    status
        All of this in a word.
    spark
        Highest final score of each quarter of the day before `processed_until`; None: unknown.
    coverage
        Mean share of streams observed in that day; None: unknown.
    """

    entity_id: str
    catalogue: str | None
    time_zone: str | None
    last_reading_at: datetime | None
    processed_until: datetime | None
    quarantined_reason: str | None
    score: float | None
    confidence: float | None
    scored_at: datetime | None
    episodes: int
    alerts: int
    status: Status = Status.NORMAL
    spark: list[float | None] = field(default_factory=list)
    coverage: float | None = None


_QUERY: Final = """
SELECT n.entity_id, n.catalogue, n.time_zone, n.last_reading_at,
    n.aggregated_until AS processed_until, n.quarantined_reason, latest.anomaly_score AS score,
    latest.confidence, latest.timestamp AS scored_at, coalesce(open.episodes, 0) AS episodes,
    coalesce(told.alerts, 0) AS alerts
FROM entities AS n
LEFT JOIN LATERAL (
    SELECT s.timestamp, s.anomaly_score, s.confidence FROM anomaly_scores AS s
    WHERE s.entity_id = n.entity_id AND s.stream_id = %(row)s AND s.method = 'ensemble'
    AND s.timestamp >= n.aggregated_until - interval '1 hour' AND s.timestamp < n.aggregated_until
    ORDER BY s.timestamp DESC LIMIT 1
) AS latest ON true
LEFT JOIN LATERAL (
    SELECT count(*) AS episodes FROM causal_explanations AS c
    WHERE c.entity_id = n.entity_id AND c.ongoing AND c.trigger <> 'forced'
    AND c.timestamp >= n.aggregated_until - interval '2 days'
    AND c.timestamp <= n.aggregated_until
) AS open ON true
LEFT JOIN (
    SELECT entity_id, count(*) AS alerts FROM alerts
    WHERE last_seen >= %(now)s - interval '1 day' AND status = ANY(%(told)s) GROUP BY entity_id
) AS told ON told.entity_id = n.entity_id
WHERE (%(only)s::text IS NULL OR n.entity_id = %(only)s)
AND (%(text)s = '' OR strpos(lower(n.entity_id), lower(%(text)s)) > 0)
"""


def everybody(
    connection: Connection, now: datetime, *, threshold: float, only: str | None, text: str = ""
) -> list[Doing]:
    """Return how entities are doing, in no particular order, without sparkline and coverage.

    Parameters
    ----------
    connection
        A connection to the database.
    now
        Against which silence is measured.
    threshold
        Final score above which an entity is anomalous.
    only
        The one entity that may be seen; None: all.
    text
        Part of the identifier, in whatever case; empty: any.
    """
    with connection.cursor(row_factory=class_row(Doing)) as cursor:
        found = cursor.execute(
            _QUERY,
            {
                "row": ENTITY_ROW,
                "now": now,
                "told": [str(one) for one in _TOLD],
                "only": only,
                "text": text,
            },
        ).fetchall()
    for one in found:
        one.status = _status(one, now, threshold)
    return found


def processed_until(connection: Connection, entity_id: str | None = None) -> datetime | None:
    """Return the end of the last processed window, of one entity or of any; None: there is none."""
    row = connection.execute(
        "SELECT max(aggregated_until) FROM entities "
        "WHERE %(only)s::text IS NULL OR entity_id = %(only)s",
        {"only": entity_id},
    ).fetchone()
    return None if row is None else row[0]


def with_last_day(connection: Connection, shown: Iterable[Doing]) -> None:
    """Add sparkline and coverage to those that are shown."""
    wanted = {one.entity_id: one for one in shown if one.processed_until is not None}
    if not wanted:
        return
    rows: list[tuple[Any, ...]] = connection.execute(
        "SELECT n.entity_id, floor(extract(epoch FROM s.timestamp - (n.until - interval '1 day')) "
        "/ %(step)s)::int, max(s.anomaly_score), avg(s.confidence), count(s.confidence) "
        "FROM unnest(%(names)s::text[], %(untils)s::timestamptz[]) AS n (entity_id, until) "
        "JOIN LATERAL (SELECT timestamp, anomaly_score, confidence FROM anomaly_scores "
        "WHERE entity_id = n.entity_id AND stream_id = %(row)s AND method = %(method)s "
        "AND timestamp >= n.until - interval '1 day' AND timestamp < n.until) AS s ON true "
        "GROUP BY 1, 2",
        {
            "names": list(wanted),
            "untils": [one.processed_until for one in wanted.values()],
            "step": _SPARK_STEP.total_seconds(),
            "row": ENTITY_ROW,
            "method": Method.ENSEMBLE,
        },
    ).fetchall()
    sums: dict[str, list[tuple[float, int]]] = {}
    for one in wanted.values():
        one.spark = [None] * SPARK_POINTS
    for name, slot, highest, coverage, windows in rows:
        wanted[name].spark[slot] = highest
        if coverage is not None:
            sums.setdefault(name, []).append((coverage, windows))
    for name, parts in sums.items():
        total = sum(windows for _, windows in parts)
        wanted[name].coverage = sum(share * windows for share, windows in parts) / total


def _status(one: Doing, now: datetime, threshold: float) -> Status:
    if one.quarantined_reason is not None:
        return Status.QUARANTINED
    if one.last_reading_at is None or one.processed_until is None:
        return Status.STARTING
    if now - one.last_reading_at > SILENT_AFTER:
        return Status.SILENT
    if one.episodes or (one.score is not None and one.score > threshold):
        return Status.ANOMALOUS
    return Status.STARTING if one.scored_at is None else Status.NORMAL
