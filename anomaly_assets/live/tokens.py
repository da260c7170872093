"""Who may send readings and ask for results: tokens made, checked and revoked."""

from __future__ import annotations

import hmac
import re
import secrets
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal

import psycopg

from anomaly_assets.errors import AnomalyAssetsError
from anomaly_assets.live.limits import FailureLimit
from anomaly_assets.storage.tokens import (
    find_token,
    insert_token,
    list_tokens,
    note_use,
    revoke_token,
    token_of_number,
)

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Connection, Database
    from anomaly_assets.storage.tokens import Token

#: How long a check may rest on what the database said: a revoked token lives on for so long.
REMEMBER_SECONDS: Final = 5.0
#: After so many refused tokens in a minute no unknown ones of that address are looked up.
FAILURES_PER_MINUTE: Final = 20

_PREFIX: Final = "aa_"
_BYTES: Final = 32
_FORM: Final = re.compile(r"aa_[A-Za-z0-9_-]{43}", re.ASCII)
_MOST_REMEMBERED: Final = 10_000
_LONGEST_AUTHOR: Final = 170

Reason = Literal["unknown", "expired", "revoked"]
_SENTENCES: Final[dict[Reason, str]] = {
    "unknown": "the token is unknown; make one with anomaly-assets tokens create",
    "expired": "the token has expired; make another with anomaly-assets tokens create",
    "revoked": "the token was revoked; make another with anomaly-assets tokens create",
}


class TokenError(AnomalyAssetsError):
    """A token is refused; the message never holds it.

    Parameters
    ----------
    reason
        Why: nobody made it, its time is over, or somebody revoked it.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(_SENTENCES[reason])
        self.reason: Reason = reason


@dataclass(frozen=True)
class Principal:
    """Whom a token stands for, and what it allows.

    Parameters
    ----------
    token_id
        Number of the token.
    name
        What people call it.
    entity_id
        The only entity it is good for; None: every one.
    may_write
        Whether readings may be sent with it.
    may_read
        Whether results may be asked for with it.

    Examples
    --------
    >>> phone = Principal(1, "phone", "ann", may_write=True, may_read=False)
    >>> phone.allows("ann", write=True), phone.allows("ann", write=False)
    (True, False)
    >>> phone.allows("bob", write=True)
    False
    """

    token_id: int
    name: str
    entity_id: str | None
    may_write: bool
    may_read: bool

    @property
    def author(self) -> str:
        """Who is recorded to have judged or decided: names repeat, numbers do not.

        Examples
        --------
        >>> Principal(3, "Ann", None, may_write=True, may_read=True).author
        'Ann (token 3)'
        """
        return f"{self.name[:_LONGEST_AUTHOR]} (token {self.token_id})"

    @property
    def may_judge(self) -> bool:
        """Whether anomalies may be judged with it: what only sends readings judges none."""
        return self.may_read and self.may_write

    def allows(self, entity_id: str | None, *, write: bool) -> bool:
        """Say whether readings of an entity may be sent, or its results be read.

        Parameters
        ----------
        entity_id
            Whose; None is the deployment as a whole, for which a token of one entity is no good.
        write
            True for sending, False for reading.
        """
        may = self.may_write if write else self.may_read
        return may and self.entity_id in {None, entity_id}


@dataclass(frozen=True)
class _Remembered:
    digest: bytes
    token: Token | None
    until: float


class TokenBook:
    """The tokens of a deployment; safe to share between threads.

    What the database said of a token is remembered for a few seconds, so that a busy sender costs
    no query a request; nothing is remembered longer, so that a database that is away is noticed.

    Parameters
    ----------
    database
        The deployment's database.
    remember_seconds
        For how long; 0 asks for every check.
    failures_per_minute
        Refused tokens that one address may show in any minute.

    Attributes
    ----------
    failures
        Who has shown refused tokens; of the event loop alone.
    """

    def __init__(
        self,
        database: Database,
        *,
        remember_seconds: float = REMEMBER_SECONDS,
        failures_per_minute: int = FAILURES_PER_MINUTE,
    ) -> None:
        self.failures = FailureLimit(failures_per_minute)
        self._database = database
        self._seconds = remember_seconds
        self._lock = threading.Lock()
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()
        self._proven: OrderedDict[bytes, None] = OrderedDict()
        self._revocations = 0

    def create(
        self,
        name: str,
        *,
        entity_id: str | None = None,
        write: bool = True,
        read: bool = True,
        expires: datetime | None = None,
    ) -> str:
        """Make a token, and return its secret, which cannot be had again.

        Parameters
        ----------
        name
            What people call it.
        entity_id
            The only entity it is good for; None: every one.
        write, read
            What it allows; at least one.
        expires
            From when on it is refused, with a time zone; None: never.

        Raises
        ------
        InputError
            If name or entity is unusable, nothing is allowed, or it would have expired already.
        """
        return self.issue(name, entity_id=entity_id, write=write, read=read, expires=expires)[0]

    def issue(
        self,
        name: str,
        *,
        entity_id: str | None = None,
        write: bool = True,
        read: bool = True,
        expires: datetime | None = None,
    ) -> tuple[str, Token]:
        """Make a token like :meth:`create`, and return what was stored of it too."""
        secret = _PREFIX + secrets.token_urlsafe(_BYTES)
        with self._database.connect() as connection:
            token = insert_token(
                connection,
                _digest(secret),
                name,
                entity_id=entity_id,
                may_read=read,
                may_write=write,
                expires_at=expires,
            )
        return secret, token

    def check(self, secret: str) -> Principal:
        """Return whom a secret stands for; may ask the database, and so block.

        Raises
        ------
        TokenError
            If it is unknown, expired or revoked.
        psycopg.OperationalError
            If the database had to be asked and is away.
        """
        if not _FORM.fullmatch(secret):
            reason: Reason = "unknown"
            raise TokenError(reason)
        digest = _digest(secret)
        found = self._recall(digest)
        if found is None:
            found = self._ask(digest)
        return _principal(found.token)

    def recall(self, secret: str) -> Principal | None:
        """Return whom a secret stands for without asking the database, or None if it must be asked.

        For an event loop: ``book.recall(secret) or await asyncio.to_thread(book.check, secret)``.

        Raises
        ------
        TokenError
            If it is known to be unknown, expired or revoked.
        """
        if not _FORM.fullmatch(secret):
            reason: Reason = "unknown"
            raise TokenError(reason)
        digest = _digest(secret)
        found = self._recall(digest)
        return None if found is None else _principal(found.token)

    def is_proven(self, secret: str) -> bool:
        """Whether a secret was good when it was last looked up.

        Whoever holds such a one is not shut out by what others at the same address try.
        """
        with self._lock:
            return _digest(secret) in self._proven

    @staticmethod
    def standing(connection: Connection, token_id: int) -> Principal:
        """Return whom the token of a number stands for as of now; nothing is remembered.

        Raises
        ------
        TokenError
            If there is none, it has expired or was revoked.
        """
        return _principal(token_of_number(connection, token_id))

    def revoke(self, token_id: int) -> Token:
        """Make a token worthless: here at once, in other processes within seconds.

        Raises
        ------
        InputError
            If there is none of that number.
        """
        with self._database.connect() as connection:
            revoked = revoke_token(connection, token_id)
        with self._lock:
            self._revocations += 1
            self._remembered.clear()
        return revoked

    def tokens(self, *, entity_id: str | None = None) -> list[Token]:
        """Return every token, or those of one entity alone, in the order they were made."""
        with self._database.connect() as connection:
            return list_tokens(connection, entity_id=entity_id)

    def _ask(self, digest: bytes) -> _Remembered:
        asked, revocations = time.monotonic(), self._revocations
        with self._database.connect() as connection:
            token = find_token(connection, digest)
            if token is not None:
                # A full disk must not shut out those who only want to read.
                with suppress(psycopg.Error):
                    note_use(connection, token.token_id)
        found = _Remembered(digest, token, asked + self._seconds)
        with self._lock:
            self._prove(digest, token)
            # An answer from before a revocation would bring the token back to life.
            if revocations == self._revocations:
                self._remembered[digest[:8]] = found
                self._remembered.move_to_end(digest[:8])
            while len(self._remembered) > _MOST_REMEMBERED:
                self._remembered.popitem(last=False)
        return found

    def _prove(self, digest: bytes, token: Token | None) -> None:
        self._proven.pop(digest, None)
        with suppress(TokenError):
            _principal(token)
            self._proven[digest] = None
        while len(self._proven) > _MOST_REMEMBERED:
            self._proven.popitem(last=False)

    def _recall(self, digest: bytes) -> _Remembered | None:
        with self._lock:
            found = self._remembered.get(digest[:8])
        if found is None or found.until <= time.monotonic():
            return None
        return found if hmac.compare_digest(found.digest, digest) else None


def _digest(secret: str) -> bytes:
    # 256 random bits need no slow hash, and the timing of a lookup by digest tells nothing.
    return sha256(secret.encode()).digest()


def _principal(token: Token | None) -> Principal:
    reason: Reason
    if token is None:
        reason = "unknown"
        raise TokenError(reason)
    if token.revoked_at is not None:
        reason = "revoked"
        raise TokenError(reason)
    if token.expires_at is not None and token.expires_at <= datetime.now(tz=UTC):
        reason = "expired"
        raise TokenError(reason)
    return Principal(
        token.token_id,
        token.name,
        token.entity_id,
        may_write=token.may_write,
        may_read=token.may_read,
    )
