"""What people's judgement changes: made, shown with its effect, and taken back.

Nothing here touches a score. Each change is a new version, which holds from a window on; going back
is one more version, with the content of an earlier one. Windows that are stored already and lie
after a version's first window are decided about anew at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from anomaly_assets.detection.ensemble.health_aware import HealthAwareEnsemble
from anomaly_assets.detection.feedback.adjustment import Adjustment, Rule
from anomaly_assets.detection.feedback.labelled import Deciding, Effect
from anomaly_assets.detection.feedback.recalibration import Limits
from anomaly_assets.detection.feedback.recalibration import recalibrate as chosen_anew
from anomaly_assets.detection.feedback.shapes import suggest_rules
from anomaly_assets.errors import EntityForgottenError, InputError
from anomaly_assets.pipeline.decided_again import decide_again
from anomaly_assets.pipeline.feedback_versions import Standing, concerned, in_force_now, versions
from anomaly_assets.pipeline.judged import judged_alarms
from anomaly_assets.storage.entities import hold_entity
from anomaly_assets.storage.feedback import (
    FeedbackVersion,
    NewVersion,
    add_version,
    decide_suggestion,
    find_rule_suggestion,
    find_version,
    list_rule_suggestions,
    lock_feedback,
    require_author,
    write_rule_suggestions,
)
from anomaly_assets.storage.identifiers import Decision
from anomaly_assets.storage.queries import scored_until
from anomaly_assets.storage.tables_feedback import FeedbackAction
from anomaly_assets.streams.windows import WINDOW_SECONDS, window_of

if TYPE_CHECKING:
    import psycopg

    from anomaly_assets.detection.feedback.labelled import Labelled
    from anomaly_assets.pipeline.deployment import Deployment, Entity
    from anomaly_assets.settings import Settings
    from anomaly_assets.storage.feedback import RuleSuggestion

    Connection = psycopg.Connection[Any]


__all__ = [
    "Change",
    "Proposal",
    "Standing",
    "accept",
    "drop",
    "propose",
    "recalibrate",
    "reject",
    "revert",
    "suggestions",
    "versions",
]


@dataclass(frozen=True)
class Change:
    """What became of a wish to change the feedback.

    Parameters
    ----------
    version
        The new version; None: nothing was changed.
    effect
        What it does to judged alarms, against what was in force before.
    later
        Chosen on the earlier judged alarms alone, what it does to the later ones; None where it
        was not chosen from alarms.
    why
        Why nothing was changed; empty if something was.
    decided_again
        Stored windows that were decided about anew.
    """

    version: FeedbackVersion | None
    effect: Effect
    later: Effect | None = None
    why: str = ""
    decided_again: int = 0


@dataclass(frozen=True)
class Proposal:
    """What the labels of an entity would change of its threshold and weights.

    Parameters
    ----------
    current, new
        What is in force, and what would be.
    effect, later
        As in :class:`Change`.
    labels
        Numbers of the labels that it rests on.
    why
        Why nothing should be changed; empty if something should.
    """

    current: Adjustment
    new: Adjustment
    effect: Effect
    later: Effect | None
    labels: tuple[int, ...]
    why: str


def deciding(settings: Settings) -> Deciding:
    """Return how decisions are made in a deployment."""
    return Deciding(HealthAwareEnsemble(method=settings.ensemble), settings.explanation_threshold)


def limits(settings: Settings) -> Limits:
    """Return what a person lets feedback move.

    Raises
    ------
    InputError
        If a range makes no sense.
    """
    return Limits(
        settings.feedback_threshold_range,
        settings.feedback_weight_range,
        settings.feedback_least_labels,
    )


def recalibrate(
    deployment: Deployment,
    entity_id: str,
    by: str,
    *,
    since: datetime | None = None,
    reason: str | None = None,
) -> Change:
    """Choose an entity's threshold and weights anew from its labels.

    Parameters
    ----------
    deployment
        Where it is.
    entity_id
        Whose.
    by
        Who wants it.
    since
        First window that it decides about; the next one by default.
    reason
        Why.

    Returns
    -------
    Change
        Without a version where the labels give no reason to change anything, or where the same
        choice made on the earlier labels would have lost an anomaly of the later ones.
    """
    entity = deployment.entity(entity_id)
    with deployment.database.connect() as connection, connection.transaction():
        _hold(connection, entity_id)
        found = _proposal(deployment.settings, connection, entity)
        if found.why:
            return Change(None, found.effect, found.later, found.why)
        version = _added(
            connection,
            entity_id,
            FeedbackAction.RECALIBRATE,
            by,
            found.new,
            since=since,
            effect=_told(found.effect, found.later),
            labels=found.labels,
            reason=reason,
        )
    again = decide_again(deployment, entity, version.from_window)
    return Change(version, found.effect, found.later, decided_again=again)


def propose(deployment: Deployment, entity_id: str) -> Proposal:
    """Say what :func:`recalibrate` would change, and change nothing."""
    entity = deployment.entity(entity_id)
    with deployment.database.connect() as connection, connection.transaction():
        return _proposal(deployment.settings, connection, entity)


def suggestions(
    deployment: Deployment, entity_id: str | None = None, *, everything: bool = False
) -> list[RuleSuggestion]:
    """Look for repeated false alarms of one shape, and return the rules that they suggest.

    Parameters
    ----------
    deployment
        Where they are.
    entity_id
        Only this entity's.
    everything
        Whether rules are returned too that somebody has decided about.
    """
    entities = deployment.entities() if entity_id is None else [deployment.entity(entity_id)]
    with deployment.database.connect() as connection:
        for entity in entities:
            # Whoever is forgotten meanwhile has nothing to suggest.
            with suppress(EntityForgottenError), connection.transaction():
                _hold(connection, entity.entity_id)
                _search(deployment, connection, entity)
        status = None if everything else Decision.OPEN
        return list_rule_suggestions(connection, entity_id=entity_id, status=status)


def accept(
    deployment: Deployment, suggestion_id: int, by: str, *, since: datetime | None = None
) -> Change:
    """Let a suggested rule suppress windows, from the next one on unless `since` says otherwise.

    Raises
    ------
    InputError
        If there is no such suggestion, it would suppress a confirmed anomaly, or a rule of that
        name holds already.
    """
    how = deciding(deployment.settings)
    with deployment.database.connect() as connection, connection.transaction():
        wanted = find_rule_suggestion(connection, suggestion_id)
        entity = deployment.entity(wanted.entity_id)
        _hold(connection, entity.entity_id)
        wanted = find_rule_suggestion(connection, suggestion_id)
        if wanted.contradicted_by:
            numbers = ", ".join(map(str, wanted.contradicted_by))
            msg = (
                f"rule {wanted.name!r} would suppress what was confirmed (label {numbers}); look "
                "at it again: if it was no anomaly, anomaly-assets labels undo NUMBER"
            )
            raise InputError(msg)
        current, _ = in_force_now(connection, entity.entity_id)
        if any(rule.name == wanted.name for rule in current.rules):
            msg = f"rule {wanted.name!r} of entity {entity.entity_id!r} is in force already"
            raise InputError(msg)
        first = _first_window(connection, entity.entity_id, since)
        until = first + timedelta(days=deployment.settings.feedback_rule_days)
        rule = replace(Rule.from_dict(wanted.rule), expires=int(until.timestamp()))
        new = replace(current, rules=(*current.rules, rule))
        effect = _effect(connection, entity, how, current, new)
        if effect.confirmed_lost:
            msg = f"rule {wanted.name!r} {effect.sentence}: not accepted; see feedback suggestions"
            raise InputError(msg)
        version = _added(
            connection,
            entity.entity_id,
            FeedbackAction.ACCEPT,
            by,
            new,
            since=first,
            effect=_told(effect),
            labels=rule.labels,
            reason=wanted.name,
        )
        decide_suggestion(connection, suggestion_id, Decision.ACCEPTED, by)
    again = decide_again(deployment, entity, version.from_window)
    return Change(version, effect, decided_again=again)


def reject(deployment: Deployment, suggestion_id: int, by: str) -> RuleSuggestion:
    """Turn a suggested rule down; it is not suggested again.

    Raises
    ------
    InputError
        If there is none, or it is in force.
    """
    with deployment.database.connect() as connection, connection.transaction():
        wanted = find_rule_suggestion(connection, suggestion_id)
        _hold(connection, wanted.entity_id)
        current, _ = in_force_now(connection, wanted.entity_id)
        if any(rule.name == wanted.name for rule in current.rules):
            msg = (
                f"rule {wanted.name!r} is in force; first: anomaly-assets feedback drop "
                f"{wanted.entity_id} '{wanted.name}'"
            )
            raise InputError(msg)
        return decide_suggestion(connection, suggestion_id, Decision.REJECTED, by)


def drop(
    deployment: Deployment, entity_id: str, rule: str, by: str, *, since: datetime | None = None
) -> Change:
    """Let a rule suppress nothing any more, from the next window on unless `since` says otherwise.

    Raises
    ------
    InputError
        If no rule of that name is in force.
    """
    entity = deployment.entity(entity_id)
    how = deciding(deployment.settings)
    with deployment.database.connect() as connection, connection.transaction():
        _hold(connection, entity_id)
        current, _ = in_force_now(connection, entity_id)
        left = tuple(one for one in current.rules if one.name != rule)
        if len(left) == len(current.rules):
            known = ", ".join(repr(one.name) for one in current.rules) or "none"
            msg = f"entity {entity_id!r} has no rule {rule!r} in force; in force: {known}"
            raise InputError(msg)
        new = replace(current, rules=left)
        effect = _effect(connection, entity, how, current, new)
        version = _added(
            connection,
            entity_id,
            FeedbackAction.DROP,
            by,
            new,
            since=since,
            effect=_told(effect),
            reason=rule,
        )
    again = decide_again(deployment, entity, version.from_window)
    return Change(version, effect, decided_again=again)


def revert(
    deployment: Deployment, feedback_id: int, by: str, *, since: datetime | None = None
) -> Change:
    """Go back to what was in force before a version, which must be the active one.

    Parameters
    ----------
    deployment
        Where it is.
    feedback_id
        The version.
    by
        Who wants it.
    since
        First window from which on it counts for nothing; by default its own first one, as though
        it had never been.

    Raises
    ------
    InputError
        If there is none of that number, or another one has replaced it.
    """
    with deployment.database.connect() as connection, connection.transaction():
        found = find_version(connection, feedback_id)
        if found.is_meta:
            lock_feedback(connection, found.scope)
        else:
            _hold(connection, found.scope)
        current, active = in_force_now(connection, found.scope)
        if active is None or active.feedback_id != feedback_id:
            now = "nothing" if active is None else f"version {active.feedback_id}"
            msg = f"version {feedback_id} is not active ({now} is); revert the active one first"
            raise InputError(msg)
        before = None if found.replaces is None else find_version(connection, found.replaces)
        new = Adjustment() if before is None else before.adjustment
        entities = concerned(deployment, found)
        effect = Effect()
        if not found.is_meta:
            how = deciding(deployment.settings)
            effect = _effect(connection, entities[0], how, current, new)
        version = add_version(
            connection,
            NewVersion(
                found.scope,
                FeedbackAction.REVERT,
                found.from_time if since is None else window_of(since),
                by,
                replaces=feedback_id,
                adjustment=new,
                is_meta=found.is_meta,
                content_of=None if before is None else before.feedback_id,
                changes_nothing=before is None,
                effect=_told(effect),
                model=None if before is None else before.model,
                seal=None if before is None else before.seal,
                reason=f"version {feedback_id} taken back",
            ),
        )
    again = sum(decide_again(deployment, one, version.from_window) for one in entities)
    return Change(version, effect, decided_again=again)


def _hold(connection: Connection, entity_id: str) -> None:
    """Keep an entity from being forgotten, and its feedback from being changed by others."""
    hold_entity(connection, entity_id)
    lock_feedback(connection, entity_id)


def _proposal(settings: Settings, connection: Connection, entity: Entity) -> Proposal:
    how, within = deciding(settings), limits(settings)
    current, _ = in_force_now(connection, entity.entity_id)
    labelled = judged_alarms(connection, entity).labelled
    known = 0 if labelled is None else len(labelled)
    if labelled is None or known < within.least_labels:
        why = f"{known} judged alarms, and {within.least_labels} are needed; judge some more"
        return Proposal(current, current, Effect(), None, (), why)
    new = chosen_anew(labelled, current, within, how)
    later = _later(labelled, current, within, how)
    why = ""
    if later.confirmed_lost:
        why = f"chosen on the earlier labels, it {later.sentence} of the later ones"
    elif new == current:
        why = "the labels give no reason to change threshold or weights"
    effect = how.effect(labelled, current, new)
    return Proposal(current, new, effect, later, labelled.label_ids, why)


def _later(labelled: Labelled, current: Adjustment, within: Limits, how: Deciding) -> Effect:
    """Return what the choice would do to the later alarms, had it been made on the earlier ones."""
    earlier, later = labelled.split()
    if not len(earlier) or not len(later):
        return Effect()
    fewer = replace(within, least_labels=max(1, round(within.least_labels * 0.7)))
    return how.effect(later, current, chosen_anew(earlier, current, fewer, how))


def _search(deployment: Deployment, connection: Connection, entity: Entity) -> None:
    labelled = judged_alarms(connection, entity).labelled
    if labelled is None:
        write_rule_suggestions(connection, entity.entity_id, [])
        return
    current, _ = in_force_now(connection, entity.entity_id)
    until = _first_window(connection, entity.entity_id, None) + timedelta(
        days=deployment.settings.feedback_rule_days
    )
    how = deciding(deployment.settings)
    found = suggest_rules(labelled, current, how, expires=int(until.timestamp()))
    write_rule_suggestions(connection, entity.entity_id, found)


def _effect(
    connection: Connection, entity: Entity, how: Deciding, before: Adjustment, after: Adjustment
) -> Effect:
    labelled = judged_alarms(connection, entity).labelled
    return Effect() if labelled is None else how.effect(labelled, before, after)


def _told(effect: Effect, later: Effect | None = None) -> dict[str, Any]:
    told: dict[str, Any] = {"labels": effect.to_dict()}
    if later is not None:
        told["later_labels"] = later.to_dict()
    return told


def _added(  # noqa: PLR0913 - a version's parts
    connection: Connection,
    entity_id: str,
    action: FeedbackAction,
    by: str,
    new: Adjustment,
    *,
    since: datetime | None,
    effect: dict[str, Any],
    labels: Sequence[int] = (),
    reason: str | None = None,
) -> FeedbackVersion:
    _, active = in_force_now(connection, entity_id)
    return add_version(
        connection,
        NewVersion(
            entity_id,
            action,
            _first_window(connection, entity_id, since),
            require_author(by),
            replaces=None if active is None else active.feedback_id,
            adjustment=new,
            label_ids=labels,
            effect=effect,
            reason=reason,
        ),
    )


def _first_window(connection: Connection, entity_id: str, since: datetime | None) -> datetime:
    """Return the window that is meant, or the next one that is not scored yet."""
    if since is not None:
        return window_of(since)
    until = scored_until(connection, entity_id)
    if until is None:
        return window_of(datetime.now(tz=UTC)) + timedelta(seconds=WINDOW_SECONDS)
    return datetime.fromtimestamp(until, tz=UTC)
