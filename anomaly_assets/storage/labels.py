"""Labels: what people said of a stretch of an entity's time, and who took it back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from anomaly_assets.errors import InputError
from anomaly_assets.storage.entities import find_entity
from anomaly_assets.storage.identifiers import Verdict
from anomaly_assets.storage.queries import scored_until
from anomaly_assets.storage.windows import stored_ranges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly_assets.storage.database import Connection
    from anomaly_assets.streams.windows import WindowRange

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,99}")
#: Characters that each text may have at most.
_LONGEST: Final = {"author": 200, "title": 200, "recommended_action": 2000, "reason": 2000}
_COLUMNS: Final = (
    "label_id, entity_id, start_time, end_time, stream_ids, anomaly_id::text, verdict, cause, "
    "title, recommended_action, events, reason, author, created_at, undone_at, undone_by"
)


class JudgedAlreadyError(InputError):
    """The very same windows carry a standing label; it has to be taken back first."""


@dataclass(frozen=True)
class Opinion:
    """What somebody says of a stretch of time.

    Parameters
    ----------
    verdict
        Whether it was an anomaly, a false alarm, or something to be expected.
    author
        Who says so.
    cause
        What it was: the name of a template, or one of one's own (lower-case letters, digits and
        underscores, beginning with a letter); None if that is not said.
    title, recommended_action
        The cause for people, and what to do about it; only with a cause.
    reason
        Why the author thinks so.
    stream_ids
        Which streams it is about; None: the entity as a whole.

    Raises
    ------
    InputError
        If the author is missing, the name is unusable, a text is empty, too long, or holds
        control characters, or the list of streams is empty or names one twice.
    """

    verdict: Verdict
    author: str
    cause: str | None = None
    title: str | None = None
    recommended_action: str | None = None
    reason: str | None = None
    stream_ids: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse what could not be stored or shown."""
        named = self.stream_ids
        if named is not None and not 0 < len(named) == len(set(named)):
            msg = f"streams {list(named)}: name each once, or none for the entity as a whole"
            raise InputError(msg)
        for what, longest in _LONGEST.items():
            text = getattr(self, what)
            if text is not None and not _readable(text, longest):
                msg = f"{what} {text[:longest]!r}: give 1 to {longest} printable characters"
                raise InputError(msg)
        if self.cause is None:
            if self.title is not None or self.recommended_action is not None:
                msg = "a title or an action belongs to a cause; name the cause too"
                raise InputError(msg)
        elif not _NAME.fullmatch(self.cause):
            msg = (
                f"cause {self.cause!r} is no name; use up to 100 lower-case letters, digits and "
                "underscores, beginning with a letter"
            )
            raise InputError(msg)


@dataclass(frozen=True)
class Label:
    """A stored label.

    Parameters
    ----------
    label_id
        Its number.
    entity_id, start_time, end_time
        Whose time it is about: windows from the start to the end (exclusive).
    stream_ids
        Which streams; None: the entity as a whole.
    anomaly_id
        The explained episode that was judged; None where none was.
    verdict, cause, title, recommended_action, reason, author
        As of :class:`Opinion`; the author of old rows may be None.
    events
        Pairs of event and minutes after the first one, as they were when it was labelled; None
        where no course of events was named.
    created_at
        When it was said.
    undone_at, undone_by
        When and by whom it was taken back; None while it stands.
    """

    label_id: int
    entity_id: str
    start_time: datetime
    end_time: datetime
    stream_ids: list[str] | None
    anomaly_id: str | None
    verdict: Verdict
    cause: str | None
    title: str | None
    recommended_action: str | None
    events: list[tuple[str, float]] | None
    reason: str | None
    author: str | None
    created_at: datetime
    undone_at: datetime | None
    undone_by: str | None

    def __post_init__(self) -> None:
        """Turn the database's texts into what they mean."""
        object.__setattr__(self, "verdict", Verdict(self.verdict))
        if self.events is not None:
            events = [(event, float(offset)) for event, offset in self.events]
            object.__setattr__(self, "events", events)


def require_processed(connection: Connection, entity_id: str, windows: WindowRange) -> None:
    """Make sure that there is something to judge.

    Raises
    ------
    InputError
        If there is no such entity, the range is empty, it has no stored window, or it goes on
        beyond the last scored one.
    """
    if find_entity(connection, entity_id) is None:
        msg = f"no entity {entity_id!r} here; see anomaly-assets status"
        raise InputError(msg)
    span = _told(windows)
    if not len(windows):
        msg = f"entity {entity_id!r}: {span} holds no window; end it after it begins"
        raise InputError(msg)
    until = scored_until(connection, entity_id)
    if until is None or windows.end > until or not stored_ranges(connection, entity_id, windows):
        last = "never" if until is None else f"{datetime.fromtimestamp(until, tz=UTC):%F %H:%M}"
        msg = (
            f"entity {entity_id!r}: {span} has not been processed (last processed: {last}); "
            "run anomaly-assets backfill, or label other windows"
        )
        raise InputError(msg)


def add_label(  # noqa: PLR0913 - what, of whom, when
    connection: Connection,
    entity_id: str,
    windows: WindowRange,
    opinion: Opinion,
    *,
    anomaly_id: str | None = None,
    events: Sequence[tuple[str, float]] | None = None,
) -> Label:
    """Store what somebody said.

    Parameters
    ----------
    connection
        A connection to the database.
    entity_id, windows
        What it is about.
    opinion
        What is said.
    anomaly_id
        The explained episode that is judged.
    events
        How it went; a confirmed cause needs it, with a title and an action.

    Raises
    ------
    InputError
        If the windows cannot be judged (see :func:`require_processed`), or a confirmed cause lacks
        what it is recognised and shown by.
    JudgedAlreadyError
        If they have been judged already, and that label stands.
    """
    named = opinion.verdict is Verdict.CONFIRMED and opinion.cause is not None
    if named and not (opinion.title and opinion.recommended_action and events):
        msg = (
            f"cause {opinion.cause!r}: give a title, what to do about it, and windows in which "
            "something happened"
        )
        raise InputError(msg)
    with connection.transaction():
        connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"labels\x1f{entity_id}",)
        )
        require_processed(connection, entity_id, windows)
        _require_unjudged(connection, entity_id, windows)
        row = connection.execute(
            "INSERT INTO labels (entity_id, start_time, end_time, anomaly_id, verdict, cause, "
            "title, recommended_action, events, reason, author, stream_ids) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING label_id",
            (
                entity_id,
                windows.start_time,
                windows.end_time,
                anomaly_id,
                str(opinion.verdict),
                opinion.cause,
                opinion.title,
                opinion.recommended_action,
                None if events is None else Jsonb([list(event) for event in events]),
                opinion.reason,
                opinion.author.strip(),
                None if opinion.stream_ids is None else list(opinion.stream_ids),
            ),
        ).fetchone()
        return find_label(connection, row[0] if row else 0)


def undo_label(connection: Connection, label_id: int, by: str) -> Label:
    """Take a label back; its row stays, with who took it back and when.

    Undoing again changes nothing: the first time and author stay.

    Raises
    ------
    InputError
        If there is no such label, or nobody is named.
    """
    if not _readable(by, _LONGEST["author"]):
        msg = f"label {label_id}: {by!r} cannot take it back; name who does"
        raise InputError(msg)
    connection.execute(
        "UPDATE labels SET undone_at = now(), undone_by = %s "
        "WHERE label_id = %s AND undone_at IS NULL",
        (by.strip(), label_id),
    )
    return find_label(connection, label_id)


def find_label(connection: Connection, label_id: int) -> Label:
    """Return one label, whether or not it stands.

    Raises
    ------
    InputError
        If there is none of that number.
    """
    found = _select(connection, "label_id = %(label_id)s", "label_id", {"label_id": label_id})
    if not found:
        msg = f"no label has the number {label_id}; see anomaly-assets labels list --all"
        raise InputError(msg)
    return found[0]


def list_labels(
    connection: Connection,
    *,
    entity_id: str | None = None,
    verdict: Verdict | None = None,
    undone: bool = False,
) -> list[Label]:
    """Return labels by entity and time, of one entity or verdict if given, undone ones if asked."""
    return _select(
        connection,
        "(%(entity_id)s::text IS NULL OR entity_id = %(entity_id)s) "
        "AND (%(verdict)s::text IS NULL OR verdict = %(verdict)s) "
        "AND (%(undone)s OR undone_at IS NULL)",
        "entity_id, start_time, label_id",
        {"entity_id": entity_id, "verdict": verdict and str(verdict), "undone": undone},
    )


def labels_of_time(
    connection: Connection, entity_id: str, start: datetime, end: datetime, *, limit: int = 100
) -> list[Label]:
    """Return an entity's newest labels that overlap a time, those taken back too, newest first."""
    return _select(
        connection,
        "entity_id = %(entity_id)s AND start_time < %(end)s AND end_time > %(start)s",
        "label_id DESC LIMIT %(limit)s",
        {"entity_id": entity_id, "start": start, "end": end, "limit": limit},
    )


def named_labels(
    connection: Connection,
    entity_id: str,
    *,
    until: datetime | None = None,
    cause: str | None = None,
) -> list[Label]:
    """Return an entity's standing, confirmed labels with a cause, by their end, oldest first.

    With `until` only those that end by then, with `cause` only those of that name.
    """
    return _select(
        connection,
        "entity_id = %(entity_id)s AND undone_at IS NULL "
        "AND verdict = 'confirmed' AND cause IS NOT NULL "
        "AND end_time <= coalesce(%(until)s::timestamptz, 'infinity') "
        "AND (%(cause)s::text IS NULL OR cause = %(cause)s)",
        "end_time, label_id",
        {"entity_id": entity_id, "until": until, "cause": cause},
    )


def _select(
    connection: Connection, condition: str, order: str, parameters: dict[str, Any]
) -> list[Label]:
    with connection.cursor(row_factory=class_row(Label)) as cursor:
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM labels WHERE {condition} ORDER BY {order}",  # noqa: S608 - constants
            parameters,
        ).fetchall()


def _require_unjudged(connection: Connection, entity_id: str, windows: WindowRange) -> None:
    """Refuse to count one happening twice: whoever thinks otherwise takes the label back first."""
    for label in _select(
        connection,
        "entity_id = %(entity_id)s AND start_time = %(start)s AND end_time = %(end)s "
        "AND undone_at IS NULL",
        "label_id",
        {"entity_id": entity_id, "start": windows.start_time, "end": windows.end_time},
    ):
        msg = (
            f"entity {entity_id!r}: {_told(windows)} is labelled already ({label.verdict}, by "
            f"{label.author}); to say something else: anomaly-assets labels undo {label.label_id}"
        )
        raise JudgedAlreadyError(msg)


def _readable(text: str, longest: int) -> bool:
    # Line breaks are welcome in long texts; a NUL could not even be stored.
    lines = text.replace("\n", "").replace("\t", "")
    return bool(text.strip()) and len(text) <= longest and lines.isprintable()


def _told(windows: WindowRange) -> str:
    return f"{windows.start_time:%Y-%m-%d %H:%M} to {windows.end_time:%Y-%m-%d %H:%M} UTC"
