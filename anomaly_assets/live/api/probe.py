"""Whether the database answers, asked at most once a second however many want to know."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import psycopg

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Database

_REMEMBER_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 3.0


class DatabaseProbe:
    """Asks the database whether it is there.

    Parameters
    ----------
    database
        Which.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asked = float("-inf")
        self._answer = False
        self._asking: asyncio.Task[bool] | None = None

    async def reachable(self) -> bool:
        """Whether it answers within three seconds."""
        if time.monotonic() - self._asked < _REMEMBER_SECONDS:
            return self._answer
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(asyncio.to_thread(self._ask))
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                # Shielded: a thread that waits for a connection cannot be called off.
                self._answer = await asyncio.shield(self._asking)
        except TimeoutError:
            self._answer = False
        self._asked = time.monotonic()
        return self._answer

    def _ask(self) -> bool:
        try:
            with self._database.connect() as connection:
                connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True
