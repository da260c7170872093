"""What every reading goes through: first the journal, then the streaming pipeline."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from anomaly_assets.live.readings import LiveReading, Row, RowResult, raw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from anomaly_assets.live.writer import JournalWriter

logger = logging.getLogger(__name__)


class Pipeline(Protocol):
    """What the streaming pipeline offers to those who feed it and to those who listen."""

    async def process_stream(
        self, entity_id: str, stream_id: str, timestamp: datetime, value: float
    ) -> Any:  # noqa: ANN401 - a first look; shown as it is
        """Take a durable reading, and say at once what it looks like."""

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
        What the pipeline said of the readings that were new, in their order.
    """

    results: list[RowResult]
    first_looks: list[Any]


class Intake:
    """Takes readings in, from whichever source.

    Parameters
    ----------
    writer
        Makes them durable.
    pipeline
        Scores them; None where scoring is left to the scheduled runs.
    """

    def __init__(self, writer: JournalWriter, pipeline: Pipeline | None = None) -> None:
        self.writer = writer
        self.pipeline = pipeline
        self.pipeline_failures = 0

    async def take(self, readings: Sequence[LiveReading], *, source: str) -> Taken:
        """Take readings in; see :meth:`take_rows`."""
        return await self.take_rows([raw(one) for one in readings], source=source)

    async def take_rows(self, rows: Sequence[Row], *, source: str, first_row: int = 1) -> Taken:
        """Take rows in as they were sent; they are durable when this returns.

        Parameters
        ----------
        rows, source, first_row
            As of :meth:`~anomaly_assets.live.writer.JournalWriter.append_rows`.

        Raises
        ------
        OverloadedError, NotStoredError
            If they are not; see :meth:`~anomaly_assets.live.writer.JournalWriter.append`.
        """
        appended = await self.writer.append_rows(rows, source=source, first_row=first_row)
        if self.pipeline is None:
            return Taken(appended.results, [])
        looks = [await self._look(self.pipeline, reading) for reading in appended.fresh]
        return Taken(appended.results, looks)

    async def _look(self, pipeline: Pipeline, reading: LiveReading) -> Any:  # noqa: ANN401
        try:
            return await pipeline.process_stream(
                reading.entity_id, reading.stream_id, reading.at, reading.value
            )
        except Exception:
            # The reading is durable; scoring it is then the scheduled run's.
            self.pipeline_failures += 1
            logger.exception("entity %r: no first look at a reading", reading.entity_id)
            return None
