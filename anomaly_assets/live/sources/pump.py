"""From a source into the journal: nothing is acknowledged before it is durable."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from anomaly_assets.live.limits import TemporaryError
from anomaly_assets.live.readings import ENTITY_UNAVAILABLE, RawReading
from anomaly_assets.live.sources.source import Backoff, leave_if_cancelled

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from anomaly_assets.live.readings import Row, RowResult
    from anomaly_assets.live.sources.source import Batch, Settled, Sink, Source

logger = logging.getLogger(__name__)

_LONGEST_WAIT: Final = 30.0
_FIRST_WAIT: Final = 0.2
#: Attempts with a whole batch before its entities are tried one by one.
_WHOLE_ATTEMPTS: Final = 3


@dataclass
class PumpFigures:
    """What a pump has done.

    Parameters
    ----------
    batches, rows
        Taken from the source, redelivered ones included.
    stored, duplicate
        Rows that are durable: new ones, and those that were before.
    refused
        Rows refused for good, by reason.
    unsettled
        Rows that were left for later, because their entity cannot be watched at the moment.
    retries
        Attempts that failed.
    """

    batches: int = 0
    rows: int = 0
    stored: int = 0
    duplicate: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    unsettled: int = 0
    retries: int = 0

    @property
    def settled(self) -> int:
        """Rows that need not come again."""
        return self.stored + self.duplicate + self.refused.total()


class Pump:
    """Stores what a source yields.

    Parameters
    ----------
    source
        Where rows come from.
    sink
        Where they go; ``async (rows) -> results``.
    first_wait, longest_wait
        Seconds between attempts while the sink fails; each is twice the last.
    """

    def __init__(
        self,
        source: Source,
        sink: Sink,
        *,
        first_wait: float = _FIRST_WAIT,
        longest_wait: float = _LONGEST_WAIT,
    ) -> None:
        self.source = source
        self.figures = PumpFigures()
        self._sink = sink
        self._first_wait = first_wait
        self._longest_wait = longest_wait

    async def run(self) -> None:
        """Work until cancelled; a batch in hand is then left unacknowledged, and comes again."""
        batches = cast("AsyncGenerator[Batch]", self.source.batches())
        async with aclosing(batches):
            async for batch in batches:
                self.figures.batches += 1
                self.figures.rows += len(batch.rows)
                results = await self._deliver(batch.rows)
                self._count(results)
                await batch.ack(results)

    async def _deliver(self, rows: Sequence[Row]) -> Settled:
        """Hand rows to the sink until it has them, however long that takes."""
        backoff = Backoff(self._first_wait, self._longest_wait)
        attempts = 0
        while True:
            leave_if_cancelled()
            attempts += 1
            try:
                return _for_good(await self._sink(rows))
            except TemporaryError as error:
                wait = max(backoff.next(), min(error.retry_after, self._longest_wait))
                logger.warning("%s: %s; again in %.1f s", self.source.name, error, wait)
            except Exception:
                wait = backoff.next()
                logger.exception("%s: rows not stored; again in %.1f s", self.source.name, wait)
            self.figures.retries += 1
            if attempts >= _WHOLE_ATTEMPTS and (results := await self._one_by_one(rows)):
                return results
            await asyncio.sleep(wait)

    async def _one_by_one(self, rows: Sequence[Row]) -> Settled | None:
        """Try each entity by itself; None if none can be stored, as when the database is away."""
        parts: dict[str, list[int]] = {}
        for position, row in enumerate(rows):
            entity_id = row.entity_id if isinstance(row, RawReading) else ""
            parts.setdefault(entity_id, []).append(position)
        if len(parts) == 1:
            return None
        results: list[RowResult | None] = [None] * len(rows)
        stored = False
        for entity_id, positions in parts.items():
            try:
                found = _for_good(await self._sink([rows[position] for position in positions]))
            except Exception as error:  # noqa: BLE001 - one entity's fault leaves the others alone
                logger.warning("%s: entity %r: %s", self.source.name, entity_id, error)
                continue
            stored = True
            for position, result in zip(positions, found, strict=True):
                results[position] = result
        return results if stored else None

    def _count(self, results: Settled) -> None:
        figures = self.figures
        for result in results:
            if result is None:
                figures.unsettled += 1
            elif result.duplicate:
                figures.duplicate += 1
            elif result.accepted:
                figures.stored += 1
            else:
                figures.refused[result.reason or "unknown"] += 1


def _for_good(results: Sequence[RowResult]) -> Settled:
    """Take away the results that will be others once the entity is repaired."""
    return [None if one.reason == ENTITY_UNAVAILABLE else one for one in results]
