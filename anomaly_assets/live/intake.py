"""What every reading goes through: first the journal, then the streaming pipeline."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from anomaly_assets.live.cache import LatestScore
from anomaly_assets.live.readings import Appended, LiveReading, Row, RowResult, raw
from anomaly_assets.monitoring.timing import Timing

if TYPE_CHECKING:
    from anomaly_assets.live.ownership import Ownership
    from anomaly_assets.live.results import LiveResult
    from anomaly_assets.live.writer import JournalWriter

logger = logging.getLogger(__name__)


class Pipeline(Protocol):
    """What the streaming pipeline offers to those who feed it and to those who listen."""

    async def process_batch(
        self, readings: Iterable[LiveReading], *, look: bool = True
    ) -> Sequence[Any]:
        """Take durable readings, and say at once what each looks like if that is asked for."""

    def note_rejected(self, entity: str, stream: str, timestamp: datetime) -> None:
        """Learn of a reading that was refused and recorded."""

    def latest(self, entity_id: str) -> LiveResult | None:
        """Return the newest result of an entity, if there is one in memory."""

    def subscribe(self) -> AsyncIterator[Any]:
        """Yield the result of each window from now on."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of rows that were taken in.

    Parameters
    ----------
    results
        A result for each row, in order.
    first_looks
        What the pipeline said of the readings that were new, in their order; empty or None where
        nobody asked.
    elsewhere
        Number of new readings that other instances score, by shard.
    """

    results: list[RowResult]
    first_looks: Sequence[Any]
    elsewhere: Mapping[int, int] = field(default_factory=dict)


class Intake:
    """Takes readings in, from whichever source.

    Parameters
    ----------
    writer
        Makes them durable.
    pipeline
        Scores them; None where scoring is left to the scheduled runs.
    ownership
        Which entities other instances score; None where there are no others.

    Notes
    -----
    `on_batch`, where it is set, is told how many seconds each batch took. While `scoring` is
    false the pipeline is told of nothing; it reads the journal when it starts.
    """

    def __init__(
        self,
        writer: JournalWriter,
        pipeline: Pipeline | None = None,
        ownership: Ownership | None = None,
    ) -> None:
        self.writer = writer
        self.pipeline = pipeline
        self.ownership = ownership
        self.pipeline_failures = 0
        self.scoring = pipeline is not None
        self.on_batch: Callable[[float], None] | None = None
        self.batches = Timing("batch_seconds")
        self._under_way: set[asyncio.Task[Taken]] = set()

    async def take(
        self, readings: Sequence[LiveReading], *, source: str, look: bool = False
    ) -> Taken:
        """Take readings in; see :meth:`take_rows`."""
        return await self.take_rows([raw(one) for one in readings], source=source, look=look)

    async def take_rows(
        self, rows: Sequence[Row], *, source: str, first_row: int = 1, look: bool = False
    ) -> Taken:
        """Take rows in as they were sent; they are durable when this returns.

        Parameters
        ----------
        rows, source, first_row
            As of :meth:`~anomaly_assets.live.writer.JournalWriter.append_rows`.
        look
            Whether the sender is to be told at once what each reading looks like.

        Raises
        ------
        OverloadedError, NotStoredError
            If they are not; see :meth:`~anomaly_assets.live.writer.JournalWriter.append`.
        """
        task = asyncio.create_task(self._take(rows, source, first_row, look=look))
        self._under_way.add(task)
        task.add_done_callback(self._leave)
        # A sender may go away meanwhile; the pipeline is told of what the journal has all the same.
        return await asyncio.shield(task)

    def latest(self, entity_id: str) -> LatestScore | None:
        """Return the newest score of an entity, if it is in the pipeline's memory."""
        result = None if self.pipeline is None else self.pipeline.latest(entity_id)
        return None if result is None else LatestScore.of(result)

    async def settled(self) -> None:
        """Wait for what is under way."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    def _leave(self, task: asyncio.Task[Taken]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            # Looked at, so that what nobody waits for any more is no error of asyncio's.
            task.exception()

    async def _take(self, rows: Sequence[Row], source: str, first_row: int, *, look: bool) -> Taken:
        started = time.monotonic()
        appended = await self.writer.append_rows(rows, source=source, first_row=first_row)
        looks: Sequence[Any] = ()
        if self.pipeline is not None and self.scoring:
            looks = await self._tell(self.pipeline, appended, look=look)
        seconds = time.monotonic() - started
        self.batches.observe(seconds)
        if self.on_batch is not None:
            self.on_batch(seconds)
        return Taken(appended.results, looks, self._elsewhere(appended.fresh))

    def _elsewhere(self, fresh: Sequence[LiveReading]) -> Mapping[int, int]:
        ownership = self.ownership
        if ownership is None or not ownership.wanted or ownership.owned == ownership.all:
            return {}
        shards = Counter(ownership.shard(reading.entity_id) for reading in fresh)
        return {shard: n for shard, n in sorted(shards.items()) if shard not in ownership.owned}

    async def _tell(self, pipeline: Pipeline, appended: Appended, *, look: bool) -> Sequence[Any]:
        try:
            for refused in appended.refused:
                pipeline.note_rejected(*refused)
            return await pipeline.process_batch(appended.fresh, look=look)
        except Exception:
            # The readings are durable; scoring them is then the scheduled run's.
            self.pipeline_failures += 1
            logger.exception("no first look at %d readings", len(appended.fresh))
            return ()
