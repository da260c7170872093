"""The live path of one process: sources in; results, events, webhooks and alerts out."""

from __future__ import annotations

import asyncio
import gc
import logging
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Self

from anomaly_assets.detection.robust import RobustAnomalySystem
from anomaly_assets.errors import StorageError
from anomaly_assets.live.alerts.service import AlertService
from anomaly_assets.live.api import create_app
from anomaly_assets.live.cache import LatestScore, ScoreCache
from anomaly_assets.live.options import PipelineOptions
from anomaly_assets.live.pipeline import StreamingPipeline
from anomaly_assets.live.sources.mqtt import MqttOptions, MqttSource
from anomaly_assets.live.sources.pump import Pump
from anomaly_assets.live.sources.redis_streams import RedisOptions, RedisSource
from anomaly_assets.live.sources.source import Backoff
from anomaly_assets.live.webhooks import WebhookSender
from anomaly_assets.streams.windows import WINDOW_SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from types import TracebackType

    from fastapi import FastAPI

    from anomaly_assets.live.api.context import Context
    from anomaly_assets.live.readings import Row, RowResult
    from anomaly_assets.live.results import LiveResult
    from anomaly_assets.live.sources.source import Source
    from anomaly_assets.live.subscriptions import Event
    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.streams.catalogue import Catalogue

logger = logging.getLogger(__name__)

_FIRST_WAIT: Final = 1.0
_LONGEST_WAIT: Final = 60.0


class LiveService:
    """Everything of the live path but the web server; an asynchronous context.

    Parameters
    ----------
    deployment
        Settings and database.
    scoring
        Whether readings are scored as they come; without, they are stored alone, and there are
        neither events, webhooks nor alerts.

    Raises
    ------
    SettingsError
        If an address or a certificate of the settings is unusable.
    """

    def __init__(self, deployment: Deployment, *, scoring: bool = True) -> None:
        settings = deployment.settings
        options = PipelineOptions.of(settings)
        self.pipeline = StreamingPipeline(deployment, options=options) if scoring else None
        redis = RedisOptions.of(settings)
        cache = ScoreCache(None if redis is None else redis.url)
        self.app: FastAPI = create_app(deployment, pipeline=self.pipeline, cache=cache)
        self.context: Context = self.app.state.context
        self.context.intake.scoring = False
        self.alerts = AlertService(deployment) if scoring else None
        self.webhooks = WebhookSender(deployment) if scoring else None
        self.context.alerts, self.context.webhooks = self.alerts, self.webhooks
        mqtt = MqttOptions.of(settings)
        sources: list[Source] = []
        if mqtt is not None:
            sources.append(MqttSource(mqtt))
        if redis is not None:
            sources.append(RedisSource(redis))
        self.pumps = [Pump(source, self._sink(source.name)) for source in sources]
        #: Results that the cache does not have yet, the newest of each entity.
        self._uncached: dict[str, LiveResult] = {}
        self._news = asyncio.Event()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start in this order: who listens before who tells, and the sources last.

        Raises
        ------
        StorageError
            If the database is away.
        """
        async with AsyncExitStack() as stack:
            context, pipeline = self.context, self.pipeline
            stack.push_async_callback(self.context.cache.close)
            context.pumps = self.pumps
            context.telling.followers.append(self._follow)
            self._keep(stack, "cache", self._cache)
            context.start()
            stack.push_async_callback(context.stop)
            if pipeline is not None:
                await self._start_followers(stack, pipeline)
                stack.push_async_callback(pipeline.stop)
                self._run(stack, self._start_pipeline(pipeline))
            for pump in self.pumps:
                self._keep(stack, f"source {pump.source.name}", pump.run)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End in the opposite order; what was taken is stored, what was said is told."""
        await self._stack.aclose()

    async def _start_pipeline(self, pipeline: StreamingPipeline) -> None:
        """Begin to score, while readings are taken already: what came before is in the journal."""
        context = self.context
        await asyncio.to_thread(_warm_up, context.deployment.catalogue(None))
        context.intake.scoring = True
        backoff = Backoff(_FIRST_WAIT, _LONGEST_WAIT)
        while True:
            try:
                await pipeline.start()
                break
            except StorageError as error:
                wait = backoff.next()
                logger.warning("not scoring yet: %s; again in %.0f s", error, wait)
                await asyncio.sleep(wait)
        # What is there now stays; looking through all of it again and again holds answers up.
        gc.collect()
        gc.freeze()
        context.scoring.set()

    async def _start_followers(self, stack: AsyncExitStack, pipeline: StreamingPipeline) -> None:
        alerts, webhooks = self.alerts, self.webhooks
        if webhooks is not None:
            stack.push_async_callback(webhooks.stop)
            self._keep(stack, "webhooks", webhooks.run)
        if alerts is not None:
            await alerts.start()
            stack.push_async_callback(alerts.stop)
            self.context.intake.on_batch = alerts.batch_took
            results = pipeline.subscribe()

            async def follow() -> None:
                nonlocal results
                await alerts.run(results)
                results = pipeline.subscribe()

            self._keep(stack, "alerts", follow)

    def _follow(self, result: LiveResult, event: Event) -> None:
        if self.webhooks is not None:
            self.webhooks.offer(event)
        if result.explanation is None:
            self._uncached[result.entity_id] = result
            self._news.set()

    async def _cache(self) -> None:
        """Put results into the cache one by one: many at once would all wait for connections."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._uncached:
                _, result = self._uncached.popitem()
                await self.context.cache.put(LatestScore.of(result))

    def _sink(self, name: str) -> Callable[[Sequence[Row]], Awaitable[Sequence[RowResult]]]:
        async def sink(rows: Sequence[Row]) -> Sequence[RowResult]:
            return (await self.context.intake.take_rows(rows, source=name)).results

        return sink

    def _keep(self, stack: AsyncExitStack, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Have something done until the end; a fault of it stops nothing else, and is not final."""
        self._run(stack, _again_and_again(name, work))

    @staticmethod
    def _run(stack: AsyncExitStack, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        stack.push_async_callback(end)


def _warm_up(catalogue: Catalogue) -> None:
    """Have a window scored, which takes seconds the first time, before anybody waits for one."""
    system = RobustAnomalySystem(catalogue)
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(2):
        at = moment + number * timedelta(seconds=WINDOW_SECONDS)
        system.process_timestamp(at, dict.fromkeys(catalogue.stream_ids, 1.0))


async def _again_and_again(name: str, work: Callable[[], Awaitable[None]]) -> None:
    backoff = Backoff(_FIRST_WAIT, _LONGEST_WAIT)
    while True:
        try:
            await work()
        except Exception:
            logger.exception("%s broke down", name)
        wait = backoff.next()
        logger.warning("%s: started again in %.0f s", name, wait)
        await asyncio.sleep(wait)
