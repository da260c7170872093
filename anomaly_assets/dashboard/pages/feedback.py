"""The page of feedback: what people's judgement suggests and has changed, and the way back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from starlette.exceptions import HTTPException

from anomaly_assets.dashboard.addresses import choice_asked, number_asked
from anomaly_assets.dashboard.lookups.feedback import rules_in_force, versions
from anomaly_assets.dashboard.wording import plural
from anomaly_assets.detection.feedback.adjustment import Rule, source_in_words
from anomaly_assets.errors import AnomalyAssetsError
from anomaly_assets.live.gate import usable_entity
from anomaly_assets.pipeline import feedback
from anomaly_assets.storage.entities import find_entity
from anomaly_assets.storage.feedback import (
    find_rule_suggestion,
    find_version,
    list_rule_suggestions,
)
from anomaly_assets.storage.identifiers import Decision
from anomaly_assets.storage.queries import scored_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response

    from anomaly_assets.dashboard.visits import Visit
    from anomaly_assets.pipeline.feedback import Change
    from anomaly_assets.storage.feedback import RuleSuggestion

PER_PAGE: Final = 25
_MOST_PAGES: Final = 100_000
_STATUSES: Final = (*map(str, Decision), "all")
#: How far back a change reaches, by what the form says; None: it begins with the next window.
REACHES: Final[dict[str, tuple[str, timedelta | None]]] = {
    "": ("from now on", None),
    "day": ("the last day too", timedelta(days=1)),
    "week": ("the last week too", timedelta(days=7)),
    "month": ("the last 30 days too", timedelta(days=30)),
}


def show(visit: Visit) -> Response:
    """Return the page, or with HTMX its lists."""
    return _page(visit)


def propose(visit: Visit) -> Response:
    """Return what the labels of an entity would change of its threshold and weights."""
    entity_id = visit.entity_row().entity_id
    values: dict[str, Any] = {"entity": entity_id, "problem": "", "proposal": None}
    try:
        found = feedback.propose(visit.deployment, entity_id)
    except AnomalyAssetsError as error:
        values["problem"] = str(error)
    else:
        values["proposal"] = found
        names = sorted({*found.current.trust, *found.new.trust})
        values["weights"] = [
            (
                source_in_words(name),
                found.current.trust.get(name, 1.0),
                found.new.trust.get(name, 1.0),
            )
            for name in names
        ]
        usual = visit.threshold
        values["thresholds"] = (found.current.threshold or usual, found.new.threshold or usual)
    may = visit.principal.may_judge and visit.principal.allows(entity_id, write=True)
    return visit.render("_proposal.html", **values, may_judge=may, reaches=REACHES)


def search(visit: Visit) -> Response:
    """Look through the labels of an entity, or of all, for repeated false alarms."""
    visit.require_judge()
    entity = visit.principal.entity_id or usable_entity(visit.said("entity")) or None
    if entity is not None:
        _require_entity(visit, entity)
    try:
        found = feedback.suggestions(visit.deployment, entity)
    except AnomalyAssetsError as error:
        return _page(visit, problem=str(error))
    return _page(visit, told=f"The labels were looked through: {plural(len(found), 'rule')} open.")


def decide(visit: Visit) -> Response:
    """Accept or reject a suggested rule, or end one that holds."""
    visit.require_judge()
    one = _suggestion(visit)
    by, number = visit.principal.author, one.suggestion_id
    decision = visit.said("decision")
    if decision == "accept":
        return _changed(
            visit,
            lambda: feedback.accept(
                visit.deployment, number, by, since=_since(visit, one.entity_id)
            ),
            f"Rule {one.name} is in force.",
        )
    if decision == "drop":
        return _changed(
            visit,
            lambda: feedback.drop(
                visit.deployment, one.entity_id, one.name, by, since=_since(visit, one.entity_id)
            ),
            f"Rule {one.name} has ended.",
        )
    if decision != "reject":
        raise HTTPException(422, "Accept it, reject it or end it.")
    try:
        feedback.reject(visit.deployment, number, by)
    except AnomalyAssetsError as error:
        return _page(visit, problem=str(error))
    return _page(visit, told=f"Rule {one.name} is rejected; it is not suggested again.")


def recalibrate(visit: Visit) -> Response:
    """Put the threshold and weights in force that an entity's labels ask for."""
    visit.require_judge()
    entity = usable_entity(visit.said("entity"))
    _require_entity(visit, entity)
    return _changed(
        visit,
        lambda: feedback.recalibrate(
            visit.deployment, entity, visit.principal.author, since=_since(visit, entity)
        ),
        f"Threshold and weights of {entity} are chosen anew.",
    )


def revert(visit: Visit) -> Response:
    """Take back the version that is in force."""
    visit.require_judge()
    text = visit.said("version")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 18 else 0
    try:
        found = find_version(visit.connection, number)
    except AnomalyAssetsError as error:
        raise HTTPException(404, "There is no such version.") from error
    if found.is_meta:
        # It decides about everybody with the same streams.
        visit.require_everybody()
    elif not visit.principal.allows(found.scope, write=True):
        raise HTTPException(404, "There is no such version.")
    return _changed(
        visit,
        lambda: feedback.revert(visit.deployment, number, visit.principal.author),
        f"Version {number} is taken back.",
    )


def _require_entity(visit: Visit, entity_id: str) -> None:
    known = entity_id and visit.principal.allows(entity_id, write=True)
    if not known or find_entity(visit.connection, entity_id) is None:
        raise HTTPException(404, "There is no such entity, or it is not for your token.")


def _suggestion(visit: Visit) -> RuleSuggestion:
    text = visit.said("suggestion")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 18 else 0
    try:
        one = find_rule_suggestion(visit.connection, number)
    except AnomalyAssetsError as error:
        raise HTTPException(404, "There is no such suggestion.") from error
    if not visit.principal.allows(one.entity_id, write=True):
        raise HTTPException(404, "There is no such suggestion.")
    return one


def _since(visit: Visit, entity_id: str) -> datetime | None:
    """Return the first window that a form wants to be decided about; None: the next one."""
    _, back = REACHES.get(visit.said("reach"), ("", None))
    until = scored_until(visit.connection, entity_id)
    if back is None or until is None:
        return None
    return datetime.fromtimestamp(until, tz=UTC) - back


def _changed(visit: Visit, change: Callable[[], Change], told: str) -> Response:
    """Make a change, and tell what it does."""
    try:
        made = change()
    except AnomalyAssetsError as error:
        return _page(visit, problem=str(error))
    if made.version is None:
        return _page(visit, problem=f"Nothing was changed: {made.why}.")
    parts = [told, f"That is version {made.version.feedback_id}."]
    if made.effect.false_before:
        parts.append(f"On the judged alarms it {made.effect.sentence}.")
    if made.decided_again:
        parts.append(f"{plural(made.decided_again, 'stored window')} decided about anew.")
    return _page(visit, told=" ".join(parts))


def _page(visit: Visit, *, problem: str = "", told: str = "") -> Response:
    asked, own = visit.asked, visit.principal.entity_id
    status = choice_asked(asked, "status", _STATUSES, str(Decision.OPEN))
    entity = own or usable_entity(asked.get("id", "")) or None
    found = list_rule_suggestions(
        visit.connection,
        entity_id=entity,
        status=None if status == "all" else Decision(status),
    )
    pages = max(1, -(-len(found) // PER_PAGE))
    page = min(number_asked(asked, "page", 1, _MOST_PAGES), pages)
    shown = found[(page - 1) * PER_PAGE : page * PER_PAGE]
    past = number_asked(asked, "past", 1, _MOST_PAGES)
    made = versions(
        visit.connection, entity_id=entity, limit=PER_PAGE, offset=(past - 1) * PER_PAGE
    )
    if not made and past > 1:
        past, made = 1, versions(visit.connection, entity_id=entity, limit=PER_PAGE)
    total = made[0].total if made else 0
    row = None if entity is None else find_entity(visit.connection, entity)
    values: dict[str, Any] = {
        "suggestions": shown,
        "sentence_of": lambda one: Rule.from_dict(one.rule).sentence,
        "in_force": rules_in_force(visit.connection, [one.entity_id for one in shown]),
        "total": len(found),
        "page": page,
        "pages": pages,
        "status": status,
        "statuses": _STATUSES,
        "entity": entity or "",
        "known": row is not None,
        "versions": made,
        "versions_total": total,
        "past": past,
        "pasts": max(1, -(-total // PER_PAGE)),
        "reaches": REACHES,
        "problem": problem,
        "told": told,
        "may_judge": visit.principal.may_judge,
        "everybody": own is None,
    }
    part = "_feedback.html" if visit.partial else "feedback.html"
    return visit.render(part, 422 if problem and not visit.partial else 200, **values)
