"""All explained episodes that a token may see: what waits to be judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from anomaly_assets.dashboard.addresses import (
    PRESETS,
    choice_asked,
    number_asked,
    span_asked,
)
from anomaly_assets.dashboard.lookups.episodes import JUDGED, ORDERS, EpisodeRow, Wanted, episodes
from anomaly_assets.dashboard.lookups.overview import processed_until
from anomaly_assets.errors import CatalogueError
from anomaly_assets.live.gate import usable_entity

if TYPE_CHECKING:
    from starlette.responses import Response

    from anomaly_assets.dashboard.lookups.models import VersionRow
    from anomaly_assets.dashboard.lookups.overview import Doing
    from anomaly_assets.dashboard.visits import Visit

PER_PAGE: Final = 25
_MOST_PAGES: Final = 100_000


def show(visit: Visit) -> Response:
    """Return the list, or with HTMX its part that filters change."""
    asked = visit.asked
    entity = usable_entity(asked.get("id", "")) or None
    own = visit.principal.entity_id
    until = processed_until(visit.connection, own or entity) or visit.now
    span = span_asked(asked, "UTC", until)
    wanted = Wanted(
        entity_id=own or entity,
        start=span.start,
        end=span.end,
        min_score=visit.threshold if asked.get("strong", "1") == "1" else 0.0,
        judged=choice_asked(asked, "judged", JUDGED, "any"),
        text=asked.get("q", "").replace("\x00", "")[:200].strip(),
        order=choice_asked(asked, "sort", ORDERS, "newest"),
    )
    page = number_asked(asked, "page", 1, _MOST_PAGES)
    # Of somebody else's entity a token sees the same as of one that is not there.
    hidden = own is not None and entity not in {None, own}
    offset = (page - 1) * PER_PAGE
    found = [] if hidden else episodes(visit.connection, wanted, limit=PER_PAGE, offset=offset)
    total = found[0].total if found else 0
    return visit.render(
        "_episodes_all.html" if visit.partial else "episodes.html",
        episodes=found,
        wanted=wanted,
        entity=entity or "",
        span=span,
        until=until,
        presets=PRESETS,
        total=total,
        page=page,
        pages=max(1, -(-total // PER_PAGE)),
        judged_choices=JUDGED,
        orders=ORDERS,
        zone_of=lambda one: zone_of(visit, one),
    )


def zone_of(visit: Visit, one: EpisodeRow | Doing | VersionRow) -> str:
    """Return the zone of an entity in a list."""
    if one.time_zone is not None:
        return one.time_zone
    try:
        return visit.deployment.catalogue(one.catalogue).time_zone
    except CatalogueError:
        return "UTC"
