"""Sessions of people: a signed cookie, and the mark that each of their forms carries."""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_FORM: Final = re.compile(r"v1\.(\d{1,18})\.(\d{1,12})\.([0-9a-f]{32})\.([0-9a-f]{64})", re.ASCII)
_MARK: Final = re.compile(r"([0-9a-f]{32})([0-9a-f]{64})", re.ASCII)
_MOST_ENDED: Final = 10_000


@dataclass(frozen=True)
class Session:
    """A person who has logged in.

    Parameters
    ----------
    token_id
        Number of the token that was shown.
    until
        When it ends by itself, epoch seconds.
    number
        Random, 32 hexadecimal digits: no two sessions have the same.
    """

    token_id: int
    until: int
    number: str


class Sessions:
    """Makes and reads session cookies; safe to share between threads.

    A cookie names a token by its number and is signed; nothing secret is in it. Whether the token
    still stands is for the database to say, at each request.

    Parameters
    ----------
    key
        The deployment's signing key; what is signed here is good for nothing else.
    seconds
        How long a session lasts.
    clock
        Seconds since the epoch.

    Examples
    --------
    >>> sessions = Sessions(b"0123456789abcdef", seconds=60, clock=lambda: 1000.0)
    >>> cookie = sessions.open(7)
    >>> session = sessions.read(cookie)
    >>> session.token_id, session.until
    (7, 1060)
    >>> sessions.accepts(session, sessions.mark(session))
    True
    >>> sessions.end(session)
    >>> sessions.read(cookie) is None
    True
    """

    def __init__(self, key: bytes, *, seconds: int, clock: Callable[[], float] = time.time) -> None:
        self.seconds = seconds
        self._clock = clock
        self._cookies, self._marks = (
            hmac.digest(key, f"anomaly-assets dashboard {use}".encode(), sha256)
            for use in ("session", "form")
        )
        #: Sessions that were ended before their time, the longest ended first.
        self._ended: OrderedDict[str, int] = OrderedDict()

    def open(self, token_id: int) -> str:
        """Return the cookie of a new session."""
        body = f"v1.{token_id}.{int(self._clock()) + self.seconds}.{secrets.token_hex(16)}"
        return f"{body}.{self._sign(self._cookies, body)}"

    def read(self, cookie: str) -> Session | None:
        """Return the session of a cookie; None if it is forged, over, or was ended here."""
        parts = _FORM.fullmatch(cookie)
        if parts is None:
            return None
        body, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(signature, self._sign(self._cookies, body)):
            return None
        session = Session(int(parts[1]), int(parts[2]), parts[3])
        if session.until <= self._clock() or session.number in self._ended:
            return None
        return session

    def end(self, session: Session) -> None:
        """End a session: its cookie is refused from now on, whoever has a copy of it."""
        now = self._clock()
        for number, until in list(self._ended.items()):
            if until <= now:
                self._ended.pop(number, None)
        self._ended[session.number] = session.until
        while len(self._ended) > _MOST_ENDED:
            self._ended.popitem(last=False)

    def mark(self, session: Session) -> str:
        """Return what a form of this session must bring back; another one each time.

        Pages are compressed, and a constant secret in them could be guessed from their lengths.
        """
        salt = secrets.token_hex(16)
        return salt + self._sign(self._marks, f"{salt}.{session.number}")

    def accepts(self, session: Session, mark: str) -> bool:
        """Whether a form of this session brought back a mark."""
        parts = _MARK.fullmatch(mark)
        if parts is None:
            return False
        return hmac.compare_digest(
            parts[2], self._sign(self._marks, f"{parts[1]}.{session.number}")
        )

    @staticmethod
    def _sign(key: bytes, text: str) -> str:
        return hmac.digest(key, text.encode(), sha256).hex()
