"""The whole live path in one process: each source in, each way out."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pydantic import SecretStr

from anomaly_assets.errors import SettingsError
from anomaly_assets.live.api.server import LiveServer
from anomaly_assets.live.service import LiveService
from anomaly_assets.live.tokens import TokenBook
from anomaly_assets.storage.webhooks import WebhookEvent, add_webhook
from anomaly_assets.streams.windows import WindowRange, window_of
from anomaly_assets_tests.live.api.serving import URL, free_port
from anomaly_assets_tests.live.following import people_sending
from anomaly_assets_tests.live.receivers import HOST, Receiver, http_receiver, until
from anomaly_assets_tests.live.sources.servers import (
    Mosquitto,
    RedisServer,
    needs_mosquitto,
    needs_redis,
    publish,
)
from anomaly_assets_tests.pipeline.people import load_people, query, run
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.database import Database
    from anomaly_assets_tests.live.following import Sent

PEOPLE = ("ann", "bob")
#: What no day of a person is like, all at once.
STRANGE = {
    "heart_rate": 190.0,
    "skin_temperature": 41.0,
    "ambient_light": 90_000.0,
    "respiration_rate": 60.0,
    "cpu_load": 99.0,
}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Return a running Redis."""
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """Return a running broker."""
    (tmp_path / "mqtt").mkdir()
    server = Mosquitto(tmp_path / "mqtt")
    server.start()
    yield server
    server.kill()


def with_settings(deployment: Deployment, **changed: Any) -> Deployment:
    """Return a deployment with other settings."""
    deployment.settings = deployment.settings.model_copy(update=changed)
    return deployment


@asynccontextmanager
async def served(deployment: Deployment, **options: Any) -> AsyncIterator[tuple[LiveService, str]]:
    """Run a service with its server until the end of the block."""
    port = free_port()
    async with LiveService(deployment, **options) as service:
        server = LiveServer(service.app, grace_seconds=2)
        server.config.host, server.config.port = HOST, port
        task = asyncio.create_task(server.serve())
        await until(lambda: server.started, "the API has started")
        try:
            yield service, f"http://{HOST}:{port}"
        finally:
            server.should_exit = True
            await task


def client_of(deployment: Deployment, url: str) -> httpx.AsyncClient:
    """Return a client that may do everything."""
    secret = TokenBook(deployment.database).create("everything")
    headers = {"Authorization": f"Bearer {secret}"}
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=30, trust_env=False)


def document(one: Sent) -> dict[str, Any]:
    """Return a reading as it is sent."""
    return {
        "entity_id": one.entity_id,
        "stream_id": one.stream_id,
        "timestamp": one.at.isoformat(),
        "value": one.value,
    }


def learnt(database: Database, home: Path) -> tuple[Deployment, datetime]:
    """Return a deployment whose people have been watched for a day, and when that day ended."""
    end = window_of(datetime.now(tz=UTC)) - timedelta(hours=1)
    windows = WindowRange.between(end - timedelta(hours=20), end)
    load_people(database, PEOPLE, windows)
    deployment = deployment_of(database, home)
    run(deployment, windows)
    return deployment, end


def strange(entity_id: str, start: datetime, windows: int = 3) -> list[dict[str, Any]]:
    """Return readings of windows in which much is wrong."""
    return [
        {
            "entity_id": entity_id,
            "stream_id": stream,
            "timestamp": (start + timedelta(minutes=minute)).isoformat(),
            "value": value + minute % 2,
        }
        for minute in range(5 * windows)
        for stream, value in STRANGE.items()
    ]


def anomalies(hook: Receiver) -> bool:
    """Whether an anomalous window was posted."""
    return any(json.loads(one.body)["is_anomaly"] for one in hook.posted)


def alerted(people: Receiver, entity_id: str) -> bool:
    """Whether people were told of an anomaly of an entity."""
    texts = [json.loads(one.body) for one in people.posted]
    return any(entity_id in one["title"] and "anomal" in str(one).lower() for one in texts)


@needs_redis
def test_an_anomaly_reaches_everybody(
    database: Database, tmp_path: Path, redis: RedisServer
) -> None:
    """A strange hour is told to listeners, webhooks, the cache, and to people as an alert."""

    async def scenario() -> None:
        deployment, end = learnt(database, tmp_path)
        with http_receiver() as hook, http_receiver() as people:
            with database.connect() as connection:
                add_webhook(connection, hook.url(), [WebhookEvent.ANOMALY, WebhookEvent.WINDOW])
            deployment = with_settings(
                deployment,
                redis_url=SecretStr(redis.url),
                webhook_networks=(IPv4Network("127.0.0.0/8"),),
                alert_urls=(SecretStr(people.url("json")),),
            )
            async with served(deployment) as (service, url), client_of(deployment, url) as client:
                await service.context.scoring.wait()
                answer = await client.post(URL, json=strange("ann", end))
                assert answer.status_code == 202, answer.text
                assert answer.json()["accepted"] == 15 * len(STRANGE)
                await until(lambda: anomalies(hook), "an anomaly is posted", seconds=60)
                await until(lambda: alerted(people, "ann"), "an alert has arrived", seconds=60)
                latest = await client.get("/v1/latest", params={"entity_id": "ann"})
                (shown,) = latest.json()["entities"]
                cached = await service.context.cache.get("ann")
                assert cached is not None
                # Further windows of the hour may have closed meanwhile.
                assert cached.window_start >= datetime.fromisoformat(shown["window_start"]) >= end
                assert (await client.get("/v1/health")).json()["sources"] == {"redis": "connected"}

    asyncio.run(scenario())


@needs_redis
@needs_mosquitto
def test_every_source_reaches_journal_and_pipeline(
    database: Database, tmp_path: Path, redis: RedisServer, broker: Mosquitto
) -> None:
    """What comes by HTTP, MQTT or Redis is stored under its source, and scored."""

    async def scenario() -> None:
        deployment, end = learnt(database, tmp_path)
        sent = people_sending(["ann"], WindowRange.between(end, end + timedelta(minutes=30)))
        parts = [sent[number::3] for number in range(3)]
        deployment = with_settings(
            deployment,
            redis_url=SecretStr(redis.url),
            mqtt_url=SecretStr(f"mqtt://{HOST}:{broker.port}/home"),
        )
        async with served(deployment) as (service, url), client_of(deployment, url) as client:
            pipeline = service.pipeline
            assert pipeline is not None
            await service.context.scoring.wait()
            await until(lambda: all(p.source.connected for p in service.context.pumps), "connected")
            await client.post(URL, json=[document(one) for one in parts[0]])
            await publish(broker, [_message(one) for one in parts[1]])
            with redis.client() as queue:
                for one in parts[2]:
                    queue.xadd(
                        deployment.settings.redis_stream,
                        {name: str(value) for name, value in document(one).items()},
                    )
            count = len(sent)
            await until(lambda: _sources(database, end) == _counts(parts), "all are stored")
            await until(lambda: pipeline.counts.readings >= count, "all are looked at")
            await until(lambda: pipeline.counts.windows >= 6, "windows are closed")
            figures = (await client.get("/metrics")).text
            assert 'anomaly_assets_source_rows_total{as="stored",source="mqtt"}' in figures
        assert pipeline.differences == 0

    asyncio.run(scenario())


def _message(one: Sent) -> tuple[str, str]:
    payload = json.dumps({"timestamp": one.at.isoformat(), "value": one.value})
    return f"home/{one.entity_id}/{one.stream_id}", payload


def _sources(database: Database, since: datetime) -> dict[str, int]:
    return dict(
        query(
            database,
            "SELECT source, count(*) FROM readings WHERE event_time >= %s GROUP BY 1",
            since,
        )
    )


def _counts(parts: Sequence[Sequence[Sent]]) -> dict[str, int]:
    return dict(zip(("api", "mqtt", "redis"), map(len, parts), strict=True))


def test_without_scoring_readings_are_stored_alone(database: Database, tmp_path: Path) -> None:
    """They are durable, nothing is said of them, and events are refused."""

    async def scenario() -> None:
        deployment = deployment_of(database, tmp_path)
        async with (
            served(deployment, scoring=False) as (_, url),
            client_of(deployment, url) as client,
        ):
            answer = await client.post(URL, json=strange("ann", datetime.now(tz=UTC), 1)[0])
            assert answer.status_code == 202
            assert answer.json()["first_look"] is None
            assert (await client.get("/v1/events")).status_code == 503
            assert (await client.get("/v1/health")).json()["pipeline"] == "off"
        assert query(database, "SELECT count(*) FROM readings") == [(1,)]

    asyncio.run(scenario())


def test_a_bad_alert_address_is_refused_at_the_start(database: Database, tmp_path: Path) -> None:
    """Nobody learns at the first anomaly that alerts cannot be sent."""
    deployment = with_settings(
        deployment_of(database, tmp_path), alert_urls=(SecretStr("carrier-pigeon://loft"),)
    )
    with pytest.raises(SettingsError, match="ALERT_URLS"):
        LiveService(deployment)
