"""Degradation watch: each model against its own past, and back to the one before where that helps.

A model that suddenly does worse than it used to may be a bad model, or the world may have changed.
Only the former is cured by going back. So a change of models is taken back only if the model before
it, run over the same windows, does better on them by the margin that a retraining has to meet.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from zlib import crc32

from anomaly_assets.errors import AnomalyAssetsError
from anomaly_assets.pipeline.advance import ModelStates, active_blocks
from anomaly_assets.pipeline.quality import Quality, is_better, quality
from anomaly_assets.pipeline.rollback import Change, RollbackReport, begin, complete, stored_span
from anomaly_assets.pipeline.tiers import (
    read_block,
    read_cross_stream,
    read_gaps,
    read_individual,
    tier_of,
)
from anomaly_assets.storage.model_actions import ActionKind, standing_bases
from anomaly_assets.storage.windows import stored_ranges
from anomaly_assets.streams.windows import WindowRange

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly_assets.pipeline.deployment import Deployment, Entity
    from anomaly_assets.storage.database import Connection
    from anomaly_assets.storage.model_actions import ModelAction

logger = logging.getLogger(__name__)

#: A model is judged by its last day, or what there is of it since it was changed.
JUDGED = timedelta(days=1)
#: It is held against the week before.
PAST = timedelta(days=7)
#: A change of models is to blame for what happens within this time.
BLAMED = timedelta(days=3)
#: Fewer windows say nothing: six hours.
LEAST_WINDOWS = 72
_READERS: dict[str, Callable[[Connection, Entity, WindowRange], Any]] = {
    "tier1_models": read_individual,
    "gap_patterns": read_gaps,
    "cross_stream_models": read_cross_stream,
}


@dataclass(frozen=True)
class Degradation:
    """A model that does worse than it did.

    Parameters
    ----------
    entity_id, component
        Whose model of which model asset.
    since, until
        The windows it is judged by.
    recent, past
        How it does, and how it did in the week before.
    why
        What is worse, in words.
    suspect
        What changed shortly before: an action, a version of the code; empty if nothing did.
    rolled_back
        The rollback, if the model before the change does better on the same windows.
    """

    entity_id: str
    component: str
    since: datetime
    until: datetime
    recent: Quality
    past: Quality
    why: str
    suspect: str = ""
    rolled_back: RollbackReport | None = None


def watch(deployment: Deployment, *, who: str) -> list[Degradation]:
    """Judge the models of the entities whose turn it is, and take back changes for the worse.

    It is the turn of those whose models were changed of late, and of every one in one hour of its
    day, by its name: called every hour, it looks at each entity once a day. An entity that cannot
    be judged is recorded in ``deployment.failures``.
    """
    found: list[Degradation] = []
    for entity in deployment.entities():
        if entity.entity_id in deployment.failures or not _has_turn(deployment, entity):
            continue
        try:
            found += watch_entity(deployment, entity.entity_id, who=who)
        except AnomalyAssetsError as error:
            deployment.fail(entity.entity_id, error)
    return found


def watch_entity(deployment: Deployment, entity_id: str, *, who: str) -> list[Degradation]:
    """Judge the models of one entity; see :func:`watch`."""
    found = []
    for component in _READERS:
        entity = deployment.reread(entity_id)
        degradation = _judge(deployment, entity, component, who=who)
        if degradation is not None:
            logger.warning(
                "entity %r: %s has degraded: %s%s",
                entity_id,
                component,
                degradation.why,
                f" ({degradation.suspect})" if degradation.suspect else "",
            )
            found.append(degradation)
    return found


def _judge(
    deployment: Deployment, entity: Entity, component: str, *, who: str
) -> Degradation | None:
    with deployment.database.connect() as connection:
        span = stored_span(connection, entity.entity_id)
        if span is None:
            return None
        end = span.end_time
        base = _last_base(connection, entity.entity_id, component, end)
        since = end - JUDGED
        if base is not None and base.as_of is not None:
            since = max(since, base.as_of)
        recent_windows = WindowRange.between(since, end)
        past_windows = WindowRange.between(since - PAST, since)
        recent = _quality(connection, entity, component, recent_windows)
        past = _quality(connection, entity, component, past_windows)
        code = _code_change(connection, entity.entity_id, component, end)
    if recent is None or past is None:
        return None
    why = _worse(deployment, recent, past)
    if not why:
        return None
    suspect, report = code, None
    if base is not None:
        suspect = f"after action {base.action_id} ({base.kind})"
        if _was_better_before(deployment, entity, component, base, end):
            report = _take_back(deployment, entity, base, why, who)
        else:
            suspect += "; the model before it does no better on the same windows"
    return Degradation(entity.entity_id, component, since, end, recent, past, why, suspect, report)


def _has_turn(deployment: Deployment, entity: Entity) -> bool:
    with deployment.database.connect() as connection:
        span = stored_span(connection, entity.entity_id)
        if span is None:
            return False
        end = span.end_time
        if end.hour == crc32(entity.entity_id.encode()) % 24:
            return True
        return any(_last_base(connection, entity.entity_id, one, end) for one in _READERS)


def _last_base(
    connection: Connection, entity_id: str, component: str, end: datetime
) -> ModelAction | None:
    standing = standing_bases(connection, entity_id, component)
    recent = [one for one in standing if one.as_of is not None and end - BLAMED <= one.as_of < end]
    return recent[-1] if recent else None


def _quality(
    connection: Connection, entity: Entity, component: str, windows: WindowRange
) -> Quality | None:
    """Return how a model did by what is stored; None where that is too little."""
    read = _READERS[component]
    stored = stored_ranges(connection, entity.entity_id, windows)
    if sum(len(part) for part in stored) < LEAST_WINDOWS:
        return None
    return quality(
        [(read_block(connection, entity, part), read(connection, entity, part)) for part in stored]
    )


def _worse(deployment: Deployment, recent: Quality, past: Quality) -> str:
    """Return in what a model is worse than it was, by the limits of the settings."""
    factor, floor = deployment.settings.degraded_factor, deployment.settings.degraded_share
    share, usual = recent.share_above, past.share_above
    if share is not None and usual is not None and share > max(floor, factor * usual):
        return f"{share:.1%} of its scores are above 0.7, {usual:.1%} in the week before"
    if recent.error is not None and past.error is not None and recent.error > factor * past.error:
        return f"its forecast error is {recent.error:.2f}, {past.error:.2f} in the week before"
    return ""


def _was_better_before(
    deployment: Deployment, entity: Entity, component: str, base: ModelAction, end: datetime
) -> bool:
    """Whether the model without an action does better since then, by the margin of retraining."""
    if base.as_of is None:
        return False
    start = int(base.as_of.timestamp())
    tier = tier_of(component, deployment.settings)
    states = ModelStates(tier, deployment)
    changed = states.before(entity, start)
    unchanged, _, _ = states.state(entity, start, without=[base.action_id])
    streams = (base.recipe or {}).get("streams")
    chosen = None if streams is None else [entity.catalogue.index(one) for one in streams]
    new, old = [], []
    with deployment.database.connect() as connection:
        for block in active_blocks(connection, entity, start, int(end.timestamp())):
            inputs = tier.read(connection, entity, block)
            new.append((inputs, tier.process(changed, inputs)))
            old.append((inputs, tier.process(unchanged, inputs)))
    return is_better(quality(old, chosen), quality(new, chosen), deployment.settings.retrain_margin)


def _take_back(
    deployment: Deployment, entity: Entity, base: ModelAction, why: str, who: str
) -> RollbackReport:
    """Roll back to just before an action."""
    start = 0 if base.as_of is None else int(base.as_of.timestamp())
    change = Change(start, withdrawn=(base.action_id,))
    action_id = begin(
        deployment,
        entity,
        change,
        kind=ActionKind.ROLLBACK,
        who=who,
        why=f"{base.component} degraded after action {base.action_id} ({base.kind}): {why}",
    )
    return complete(deployment, deployment.reread(entity.entity_id), action_id)


def _code_change(connection: Connection, entity_id: str, component: str, end: datetime) -> str:
    """Return which change of the code came shortly before, in words."""
    rows = connection.execute(
        "SELECT as_of, code_version FROM model_snapshots WHERE entity_id = %s AND component = %s "
        "ORDER BY as_of",
        (entity_id, component),
    ).fetchall()
    for (_, old), (at, new) in pairwise(rows):
        if old != new and at >= end - BLAMED:
            return f"after version {new} of the code was installed; install {old} to go back"
    return ""
