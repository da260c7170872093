"""Suggestions for the catalogue, and what people decided about them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from anomaly_assets.errors import InputError
from anomaly_assets.storage.identifiers import Decision, SuggestionKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anomaly_assets.storage.database import Connection

_COLUMNS: Final = (
    "suggestion_id, entity_id, kind, subject, payload, support, first_seen, last_seen, status, "
    "decided_at, decided_by"
)


@dataclass(frozen=True)
class Proposal:
    """Something to suggest, as it was found.

    Parameters
    ----------
    kind
        What it would add to a catalogue.
    subject
        What is suggested, in words; the same words are the same suggestion.
    payload
        Everything needed to add it, and what it rests on, as JSON can hold it.
    support
        Share of the samples that show it, in [0, 1].
    """

    kind: SuggestionKind
    subject: str
    payload: dict[str, Any]
    support: float


@dataclass(frozen=True)
class Suggestion:
    """A stored suggestion.

    Parameters
    ----------
    suggestion_id
        Its number.
    entity_id
        In whose data it was found.
    kind, subject, payload, support
        As of :class:`Proposal`, from the last time it was found.
    first_seen, last_seen
        End of the first and of the last span that showed it.
    status
        How it stands.
    decided_at, decided_by
        When and by whom it was accepted or rejected; None while it is open.
    """

    suggestion_id: int
    entity_id: str
    kind: SuggestionKind
    subject: str
    payload: dict[str, Any]
    support: float
    first_seen: datetime
    last_seen: datetime
    status: Decision
    decided_at: datetime | None
    decided_by: str | None

    def __post_init__(self) -> None:
        """Turn the database's texts into what they mean."""
        object.__setattr__(self, "kind", SuggestionKind(self.kind))
        object.__setattr__(self, "status", Decision(self.status))


def write_suggestions(
    connection: Connection, entity_id: str, seen: datetime, proposals: Iterable[Proposal]
) -> int:
    """Store what was found in a span; returns how many were not known before.

    A known suggestion keeps its number and what was decided about it: what somebody has rejected
    does not come back.

    Parameters
    ----------
    connection
        A connection to the database.
    entity_id
        In whose data they were found.
    seen
        End of the span.
    proposals
        What was found.
    """
    new = 0
    for one in proposals:
        row = connection.execute(
            "INSERT INTO suggestions AS s "
            "(entity_id, kind, subject, payload, support, first_seen, last_seen) "
            "VALUES (%(entity_id)s, %(kind)s, %(subject)s, %(payload)s, %(support)s, %(seen)s, "
            "%(seen)s) ON CONFLICT (entity_id, kind, subject) DO UPDATE SET "
            # A span of long ago, processed again, says nothing newer.
            "payload = CASE WHEN excluded.last_seen >= s.last_seen THEN excluded.payload "
            "ELSE s.payload END, "
            "support = CASE WHEN excluded.last_seen >= s.last_seen THEN excluded.support "
            "ELSE s.support END, "
            "first_seen = least(s.first_seen, excluded.first_seen), "
            "last_seen = greatest(s.last_seen, excluded.last_seen) "
            "RETURNING xmax = 0",
            {
                "entity_id": entity_id,
                "kind": str(one.kind),
                "subject": one.subject,
                "payload": Jsonb(one.payload),
                "support": one.support,
                "seen": seen,
            },
        ).fetchone()
        new += bool(row and row[0])
    return new


def list_suggestions(
    connection: Connection,
    *,
    entity_id: str | None = None,
    kind: SuggestionKind | None = None,
    status: Decision | None = None,
) -> list[Suggestion]:
    """Return suggestions, the best supported first, of one entity, kind or status if given."""
    with connection.cursor(row_factory=class_row(Suggestion)) as cursor:
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM suggestions "  # noqa: S608 - our own constant
            "WHERE (%(entity_id)s::text IS NULL OR entity_id = %(entity_id)s) "
            "AND (%(kind)s::text IS NULL OR kind = %(kind)s) "
            "AND (%(status)s::text IS NULL OR status = %(status)s) "
            "ORDER BY entity_id, support DESC, suggestion_id",
            {"entity_id": entity_id, "kind": kind, "status": status},
        ).fetchall()


def find_suggestion(
    connection: Connection, suggestion_id: int, *, lock: bool = False
) -> Suggestion:
    """Return one suggestion; with `lock`, nobody else decides until the transaction ends.

    Raises
    ------
    InputError
        If there is none of that number.
    """
    with connection.cursor(row_factory=class_row(Suggestion)) as cursor:
        found = cursor.execute(
            f"SELECT {_COLUMNS} FROM suggestions WHERE suggestion_id = %s "  # noqa: S608 - as above
            + ("FOR UPDATE" if lock else ""),
            (suggestion_id,),
        ).fetchone()
    if found is None:
        msg = f"no suggestion has the number {suggestion_id}; see anomaly-assets suggestions list"
        raise InputError(msg)
    return found


def decide(connection: Connection, suggestion_id: int, status: Decision, by: str) -> Suggestion:
    """Record that a suggestion was accepted or rejected, by whom and when.

    Deciding the same again changes nothing: the first decision's time and author stay.

    Raises
    ------
    InputError
        If there is no such suggestion, nobody is named, or `status` is no decision.
    """
    if status is Decision.OPEN or not by.strip() or not by.isprintable():
        msg = f"suggestion {suggestion_id}: {by!r} cannot decide {str(status)!r}; name who decides"
        raise InputError(msg)
    connection.execute(
        "UPDATE suggestions SET status = %(status)s, decided_at = now(), decided_by = %(by)s "
        "WHERE suggestion_id = %(suggestion_id)s AND status <> %(status)s",
        {"status": str(status), "by": by.strip(), "suggestion_id": suggestion_id},
    )
    return find_suggestion(connection, suggestion_id)
