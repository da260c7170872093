"""Versions of the feedback, decisions under them and suggested rules, to and from their tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from anomaly_assets.detection.feedback.adjustment import Adjustment, Rule
from anomaly_assets.errors import InputError
from anomaly_assets.storage import bulk
from anomaly_assets.storage.grids import where
from anomaly_assets.storage.identifiers import Decision
from anomaly_assets.storage.pending import replace_rows
from anomaly_assets.storage.tables_feedback import FeedbackAction

if TYPE_CHECKING:
    from anomaly_assets.detection.explanation.triggers import CodeArray
    from anomaly_assets.detection.feedback.decision import Decisions
    from anomaly_assets.detection.feedback.shapes import SuggestedRule
    from anomaly_assets.storage.database import Connection
    from anomaly_assets.storage.pending import Target
    from anomaly_assets.streams.windows import IntArray, WindowRange

_COLUMNS: Final = (
    "feedback_id, scope, is_meta, action, from_time, content_of, replaces, threshold, trust, "
    "rules, label_ids, effect, model, seal, author, reason, created_at"
)
_SUGGESTION_COLUMNS: Final = (
    "suggestion_id, entity_id, name, rule, effect, contradicted_by, found_at, status, decided_at, "
    "decided_by"
)
_LONGEST_AUTHOR: Final = 200


@dataclass(frozen=True)
class FeedbackVersion:
    """One version of an entity's feedback, or of the meta-learner; never changed once stored.

    Parameters
    ----------
    feedback_id
        Its number; of two versions the higher one holds, from its first window on.
    scope, is_meta
        The entity; of the meta-learner the layout of the streams that it takes.
    action, author, reason, created_at
        What made it, who, why and when.
    from_time
        First window that it decides about.
    content_of
        Version whose content this is: itself, or what a revert went back to; None: nothing is
        changed.
    replaces
        Version whose content was in force before; None: nothing was changed.
    threshold, trust, rules
        See :class:`~anomaly_assets.detection.feedback.adjustment.Adjustment`.
    label_ids
        Numbers of the labels that it rests on.
    effect
        What it would have done to judged alarms.
    model, seal
        The meta-learner's forest and what it is sealed by; None: option A stands.
    """

    feedback_id: int
    scope: str
    is_meta: bool
    action: FeedbackAction
    from_time: datetime
    content_of: int | None
    replaces: int | None
    threshold: float | None
    trust: dict[str, float]
    rules: list[dict[str, Any]]
    label_ids: list[int]
    effect: dict[str, Any]
    model: bytes | None
    seal: dict[str, Any] | None
    author: str
    reason: str | None
    created_at: datetime

    def __post_init__(self) -> None:
        """Turn the database's text into what it means."""
        object.__setattr__(self, "action", FeedbackAction(self.action))

    @property
    def adjustment(self) -> Adjustment:
        """What it changes."""
        rules = tuple(Rule.from_dict(rule) for rule in self.rules)
        return Adjustment(self.threshold, dict(self.trust), rules)

    @property
    def from_window(self) -> int:
        """First window that it decides about, epoch seconds."""
        return int(self.from_time.timestamp())


@dataclass(frozen=True)
class NewVersion:
    """A version to be stored; fields as of :class:`FeedbackVersion`.

    Parameters
    ----------
    content_of
        None: what is given here is its own content.
    changes_nothing
        Whether it goes back to before there was any feedback.
    """

    scope: str
    action: FeedbackAction
    from_time: datetime
    author: str
    replaces: int | None
    adjustment: Adjustment = field(default_factory=Adjustment)
    is_meta: bool = False
    content_of: int | None = None
    changes_nothing: bool = False
    label_ids: Sequence[int] = ()
    effect: Mapping[str, Any] = field(default_factory=dict)
    model: bytes | None = None
    seal: Mapping[str, Any] | None = None
    reason: str | None = None


@dataclass(frozen=True)
class RuleSuggestion:
    """A stored suggestion of a suppression rule.

    Parameters
    ----------
    suggestion_id, entity_id, name
        Its number, and what it is about.
    rule, effect, contradicted_by
        See :class:`~anomaly_assets.detection.feedback.shapes.SuggestedRule`, as JSON holds them.
    found_at
        When it was found last.
    status, decided_at, decided_by
        How it stands.
    """

    suggestion_id: int
    entity_id: str
    name: str
    rule: dict[str, Any]
    effect: dict[str, Any]
    contradicted_by: list[int]
    found_at: datetime
    status: Decision
    decided_at: datetime | None
    decided_by: str | None

    def __post_init__(self) -> None:
        """Turn the database's text into what it means."""
        object.__setattr__(self, "status", Decision(self.status))


def lock_feedback(connection: Connection, scope: str) -> None:
    """Let nobody else change the feedback of a scope until the transaction ends."""
    connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"feedback\x1f{scope}",)
    )


def hold_feedback(connection: Connection, scopes: Collection[str]) -> None:
    """Keep the feedback of some scopes as it is until the transaction ends.

    Whoever decides about windows holds it, so that a change begins either before they are decided
    about, or with a window after them.
    """
    connection.execute(
        "SELECT pg_advisory_xact_lock_shared(hashtextextended(name, 0)) "
        "FROM unnest(%s::text[]) WITH ORDINALITY AS names (name, place) ORDER BY place",
        ([f"feedback\x1f{scope}" for scope in sorted(scopes)],),
    )


def require_author(author: str) -> str:
    """Return who does something, without spaces around.

    Raises
    ------
    InputError
        If nobody is named, or unreadably.
    """
    name = author.strip()
    if not name or len(name) > _LONGEST_AUTHOR or not name.isprintable():
        msg = f"{author!r} cannot change feedback; name who does (1 to {_LONGEST_AUTHOR} letters)"
        raise InputError(msg)
    return name


def add_version(connection: Connection, new: NewVersion) -> FeedbackVersion:
    """Store a version."""
    row = connection.execute(
        "SELECT nextval(pg_get_serial_sequence('feedback_versions', 'feedback_id'))"
    ).fetchone()
    number = int(row[0]) if row else 0
    own = None if new.changes_nothing else number
    connection.execute(
        "INSERT INTO feedback_versions (feedback_id, scope, is_meta, action, from_time, "
        "content_of, replaces, threshold, trust, rules, label_ids, effect, model, seal, author, "
        "reason) OVERRIDING SYSTEM VALUE VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, "
        "%s, %s, %s, %s)",
        (
            number,
            new.scope,
            new.is_meta,
            str(new.action),
            new.from_time,
            own if new.content_of is None else new.content_of,
            new.replaces,
            new.adjustment.threshold,
            Jsonb(dict(new.adjustment.trust)),
            Jsonb([rule.to_dict() for rule in new.adjustment.rules]),
            list(new.label_ids),
            Jsonb(dict(new.effect)),
            new.model,
            None if new.seal is None else Jsonb(dict(new.seal)),
            require_author(new.author),
            new.reason,
        ),
    )
    return find_version(connection, number)


def find_version(connection: Connection, feedback_id: int) -> FeedbackVersion:
    """Return one version.

    Raises
    ------
    InputError
        If there is none of that number.
    """
    found = _select(connection, "feedback_id = %(feedback_id)s", {"feedback_id": feedback_id})
    if not found:
        msg = f"no version {feedback_id} of the feedback; see anomaly-assets feedback list"
        raise InputError(msg)
    return found[0]


def list_versions(connection: Connection, *scopes: str) -> list[FeedbackVersion]:
    """Return the versions, the oldest first, of these entities and layouts if given."""
    if not scopes:
        return _select(connection, "true", {})
    return _select(connection, "scope = ANY(%(scopes)s)", {"scopes": list(scopes)})


def newest_version(connection: Connection) -> int:
    """Return the number of the newest version of all; 0 without any."""
    row = connection.execute(
        "SELECT coalesce(max(feedback_id), 0) FROM feedback_versions"
    ).fetchone()
    return 0 if row is None else int(row[0])


def _select(
    connection: Connection, condition: str, parameters: dict[str, Any]
) -> list[FeedbackVersion]:
    with connection.cursor(row_factory=class_row(FeedbackVersion)) as cursor:
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM feedback_versions WHERE {condition} "  # noqa: S608 - constants
            "ORDER BY feedback_id",
            parameters,
        ).fetchall()


def write_decisions(  # noqa: PLR0913, PLR0917 - what was decided, of what, by what
    target: Target,
    entity_id: str,
    windows: WindowRange,
    starts: IntArray,
    decided: Sequence[Decisions],
    versions: Sequence[tuple[int | None, int | None]],
) -> int:
    """Store what was decided of the windows of a range; what was there goes.

    Parameters
    ----------
    target
        A connection to the database, or what is gathered for it.
    entity_id, windows
        Whose windows are replaced.
    starts
        Windows that were decided about, epoch seconds, as many as `decided` has in all.
    decided
        What was decided, in the same order.
    versions
        For each of `decided`, number of the entity's version and of the meta-learner's.
    """
    sizes = [len(one.score) for one in decided]

    def column(values: list[Any], kind: pa.DataType) -> pa.Array:
        return pa.array(values, type=kind)

    owners = np.repeat(np.arange(len(decided)), sizes).tolist()
    score = [float(x) for one in decided for x in one.score]
    columns = {
        "entity_id": bulk.constant(entity_id, len(starts)),
        "timestamp": bulk.moments(np.asarray(starts, dtype=np.int64) * 1_000_000),
        "score": column([None if np.isnan(x) else x for x in score], pa.float64()),
        "threshold": column([decided[o].threshold for o in owners], pa.float64()),
        "trigger_code": column([int(x) for one in decided for x in one.code], pa.int16()),
        "is_alarm": column([bool(x) for one in decided for x in one.alarm], pa.bool_()),
        "suppressed_by": column([x for one in decided for x in one.suppressed_by], pa.string()),
        "option": column([x for one in decided for x in one.option], pa.string()),
        "feedback_id": column([versions[o][0] for o in owners], pa.int64()),
        "meta_id": column([versions[o][1] for o in owners], pa.int64()),
    }
    return replace_rows(target, "window_decisions", entity_id, windows, columns, only={})


def decided_codes(connection: Connection, entity_id: str, windows: WindowRange) -> dict[int, int]:
    """Return the trigger code that was decided on, by start of the window in epoch seconds.

    Only of windows that were decided about; all others stand by their scores.
    """
    rows = connection.execute(
        "SELECT extract(epoch FROM timestamp)::bigint, trigger_code FROM window_decisions "
        "WHERE entity_id = %(entity_id)s AND timestamp >= %(start)s AND timestamp < %(end)s",
        where(entity_id, windows),
    ).fetchall()
    return dict(rows)


def decided_of_many(
    connection: Connection, entities: Sequence[str], windows: WindowRange
) -> dict[tuple[str, int], int]:
    """Return what :func:`decided_codes` does, by entity and start of the window."""
    rows = connection.execute(
        "SELECT entity_id, extract(epoch FROM timestamp)::bigint, trigger_code "
        "FROM window_decisions WHERE entity_id = ANY(%s) AND timestamp >= %s AND timestamp < %s",
        (list(entities), windows.start_time, windows.end_time),
    ).fetchall()
    return {(entity_id, start): code for entity_id, start, code in rows}


def as_decided(
    connection: Connection,
    entity_id: str,
    windows: WindowRange,
    starts: IntArray,
    codes: CodeArray,
) -> CodeArray:
    """Return trigger codes with what was decided in place of what the scores alone say."""
    decided = decided_codes(connection, entity_id, windows)
    if not decided:
        return codes
    known = zip(starts.tolist(), codes.tolist(), strict=True)
    return np.array([decided.get(start, code) for start, code in known], dtype=np.int8)


@dataclass(frozen=True)
class StoredDecision:
    """What was decided of one window; see :class:`WindowDecision`'s columns."""

    entity_id: str
    timestamp: datetime
    score: float | None
    threshold: float
    trigger_code: int
    is_alarm: bool
    suppressed_by: str | None
    option: str
    feedback_id: int | None
    meta_id: int | None


def list_decisions(
    connection: Connection, entity_id: str, windows: WindowRange
) -> list[StoredDecision]:
    """Return what was decided of an entity's windows in a range, in order of time."""
    with connection.cursor(row_factory=class_row(StoredDecision)) as cursor:
        return cursor.execute(
            "SELECT entity_id, timestamp, score, threshold, trigger_code, is_alarm, suppressed_by, "
            "option, feedback_id, meta_id FROM window_decisions WHERE entity_id = %(entity_id)s "
            "AND timestamp >= %(start)s AND timestamp < %(end)s ORDER BY timestamp",
            where(entity_id, windows),
        ).fetchall()


def write_rule_suggestions(
    connection: Connection, entity_id: str, found: Sequence[SuggestedRule]
) -> None:
    """Store the rules that an entity's labels suggest now.

    Open suggestions that the labels do not show any more go; what was decided about stays, so that
    a rejected rule does not come back.
    """
    connection.execute(
        "DELETE FROM rule_suggestions WHERE entity_id = %s AND status = 'open' "
        "AND name <> ALL(%s::text[])",
        (entity_id, [one.rule.name for one in found]),
    )
    for one in found:
        connection.execute(
            "INSERT INTO rule_suggestions (entity_id, name, rule, effect, contradicted_by) "
            "VALUES (%s, %s, %s, %s, %s) ON CONFLICT (entity_id, name) DO UPDATE SET "
            "rule = excluded.rule, effect = excluded.effect, "
            "contradicted_by = excluded.contradicted_by, found_at = now()",
            (
                entity_id,
                one.rule.name,
                Jsonb(one.rule.to_dict()),
                Jsonb(one.effect.to_dict()),
                list(one.contradicted_by),
            ),
        )


def list_rule_suggestions(
    connection: Connection, *, entity_id: str | None = None, status: Decision | None = None
) -> list[RuleSuggestion]:
    """Return suggested rules by entity and number, of one entity or status if given."""
    return _suggestions(
        connection,
        "(%(entity_id)s::text IS NULL OR entity_id = %(entity_id)s) "
        "AND (%(status)s::text IS NULL OR status = %(status)s)",
        {"entity_id": entity_id, "status": status and str(status)},
    )


def find_rule_suggestion(connection: Connection, suggestion_id: int) -> RuleSuggestion:
    """Return one suggested rule.

    Raises
    ------
    InputError
        If there is none of that number.
    """
    found = _suggestions(
        connection, "suggestion_id = %(suggestion_id)s", {"suggestion_id": suggestion_id}
    )
    if not found:
        msg = (
            f"no suggested rule has the number {suggestion_id}; see anomaly-assets feedback "
            "suggestions"
        )
        raise InputError(msg)
    return found[0]


def decide_suggestion(
    connection: Connection, suggestion_id: int, status: Decision, by: str
) -> RuleSuggestion:
    """Record that a suggested rule was accepted or rejected, by whom and when."""
    connection.execute(
        "UPDATE rule_suggestions SET status = %s, decided_at = now(), decided_by = %s "
        "WHERE suggestion_id = %s AND status <> %s",
        (str(status), require_author(by), suggestion_id, str(status)),
    )
    return find_rule_suggestion(connection, suggestion_id)


def _suggestions(
    connection: Connection, condition: str, parameters: dict[str, Any]
) -> list[RuleSuggestion]:
    with connection.cursor(row_factory=class_row(RuleSuggestion)) as cursor:
        return cursor.execute(
            f"SELECT {_SUGGESTION_COLUMNS} FROM rule_suggestions WHERE {condition} "  # noqa: S608 - constants
            "ORDER BY entity_id, suggestion_id",
            parameters,
        ).fetchall()
