"""When streams are usually there, and when their absence was unusual."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from anomaly_assets.streams.contexts import CONTEXT_NAMES
from anomaly_assets.streams.windows import WINDOW_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly_assets.dashboard.addresses import Span
    from anomaly_assets.storage.database import Connection

_WINDOW: Final = timedelta(seconds=WINDOW_SECONDS)
#: Unusual windows that lie closer together are one absence.
_JOINED: Final = 6 * _WINDOW


@dataclass(frozen=True)
class Cell:
    """One hour of a calendar or of a profile.

    Parameters
    ----------
    available
        Mean share of streams observed, in [0, 1].
    windows
        Windows that it rests on.
    unusual
        How many of them had an unusual absence.
    """

    available: float
    windows: int
    unusual: int


@dataclass
class Absence:
    """A stretch of time in which absences were unusual.

    Parameters
    ----------
    start, end
        First window, and end of the last one.
    score
        Highest gap score, in [0, 1]; None: unknown.
    contexts, groups
        Contexts it lay in, and groups whose streams were missing together.
    windows
        Unusual windows in it.
    """

    start: datetime
    end: datetime
    score: float | None
    contexts: list[str]
    groups: list[str]
    windows: int


def calendar(  # noqa: PLR0913 - the filters a person may set
    connection: Connection,
    entity_id: str,
    span: Span,
    zone: str,
    *,
    group: str | None = None,
    context: str | None = None,
) -> dict[tuple[date, int], Cell]:
    """Return availability by local day and hour.

    Parameters
    ----------
    connection
        A connection to the database.
    entity_id, span, zone
        Whose, when, and on which clock.
    group
        Only of this group; None: of all, each counting the same.
    context
        Only windows in this context; None: all.
    """
    rows = connection.execute(
        f"SELECT (timestamp AT TIME ZONE %(zone)s)::date, "  # noqa: S608 - our own constant
        f"extract(hour FROM timestamp AT TIME ZONE %(zone)s)::int, avg({_SHARE}), count(*), "
        "count(*) FILTER (WHERE is_anomalous) FROM gap_patterns "
        "WHERE entity_id = %(entity)s AND timestamp >= %(start)s AND timestamp < %(end)s "
        "AND (%(context)s::text IS NULL OR context = %(context)s) GROUP BY 1, 2",
        _asked(entity_id, span, zone, group, context),
    ).fetchall()
    return {
        (day, hour): Cell(share, n, odd) for day, hour, share, n, odd in rows if share is not None
    }


def profile(
    connection: Connection, entity_id: str, span: Span, zone: str, *, group: str | None = None
) -> dict[tuple[str, int], Cell]:
    """Return availability by context and local hour; see :func:`calendar`."""
    rows = connection.execute(
        "SELECT context, "  # noqa: S608 - our own constant
        f"extract(hour FROM timestamp AT TIME ZONE %(zone)s)::int, avg({_SHARE}), count(*), "
        "count(*) FILTER (WHERE is_anomalous) FROM gap_patterns "
        "WHERE entity_id = %(entity)s AND timestamp >= %(start)s AND timestamp < %(end)s "
        "GROUP BY 1, 2",
        _asked(entity_id, span, zone, group, None),
    ).fetchall()
    return {
        (context, hour): Cell(share, n, odd)
        for context, hour, share, n, odd in rows
        if share is not None
    }


def by_group(
    connection: Connection, entity_id: str, span: Span, groups: Sequence[str]
) -> dict[tuple[str, str], float]:
    """Return mean availability by group and context."""
    rows = connection.execute(
        "SELECT context, g.name, avg((availability_vector ->> g.name)::float8) "
        "FROM gap_patterns CROSS JOIN unnest(%(groups)s::text[]) AS g (name) "
        "WHERE entity_id = %(entity)s AND timestamp >= %(start)s AND timestamp < %(end)s "
        "GROUP BY 1, 2",
        {"entity": entity_id, "start": span.start, "end": span.end, "groups": list(groups)},
    ).fetchall()
    return {(group, context): share for context, group, share in rows if share is not None}


def unusual_absences(connection: Connection, entity_id: str, span: Span) -> list[Absence]:
    """Return the stretches with unusual absences, the newest first."""
    rows: list[Any] = connection.execute(
        "SELECT timestamp, context, score, coordinated_groups FROM gap_patterns "
        "WHERE entity_id = %(entity)s AND timestamp >= %(start)s AND timestamp < %(end)s "
        "AND is_anomalous ORDER BY timestamp",
        {"entity": entity_id, "start": span.start, "end": span.end},
    ).fetchall()
    found: list[Absence] = []
    for at, context, score, groups in rows:
        if not found or at - found[-1].end > _JOINED:
            found.append(Absence(at, at + _WINDOW, score, [], [], 0))
        one = found[-1]
        one.end = at + _WINDOW
        one.windows += 1
        one.score = max((s for s in (one.score, score) if s is not None), default=None)
        one.contexts += [context] if context not in one.contexts else []
        one.groups += [group for group in groups if group not in one.groups]
    return found[::-1]


def contexts_there(cells: dict[tuple[str, int], Cell]) -> list[str]:
    """Return the contexts of a profile, in their own order."""
    there = {context for context, _ in cells}
    return [name for name in CONTEXT_NAMES if name in there]


#: A group's share, or the mean over the groups.
_SHARE: Final = (
    "CASE WHEN %(group)s::text IS NULL THEN "
    "(SELECT avg(one) FROM unnest(group_available) AS one WHERE one <> 'NaN') "
    "ELSE (availability_vector ->> %(group)s)::float8 END"
)


def _asked(
    entity_id: str, span: Span, zone: str, group: str | None, context: str | None
) -> dict[str, Any]:
    return {
        "entity": entity_id,
        "start": span.start,
        "end": span.end,
        "zone": zone,
        "group": group,
        "context": context,
    }
