"""The page of models: their versions, which of them are kept, and the way back to one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.exceptions import HTTPException

from anomaly_assets.dashboard.addresses import choice_asked, number_asked
from anomaly_assets.dashboard.lookups.models import KEPT, latest_actions, versions
from anomaly_assets.dashboard.pages.episodes import zone_of
from anomaly_assets.errors import AnomalyAssetsError
from anomaly_assets.live.gate import usable_entity
from anomaly_assets.pipeline import models
from anomaly_assets.storage import model_versions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response

    from anomaly_assets.dashboard.visits import Visit
    from anomaly_assets.storage.model_versions import ModelVersion

PER_PAGE: Final = 25
_MOST_PAGES: Final = 100_000
_LONGEST_REASON: Final = 2000
#: What people call the components.
NAMES: Final[Mapping[str, str]] = {
    "tier1_models": "streams",
    "gap_patterns": "gaps",
    "cross_stream_models": "streams together",
}


def show(visit: Visit) -> Response:
    """Return the page, or with HTMX its lists."""
    return _page(visit)


def act(visit: Visit) -> Response:
    """Pin or unpin a version, or set its entity's models back to it."""
    visit.require_judge()
    one = _version(visit)
    who, why = visit.principal.author, visit.said("why")
    action = visit.said("action")
    try:
        if not why or len(why) > _LONGEST_REASON or not why.isprintable():
            return _page(visit, problem="Say why: it goes on record, for whoever looks next.")
        if action == "pin":
            models.pin(visit.deployment, one.version, who=who, why=why)
            told = f"Version {one.version} is kept."
        elif action == "unpin":
            models.unpin(visit.deployment, one.version, who=who, why=why)
            told = f"Version {one.version} is left to retention."
        elif action == "rollback":
            number = models.begin_rollback(
                visit.deployment, one.entity_id, to=one.version, who=who, why=why
            )
            visit.board.replays.complete(visit.deployment, one.entity_id, number)
            told = (
                f"The models are set back to version {one.version}; the results from there on are "
                "being replayed."
            )
        else:
            raise HTTPException(422, "Pin, unpin or roll back.")
    except AnomalyAssetsError as error:
        return _page(visit, problem=str(error))
    return _page(visit, told=told)


def _version(visit: Visit) -> ModelVersion:
    text = visit.said("version")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 18 else 0
    found = model_versions.read_versions(visit.connection, version=number)
    if not found or not visit.principal.allows(found[0].entity_id, write=True):
        raise HTTPException(404, "There is no such version, or it is not for your token.")
    return found[0]


def _page(visit: Visit, *, problem: str = "", told: str = "") -> Response:
    asked = visit.asked
    component = choice_asked(asked, "component", models.COMPONENTS, "")
    kept = choice_asked(asked, "kept", KEPT, KEPT[0])
    entity = visit.principal.entity_id or usable_entity(asked.get("id", "")) or None
    page = number_asked(asked, "page", 1, _MOST_PAGES)

    def read(number: int) -> list[Any]:
        return versions(
            visit.connection,
            entity_id=entity,
            component=component or None,
            kept=kept,
            limit=PER_PAGE,
            offset=(number - 1) * PER_PAGE,
        )

    found = read(page)
    if not found and page > 1:
        # Fewer than when the address was made.
        page, found = 1, read(1)
    total = found[0].total if found else 0
    acted = latest_actions(visit.connection, entity)
    values: dict[str, Any] = {
        "versions": found,
        "zone_of": lambda one: zone_of(visit, one),
        "total": total,
        "page": page,
        "pages": max(1, -(-total // PER_PAGE)),
        "component": component,
        "components": models.COMPONENTS,
        "names": NAMES,
        "kept": kept,
        "kinds": KEPT,
        "entity": entity or "",
        "actions": acted,
        "pending": any(one.pending for one in acted),
        "may_act": visit.principal.may_judge,
        "problem": problem,
        "told": told,
    }
    part = "_models.html" if visit.partial else "models.html"
    return visit.render(part, 422 if problem and not visit.partial else 200, **values)
