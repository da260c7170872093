"""The live path of one process: sources in; results, events, webhooks and alerts out."""

from __future__ import annotations

import asyncio
import gc
import logging
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, Self

import psycopg

from anomaly_assets.detection.robust import RobustAnomalySystem
from anomaly_assets.errors import StorageError
from anomaly_assets.live.alerts.policy import Policy
from anomaly_assets.live.alerts.service import AlertService
from anomaly_assets.live.api import create_app
from anomaly_assets.live.cache import LatestScore, ScoreCache
from anomaly_assets.live.following import Follower
from anomaly_assets.live.options import PipelineOptions
from anomaly_assets.live.ownership import Ownership
from anomaly_assets.live.pipeline import StreamingPipeline
from anomaly_assets.live.sources.mqtt import MqttOptions, MqttSource
from anomaly_assets.live.sources.pump import Pump
from anomaly_assets.live.sources.redis_streams import RedisOptions, RedisSource
from anomaly_assets.live.sources.source import Backoff
from anomaly_assets.live.webhooks import WebhookSender
from anomaly_assets.storage.erasing import sweep
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
        ownership = Ownership.of(settings, deployment.database, scoring=scoring)
        self.ownership = ownership
        self.pipeline: StreamingPipeline | None = None
        self.follower: Follower | None = None
        if scoring:
            self.pipeline = StreamingPipeline(deployment, options=options, owns=ownership.owns)
            self.follower = Follower(deployment.database, self.pipeline, ownership.owns)
        redis = RedisOptions.of(settings)
        cache = ScoreCache(None if redis is None else redis.url)
        self.app: FastAPI = create_app(
            deployment, pipeline=self.pipeline, cache=cache, ownership=ownership
        )
        self.context: Context = self.app.state.context
        self.context.intake.scoring = False
        self.alerts: AlertService | None = None
        if scoring:
            policy = Policy.of(settings).share(len(ownership.wanted), ownership.shards)
            self.alerts = AlertService(deployment, policy=policy, owns=ownership.owns)
        self.webhooks = WebhookSender(deployment) if scoring else None
        #: Sources of which each shard has its own, read by whoever scores it.
        self._of_shard: dict[int, Pump] = {}
        self.context.alerts, self.context.webhooks = self.alerts, self.webhooks
        mqtt = MqttOptions.of(settings)
        if mqtt is not None:
            for shard in sorted(ownership.wanted):
                name = f"mqtt-{shard}" if len(ownership.wanted) > 1 else "mqtt"
                source = MqttSource(mqtt.of_shard(shard, ownership.shards), name=name)
                self._of_shard[shard] = Pump(source, self._sink("mqtt"))
        others: list[Source] = []
        if mqtt is not None and not scoring:
            others.append(MqttSource(replace(mqtt, share="")))
        if redis is not None:
            others.append(RedisSource(redis))
        self._others = [Pump(source, self._sink(source.name)) for source in others]
        self.pumps = [*self._of_shard.values(), *self._others]
        #: Results that the cache does not have yet, the newest of each entity.
        self._uncached: dict[str, LiveResult] = {}
        #: Entities that were deleted: what is cached or was stored of them since goes, too.
        self._forgotten: set[str] = set()
        self._news = asyncio.Event()
        self._reload = asyncio.Event()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start in this order: who listens before who tells, and the sources last.

        Raises
        ------
        StorageError
            If the database is away.
        SettingsError
            If other instances run with another count of shards.
        """
        async with AsyncExitStack() as stack:
            context, pipeline = self.context, self.pipeline
            await self._share(stack)
            stack.push_async_callback(self.context.cache.close)
            context.pumps = self.pumps
            context.standing_by = self._standing_by
            context.telling.followers.append(self._follow)
            if pipeline is not None:
                pipeline.on_forgotten.append(self._forget)
            self._keep(stack, "cache", self._cache)
            context.start()
            stack.push_async_callback(context.stop)
            if pipeline is not None:
                await self._start_followers(stack, pipeline)
                stack.push_async_callback(pipeline.stop)
                self._run(stack, self._start_pipeline(pipeline))
            for pump in self._others:
                self._keep(stack, f"source {pump.source.name}", pump.run)
            for shard, pump in self._of_shard.items():
                work = partial(self.ownership.while_owner, shard, pump.run)
                self._keep(stack, f"source {pump.source.name}", work)
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

    async def _share(self, stack: AsyncExitStack) -> None:
        """Take what is free of the shards, and hear of what other instances store for this one."""
        ownership, follower = self.ownership, self.follower
        stack.push_async_callback(ownership.stop)
        await ownership.start()
        if follower is not None:
            ownership.on_told.append(follower.heard)
            ownership.on_listening.append(follower.look)
            ownership.on_change.append(self._shards_changed)
        self._keep(stack, "shards", ownership.run)

    def _shards_changed(self, lost: frozenset[int]) -> None:
        if lost and self.pipeline is not None:
            self.pipeline.release(lambda entity_id: self.ownership.shard(entity_id) in lost)
        if self.follower is not None:
            self.follower.look()
        self._reload.set()

    async def _reload_alerts(self, alerts: AlertService) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            try:
                await alerts.reload()
            except (StorageError, psycopg.Error) as error:
                logger.warning("the alerts of other shards wait for the database: %s", error)
                await asyncio.sleep(_FIRST_WAIT)
                self._reload.set()

    def _standing_by(self) -> list[str]:
        owned = self.ownership.owned
        return [pump.source.name for shard, pump in self._of_shard.items() if shard not in owned]

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
        follower = self.follower
        if follower is not None:
            await asyncio.gather(
                _again_and_again("readings that were handed over", follower.run),
                _again_and_again("the look through the journal", follower.look_forever),
            )

    async def _start_followers(self, stack: AsyncExitStack, pipeline: StreamingPipeline) -> None:
        alerts, webhooks = self.alerts, self.webhooks
        if webhooks is not None:
            stack.push_async_callback(webhooks.stop)
            self._keep(stack, "webhooks", webhooks.run)
        if alerts is not None:
            await alerts.start()
            self._keep(stack, "alerts of other shards", partial(self._reload_alerts, alerts))
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

    def _forget(self, entity_id: str) -> None:
        """Let go of everything that this process holds of an entity that was deleted."""
        self._uncached.pop(entity_id, None)
        self.context.events.drop(entity_id)
        if self.webhooks is not None:
            self.webhooks.drop(entity_id)
        if self.alerts is not None:
            self.alerts.drop(entity_id)
        self._forgotten.add(entity_id)
        self._news.set()

    def _sweep(self, entity_id: str) -> None:
        with self.context.deployment.database.connect() as connection:
            sweep(connection, entity_id)

    async def _cache(self) -> None:
        """Put results into the cache one by one: many at once would all wait for connections."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._forgotten:
                entity_id = next(iter(self._forgotten))
                await self.context.cache.forget(entity_id)
                await asyncio.to_thread(self._sweep, entity_id)
                self._forgotten.discard(entity_id)
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
