"""What was done to models: the journal of actions, and those that later states go back to."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from anomaly_assets.storage.database import Connection


class ActionKind(StrEnum):
    """What can be done to models."""

    RETRAIN = "retrain"
    RESTORE = "restore"
    ROLLBACK = "rollback"
    PIN = "pin"
    UNPIN = "unpin"
    #: A snapshot was refused and the state rebuilt from an older one.
    FALLBACK = "fallback"


class ActionOutcome(StrEnum):
    """How an action ended."""

    PENDING = "pending"
    DONE = "done"
    #: Tried, compared, and not taken over.
    REJECTED = "rejected"
    FAILED = "failed"


#: Kinds that put another state in the place of the one that was learnt.
BASES = (ActionKind.RETRAIN, ActionKind.RESTORE)
#: What a stream's own model belongs to.
_TIER_1 = "tier1_models"


@dataclass(frozen=True)
class ModelAction:
    """One action, as it is stored.

    Parameters
    ----------
    action_id, entity_id, component
        Its number, and whose models of which model asset it concerns (None: all of them).
    kind, as_of
        What was done, from which window on.
    who, why, outcome
        Who did it, the reason given, and how it ended.
    recipe
        How a retrained state is made: ``since`` (epoch seconds) and ``streams`` (None: all).
    details
        Figures: comparison, summary of what changed, reasons.
    version_before, version_after
        Versions of the model before and after.
    withdrawn_by
        The action that took it back, if any.
    created_at, finished_at
        When it began and ended.
    """

    action_id: int
    entity_id: str
    component: str | None
    kind: str
    as_of: datetime | None
    who: str
    why: str
    outcome: str
    recipe: dict[str, Any] | None
    details: dict[str, Any] = field(default_factory=dict)
    version_before: int | None = None
    version_after: int | None = None
    withdrawn_by: int | None = None
    created_at: datetime | None = None
    finished_at: datetime | None = None


_COLUMNS = (
    "action_id, entity_id, component, kind, as_of, who, why, outcome, recipe, details, "
    "version_before, version_after, withdrawn_by, created_at, finished_at"
)


def record_action(  # noqa: PLR0913 - a row with its columns
    connection: Connection,
    entity_id: str,
    kind: ActionKind,
    *,
    who: str,
    why: str,
    component: str | None = None,
    as_of: datetime | None = None,
    outcome: ActionOutcome = ActionOutcome.DONE,
    recipe: Mapping[str, Any] | None = None,
    details: Mapping[str, Any] | None = None,
    versions: tuple[int | None, int | None] = (None, None),
) -> int:
    """Write an action down, in the caller's transaction; returns its number."""
    row = connection.execute(
        "INSERT INTO model_actions (entity_id, component, kind, as_of, who, why, outcome, recipe, "
        "details, version_before, version_after, finished_at) VALUES (%s, %s, %s, %s, %s, %s, %s, "
        "%s, %s, %s, %s, CASE WHEN %s THEN NULL ELSE now() END) RETURNING action_id",
        (
            entity_id,
            component,
            kind,
            as_of,
            who,
            why,
            outcome,
            None if recipe is None else Jsonb(dict(recipe)),
            Jsonb(dict(details or {})),
            *versions,
            outcome is ActionOutcome.PENDING,
        ),
    ).fetchone()
    return int(row[0]) if row else 0


def record_fallback(  # noqa: PLR0913 - a row with its columns
    connection: Connection,
    entity_id: str,
    component: str,
    *,
    who: str,
    reasons: Sequence[str],
    as_of: datetime | None,
) -> None:
    """Write down that snapshots were refused, once for the same reasons.

    A damaged snapshot is met again by every replay until retention takes it away.
    """
    why = "; ".join(reasons)
    known = connection.execute(
        "SELECT 1 FROM model_actions WHERE entity_id = %s AND component = %s AND kind = %s "
        "AND why = %s LIMIT 1",
        (entity_id, component, ActionKind.FALLBACK, why),
    ).fetchone()
    if known is None:
        record_action(
            connection,
            entity_id,
            ActionKind.FALLBACK,
            component=component,
            as_of=as_of,
            who=who,
            why=why,
            details={"refused": len(reasons)},
        )


def finish_action(
    connection: Connection,
    action_id: int,
    outcome: ActionOutcome,
    *,
    details: Mapping[str, Any] | None = None,
    version_after: int | None = None,
) -> None:
    """Note how an action ended, or that it is pending still; details add to those there are."""
    connection.execute(
        "UPDATE model_actions SET outcome = %(outcome)s, details = details || %(details)s, "
        "finished_at = CASE WHEN %(outcome)s = 'pending' THEN NULL ELSE now() END, "
        "version_after = coalesce(%(after)s, version_after) WHERE action_id = %(action)s",
        {
            "outcome": str(outcome),
            "details": Jsonb(dict(details or {})),
            "after": version_after,
            "action": action_id,
        },
    )


def withdraw(connection: Connection, action_ids: Iterable[int], by: int | None) -> None:
    """Take actions back (by an action), or have them stand again (by None)."""
    connection.execute(
        "UPDATE model_actions SET withdrawn_by = %s WHERE action_id = ANY(%s)",
        (by, list(action_ids)),
    )


def read_actions(
    connection: Connection,
    *,
    entity_id: str | None = None,
    component: str | None = None,
    kinds: Iterable[ActionKind] | None = None,
    outcome: ActionOutcome | None = None,
) -> list[ModelAction]:
    """Return actions, newest first; those of a component include those of all components."""
    with connection.cursor(row_factory=class_row(ModelAction)) as cursor:
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM model_actions "  # noqa: S608 - our own column names
            "WHERE (%(entity)s::text IS NULL OR entity_id = %(entity)s) "
            "AND (%(component)s::text IS NULL OR component IS NULL OR component = %(component)s) "
            "AND (%(kinds)s::text[] IS NULL OR kind = ANY(%(kinds)s)) "
            "AND (%(outcome)s::text IS NULL OR outcome = %(outcome)s) ORDER BY action_id DESC",
            {
                "entity": entity_id,
                "component": component,
                "kinds": None if kinds is None else list(kinds),
                "outcome": outcome,
            },
        ).fetchall()


def standing_bases(
    connection: Connection, entity_id: str, component: str | None = None
) -> list[ModelAction]:
    """Return the actions that put another state in place and stand, in the order they act."""
    found = read_actions(connection, entity_id=entity_id, component=component, kinds=BASES)
    # What is pending has its state in place already; what is left is to replay from it.
    standing = [
        one
        for one in found
        if one.withdrawn_by is None
        and one.outcome in {ActionOutcome.DONE, ActionOutcome.PENDING}
        and one.component
        and one.as_of is not None
    ]
    return sorted(standing, key=lambda one: (one.as_of, one.action_id))


def acted_upon(
    connection: Connection, entities: Sequence[str], component: str, since: datetime | None = None
) -> set[str]:
    """Return those of some entities whose course an action changed, at `since` or later."""
    rows = connection.execute(
        "SELECT DISTINCT entity_id FROM model_actions WHERE entity_id = ANY(%s) "
        "AND component = %s AND kind = ANY(%s) "
        "AND as_of >= coalesce(%s::timestamptz, '-infinity')",
        (list(entities), component, [str(kind) for kind in BASES], since),
    ).fetchall()
    return {entity_id for (entity_id,) in rows}


def last_retrained(
    connection: Connection, entity_id: str, until: datetime
) -> tuple[dict[str, datetime], datetime | None]:
    """Return when streams were last retrained as of a window, and when all of them were.

    Of tier 1 alone: it is what a stream's model is.
    """
    single: dict[str, datetime] = {}
    whole: datetime | None = None
    for one in standing_bases(connection, entity_id, _TIER_1):
        if one.kind != ActionKind.RETRAIN or one.as_of is None or one.as_of > until:
            continue
        streams = (one.recipe or {}).get("streams")
        if streams is None:
            whole, single = one.as_of, {}
        else:
            single.update(dict.fromkeys(streams, one.as_of))
    return single, whole


def last_retrained_of_many(
    connection: Connection, entities: Sequence[str], until: datetime
) -> dict[str, tuple[dict[str, datetime], datetime | None]]:
    """Return what :func:`last_retrained` says of those entities that ever were."""
    return {
        entity_id: last_retrained(connection, entity_id, until)
        for entity_id in sorted(acted_upon(connection, entities, _TIER_1))
    }


def last_change(connection: Connection, entity_id: str) -> int:
    """Return the number of the last action that changed an entity's states, 0 if none did."""
    row = connection.execute(
        "SELECT coalesce(max(action_id), 0) FROM model_actions WHERE entity_id = %s "
        "AND kind = ANY(%s) AND outcome IN ('pending', 'done')",
        (entity_id, [*BASES, ActionKind.ROLLBACK]),
    ).fetchone()
    return 0 if row is None else int(row[0])
