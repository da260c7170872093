"""The page of one entity: its score, its streams over time, their health, its episodes and gaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from anomaly_assets.dashboard.addresses import (
    PRESETS,
    Span,
    choice_asked,
    number_asked,
    span_asked,
)
from anomaly_assets.dashboard.lookups.episodes import JUDGED, ORDERS, Wanted, episodes
from anomaly_assets.dashboard.lookups.health import StreamDoing, stream_states
from anomaly_assets.dashboard.lookups.overview import everybody

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from starlette.responses import Response

    from anomaly_assets.dashboard.visits import Visit
    from anomaly_assets.pipeline.deployment import Entity
    from anomaly_assets.storage.entities import EntityRow

PER_PAGE: Final = 15
_MOST_PAGES: Final = 100_000
_STATES: Final = ("any", "there", "missing", "unhealthy")
_UNHEALTHY_BELOW: Final = 0.5


@dataclass(frozen=True)
class EntityView:
    """An entity, and the time that is looked at.

    Parameters
    ----------
    row, entity
        As stored, and with its catalogue; None where that cannot be read.
    zone
        IANA zone of its clock.
    span
        The time.
    """

    row: EntityRow
    entity: Entity | None
    zone: str
    span: Span

    def local(self, moment: datetime) -> str:
        """Return a moment as a field of a form has it, on the entity's clock."""
        return f"{moment.astimezone(ZoneInfo(self.zone)):%Y-%m-%dT%H:%M}"

    @property
    def query(self) -> dict[str, str]:
        """What an address says of both."""
        return {"id": self.row.entity_id, **self.span.query}


def view_of(visit: Visit) -> EntityView:
    """Return what the address asks for.

    Raises
    ------
    HTTPException, QuestionError
        If there is no such entity, or no such time.
    """
    row = visit.entity_row()
    entity = visit.watched(row)
    zone = row.time_zone or "UTC" if entity is None else entity.time_zone
    return EntityView(row, entity, zone, span_asked(visit.asked, zone, row.aggregated_until))


def show(visit: Visit) -> Response:
    """Return the page, or with HTMX the part that its filters change."""
    view, asked = view_of(visit), visit.asked
    (doing,) = everybody(
        visit.connection, visit.now, threshold=visit.threshold, only=view.row.entity_id
    )
    values: dict[str, Any] = {
        "view": view,
        "doing": doing,
        "presets": PRESETS,
        "groups": () if view.entity is None else view.entity.catalogue.group_ids,
        "group": "",
        "stream": None,
        "threshold": visit.threshold,
        **_streams(visit, view),
        **episode_list(visit, view, asked),
    }
    if visit.partial:
        part = visit.request.headers.get("hx-target", "")
        return visit.render("_streams.html" if part == "streams" else "_episodes.html", **values)
    return visit.render("entity.html", **values)


def episode_list(visit: Visit, view: EntityView, asked: Mapping[str, str]) -> dict[str, Any]:
    """Return the episodes of the time, as the filters of the address want them."""
    wanted = Wanted(
        entity_id=view.row.entity_id,
        start=view.span.start,
        end=view.span.end,
        min_score=visit.threshold if asked.get("strong", "") == "1" else 0.0,
        judged=choice_asked(asked, "judged", JUDGED, "any"),
        text=asked.get("q", "").replace("\x00", "")[:200].strip(),
        order=choice_asked(asked, "sort", ORDERS, "newest"),
    )
    page = number_asked(asked, "page", 1, _MOST_PAGES)
    found = episodes(visit.connection, wanted, limit=PER_PAGE, offset=(page - 1) * PER_PAGE)
    total = found[0].total if found else 0
    return {
        "episodes": found,
        "wanted": wanted,
        "total": total,
        "page": page,
        "pages": max(1, -(-total // PER_PAGE)),
        "judged_choices": JUDGED,
        "orders": ORDERS,
    }


def _streams(visit: Visit, view: EntityView) -> dict[str, Any]:
    if view.entity is None:
        return {"streams": [], "stream_total": 0, "state": "any", "states": _STATES, "find": ""}
    catalogue, asked = view.entity.catalogue, visit.asked
    until = view.row.aggregated_until
    everything = stream_states(visit.connection, view.row.entity_id, catalogue, until)
    group = choice_asked(asked, "group", catalogue.group_ids, "")
    state = choice_asked(asked, "state", _STATES, "any")
    find = asked.get("find", "")[:100].strip()
    chosen = [
        one
        for one in everything
        if (not group or one.group == group)
        and _is(one, state)
        and (not find or find.lower() in f"{one.stream_id} {one.name}".lower())
    ]
    stream = next((one for one in everything if one.stream_id == asked.get("stream")), None)
    return {
        "streams": chosen,
        "stream_total": len(everything),
        "group": group,
        "state": state,
        "states": _STATES,
        "find": find,
        "stream": stream,
    }


def _is(one: StreamDoing, state: str) -> bool:
    missing = one.gap is None or one.gap.total_seconds() > 0
    if state == "unhealthy":
        return one.health is None or one.health < _UNHEALTHY_BELOW or bool(one.needs_retraining)
    return state == "any" or missing == (state == "missing")
