"""The page of gaps: when streams are usually there, and when their absence was unusual."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from anomaly_assets.dashboard.addresses import PRESETS, choice_asked, number_asked
from anomaly_assets.dashboard.lookups import gaps
from anomaly_assets.dashboard.pages.entity import view_of
from anomaly_assets.streams.contexts import CONTEXT_NAMES

if TYPE_CHECKING:
    from datetime import date

    from starlette.responses import Response

    from anomaly_assets.dashboard.addresses import Span
    from anomaly_assets.dashboard.visits import Visit

PER_PAGE: Final = 20
#: Levels of the calendar's scale, from nothing to everything observed.
LEVELS: Final = 5
_MOST_DAYS: Final = 120
_MOST_PAGES: Final = 100_000


def show(visit: Visit) -> Response:
    """Return the page, or with HTMX the calendar alone."""
    view, asked = view_of(visit), visit.asked
    groups = () if view.entity is None else view.entity.catalogue.group_ids
    group = choice_asked(asked, "group", groups, "") or None
    context = choice_asked(asked, "context", CONTEXT_NAMES, "") or None
    entity_id, connection, span = view.row.entity_id, visit.connection, view.span
    cells = gaps.calendar(connection, entity_id, span, view.zone, group=group, context=context)
    values = {
        "view": view,
        "groups": groups,
        "group": group or "",
        "contexts": CONTEXT_NAMES,
        "context": context or "",
        "presets": PRESETS,
        "cells": cells,
        "days": _days(span, view.zone),
        "level": level,
    }
    if visit.partial:
        return visit.render("_calendar.html", **values)
    absences = gaps.unusual_absences(connection, entity_id, span)
    page = number_asked(asked, "page", 1, _MOST_PAGES)
    learnt = gaps.profile(connection, entity_id, span, view.zone, group=group)
    return visit.render(
        "gaps.html",
        **values,
        profile=learnt,
        profile_contexts=gaps.contexts_there(learnt),
        by_group=gaps.by_group(connection, entity_id, span, groups),
        absences=absences[(page - 1) * PER_PAGE : page * PER_PAGE],
        total=len(absences),
        page=page,
        pages=max(1, -(-len(absences) // PER_PAGE)),
    )


def level(share: float) -> int:
    """Return the step of the scale that a share in [0, 1] is drawn in.

    Examples
    --------
    >>> [level(share) for share in (0.0, 0.01, 0.5, 0.99, 1.0)]
    [0, 1, 3, 5, 5]
    """
    return 0 if share <= 0.0 else 1 + min(LEVELS - 1, int(share * LEVELS))


def _days(span: Span, zone: str) -> list[date]:
    """Return the local days of a span, the newest first."""
    clock = ZoneInfo(zone)
    last = (span.end - timedelta(minutes=1)).astimezone(clock).date()
    first = span.start.astimezone(clock).date()
    count = min((last - first).days + 1, _MOST_DAYS)
    return [last - timedelta(days=number) for number in range(count)]
