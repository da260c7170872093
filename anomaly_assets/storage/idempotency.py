"""Idempotency keys in their table: a repeated request gets the answer of the first one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from anomaly_assets.errors import InputError

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Connection

_LONGEST_KEY: Final = 200
#: A request that has not been answered after this long has died with its process.
STALE_AFTER: Final = timedelta(seconds=60)
_ATTEMPTS: Final = 3


class Standing(StrEnum):
    """What is to be done with a request that carries a key."""

    #: Nobody has answered it: do what it asks, then :func:`answer` it.
    CLAIMED = "claimed"
    #: It was answered: answer the same again.
    ANSWERED = "answered"
    #: Somebody is at it: ask to try again in a moment.
    IN_FLIGHT = "in_flight"
    #: The key was used with another body: refuse.
    OTHER_REQUEST = "other_request"


@dataclass(frozen=True)
class Claim:
    """How a key stands.

    Parameters
    ----------
    standing
        What is to be done.
    status, response
        The answer given before, where there is one: HTTP status and body, to the byte.
    """

    standing: Standing
    status: int | None = None
    response: bytes | None = None


def require_key(key: str) -> None:
    """Refuse a key that cannot be stored.

    Raises
    ------
    InputError
        If it is not 1 to 200 printable ASCII characters.
    """
    if not 0 < len(key) <= _LONGEST_KEY or not key.isascii() or not key.isprintable():
        msg = f"an idempotency key has 1 to {_LONGEST_KEY} printable ASCII characters; a UUID does"
        raise InputError(msg)


def claim(  # noqa: PLR0913 - whose key, of what, and two spans
    connection: Connection,
    token_id: int,
    key: str,
    request_digest: bytes,
    *,
    keep: timedelta,
    stale_after: timedelta = STALE_AFTER,
) -> Claim:
    """Claim a key for a request, or say how it stands; of several at once one claims it.

    Not inside a transaction of the caller: others must see the claim while the work is done.

    Parameters
    ----------
    connection
        A connection to the database.
    token_id
        Number of the token the request came with; keys of different tokens never meet.
    key
        As the request gives it.
    request_digest
        SHA-256 of the request's body.
    keep
        How long an answer is remembered; an older one is as if it had never been.
    stale_after
        When a claim without an answer may be taken over by a repetition of the same request. Doing
        it twice is harmless, since the journal keeps one of equal readings.

    Raises
    ------
    InputError
        If the key cannot be stored.
    """
    require_key(key)
    parameters = {
        "token_id": token_id,
        "key": key,
        "digest": request_digest,
        "keep": keep,
        "stale_after": stale_after,
    }
    for _ in range(_ATTEMPTS):
        claimed = connection.execute(
            "INSERT INTO idempotency_keys AS k (token_id, key, request_digest) "
            "VALUES (%(token_id)s, %(key)s, %(digest)s) ON CONFLICT (token_id, key) DO UPDATE "
            "SET request_digest = excluded.request_digest, claimed_at = now(), status = NULL, "
            "response = NULL, answered_at = NULL WHERE k.claimed_at < now() - %(keep)s "
            "OR (k.status IS NULL AND k.claimed_at < now() - %(stale_after)s "
            "AND k.request_digest = excluded.request_digest)",
            parameters,
        ).rowcount
        if claimed:
            return Claim(Standing.CLAIMED)
        found = connection.execute(
            "SELECT request_digest = %(digest)s, status, response FROM idempotency_keys "
            "WHERE token_id = %(token_id)s AND key = %(key)s",
            parameters,
        ).fetchone()
        # Without a row, whoever had the key has just released it.
        if found is not None:
            return _standing(*found)
    return Claim(Standing.IN_FLIGHT)


def answer(connection: Connection, token_id: int, key: str, status: int, response: bytes) -> bool:
    """Record the answer to a claimed request; returns False if it has one, which stays.

    Record it after what was asked for is durable, and before it is sent.
    """
    return (
        connection.execute(
            "UPDATE idempotency_keys SET status = %s, response = %s, answered_at = now() "
            "WHERE token_id = %s AND key = %s AND status IS NULL",
            (status, response, token_id, key),
        ).rowcount
        > 0
    )


def release(connection: Connection, token_id: int, key: str) -> None:
    """Give up a claim because the request failed: its repetition is done afresh."""
    connection.execute(
        "DELETE FROM idempotency_keys WHERE token_id = %s AND key = %s AND status IS NULL",
        (token_id, key),
    )


def prune_keys(connection: Connection, keep: timedelta) -> int:
    """Delete keys that were claimed longer ago than `keep`; returns how many."""
    return connection.execute(
        "DELETE FROM idempotency_keys WHERE claimed_at < now() - %s", (keep,)
    ).rowcount


def _standing(same: bool, status: int | None, response: bytes | None) -> Claim:  # noqa: FBT001 - a row
    if not same:
        return Claim(Standing.OTHER_REQUEST)
    if status is None:
        return Claim(Standing.IN_FLIGHT)
    return Claim(Standing.ANSWERED, status, response)
