"""The readings that other instances have stored for this one, taken from the journal."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import psycopg

from anomaly_assets.errors import StorageError
from anomaly_assets.live.readings import LiveReading
from anomaly_assets.live.rounds import until_deadline
from anomaly_assets.live.sources.source import Backoff
from anomaly_assets.storage.handover import Handover, read_handed_over

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly_assets.live.pipeline import StreamingPipeline
    from anomaly_assets.storage.database import Connection, Database
    from anomaly_assets.storage.handover import StoredReading

logger = logging.getLogger(__name__)

#: Notifications that wait, beyond which the journal is looked through instead.
_MOST_WAITING: Final = 1_000
_MOST_AT_ONCE: Final = 50
#: After the end of a window, and before it closes by time.
_LOOK_AFTER: Final = timedelta(seconds=2)
_FIRST_WAIT: Final = 0.2
_LONGEST_WAIT: Final = 10.0


class Follower:
    """Tells the pipeline of readings of its entities that came elsewhere.

    Parameters
    ----------
    database
        Where the journal is.
    pipeline
        Whom it tells.
    owns
        Whether an entity is scored here now.

    Attributes
    ----------
    taken : int
        Readings that were handed over to this instance.
    """

    def __init__(
        self, database: Database, pipeline: StreamingPipeline, owns: Callable[[str], bool]
    ) -> None:
        self.taken = 0
        self._database = database
        self._pipeline = pipeline
        self._owns = owns
        self._waiting: list[Handover] = []
        self._news = asyncio.Event()
        self._look = asyncio.Event()
        self._connection: Connection | None = None

    def heard(self, payload: str) -> None:
        """Note a notification; it is seen to by :meth:`run`."""
        told = Handover.decode(payload)
        if told is None or len(self._waiting) >= _MOST_WAITING:
            # What it was about shows in the journal.
            self.look()
        elif any(map(self._owns, told.entities)):
            self._waiting.append(told)
            self._news.set()

    def look(self) -> None:
        """Have the journal looked through for what nobody has told of."""
        self._look.set()

    async def run(self) -> None:
        """Take in what is told, for ever."""
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                while self._waiting:
                    told, self._waiting = (
                        self._waiting[:_MOST_AT_ONCE],
                        self._waiting[_MOST_AT_ONCE:],
                    )
                    await self._take(told)
        finally:
            self._close()

    async def look_forever(self) -> None:
        """Look through the journal when it is asked for, and before windows close by time."""
        backoff = Backoff(_FIRST_WAIT, _LONGEST_WAIT)
        while True:
            wait = until_deadline(datetime.now(tz=UTC), _LOOK_AFTER).total_seconds()
            try:
                async with asyncio.timeout(max(wait, 0.0)):
                    await self._look.wait()
            except TimeoutError:
                pass
            self._look.clear()
            try:
                found = await self._pipeline.catch_up()
            except (StorageError, psycopg.Error) as error:
                logger.warning("the journal cannot be looked through: %s", error)
                self.look()
                await asyncio.sleep(backoff.next())
                continue
            backoff.reset()
            if found:
                logger.info("%d readings were in the journal that nobody had told of", found)

    async def _take(self, told: list[Handover]) -> None:
        entities = sorted({name for one in told for name in one.entities if self._owns(name)})
        try:
            found = await asyncio.to_thread(self._read, told, entities)
        except (StorageError, psycopg.Error) as error:
            logger.warning("readings of %d entities are read later: %s", len(entities), error)
            self._close()
            self.look()
            return
        for one in found:
            if one.value is None:
                self._pipeline.note_rejected(one.entity_id, one.stream_id, one.at)
        readings = [
            LiveReading(one.entity_id, one.stream_id, one.at, one.value)
            for one in found
            if one.value is not None
        ]
        self.taken += len(readings)
        await self._pipeline.process_batch(readings, look=False)

    def _read(self, told: list[Handover], entities: list[str]) -> list[StoredReading]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._database.url,
                autocommit=True,
                connect_timeout=3,
                application_name="anomaly_assets_follower",
                options="-c TimeZone=UTC -c statement_timeout=20s",
            )
        return read_handed_over(self._connection, told, entities)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
