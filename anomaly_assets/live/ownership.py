"""Which entities this instance scores, and which another one does.

Entities are shared out among shards by their identifier; an instance scores a shard as long as it
holds the shard's lock in PostgreSQL, and stands by for it while another instance does.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import psycopg

from anomaly_assets.errors import SettingsError
from anomaly_assets.live.sources.source import Backoff
from anomaly_assets.storage.database import DatabaseUnreachableError
from anomaly_assets.storage.shard_locks import agree_on_count, open_session, take_free
from anomaly_assets.streams.shards import shard_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from anomaly_assets.settings import Settings
    from anomaly_assets.storage.database import Database
    from anomaly_assets.storage.shard_locks import AsyncConnection

logger = logging.getLogger(__name__)

#: How often a shard that another instance holds is tried, and the session is asked for an answer.
_TICK_SECONDS: Final = 1.0
#: Less than the server needs to give up a session that was cut off, so that two never score.
_PATIENCE_SECONDS: Final = 3.0
_FIRST_WAIT: Final = 0.2
_LONGEST_WAIT: Final = 5.0


class Ownership:
    """The shards of one instance.

    Parameters
    ----------
    database
        Whose locks are held.
    shards
        How many shards the deployment has.
    wanted
        The shards that this instance scores or stands by for; none for one that only stores.

    Attributes
    ----------
    owned : frozenset of int
        The shards that it scores now; read from any thread.
    on_change, on_listening, on_told
        Called in the event loop: after `owned` has changed (with the shards that have been lost to
        another instance for good); when it listens, again too, so that something may have been
        missed; and with each notification of another instance's.
    """

    def __init__(self, database: Database, shards: int, wanted: Iterable[int]) -> None:
        self.shards = shards
        self.wanted = frozenset(wanted)
        self.owned: frozenset[int] = frozenset()
        self.on_change: list[Callable[[frozenset[int]], None]] = []
        self.on_listening: list[Callable[[], None]] = []
        self.on_told: list[Callable[[str], None]] = []
        self._database = database
        self._connection: AsyncConnection | None = None
        self._changed = asyncio.Event()
        self._stopped = False
        #: Held until the session was lost; whether another instance has them now is not known yet.
        self._in_doubt: frozenset[int] = frozenset()

    @classmethod
    def of(cls, settings: Settings, database: Database, *, scoring: bool = True) -> Ownership:
        """Return what the settings say; without `scoring` no shard is wanted."""
        shards = settings.live_shards
        own = range(shards) if settings.live_shard is None else settings.live_shard
        return cls(database, shards, own if scoring else ())

    @property
    def all(self) -> frozenset[int]:
        """Every shard there is."""
        return frozenset(range(self.shards))

    @property
    def role(self) -> str:
        """``owner`` of a shard at least, ``standby``, or ``store`` if it wants none."""
        if not self.wanted:
            return "store"
        return "owner" if self.owned else "standby"

    @property
    def roles(self) -> dict[str, str]:
        """``owner`` or ``standby``, by shard that is wanted."""
        owned = self.owned
        return {str(one): "owner" if one in owned else "standby" for one in sorted(self.wanted)}

    def shard(self, entity_id: str) -> int:
        """Return the number of an entity's shard."""
        return 0 if self.shards == 1 else shard_of(entity_id, self.shards)

    def owns(self, entity_id: str) -> bool:
        """Whether this instance scores an entity now."""
        return self.shard(entity_id) in self.owned

    async def start(self) -> None:
        """Take what is free.

        Raises
        ------
        SettingsError
            If instances run that were started with another count of shards.
        DatabaseUnreachableError
            If the database is away.
        """
        try:
            await self._open()
        except (psycopg.Error, OSError, TimeoutError) as error:
            msg = f"cannot ask {self._database!r} for this instance's shards: {error}"
            raise DatabaseUnreachableError(msg) from error

    async def stop(self) -> None:
        """Let go of all shards, for good."""
        self._stopped = True
        await self._close()
        self._set(frozenset())

    async def run(self) -> None:
        """Hold what is owned, take what becomes free and hear what others store, until stopped."""
        backoff = Backoff(_FIRST_WAIT, _LONGEST_WAIT)
        while not self._stopped:
            try:
                if self._connection is None:
                    await self._open()
                backoff.reset()
                await self._listen()
            except SettingsError as error:
                # Started while this one was without a session; the others go on.
                logger.error("no shard is scored here: %s", error)  # noqa: TRY400
            except (psycopg.Error, OSError, TimeoutError) as error:
                if not self._stopped:
                    logger.warning("the shards' session is lost: %s", error)
            await self._lose()
            await asyncio.sleep(backoff.next())

    async def while_owner(self, shard: int, work: Callable[[], Awaitable[None]]) -> None:
        """Do something whenever this instance scores a shard, for as long as it does, for ever."""
        while True:
            while shard not in self.owned:
                await self._changed.wait()
            doing = asyncio.ensure_future(work())
            try:
                while shard in self.owned and not doing.done():
                    changed = asyncio.create_task(self._changed.wait())
                    await asyncio.wait((doing, changed), return_when=asyncio.FIRST_COMPLETED)
                    changed.cancel()
                if doing.done():
                    # It broke down: whoever keeps this going tells of it.
                    return await doing
            finally:
                doing.cancel()
                await asyncio.gather(doing, return_exceptions=True)

    async def _open(self) -> None:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            connection = self._connection = await open_session(self._database.url)
            try:
                await agree_on_count(connection, self.shards)
            except SettingsError:
                await self._close()
                raise
            await self._take(connection)
        # Those in doubt that were not free are another's by now.
        lost, self._in_doubt = self._in_doubt - self.owned, frozenset()
        if lost:
            self._tell_change(lost)
        for listener in self.on_listening:
            listener()

    async def _listen(self) -> None:
        while (connection := self._connection) is not None:
            async for notification in connection.notifies(timeout=_TICK_SECONDS):
                for listener in self.on_told:
                    listener(notification.payload)
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._take(connection)

    async def _take(self, connection: AsyncConnection) -> None:
        taken = await take_free(connection, self.wanted - self.owned)
        if taken:
            logger.info("scores shard %s of %d now", _named(taken), self.shards)
            self._set(self.owned | taken)

    async def _lose(self) -> None:
        await self._close()
        if self.owned:
            self._in_doubt = self.owned
            logger.warning("does not score shard %s for now", _named(self.owned))
            self._set(frozenset())

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error, OSError):
                await connection.close()

    def _set(self, owned: frozenset[int]) -> None:
        if owned != self.owned:
            self.owned = owned
            self._tell_change(frozenset())

    def _tell_change(self, lost: frozenset[int]) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        for listener in self.on_change:
            listener(lost)


def _named(shards: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(shards)))
