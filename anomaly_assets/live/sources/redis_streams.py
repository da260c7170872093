"""Redis Streams: a consumer group, acknowledged after the commit, pending entries taken over.

An entry has the fields ``entity_id``, ``stream_id``, ``timestamp`` and ``value``, or one field
``json`` with what the ingest API takes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from anomaly_assets.live.readings import RawReading
from anomaly_assets.live.sources.messages import document_rows, spread
from anomaly_assets.live.sources.source import (
    Backoff,
    Batch,
    Settled,
    leave_if_cancelled,
    settled_through,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from anomaly_assets.live.readings import Row
    from anomaly_assets.settings import Settings

logger = logging.getLogger(__name__)

_FIELDS: Final = ("entity_id", "stream_id", "timestamp", "value")
_DOCUMENT: Final = b"json"
_CONNECT_SECONDS: Final = 5.0
_LONGEST_CELL: Final = 4096

Entry = tuple[bytes, "Mapping[bytes, bytes]"]


def _consumer() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


@dataclass(frozen=True)
class RedisOptions:
    """Where the stream is, and how to read it.

    Parameters
    ----------
    url
        ``redis://user:password@host:6379/0``, or ``rediss://`` for TLS.
    stream, group
        Key of the stream, and the consumer group, made if it is not there.
    consumer
        Who reads; entries that a consumer of the same name left are read first.
    count
        Entries at once.
    block_seconds
        How long to wait for new entries before pending ones are looked at.
    claim_idle_seconds
        Age from which another consumer's pending entries are taken over.
    delete_acknowledged
        Remove entries after they are durable; only where nobody else reads the stream.
    first_wait, longest_wait
        Seconds between attempts to connect; each is twice the last.
    """

    url: str = field(default="redis://localhost:6379/0", repr=False)
    stream: str = "readings"
    group: str = "anomaly-assets"
    consumer: str = field(default_factory=_consumer)
    count: int = 500
    block_seconds: float = 1.0
    claim_idle_seconds: float = 60.0
    delete_acknowledged: bool = False
    first_wait: float = 0.2
    longest_wait: float = 30.0

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """Return what the settings say; None for a deployment without Redis."""
        if settings.redis_url is None:
            return None
        url = settings.redis_url.get_secret_value()
        return cls(url, stream=settings.redis_stream, group=settings.redis_group)


class RedisSource:
    """Readings from a Redis stream.

    Parameters
    ----------
    options
        Where and how.
    """

    def __init__(self, options: RedisOptions) -> None:
        self.options = options
        self.connections = 0
        self.claimed = 0
        self._connected = False

    @property
    def name(self) -> str:
        """What the journal records as the readings' source."""
        return "redis"

    @property
    def connected(self) -> bool:
        """Whether the last command was answered."""
        return self._connected

    async def batches(self) -> AsyncIterator[Batch]:
        """Yield what arrives, for ever; see :class:`~anomaly_assets.live.sources.source.Source`."""
        backoff = Backoff(self.options.first_wait, self.options.longest_wait)
        while True:
            leave_if_cancelled()
            try:
                async with self._client() as client:
                    reader = _Reader(client, self.options)
                    await reader.prepare()
                    self.connections += 1
                    self._connected = True
                    backoff.reset()
                    while True:
                        leave_if_cancelled()
                        entries = await reader.next()
                        self.claimed += reader.take_claimed()
                        if entries:
                            yield reader.batch(entries)
            except (RedisError, OSError, TimeoutError) as error:
                wait = backoff.next()
                self._connected = False
                logger.warning("Redis: %s; again in %.1f s", error, wait)
                await asyncio.sleep(wait)
            finally:
                self._connected = False

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Redis]:
        client = Redis.from_url(
            self.options.url,
            socket_connect_timeout=_CONNECT_SECONDS,
            socket_timeout=self.options.block_seconds + _CONNECT_SECONDS,
            # Attempts are made here, with the pending entries first.
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        try:
            yield client
        finally:
            await client.aclose()


class _Reader:
    """One connection: own pending entries first, then others' abandoned ones and new ones."""

    def __init__(self, client: Redis, options: RedisOptions) -> None:
        self._client = client
        self._options = options
        #: Last own pending entry that was read; None when all have been.
        self._pending_after: bytes | None = b"0"
        self._claim_at = time.monotonic()
        self._claim_after: bytes = b"0-0"
        self._claimed = 0

    async def prepare(self) -> None:
        """Make the group, which begins with the first entry there is."""
        options = self._options
        try:
            await self._client.xgroup_create(options.stream, options.group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def next(self) -> list[Entry]:
        """Return the next entries, possibly none."""
        if self._pending_after is not None:
            entries = await self._read(self._pending_after)
            self._pending_after = entries[-1][0] if entries else None
            return entries
        if time.monotonic() >= self._claim_at and (entries := await self._claim()):
            return entries
        return await self._read(b">")

    def take_claimed(self) -> int:
        """Return how many entries were taken over since the last call."""
        claimed, self._claimed = self._claimed, 0
        return claimed

    async def _read(self, after: bytes) -> list[Entry]:
        options = self._options
        answer: Any = await self._client.xreadgroup(
            options.group,
            options.consumer,
            {options.stream: after},
            count=options.count,
            block=max(1, int(options.block_seconds * 1000)),
        )
        return [(key, fields or {}) for _, entries in answer or [] for key, fields in entries]

    async def _claim(self) -> list[Entry]:
        options = self._options
        answer: Any = await self._client.xautoclaim(
            options.stream,
            options.group,
            options.consumer,
            min_idle_time=int(options.claim_idle_seconds * 1000),
            start_id=self._claim_after,
            count=options.count,
        )
        self._claim_after = answer[0]
        if answer[0] == b"0-0":
            self._claim_at = time.monotonic() + options.claim_idle_seconds / 2
        entries = [(key, fields or {}) for key, fields in answer[1] if key is not None]
        self._claimed += len(entries)
        return entries

    def batch(self, entries: Sequence[Entry]) -> Batch:
        """Return the rows of entries with their acknowledgement."""
        groups = [entry_rows(fields) for _, fields in entries]
        rows, starts = spread(groups)

        async def ack(results: Settled) -> None:
            done = [
                key
                for (key, _), group, start in zip(entries, groups, starts, strict=True)
                if settled_through(results, start, len(group))
            ]
            try:
                await self._acknowledge(done)
            except (RedisError, OSError, TimeoutError) as error:
                logger.warning(
                    "Redis: %d entries are stored but not acknowledged: %s", len(done), error
                )

        return Batch(rows, ack)

    async def _acknowledge(self, keys: Sequence[bytes]) -> None:
        if not keys:
            return
        options = self._options
        await self._client.xack(options.stream, options.group, *keys)
        if options.delete_acknowledged:
            await self._client.xdel(options.stream, *keys)


def entry_rows(fields: Mapping[bytes, bytes]) -> list[Row]:
    """Return the rows of an entry; none for one that was deleted while it was pending."""
    if not fields:
        return []
    if _DOCUMENT in fields:
        return document_rows(fields[_DOCUMENT])
    entity_id, stream_id, timestamp, value = (
        fields.get(name.encode(), b"")[:_LONGEST_CELL].decode("utf-8", "replace")
        for name in _FIELDS
    )
    return [RawReading(entity_id, stream_id, timestamp, value)]
