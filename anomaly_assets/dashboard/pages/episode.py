"""The page of one episode: why it happened, and what people say of it."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from starlette.exceptions import HTTPException

from anomaly_assets.dashboard.addresses import moment_asked, with_query
from anomaly_assets.dashboard.drawing import PathDrawing, causal_path
from anomaly_assets.dashboard.lookups.episodes import judged_alike, neighbours
from anomaly_assets.detection.explanation.network.model import STALE_AFTER_SECONDS
from anomaly_assets.detection.explanation.record import Explanation
from anomaly_assets.detection.explanation.wording import capitalised, in_words, stream_name
from anomaly_assets.errors import InputError
from anomaly_assets.live.api.lookups import explanation_of
from anomaly_assets.pipeline import labels
from anomaly_assets.storage.entities import find_entity
from anomaly_assets.storage.identifiers import Verdict
from anomaly_assets.storage.labels import (
    Opinion,
    find_label,
    labels_of_time,
    list_labels,
    undo_label,
)

if TYPE_CHECKING:
    from starlette.responses import Response

    from anomaly_assets.dashboard.visits import Visit
    from anomaly_assets.pipeline.deployment import Entity
    from anomaly_assets.storage.entities import EntityRow
    from anomaly_assets.storage.labels import Label

#: Shares and roots that are listed; the rest is summed up.
MOST_SHARES: Final = 8


def show(visit: Visit) -> Response:
    """Return the page."""
    episode = found_episode(visit)
    return visit.render("episode.html", **_values(visit, *episode))


def judge(visit: Visit) -> Response:
    """Record what somebody says of the episode, or of a range around it."""
    visit.require_judge()
    explanation, row, entity = found_episode(visit)
    if entity is None:
        raise HTTPException(409, "The catalogue of this entity cannot be read; repair it first.")
    _require_may_write(visit, row)
    try:
        opinion, start, end = _opinion(visit, explanation, entity)
        labels.judge(visit.deployment, entity, opinion, start, end)
    except InputError as error:
        return _judged(visit, (explanation, row, entity), problem=str(error))
    return _judged(visit, (explanation, row, entity), done="judged")


def undo(visit: Visit) -> Response:
    """Take a label of the episode's time back."""
    visit.require_judge()
    explanation, row, entity = found_episode(visit)
    _require_may_write(visit, row)
    number = visit.said("label")
    try:
        label = find_label(visit.connection, int(number) if number.isdigit() else 0)
        if label.entity_id != row.entity_id:
            raise InputError(f"no label has the number {number[:20]}")  # noqa: EM102, TRY003, TRY301
        undo_label(visit.connection, label.label_id, visit.principal.author)
    except (InputError, ValueError) as error:
        return _judged(visit, (explanation, row, entity), problem=str(error))
    return _judged(visit, (explanation, row, entity), done="undone")


def found_episode(visit: Visit) -> tuple[Explanation, EntityRow, Entity | None]:
    """Return the explanation that the address names, and whose it is.

    Raises
    ------
    HTTPException
        404 if there is none, or it is not for this token.
    """
    text = visit.asked.get("anomaly", "")
    try:
        found = explanation_of(visit.connection, UUID(text)) if len(text) < 64 else None
    except ValueError:
        found = None
    row = None if found is None else find_entity(visit.connection, found[0])
    if found is None or row is None or not visit.principal.allows(row.entity_id, write=False):
        raise HTTPException(404, "There is no such episode, or it is not for your token.")
    try:
        return Explanation.from_dict(found[1]), row, visit.watched(row)
    except InputError as error:
        told = "This explanation was stored by another version and cannot be shown; replay it."
        raise HTTPException(409, told) from error


def _require_may_write(visit: Visit, row: EntityRow) -> None:
    if not visit.principal.allows(row.entity_id, write=True):
        raise HTTPException(403, "This token may not judge this entity.")


def _opinion(
    visit: Visit, explanation: Explanation, entity: Entity
) -> tuple[Opinion, datetime, datetime | None]:
    verdict = visit.said("verdict")
    if verdict not in set(Verdict):
        raise InputError("choose confirmed, false alarm or expected")  # noqa: EM101, TRY003
    start = moment_asked(visit.said("from"), entity.time_zone)
    end = moment_asked(visit.said("to"), entity.time_zone)
    begin = datetime.fromtimestamp(explanation.episode_start, tz=UTC)
    opinion = Opinion(
        Verdict(verdict),
        visit.principal.author,
        visit.said("cause") or None,
        visit.said("title") or None,
        visit.said("action") or None,
        visit.said("reason") or None,
        tuple(visit.form.get("stream", ())) or None,
    )
    return opinion, start or begin, end


def _judged(
    visit: Visit,
    episode: tuple[Explanation, EntityRow, Entity | None],
    *,
    problem: str = "",
    done: str = "",
) -> Response:
    """Answer a form: HTMX with the part that it changes, others with the page."""
    if visit.partial or problem:
        values = {**_values(visit, *episode), "problem": problem, "done": done}
        # HTMX shows what it is given only if it is no error.
        status = 200 if visit.partial else 422
        return visit.render(
            "_judgement.html" if visit.partial else "episode.html", status, **values
        )
    return visit.go("/episode", anomaly=episode[0].anomaly_id, done=done)


def _values(
    visit: Visit, explanation: Explanation, row: EntityRow, entity: Entity | None
) -> dict[str, Any]:
    zone = explanation.time_zone
    start, end, window = (
        datetime.fromtimestamp(moment, tz=UTC)
        for moment in (
            explanation.episode_start,
            explanation.episode_end,
            explanation.window_start,
        )
    )
    names = _names(explanation, entity)
    alike = judged_alike(visit.connection, explanation)
    before, after = neighbours(visit.connection, row.entity_id, start)
    judgements = labels_of_time(visit.connection, row.entity_id, start, end)
    own = visit.principal.allows(row.entity_id, write=True) and visit.principal.may_judge
    return {
        "why": explanation,
        "row": row,
        "entity": entity,
        "zone": zone,
        "start": start,
        "end": end,
        "window": window,
        "name_of": names,
        "local": lambda moment: f"{moment.astimezone(ZoneInfo(zone)):%Y-%m-%dT%H:%M}",
        "shares": _shares(explanation, names),
        "path_drawing": _path(explanation, names),
        "network_age": _network_age(explanation),
        "stale_after": STALE_AFTER_SECONDS,
        "alike": alike,
        "alike_counts": Counter(one.verdict for one in alike),
        "before": before,
        "after": after,
        "judgements": judgements,
        "standing": next((one for one in judgements if one.undone_at is None), None),
        "verdicts": list(Verdict),
        "causes": _causes(visit, row, entity) if own else [],
        "may_judge": own and entity is not None,
        "problem": "",
        "done": visit.asked.get("done", ""),
        "data": with_query("/data/minutes", {"anomaly": explanation.anomaly_id}),
        "around": _around(explanation),
    }


def _names(explanation: Explanation, entity: Entity | None) -> dict[str, str]:
    """Return what people call each stream that the page may name."""
    told = {} if entity is None else {s.id: stream_name(s) for s in entity.catalogue.streams}
    told.update({one.stream: one.name for one in explanation.evidence.streams})
    mentioned = [
        *explanation.cause_streams,
        *explanation.missing_streams,
        *explanation.causal_attribution.contributions,
    ]
    if explanation.evidence.network is not None:
        mentioned += [*explanation.evidence.network.roots, *explanation.evidence.network.path]
    for pair in explanation.evidence.related:
        mentioned += [pair.leader, pair.follower]
    return {name: told.get(name) or in_words(name) for name in {*told, *mentioned}}


def _shares(explanation: Explanation, names: dict[str, str]) -> list[dict[str, Any]]:
    """Return the parts of the bar of shares: each begins where the one before ends."""
    attribution = explanation.causal_attribution
    # Documents of the database do not keep the order of their keys.
    listed = sorted(attribution.contributions.items(), key=lambda item: -item[1])
    parts = [
        (capitalised(names[stream]), share, "stream") for stream, share in listed[:MOST_SHARES]
    ]
    if rest := listed[MOST_SHARES:]:
        parts.append((f"{len(rest)} more streams", sum(share for _, share in rest), "rest"))
    parts.append(("Unexplained", attribution.unexplained, "unexplained"))
    whole = sum(share for _, share, _ in parts) or 1.0
    found, left = [], 0.0
    for number, (name, share, kind) in enumerate(parts):
        width = share / whole * 100.0
        found.append(
            {"name": name, "share": share, "kind": kind, "x": left, "width": width, "n": number}
        )
        left += width
    return found


def _path(explanation: Explanation, names: dict[str, str]) -> PathDrawing | None:
    network = explanation.evidence.network
    if network is None or len(network.path) < 2:
        return None
    last = len(network.path) - 1
    notes = {0: "where it began", last: "where it shows"}
    root = network.roots.get(network.path[0])
    if root is not None:
        notes[0] = f"began here: {root:.0%}"
    return causal_path(
        [
            (one, capitalised(names[one]), notes.get(number, ""))
            for number, one in enumerate(network.path)
        ]
    )


def _network_age(explanation: Explanation) -> float | None:
    network = explanation.evidence.network
    return None if network is None else network.age_minutes * 60.0


def _causes(visit: Visit, row: EntityRow, entity: Entity | None) -> list[tuple[str, str]]:
    """Return names and titles of the causes that can be chosen: templates, then people's own."""
    templates = [] if entity is None else [(t.name, t.title) for t in entity.catalogue.templates]
    known: list[Label] = list_labels(visit.connection, entity_id=row.entity_id)
    own = {label.cause: label.title or label.cause for label in known if label.cause}
    taken = {name for name, _ in templates}
    return [*templates, *((name, title) for name, title in own.items() if name not in taken)]


def _around(explanation: Explanation) -> dict[str, str]:
    """Return the query of the entity's page that shows a day around the episode."""
    half = 12 * 3600
    start = datetime.fromtimestamp(explanation.episode_start - half, tz=UTC)
    end = datetime.fromtimestamp(explanation.episode_end + half, tz=UTC)
    return {"from": f"{start:%Y-%m-%dT%H:%MZ}", "to": f"{end:%Y-%m-%dT%H:%MZ}"}
