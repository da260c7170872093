"""The entities that are watched."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from psycopg.rows import class_row

from anomaly_assets.errors import EntityForgottenError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly_assets.storage.database import Connection

_LONGEST_ID = 200
_COLUMNS = (
    "entity_id, catalogue, time_zone, created_at, first_window, last_reading_at, "
    "aggregated_until, quarantined_reason, quarantined_at, raw_from"
)


@dataclass(frozen=True)
class EntityRow:
    """A watched entity, as stored.

    Parameters
    ----------
    entity_id
        Its identifier.
    catalogue
        Name or path of its catalogue; None for the deployment's default.
    time_zone
        IANA zone; None for the catalogue's.
    created_at
        When it was first heard of.
    first_window, last_reading_at
        First window with a reading, and time of the last reading; None before the first one.
    aggregated_until
        End of the last window taken into ``time_series_data``; None before the first one.
    quarantined_reason, quarantined_at
        Why and since when it is not processed; None while it is.
    raw_from
        Its readings before this were aggregated by the hour and dropped; None: none were.
    """

    entity_id: str
    catalogue: str | None
    time_zone: str | None
    created_at: datetime
    first_window: datetime | None
    last_reading_at: datetime | None
    aggregated_until: datetime | None
    quarantined_reason: str | None
    quarantined_at: datetime | None
    raw_from: datetime | None = None


def list_entities(connection: Connection) -> list[EntityRow]:
    """Return every entity, by identifier."""
    with connection.cursor(row_factory=class_row(EntityRow)) as cursor:
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM entities ORDER BY entity_id"  # noqa: S608 - our own constant
        ).fetchall()


def find_entity(connection: Connection, entity_id: str) -> EntityRow | None:
    """Return one entity, or None."""
    with connection.cursor(row_factory=class_row(EntityRow)) as cursor:
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM entities WHERE entity_id = %s",  # noqa: S608 - our own constant
            (entity_id,),
        ).fetchone()


def ensure_entity(
    connection: Connection,
    entity_id: str,
    *,
    catalogue: str | None = None,
    time_zone: str | None = None,
) -> EntityRow:
    """Return an entity, made with this catalogue and time zone if there is none yet.

    Parameters
    ----------
    connection
        A connection to the database.
    entity_id
        1 to 200 characters, none of them a control character.
    catalogue
        Name or path; None leaves the choice to the deployment, or the entity as it is.
    time_zone
        IANA zone; None leaves it to the catalogue, or the entity as it is.

    Raises
    ------
    InputError
        If the identifier is unusable, or the entity has another catalogue or time zone.
    """
    require_entity_id(entity_id)
    connection.execute(
        "INSERT INTO entities (entity_id, catalogue, time_zone) VALUES (%s, %s, %s) "
        "ON CONFLICT (entity_id) DO NOTHING",
        (entity_id, catalogue, time_zone),
    )
    entity = find_entity(connection, entity_id)
    if entity is None:
        msg = f"entity {entity_id!r} was removed meanwhile; try again"
        raise InputError(msg)
    for what, found, given in (
        ("catalogue", entity.catalogue, catalogue),
        ("time zone", entity.time_zone, time_zone),
    ):
        if given is not None and found != given:
            msg = (
                f"entity {entity_id!r} is watched with {what} {found or 'the default'!r}, not "
                f"{given!r}; give that one, or use another entity"
            )
            raise InputError(msg)
    return entity


def require_entity_id(entity_id: str) -> None:
    """Refuse an identifier that cannot be stored or shown.

    Raises
    ------
    InputError
        If it is empty, longer than 200 characters, or holds a control character.
    """
    if not 0 < len(entity_id) <= _LONGEST_ID or not entity_id.isprintable():
        msg = f"entity id {entity_id[:_LONGEST_ID]!r}: give 1 to {_LONGEST_ID} printable characters"
        raise InputError(msg)


def hold_entity(connection: Connection, entity_id: str) -> None:
    """Keep an entity from being forgotten until the caller's transaction has ended.

    Whoever writes rows of an entity calls it first, in the transaction that writes them: else they
    could be written after everything of it has been deleted.

    Raises
    ------
    EntityForgottenError
        If there is no such entity any more.
    """
    found = connection.execute(
        "SELECT 1 FROM entities WHERE entity_id = %s FOR KEY SHARE", (entity_id,)
    ).fetchone()
    if found is None:
        msg = (
            f"entity {entity_id!r} is gone, probably forgotten meanwhile; nothing more is written "
            "of it, and there is nothing to do"
        )
        raise EntityForgottenError(msg)


def hold_entities(connection: Connection, entity_ids: Sequence[str]) -> None:
    """Keep several entities from being forgotten, as :func:`hold_entity` does one.

    Raises
    ------
    EntityForgottenError
        If one of them is not there any more.
    """
    found = connection.execute(
        "SELECT entity_id FROM entities WHERE entity_id = ANY(%s) ORDER BY entity_id FOR KEY SHARE",
        (list(entity_ids),),
    ).fetchall()
    if gone := set(entity_ids) - {entity_id for (entity_id,) in found}:
        msg = (
            f"gone, probably forgotten meanwhile: {', '.join(map(repr, sorted(gone)))}; nothing "
            "more is written of them"
        )
        raise EntityForgottenError(msg)


def set_catalogue(connection: Connection, entity_id: str, catalogue: str) -> None:
    """Watch an entity with another catalogue from now on; its streams should be the same."""
    connection.execute(
        "UPDATE entities SET catalogue = %s WHERE entity_id = %s", (catalogue, entity_id)
    )


def quarantine(connection: Connection, entity_id: str, reason: str | None) -> None:
    """Record why an entity cannot be processed; None ends its quarantine."""
    connection.execute(
        "UPDATE entities SET quarantined_reason = %(reason)s, "
        "quarantined_at = CASE WHEN %(reason)s::text IS NULL THEN NULL ELSE now() END "
        "WHERE entity_id = %(entity_id)s",
        {"reason": reason, "entity_id": entity_id},
    )
