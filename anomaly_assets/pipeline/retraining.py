"""Retraining: a model learnt anew from recent windows, taken over only where it does better.

A take-over is a recorded action with a recipe: whoever replays past its window makes the same state
of the readings there are (see :mod:`~anomaly_assets.pipeline.course`).
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from anomaly_assets.detection.health import effective_limits
from anomaly_assets.errors import InputError, StateError
from anomaly_assets.pipeline.advance import ModelStates, active_blocks
from anomaly_assets.pipeline.course import merged, observed_values, trained
from anomaly_assets.pipeline.quality import Quality, is_better, quality
from anomaly_assets.pipeline.tiers import tier_of
from anomaly_assets.state.store import SnapshotStore
from anomaly_assets.storage import model_versions
from anomaly_assets.storage.model_actions import (
    ActionKind,
    ActionOutcome,
    finish_action,
    read_actions,
    record_action,
)
from anomaly_assets.storage.windows import entity_lock, stored_ranges
from anomaly_assets.streams.windows import WINDOW_SECONDS, WINDOWS_PER_DAY, WindowRange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly_assets.pipeline.advance import Tier
    from anomaly_assets.pipeline.deployment import Deployment, Entity
    from anomaly_assets.state.store import Learnt
    from anomaly_assets.storage.database import Connection

logger = logging.getLogger(__name__)

#: Windows at the end of the span on which candidate and current model are compared.
COMPARED_WINDOWS = 3 * WINDOWS_PER_DAY
#: Windows that a candidate has learnt before it is compared, at least.
LEAST_LEARNT = WINDOWS_PER_DAY
#: A stream is not tried again before, in the time of its windows.
RETRY_AFTER = timedelta(hours=20)
#: Nor, after a take-over was rolled back, before.
RETRY_AFTER_ROLLBACK = timedelta(days=7)
#: A stream missing for more windows than this is away: there is nothing to learn from yet.
AWAY_AFTER = 12


@dataclass(frozen=True)
class Retraining:
    """What became of a retraining.

    Parameters
    ----------
    entity_id, component, streams
        Whose model, of which streams; None for all of the component.
    as_of
        First window that the retrained model holds for.
    why
        Why it was tried.
    outcome
        ``done`` (taken over) or ``rejected``.
    said
        Why, in words.
    candidate, current
        How both did on the last days.
    action_id, version
        The recorded action, and the new version if it was taken over.
    """

    entity_id: str
    component: str
    streams: tuple[str, ...] | None
    as_of: datetime
    why: str
    outcome: str
    said: str
    candidate: Quality
    current: Quality
    action_id: int
    version: int | None


def streams_due(deployment: Deployment, entity: Entity) -> dict[str, str]:
    """Return the streams whose models need retraining now, each with the reason.

    Those are streams that are there, and forecast too badly of late or came back from a gap that
    was long enough since they were tried last.
    """
    catalogue = entity.catalogue
    limits = {one.id: effective_limits(one) for one in catalogue.streams}
    with deployment.database.connect() as connection:
        head = _head(connection, entity.entity_id, "tier1_models")
        if head is None:
            return {}
        since = head - timedelta(days=deployment.settings.retrain_days)
        rows = connection.execute(
            "SELECT DISTINCT ON (stream_id) stream_id, consecutive_missing, accuracy, "
            "needs_retraining FROM stream_health WHERE entity_id = %s AND timestamp >= %s "
            "AND timestamp < %s ORDER BY stream_id, timestamp DESC",
            (entity.entity_id, head - timedelta(hours=2), head),
        ).fetchall()
        gaps = connection.execute(
            "SELECT stream_id, timestamp, consecutive_missing FROM stream_health "
            "WHERE entity_id = %s AND timestamp >= %s AND timestamp < %s AND needs_retraining "
            "ORDER BY timestamp",
            (entity.entity_id, since, head),
        ).fetchall()
        tried = _last_tried(connection, entity.entity_id, catalogue.stream_ids, head)
    returned = {
        stream: missing
        for stream, at, missing in gaps
        if stream in limits
        and missing > limits[stream].retrain_after_missing
        and (stream not in tried or tried[stream] < at)
    }
    due = {}
    for stream, missing, accuracy, needs in rows:
        if stream not in limits or missing > AWAY_AFTER:
            continue
        if stream in tried and head - tried[stream] < RETRY_AFTER:
            continue
        least = limits[stream].min_accuracy
        if needs and accuracy is not None and accuracy < least:
            due[stream] = f"accuracy {accuracy:.2f} of late, less than {least:.2f}"
        elif stream in returned:
            due[stream] = f"came back after {returned[stream]} missing windows"
    return due


def retrain(  # noqa: PLR0913 - whose model, why, and whether to compare
    deployment: Deployment,
    entity_id: str,
    *,
    who: str,
    why: str,
    component: str = "tier1_models",
    streams: Sequence[str] | None = None,
    force: bool = False,
) -> Retraining:
    """Learn a model anew from recent windows, compare, and take it over where it does better.

    Parameters
    ----------
    deployment
        Where the entity is watched.
    entity_id, component, streams
        Whose model; with `streams`, of these alone (tier 1 only).
    who, why
        Who asks, and why: both go on record.
    force
        Take it over however it does.

    Raises
    ------
    InputError
        If there is no such stream, or too little to learn from.
    StateError
        If no model asset is called so, or a run moved the model meanwhile; try again then.
    """
    entity = deployment.reread(entity_id)
    tier = tier_of(component, deployment.settings)
    chosen = _positions(entity, component, streams)
    states = ModelStates(tier, deployment)
    with deployment.database.connect() as connection:
        span, compared = _spans(connection, deployment, entity, component)
        candidate, fresh, qualities = _compete(
            connection, states, entity, tier, (span, compared), chosen
        )
    better = is_better(*qualities, deployment.settings.retrain_margin)
    current, base_action, learnt = states.state(entity, span.end)
    request = _Request(entity, tier, component, streams, span, who, why)
    details = _details(qualities, base_action, compared, force=force)
    taken_over = better or force
    if taken_over:
        state = merged(entity, current, candidate, streams)
        made_of = fresh if streams is None else learnt
        action_id, version = _take_over(deployment, request, state, made_of, details)
    else:
        action_id, version = _record(deployment, request, details, ActionOutcome.REJECTED), None
    said = _said(qualities, better=better, force=force)
    logger.info("entity %r: %s: %s", entity_id, component, said)
    return Retraining(
        entity_id,
        component,
        None if streams is None else tuple(streams),
        span.end_time,
        why,
        str(ActionOutcome.DONE if taken_over else ActionOutcome.REJECTED),
        said,
        *qualities,
        action_id,
        version,
    )


def retrain_due(deployment: Deployment, *, who: str) -> list[Retraining]:
    """Retrain the models of all streams that need it; an entity that fails is recorded."""
    done = []
    for entity in deployment.entities():
        try:
            due = streams_due(deployment, entity)
            if due:
                why = "; ".join(f"{stream}: {reason}" for stream, reason in sorted(due.items()))
                done.append(
                    retrain(deployment, entity.entity_id, who=who, why=why, streams=sorted(due))
                )
        except InputError as error:
            # Too little to learn from is no fault: it will be more tomorrow.
            logger.info("entity %r is not retrained: %s", entity.entity_id, error)
        except StateError as error:
            deployment.fail(entity.entity_id, error)
    return done


def _compete(  # noqa: PLR0913, PLR0917 - whose models, and where they are compared
    connection: Connection,
    states: ModelStates,
    entity: Entity,
    tier: Tier,
    spans: tuple[WindowRange, WindowRange],
    streams: list[int] | None,
) -> tuple[Any, Learnt, tuple[Quality, Quality]]:
    """Return a candidate that has learnt the first span, and how it and the current model do.

    Both are judged on the second span, the end of the first, each window before it is learnt.
    """
    span, compared = spans
    before = WindowRange(span.start, compared.start)
    candidate, learnt = trained(tier, connection, entity, before)
    current = states.before(entity, compared.start)
    new, old = [], []
    for block in active_blocks(connection, entity, compared.start, compared.end):
        inputs = tier.read(connection, entity, block)
        new.append((inputs, tier.process(candidate, inputs)))
        old.append((inputs, tier.process(current, inputs)))
        learnt = learnt.plus(block.start, len(block), observed_values(inputs))
    return candidate, learnt, (quality(new, streams), quality(old, streams))


@dataclass(frozen=True)
class _Request:
    entity: Entity
    tier: Tier
    component: str
    streams: Sequence[str] | None
    span: WindowRange
    who: str
    why: str

    @property
    def recipe(self) -> dict[str, Any]:
        streams = None if self.streams is None else sorted(self.streams)
        return {"since": self.span.start, "streams": streams}


def _positions(entity: Entity, component: str, streams: Sequence[str] | None) -> list[int] | None:
    if streams is None:
        return None
    if component != "tier1_models":
        msg = f"{component} learns all streams together; leave the stream out, or take tier1_models"
        raise InputError(msg)
    known = entity.catalogue.stream_ids
    if unknown := sorted(set(streams) - set(known)):
        msg = (
            f"entity {entity.entity_id!r} has no stream {unknown[0]!r}; its catalogue "
            f"{entity.catalogue.name!r} has {', '.join(known[:10])}"
        )
        raise InputError(msg)
    return [entity.catalogue.index(one) for one in streams]


def _spans(
    connection: Connection, deployment: Deployment, entity: Entity, component: str
) -> tuple[WindowRange, WindowRange]:
    """Return the windows to learn, and those at their end to compare on."""
    head = _head(connection, entity.entity_id, component)
    if head is None:
        msg = f"entity {entity.entity_id!r} has no {component} yet; run anomaly-assets backfill"
        raise InputError(msg)
    end = int(head.timestamp())
    start = end - deployment.settings.retrain_days * WINDOWS_PER_DAY * WINDOW_SECONDS
    stored = stored_ranges(connection, entity.entity_id, WindowRange(start, end))
    windows = sum(len(one) for one in stored)
    compared = min(COMPARED_WINDOWS, windows // 3)
    if not stored or windows - compared < LEAST_LEARNT:
        msg = (
            f"entity {entity.entity_id!r} has {windows} windows in the last "
            f"{deployment.settings.retrain_days} days, too few to retrain on; wait until there are "
            f"{LEAST_LEARNT * 3 // 2}"
        )
        raise InputError(msg)
    since = max(start, stored[0].start)
    return WindowRange(since, end), WindowRange(end - compared * WINDOW_SECONDS, end)


def _head(connection: Connection, entity_id: str, component: str) -> datetime | None:
    row = connection.execute(
        "SELECT max(as_of) FROM model_snapshots WHERE entity_id = %s AND component = %s",
        (entity_id, component),
    ).fetchone()
    return None if row is None else row[0]


def _last_tried(
    connection: Connection, entity_id: str, streams: Sequence[str], head: datetime
) -> dict[str, datetime]:
    """Return when each stream was tried last, of late or ahead where it was rolled back."""
    tried: dict[str, datetime] = {}
    for action in read_actions(
        connection, entity_id=entity_id, component="tier1_models", kinds=[ActionKind.RETRAIN]
    ):
        if action.as_of is None or action.as_of > head:
            continue
        at = action.as_of
        if action.withdrawn_by is not None:
            at += RETRY_AFTER_ROLLBACK - RETRY_AFTER
        for stream in (action.recipe or {}).get("streams") or streams:
            tried[stream] = max(at, tried.get(stream, at))
    return tried


def _record(
    deployment: Deployment, request: _Request, details: dict[str, Any], outcome: ActionOutcome
) -> int:
    with deployment.database.connect() as connection:
        return _record_on(connection, request, details, outcome, before=None)


def _record_on(
    connection: Connection,
    request: _Request,
    details: dict[str, Any],
    outcome: ActionOutcome,
    *,
    before: int | None,
) -> int:
    return record_action(
        connection,
        request.entity.entity_id,
        ActionKind.RETRAIN,
        component=request.component,
        as_of=request.span.end_time,
        who=request.who,
        why=request.why,
        outcome=outcome,
        recipe=request.recipe,
        details=details,
        versions=(before, None),
    )


def _take_over(
    deployment: Deployment,
    request: _Request,
    state: Any,  # noqa: ANN401 - each tier has its own
    learnt: Learnt,
    details: dict[str, Any],
) -> tuple[int, int]:
    """Put the new state in the place of the current one, which is archived: one transaction."""
    entity, component = request.entity, request.component
    store = SnapshotStore(component, request.tier.build, deployment.key)
    end = request.span.end
    at = (entity.entity_id, component, request.span.end_time)
    with (
        deployment.database.connect() as connection,
        entity_lock(connection, entity.entity_id, component),
        connection.transaction(),
    ):
        if store.head(connection, entity.entity_id) != end:
            msg = (
                f"entity {entity.entity_id!r}: {component} went on while it was retrained; "
                "nothing was changed, try again"
            )
            raise StateError(msg)
        before = model_versions.version_at(connection, *at)
        action_id = _record_on(connection, request, details, ActionOutcome.DONE, before=before)
        model_versions.archive(connection, [] if before is None else [before])
        sealed = store.seal(
            state, entity_id=entity.entity_id, catalogue=entity.catalogue, as_of=end
        )
        store.save(
            connection,
            sealed,
            created_by=request.who,
            base_action=action_id,
            learnt=learnt,
        )
        after = model_versions.version_at(connection, *at)
        if after is None:
            msg = f"entity {entity.entity_id!r}: the retrained {component} could not be stored"
            raise StateError(msg)
        model_versions.pin(
            connection,
            entity.entity_id,
            after,
            who=request.who,
            reason=f"base of retraining {action_id}",
        )
        finish_action(connection, action_id, ActionOutcome.DONE, version_after=after)
    return action_id, after


def _details(
    qualities: tuple[Quality, Quality],
    base_action: int | None,
    compared: WindowRange,
    *,
    force: bool,
) -> dict[str, Any]:
    return {
        "candidate": asdict(qualities[0]),
        "current": asdict(qualities[1]),
        "base_action": base_action,
        "forced": force,
        "compared_windows": len(compared),
    }


def _said(qualities: tuple[Quality, Quality], *, better: bool, force: bool) -> str:
    told = []
    for one, name in zip(qualities, ("retrained", "current"), strict=True):
        error = "unknown" if one.error is None else f"{one.error:.3f}"
        share = "unknown" if one.share_above is None else f"{one.share_above:.1%}"
        told.append(f"{name} model: error {error}, above 0.7 {share}")
    verdict = "taken over" if better else "taken over by force" if force else "not taken over"
    return f"{verdict} ({'; '.join(told)})"
