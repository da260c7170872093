"""The page of suggestions: what the data suggest for catalogues, to be accepted or rejected."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from starlette.exceptions import HTTPException

from anomaly_assets.dashboard.addresses import choice_asked, number_asked
from anomaly_assets.errors import AnomalyAssetsError, CatalogueError
from anomaly_assets.live.gate import usable_entity
from anomaly_assets.pipeline import approval
from anomaly_assets.storage.entities import find_entity
from anomaly_assets.storage.identifiers import Decision, SuggestionKind
from anomaly_assets.storage.suggestions import find_suggestion, list_suggestions
from anomaly_assets.streams.loading import catalogue_file

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.responses import Response

    from anomaly_assets.dashboard.visits import Visit
    from anomaly_assets.storage.suggestions import Suggestion

PER_PAGE: Final = 25
_MOST_PAGES: Final = 100_000
_STATUSES: Final = (*map(str, Decision), "all")


def show(visit: Visit) -> Response:
    """Return the page."""
    return _page(visit)


def decide(visit: Visit) -> Response:
    """Accept or reject a suggestion."""
    visit.require_judge()
    number = visit.said("suggestion")
    try:
        one = find_suggestion(visit.connection, int(number[:9]) if number.isdigit() else 0)
    except (AnomalyAssetsError, ValueError) as error:
        raise HTTPException(404, "There is no such suggestion.") from error
    if not visit.principal.allows(one.entity_id, write=True):
        raise HTTPException(404, "There is no such suggestion.")
    by = visit.principal.author
    try:
        if visit.said("decision") == "accept":
            # A catalogue is a file that others may be watched with.
            visit.require_everybody()
            done = approval.accept(
                visit.deployment, one.suggestion_id, by, catalogue_path=own_file(visit, one)
            )
            told = f"accepted into {done.path.name}"
        elif visit.said("decision") == "reject":
            approval.reject(visit.deployment, one.suggestion_id, by)
            told = "rejected"
        else:
            raise HTTPException(422, "Accept or reject it.")
    except AnomalyAssetsError as error:
        return _page(visit, problem=str(error))
    return _page(visit, told=f"Suggestion {one.suggestion_id} {told}.")


def own_file(visit: Visit, one: Suggestion) -> Path | None:
    """Return the file to write to where the entity's catalogue comes with the package, or None.

    It is a copy in the deployment's folder, for this entity alone; nobody names paths in a form.
    """
    row = find_entity(visit.connection, one.entity_id)
    settings = visit.deployment.settings
    name = (row.catalogue if row is not None else None) or settings.catalogue
    if catalogue_file(name, extra_directories=settings.catalogue_directories) is not None:
        return None
    plain = re.sub(r"[^A-Za-z0-9]+", "-", one.entity_id)[:40].strip("-").lower()
    short = sha256(one.entity_id.encode()).hexdigest()[:8]
    folder = settings.home.resolve() / "catalogues"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}-{plain or 'entity'}-{short}.yaml"


def _page(visit: Visit, *, problem: str = "", told: str = "") -> Response:
    asked = visit.asked
    kind = choice_asked(asked, "kind", set(SuggestionKind), "")
    status = choice_asked(asked, "status", _STATUSES, str(Decision.OPEN))
    own = visit.principal.entity_id
    entity = own or usable_entity(asked.get("id", "")) or None
    found = list_suggestions(
        visit.connection,
        entity_id=entity,
        kind=SuggestionKind(kind) if kind else None,
        status=None if status == "all" else Decision(status),
    )
    pages = max(1, -(-len(found) // PER_PAGE))
    page = min(number_asked(asked, "page", 1, _MOST_PAGES), pages)
    shown = found[(page - 1) * PER_PAGE : page * PER_PAGE]
    values: dict[str, Any] = {
        "suggestions": shown,
        "total": len(found),
        "page": page,
        "pages": pages,
        "kind": kind,
        "kinds": list(SuggestionKind),
        "status": status,
        "statuses": _STATUSES,
        "entity": entity or "",
        "problem": problem,
        "told": told,
        "may_accept": visit.principal.may_judge and own is None,
        "may_reject": visit.principal.may_judge,
        "file_of": _file_of(visit, shown),
    }
    part = "_suggestions.html" if visit.partial else "suggestions.html"
    return visit.render(part, 422 if problem and not visit.partial else 200, **values)


def _file_of(visit: Visit, shown: list[Suggestion]) -> dict[str, str]:
    """Return into which file a suggestion of each entity would go."""
    settings = visit.deployment.settings
    files = {}
    for name in {one.entity_id for one in shown}:
        row = find_entity(visit.connection, name)
        catalogue = (row.catalogue if row is not None else None) or settings.catalogue
        try:
            path = catalogue_file(catalogue, extra_directories=settings.catalogue_directories)
        except CatalogueError:
            continue
        files[name] = path.name if path is not None else f"a copy of {catalogue}"
    return files
