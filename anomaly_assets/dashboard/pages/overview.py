"""The first page: every entity, how it is doing now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from anomaly_assets.dashboard.addresses import choice_asked, number_asked
from anomaly_assets.dashboard.drawing import sparkline
from anomaly_assets.dashboard.lookups.episodes import Wanted, episodes
from anomaly_assets.dashboard.lookups.overview import (
    Doing,
    Status,
    everybody,
    processed_until,
    with_last_day,
)
from anomaly_assets.dashboard.pages.episodes import zone_of

if TYPE_CHECKING:
    from starlette.responses import Response

    from anomaly_assets.dashboard.visits import Visit

PER_PAGE: Final = 50
SPARK_SIZE: Final = (192.0, 28.0)
#: Episodes below the list, and how old they may be.
_LATEST: Final = 8
_LATEST_SPAN: Final = timedelta(days=1)
_MOST_PAGES: Final = 100_000
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
_URGENCY: Final = {status: number for number, status in enumerate(Status)}
_ORDERS: Final[dict[str, Callable[[Doing], Any]]] = {
    "urgency": lambda one: (_URGENCY[one.status], -(one.score or 0.0)),
    "name": lambda one: one.entity_id,
    "score": lambda one: -(-1.0 if one.score is None else one.score),
    "episodes": lambda one: -one.episodes,
    "alerts": lambda one: -one.alerts,
    "silence": lambda one: one.last_reading_at or _LONG_AGO,
}


def show(visit: Visit) -> Response:
    """Return the list, or with HTMX its part that filters change."""
    asked = visit.asked
    text = asked.get("q", "").replace("\x00", "")[:200].strip()
    status = choice_asked(asked, "status", set(Status), "")
    order = choice_asked(asked, "sort", _ORDERS, "urgency")
    own = visit.principal.entity_id
    found = everybody(
        visit.connection,
        visit.now,
        threshold=visit.threshold,
        only=own,
        text=text,
    )
    counts = Counter(one.status for one in found)
    chosen = [one for one in found if not status or one.status == status]
    chosen.sort(key=lambda one: (_ORDERS[order](one), one.entity_id))
    pages = max(1, -(-len(chosen) // PER_PAGE))
    page = min(number_asked(asked, "page", 1, _MOST_PAGES), pages)
    shown = chosen[(page - 1) * PER_PAGE : page * PER_PAGE]
    with_last_day(visit.connection, shown)
    until = processed_until(visit.connection, own) or visit.now
    latest = Wanted(own, start=until - _LATEST_SPAN, min_score=visit.threshold)
    return visit.render(
        "_overview.html" if visit.partial else "overview.html",
        shown=shown,
        total=len(chosen),
        watched=len(found),
        counts=counts,
        statuses=list(Status),
        text=text,
        status=status,
        order=order,
        page=page,
        pages=pages,
        episodes=[] if visit.partial else episodes(visit.connection, latest, limit=_LATEST),
        zone_of=lambda one: zone_of(visit, one),
        spark=lambda one: sparkline(one.spark, *SPARK_SIZE),
        spark_size=SPARK_SIZE,
        threshold=visit.threshold,
        until=until,
    )
