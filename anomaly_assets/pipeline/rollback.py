"""Going back to an earlier version: states and scores agree afterwards, and nothing is lost.

One transaction sets the states back, keeps the scores as they are and marks where a replay has to
begin. From then on the way is resumable: whoever comes first, this process, the hourly upkeep or
the sensor of late readings, replays from the mark, always to the same rows.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from anomaly_assets.errors import InputError, StateError
from anomaly_assets.pipeline.advance import advance
from anomaly_assets.pipeline.explain import explain_windows
from anomaly_assets.pipeline.stateless import combine
from anomaly_assets.pipeline.tiers import CrossStreamTier, GapTier, IndividualTier
from anomaly_assets.storage import journal, model_versions
from anomaly_assets.storage.model_actions import (
    ActionKind,
    ActionOutcome,
    finish_action,
    read_actions,
    record_action,
    standing_bases,
    withdraw,
)
from anomaly_assets.storage.windows import entity_lock
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from anomaly_assets.pipeline.advance import Tier
    from anomaly_assets.pipeline.deployment import Deployment, Entity
    from anomaly_assets.storage.database import Connection
    from anomaly_assets.storage.model_actions import ModelAction
    from anomaly_assets.storage.model_versions import ModelVersion


@dataclass(frozen=True)
class RollbackReport:
    """What a replay after a change of models has changed.

    Parameters
    ----------
    action_id, entity_id
        The action, and whose models.
    since, until
        The windows that were replayed.
    windows, rows, rows_changed
        Windows with scores before, their rows of scores, and how many of these are others now.
    mean_difference, max_difference
        Between scores known before and after, 0 to 1; None without any.
    windows_crossing
        Windows whose final score passed 0.7, in either direction.
    withdrawn
        Actions that were taken back.
    failed
        Why the replay did not come to its end; empty if it did. It is resumed by the next upkeep.
    """

    action_id: int
    entity_id: str
    since: datetime
    until: datetime
    windows: int = 0
    rows: int = 0
    rows_changed: int = 0
    mean_difference: float | None = None
    max_difference: float | None = None
    windows_crossing: int = 0
    withdrawn: tuple[int, ...] = ()
    failed: str = ""


@dataclass(frozen=True)
class Change:
    """States to be set back.

    Parameters
    ----------
    to
        Before which window they are to be (epoch seconds).
    version
        The version to go on from, where one was named.
    withdrawn, reinstated
        Actions to take back, and those to have stand again.
    put
        Stores further states, in the transaction, given the number of the action.
    components
        Whose states; by default all of the entity's.
    """

    to: int
    version: ModelVersion | None = None
    withdrawn: tuple[int, ...] = ()
    reinstated: tuple[int, ...] = ()
    put: Callable[[Connection, int], None] | None = None
    components: tuple[str, ...] = field(
        default=("tier1_models", "gap_patterns", "cross_stream_models")
    )


def tiers(deployment: Deployment) -> tuple[Tier, ...]:
    """Return the tiers that keep state, in the order they run."""
    return IndividualTier(), GapTier(), CrossStreamTier(deployment.settings.seed)


def rollback(
    deployment: Deployment, entity_id: str, *, to: datetime | int, who: str, why: str
) -> RollbackReport:
    """Set an entity's models back to a version or a window, and replay its results from there.

    Retrainings and restores after it are taken back; the readings stay, and are learnt again.

    Parameters
    ----------
    deployment
        Where it is watched.
    entity_id
        Whose models.
    to
        A version, by its number, or the window before which the models are to be as they were.
    who, why
        Who does it, and the reason: both go on record.

    Raises
    ------
    InputError
        If there is no such version of this entity, or no processed window then.
    """
    action_id = begin_rollback(deployment, entity_id, to=to, who=who, why=why)
    return complete(deployment, deployment.reread(entity_id), action_id)


def begin_rollback(
    deployment: Deployment, entity_id: str, *, to: datetime | int, who: str, why: str
) -> int:
    """Do the part of :func:`rollback` that takes no time; :func:`complete` does the rest.

    Returns
    -------
    int
        Number of the action, which is pending.

    Raises
    ------
    InputError
        As :func:`rollback` does.
    """
    entity = deployment.reread(entity_id)
    with deployment.database.connect() as connection:
        span = stored_span(connection, entity_id)
        if span is None:
            msg = f"no window of entity {entity_id!r} has been processed; there is nothing to undo"
            raise InputError(msg)
        if isinstance(to, datetime):
            change = _change_to_moment(connection, entity_id, to, span)
        else:
            change = _change_to_version(connection, entity_id, to, span)
    return begin(
        deployment, entity, change, kind=ActionKind.ROLLBACK, who=who, why=why, asked=str(to)
    )


def begin(  # noqa: PLR0913 - what, whose, and what goes on record of it
    deployment: Deployment,
    entity: Entity,
    change: Change,
    *,
    kind: ActionKind,
    who: str,
    why: str,
    asked: str = "",
    keep: bool = True,
) -> int:
    """Set states back in one transaction, after which :func:`complete` can be called at any time.

    Without `keep` the scores are not kept: an action before this one has kept them.

    Returns
    -------
    int
        Number of the action, which is pending.
    """
    name = entity.entity_id
    moment = datetime.fromtimestamp(change.to, tz=UTC)
    with deployment.database.connect() as connection, ExitStack() as locks:
        for component in change.components:
            locks.enter_context(entity_lock(connection, name, component))
        with connection.transaction():
            version = change.version
            action_id = record_action(
                connection,
                name,
                kind,
                component=change.components[0] if len(change.components) == 1 else None,
                as_of=moment,
                who=who,
                why=why,
                outcome=ActionOutcome.PENDING,
                versions=(None, None if version is None else version.version),
            )
            withdraw(connection, change.withdrawn, action_id)
            withdraw(connection, change.reinstated, None)
            for component in change.components:
                model_versions.drop_course(
                    connection, name, component, moment, based_on=change.withdrawn
                )
            if version is not None and version.archived:
                model_versions.unarchive(connection, version.version)
            if change.put is not None:
                change.put(connection, action_id)
            since = min([change.to, *_heads(connection, entity, change)])
            start = datetime.fromtimestamp(since, tz=UTC)
            if keep:
                model_versions.keep_results(connection, name, action_id, start)
            span = stored_span(connection, name)
            if span is not None and since < span.end:
                journal.mark_for_replay(connection, name, start)
            details = {"since": since, "withdrawn": list(change.withdrawn), "asked": asked}
            finish_action(connection, action_id, ActionOutcome.PENDING, details=details)
    return action_id


def complete(deployment: Deployment, entity: Entity, action_id: int) -> RollbackReport:
    """Replay what a pending action has set back, and compare; calling it again does no harm."""
    return complete_all(deployment, entity, [action_id])[0]


def complete_all(
    deployment: Deployment, entity: Entity, action_ids: Sequence[int]
) -> list[RollbackReport]:
    """Replay what pending actions have set back, once for all; see :func:`complete`."""
    with deployment.database.connect() as connection:
        actions = [action_of(connection, entity.entity_id, one) for one in action_ids]
        span = stored_span(connection, entity.entity_id)
    since = min(int(action.details.get("since", 0)) for action in actions)
    windows = WindowRange(since, max(since, since if span is None else span.end))
    deployment.failures.pop(entity.entity_id, None)
    reprocess(deployment, entity, windows)
    failed = deployment.failures.get(entity.entity_id, "")
    reports = []
    for action in actions:
        compared = {}
        if not failed:
            with deployment.database.connect() as connection, connection.transaction():
                compared = model_versions.compare_results(
                    connection, entity.entity_id, action.action_id
                )
                finish_action(
                    connection,
                    action.action_id,
                    ActionOutcome.DONE,
                    details={**compared, "until": windows.end},
                )
        reports.append(
            RollbackReport(
                action.action_id,
                entity.entity_id,
                windows.start_time,
                windows.end_time,
                **compared,
                withdrawn=tuple(action.details.get("withdrawn", ())),
                failed=failed,
            )
        )
    return reports


def resume_pending(deployment: Deployment) -> list[RollbackReport]:
    """Complete what a kill or an error has left pending; returns what became of each."""
    with deployment.database.connect() as connection:
        pending = read_actions(connection, outcome=ActionOutcome.PENDING)
    reports = []
    known = {entity.entity_id for entity in deployment.entities()}
    for action in reversed(pending):
        if action.entity_id in known:
            entity = deployment.reread(action.entity_id)
            reports.append(complete(deployment, entity, action.action_id))
    return reports


def reprocess(deployment: Deployment, entity: Entity, windows: WindowRange) -> None:
    """Take an entity's stored windows from tier 1 to the explanations again.

    What goes wrong is found in ``deployment.failures``.
    """
    for tier in tiers(deployment):
        for _ in advance(tier, deployment, [entity], windows):
            pass
    for _ in combine(deployment, [entity], windows):
        pass
    if entity.entity_id not in deployment.failures:
        for _ in explain_windows(deployment, [entity], windows):
            pass


def stored_span(connection: Connection, entity_id: str) -> WindowRange | None:
    """Return from the first to the last stored window of an entity; None without any."""
    row = connection.execute(
        "SELECT extract(epoch FROM min(timestamp))::bigint, "
        "extract(epoch FROM max(timestamp))::bigint FROM anomaly_scores WHERE entity_id = %s",
        (entity_id,),
    ).fetchone()
    if row is None or row[0] is None:
        return None
    return WindowRange(int(row[0]), int(row[1]) + WINDOW_SECONDS)


def action_of(connection: Connection, entity_id: str, action_id: int) -> ModelAction:
    """Return one action.

    Raises
    ------
    StateError
        If there is none of that number.
    """
    for action in read_actions(connection, entity_id=entity_id):
        if action.action_id == action_id:
            return action
    msg = f"entity {entity_id!r} has no action {action_id}; anomaly-assets models show lists them"
    raise StateError(msg)


def _change_to_moment(
    connection: Connection, entity_id: str, to: datetime, span: WindowRange
) -> Change:
    moment = int(to.timestamp()) // WINDOW_SECONDS * WINDOW_SECONDS
    if not span.start <= moment <= span.end:
        msg = (
            f"entity {entity_id!r} has results from {span.start_time:%Y-%m-%d %H:%M} to "
            f"{span.end_time:%Y-%m-%d %H:%M} UTC; give a time between them, not "
            f"{to:%Y-%m-%d %H:%M}"
        )
        raise InputError(msg)
    later = [
        one.action_id
        for one in standing_bases(connection, entity_id)
        if one.as_of is not None and int(one.as_of.timestamp()) > moment
    ]
    return Change(moment, withdrawn=tuple(later))


def _change_to_version(
    connection: Connection, entity_id: str, number: int, span: WindowRange
) -> Change:
    found = model_versions.read_versions(connection, entity_id=entity_id, version=number)
    if not found:
        msg = (
            f"entity {entity_id!r} has no version {number}; anomaly-assets models list "
            f"--entity {entity_id} shows those there are"
        )
        raise InputError(msg)
    (version,) = found
    moment = int(version.as_of.timestamp())
    if not span.start <= moment <= span.end:
        msg = f"version {number} is of a time without results; nothing can be replayed from it"
        raise InputError(msg)
    lineage = _lineage(connection, entity_id, version)
    later = [
        one.action_id
        for one in standing_bases(connection, entity_id)
        if one.as_of is not None
        and (
            one.as_of > version.as_of
            or (one.component == version.component and one.action_id not in lineage)
        )
    ]
    return Change(
        moment,
        version=version,
        withdrawn=tuple(later),
        reinstated=tuple(one for one, stands in lineage.items() if not stands),
    )


def _lineage(connection: Connection, entity_id: str, version: ModelVersion) -> dict[int, bool]:
    """Return the actions that a version goes back to, and whether they stand."""
    known = {one.action_id: one for one in read_actions(connection, entity_id=entity_id)}
    found: dict[int, bool] = {}
    number = version.base_action
    while number is not None and number in known and number not in found:
        action = known[number]
        found[number] = action.withdrawn_by is None
        number = action.details.get("base_action")
    return found


def _heads(connection: Connection, entity: Entity, change: Change) -> Iterable[int]:
    """Return from where each component has to be replayed."""
    for component in change.components:
        row = connection.execute(
            "SELECT extract(epoch FROM max(as_of))::bigint FROM model_snapshots "
            "WHERE entity_id = %s AND component = %s",
            (entity.entity_id, component),
        ).fetchone()
        head = None if row is None else row[0]
        yield int(head) if head is not None else entity.first_window or change.to
