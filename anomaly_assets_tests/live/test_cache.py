"""The cache of latest scores: fast when Redis is there, absent and harmless when it is not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from anomaly_assets.live.cache import LatestScore, ScoreCache
from anomaly_assets_tests.live.sources.servers import RedisServer, needs_redis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LATEST = LatestScore("ann", datetime(2026, 1, 1, tzinfo=UTC), 0.91, 0.8, is_anomaly=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """Return a running server."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


def test_without_redis_nothing_is_found_and_nothing_fails() -> None:
    """A deployment without Redis asks and puts all the same."""

    async def scenario() -> None:
        cache = ScoreCache(None)
        assert not await cache.put(LATEST)
        assert await cache.get("ann") is None
        await cache.close()
        assert cache.figures.failures == 0

    asyncio.run(scenario())


@needs_redis
def test_newer_window_stays(server: RedisServer) -> None:
    """The latest window is found, whichever was put last; the same window can be corrected."""
    older = replace(LATEST, window_start=LATEST.window_start - timedelta(minutes=5), score=0.1)
    corrected = replace(LATEST, score=None)

    async def scenario() -> None:
        cache = ScoreCache(server.url, patience_seconds=5)
        assert await cache.put(LATEST)
        assert not await cache.put(older)
        assert await cache.get("ann") == LATEST
        assert await cache.put(corrected)
        assert await cache.get_many(["ann", "bob"]) == {"ann": corrected}
        assert (cache.figures.hits, cache.figures.misses) == (2, 1)
        await cache.close()

    asyncio.run(scenario())


@needs_redis
def test_redis_that_goes_away_is_left_alone_for_a_while(server: RedisServer) -> None:
    """While Redis is away one caller in a while notices, none fails; afterwards it is used."""

    async def scenario() -> None:
        cache = ScoreCache(server.url, patience_seconds=5, rest_seconds=3_600)
        await cache.put(LATEST)
        server.kill()
        for _ in range(50):
            assert await cache.get("ann") is None
        assert cache.figures.failures == 1
        server.start()
        eager = ScoreCache(server.url, patience_seconds=5, rest_seconds=0)
        assert await eager.get("ann") == LATEST
        await cache.close()
        await eager.close()

    asyncio.run(scenario())


@needs_redis
def test_foreign_content_is_no_score(server: RedisServer) -> None:
    """Whatever else stands under a key, or is of another entity, is as good as nothing."""
    key = "anomaly-assets:latest:ann"
    bad = [b"", b"[]", b"{", b"[" * 90_000, b'["ann",1e999,0.5,0.5,true]', b'["ann",0,"x",0,true]']

    async def scenario() -> None:
        cache = ScoreCache(server.url, patience_seconds=5)
        with server.client() as client:
            for text in [*bad, replace(LATEST, entity_id="bob").encode()]:
                client.hset(key, "score", text)
                assert await cache.get("ann") is None
            client.delete(key)
            client.set(key, "a text")
        assert await cache.get("ann") is None
        await cache.close()

    asyncio.run(scenario())
