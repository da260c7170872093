"""What goes on by itself for as long as the pipeline runs."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

logger = logging.getLogger(__name__)


class Background:
    """Rounds of work that are repeated, whatever becomes of one of them.

    Parameters
    ----------
    database_away
        Told when a round needed the database, and it was not there.
    """

    def __init__(self, database_away: Callable[[Exception], None]) -> None:
        self._database_away = database_away
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, rounds: Iterable[Callable[[], Awaitable[object]]]) -> None:
        """Repeat each of these; each waits for its time by itself."""
        self._tasks += [asyncio.create_task(self._repeat(one)) for one in rounds]

    async def stop(self) -> None:
        """Break off what is under way."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _repeat(self, one: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await one()
            except psycopg.OperationalError as error:
                self._database_away(error)
            except Exception:
                logger.exception("the live path goes on after an error of its own")
