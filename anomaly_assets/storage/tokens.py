"""API tokens in their table: never the secret, only its digest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from psycopg.rows import class_row

from anomaly_assets.errors import InputError
from anomaly_assets.storage.entities import require_entity_id

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Connection

_LONGEST_NAME: Final = 200
_COLUMNS: Final = (
    "token_id, name, entity_id, may_read, may_write, created_at, expires_at, revoked_at, "
    "last_used_at"
)


@dataclass(frozen=True)
class Token:
    """A token as stored, without what it could be recognised by.

    Parameters
    ----------
    token_id
        Its number.
    name
        What people call it.
    entity_id
        Whose readings and results it is good for; None for everybody's.
    may_read, may_write
        What it allows: to ask for results, to send readings.
    created_at
        When it was made.
    expires_at
        From when on it is refused; None: never.
    revoked_at
        When somebody revoked it; None while it stands.
    last_used_at
        When it was last used, to the hour; None: never.
    """

    token_id: int
    name: str
    entity_id: str | None
    may_read: bool
    may_write: bool
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


def insert_token(  # noqa: PLR0913 - the columns of a row
    connection: Connection,
    digest: bytes,
    name: str,
    *,
    entity_id: str | None,
    may_read: bool,
    may_write: bool,
    expires_at: datetime | None,
) -> Token:
    """Store a new token.

    Parameters
    ----------
    connection
        A connection to the database.
    digest
        SHA-256 of the secret.
    name
        What people call it; need not be unique, so that one can follow another.
    entity_id
        Whom it is good for; the entity need not exist yet. None: everybody.
    may_read, may_write
        What it allows; at least one.
    expires_at
        With a time zone, in the future; None: never.

    Raises
    ------
    InputError
        If name or entity is unusable, nothing is allowed, or it would have expired already.
    """
    if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable() or not name.strip():
        msg = f"token name {name[:_LONGEST_NAME]!r}: give 1 to {_LONGEST_NAME} printable characters"
        raise InputError(msg)
    if entity_id is not None:
        require_entity_id(entity_id)
    if not (may_read or may_write):
        msg = f"token {name!r} would allow nothing; let it read, write, or both"
        raise InputError(msg)
    if expires_at is not None and expires_at.tzinfo is None:
        msg = f"token {name!r}: {expires_at.isoformat()} has no time zone; give one"
        raise InputError(msg)
    with connection.cursor(row_factory=class_row(Token)) as cursor:
        made = cursor.execute(
            "INSERT INTO api_tokens (name, entity_id, digest, may_read, may_write, expires_at) "
            "SELECT %(name)s, %(entity_id)s, %(digest)s, %(may_read)s, %(may_write)s, "
            "%(expires_at)s WHERE coalesce(%(expires_at)s::timestamptz > now(), true) "
            f"RETURNING {_COLUMNS}",
            {
                "name": name,
                "entity_id": entity_id,
                "digest": digest,
                "may_read": may_read,
                "may_write": may_write,
                "expires_at": expires_at,
            },
        ).fetchone()
    if made is None:
        msg = f"token {name!r} would have expired at {expires_at}; give a time in the future"
        raise InputError(msg)
    return made


def find_token(connection: Connection, digest: bytes) -> Token | None:
    """Return the token whose secret has this SHA-256, in whatever standing, or None."""
    with connection.cursor(row_factory=class_row(Token)) as cursor:
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM api_tokens WHERE digest = %s",  # noqa: S608 - our own constant
            (digest,),
        ).fetchone()


def token_of_number(connection: Connection, token_id: int) -> Token | None:
    """Return the token of a number, in whatever standing, or None."""
    with connection.cursor(row_factory=class_row(Token)) as cursor:
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM api_tokens WHERE token_id = %s",  # noqa: S608 - our own constant
            (token_id,),
        ).fetchone()


def note_use(connection: Connection, token_id: int) -> None:
    """Record that a token is in use, at most once an hour."""
    connection.execute(
        "UPDATE api_tokens SET last_used_at = date_trunc('hour', now()) WHERE token_id = %s "
        "AND (last_used_at IS NULL OR last_used_at < date_trunc('hour', now()))",
        (token_id,),
    )


def list_tokens(connection: Connection, *, entity_id: str | None = None) -> list[Token]:
    """Return every token, the newest last; with `entity_id`, those made for this entity alone."""
    with connection.cursor(row_factory=class_row(Token)) as cursor:
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM api_tokens "  # noqa: S608 - our own constant
            "WHERE (%(entity_id)s::text IS NULL OR entity_id = %(entity_id)s) ORDER BY token_id",
            {"entity_id": entity_id},
        ).fetchall()


def revoke_token(connection: Connection, token_id: int) -> Token:
    """Make a token worthless for good; revoking again keeps the first time.

    Raises
    ------
    InputError
        If there is none of that number.
    """
    with connection.cursor(row_factory=class_row(Token)) as cursor:
        revoked = cursor.execute(
            "UPDATE api_tokens "  # noqa: S608 - our own constant
            "SET revoked_at = coalesce(revoked_at, now()) "
            f"WHERE token_id = %s RETURNING {_COLUMNS}",
            (token_id,),
        ).fetchone()
    if revoked is None:
        msg = f"no token has the number {token_id}; see anomaly-assets tokens list"
        raise InputError(msg)
    return revoked
