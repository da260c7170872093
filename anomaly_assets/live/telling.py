"""The pipeline's results, handed on to all who follow them in this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from anomaly_assets.live.intake import Pipeline
    from anomaly_assets.live.results import LiveResult
    from anomaly_assets.live.subscriptions import Event, EventLog

logger = logging.getLogger(__name__)

_PAUSE_SECONDS: Final = 1.0


class Telling:
    """Puts every result into the log of events, and tells the followers.

    Parameters
    ----------
    pipeline
        Whose results; None where nothing is scored.
    events
        The log.

    Notes
    -----
    `followers` are called with each result and its event, in the event loop; they return at once.
    """

    def __init__(self, pipeline: Pipeline | None, events: EventLog) -> None:
        self.followers: list[Callable[[LiveResult, Event], None]] = []
        self._pipeline = pipeline
        self._events = events
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Listen from now on; to be called before the pipeline starts, or its first results go."""
        if self._pipeline is not None and self._task is None:
            self._task = asyncio.create_task(self._tell(self._pipeline, self._pipeline.subscribe()))

    async def stop(self) -> None:
        """Listen no longer."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _tell(self, pipeline: Pipeline, results: AsyncIterator[LiveResult]) -> None:
        while True:
            async for result in results:
                try:
                    event = self._events.publish(result)
                    for follower in self.followers:
                        follower(result, event)
                except Exception:
                    # One result that cannot be told must not silence all that follow.
                    logger.exception("entity %r: listeners miss a result", result.entity_id)
            # We were too slow and have been dropped, or the pipeline has stopped.
            await asyncio.sleep(_PAUSE_SECONDS)
            results = pipeline.subscribe()
