"""Explained episodes, and what people said of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from psycopg.rows import class_row

from anomaly_assets.storage.identifiers import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly_assets.detection.explanation.record import Explanation
    from anomaly_assets.storage.database import Connection

#: Orders that a list of episodes can have.
ORDERS: Final = {
    "newest": "c.timestamp DESC, c.entity_id",
    "oldest": "c.timestamp, c.entity_id",
    "score": "c.peak_score DESC NULLS LAST, c.timestamp DESC, c.entity_id",
}
#: What of them: by what people said, or all.
JUDGED: Final = ("any", "unjudged", "judged", *(str(verdict) for verdict in Verdict))
_MOST_SIMILAR: Final = 50


@dataclass(frozen=True)
class EpisodeRow:
    """An explained episode in a list.

    Parameters
    ----------
    entity_id, time_zone
        Whose; the zone is None where the catalogue's holds.
    anomaly_id, start, end, windows, ongoing
        Its identifier and extent.
    peak_score
        Its highest final score; None: unknown.
    trigger, summary, primary_cause
        Why it was explained, and how.
    verdict
        What the newest standing label of it says; None: nobody has judged it.
    total
        Episodes that the list would have without a limit.
    """

    entity_id: str
    time_zone: str | None
    catalogue: str | None
    anomaly_id: UUID
    start: datetime
    end: datetime
    windows: int
    ongoing: bool
    peak_score: float | None
    trigger: str
    summary: str
    primary_cause: str | None
    verdict: str | None
    total: int


@dataclass(frozen=True)
class Wanted:
    """Which episodes a list has.

    Parameters
    ----------
    entity_id
        Of one entity; None: of all.
    start, end
        Those that overlap this time; None: without bound.
    min_score
        Those whose highest final score is at least this.
    judged
        One of :data:`JUDGED`.
    text
        Words in the sentence or the cause, in whatever case.
    order
        One of :data:`ORDERS`.
    """

    entity_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    min_score: float = 0.0
    judged: str = "any"
    text: str = ""
    order: str = "newest"


def episodes(
    connection: Connection, wanted: Wanted, *, limit: int, offset: int = 0
) -> list[EpisodeRow]:
    """Return explained episodes; each carries how many there are in all."""
    with connection.cursor(row_factory=class_row(EpisodeRow)) as cursor:
        return cursor.execute(
            "SELECT c.entity_id, n.time_zone, n.catalogue, c.anomaly_id, c.timestamp AS start, "  # noqa: S608 - our own constants
            'c.episode_end AS "end", c.windows, c.ongoing, c.peak_score, c.trigger, c.summary, '
            "c.primary_cause, said.verdict, count(*) OVER () AS total "
            "FROM causal_explanations AS c JOIN entities AS n USING (entity_id) "
            "LEFT JOIN LATERAL (SELECT verdict FROM labels AS l WHERE l.entity_id = c.entity_id "
            "AND l.undone_at IS NULL AND (l.anomaly_id = c.anomaly_id "
            "OR (l.start_time <= c.timestamp AND l.end_time >= c.episode_end)) "
            "ORDER BY l.label_id DESC LIMIT 1) AS said ON true "
            "WHERE c.trigger <> 'forced' "
            "AND (%(entity)s::text IS NULL OR c.entity_id = %(entity)s) "
            "AND (%(start)s::timestamptz IS NULL OR c.episode_end > %(start)s) "
            # An episode begins long before it ends only where something is broken for weeks.
            "AND (%(start)s::timestamptz IS NULL OR c.timestamp > %(start)s - interval '60 days') "
            "AND (%(end)s::timestamptz IS NULL OR c.timestamp < %(end)s) "
            "AND (%(min)s <= 0 OR c.peak_score >= %(min)s) "
            "AND (%(text)s = '' OR strpos(lower(c.summary || ' ' || coalesce(c.primary_cause, '')),"
            " lower(%(text)s)) > 0) "
            "AND CASE %(judged)s WHEN 'any' THEN true WHEN 'judged' THEN said.verdict IS NOT NULL "
            "WHEN 'unjudged' THEN said.verdict IS NULL ELSE said.verdict = %(judged)s END "
            f"ORDER BY {ORDERS[wanted.order]} LIMIT %(limit)s OFFSET %(offset)s",
            {
                "entity": wanted.entity_id,
                "start": wanted.start,
                "end": wanted.end,
                "min": wanted.min_score,
                "judged": wanted.judged,
                "text": wanted.text,
                "limit": limit,
                "offset": offset,
            },
        ).fetchall()


@dataclass(frozen=True)
class SimilarRow:
    """An earlier or later episode of the same kind that somebody has judged.

    Parameters
    ----------
    anomaly_id, start, end, peak_score, summary
        The episode.
    verdict, label_cause, reason, author
        What was said of it, and by whom.
    likeness
        Share of streams that both causes name, in [0, 1].
    """

    anomaly_id: UUID
    start: datetime
    end: datetime
    peak_score: float | None
    summary: str
    verdict: str
    label_cause: str | None
    reason: str | None
    author: str | None
    likeness: float


def judged_alike(
    connection: Connection, explanation: Explanation, *, least: float = 0.3
) -> list[SimilarRow]:
    """Return the judged episodes of the same entity with the same kind of cause, most alike first.

    Parameters
    ----------
    connection
        A connection to the database.
    explanation
        Of the episode that is looked at.
    least
        Share of streams that both must name, of those that either names.
    """
    mine = set(explanation.cause_streams)
    rows: list[Any] = connection.execute(
        "SELECT c.anomaly_id, c.timestamp, c.episode_end, c.peak_score, c.summary, l.verdict, "
        "coalesce(l.title, l.cause), l.reason, l.author, c.record -> 'cause_streams' "
        "FROM labels AS l JOIN causal_explanations AS c "
        "ON c.entity_id = l.entity_id AND c.anomaly_id = l.anomaly_id "
        "WHERE l.entity_id = %s AND l.undone_at IS NULL AND l.anomaly_id::text <> %s "
        "AND c.record ->> 'cause_kind' = %s ORDER BY l.label_id DESC LIMIT 500",
        (explanation.entity_id, explanation.anomaly_id, explanation.cause_kind),
    ).fetchall()
    found = [SimilarRow(*(*row[:9], _likeness(mine, row[9] or ()))) for row in rows]
    alike = [one for one in found if one.likeness >= least]
    return sorted(alike, key=lambda one: -one.likeness)[:_MOST_SIMILAR]


def _likeness(mine: set[str], theirs: Sequence[Any]) -> float:
    union = mine | set(theirs)
    return len(mine & set(theirs)) / len(union) if union else 1.0


def neighbours(
    connection: Connection, entity_id: str, start: datetime
) -> tuple[UUID | None, UUID | None]:
    """Return the identifiers of the episodes before and after one that begins at a time."""
    found = []
    for comparison, order in (("<", "DESC"), (">", "ASC")):
        row = connection.execute(
            "SELECT anomaly_id FROM causal_explanations WHERE entity_id = %s "  # noqa: S608 - constants
            f"AND timestamp {comparison} %s AND trigger <> 'forced' "
            f"ORDER BY timestamp {order} LIMIT 1",
            (entity_id, start),
        ).fetchone()
        found.append(None if row is None else row[0])
    return found[0], found[1]
