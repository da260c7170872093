"""A process that runs while an entity is forgotten keeps nothing of it, and writes nothing more."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import SecretStr

from anomaly_assets.live.cache import LatestScore, ScoreCache
from anomaly_assets.live.committing import Committer, Span
from anomaly_assets.live.forgetting import gone_entities
from anomaly_assets.live.readings import LiveReading, raw
from anomaly_assets.live.service import LiveService
from anomaly_assets.live.subscriptions import Event, EventLog
from anomaly_assets.pipeline.privacy import forget_entity
from anomaly_assets.storage.entities import find_entity
from anomaly_assets.storage.webhooks import WebhookEvent
from anomaly_assets.streams.windows import WindowRange
from anomaly_assets_tests.live.following import Following, people_sending
from anomaly_assets_tests.live.receivers import until
from anomaly_assets_tests.live.sources.servers import RedisServer, needs_redis
from anomaly_assets_tests.pipeline.people import WINDOWS, execute, load_people, query
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.storage.database import Database

HOUR = WindowRange(WINDOWS.start, WINDOWS.start + 3600)


def test_an_entity_of_the_same_name_is_another_one(database: Database) -> None:
    """Gone is what is not there, and what was made at another time."""
    load_people(database, ["ann", "bob"])
    with database.connect() as connection:
        made = {one: find_entity(connection, one) for one in ("ann", "bob")}
    born = {one: None if row is None else row.created_at for one, row in made.items()}
    assert gone_entities(database, born) == []
    assert gone_entities(database, {}) == []
    execute(database, "DELETE FROM entities WHERE entity_id = 'ann'")
    execute(database, "UPDATE entities SET created_at = now() + interval '1 s'")
    assert gone_entities(database, born) == ["ann", "bob"]


def test_its_state_is_dropped_at_the_next_check(database: Database, tmp_path: Path) -> None:
    """No window of it is told any more; those who follow are told once, and bob goes on."""
    following = Following(database, tmp_path)

    async def work() -> None:
        sent = people_sending(["ann", "bob"], HOUR)
        await following.start()
        told: list[str] = []
        following.pipeline.on_forgotten.append(told.append)
        await following.send(sent)
        assert following.pipeline.latest("ann") is not None
        await asyncio.to_thread(forget_entity, following.deployment(), "ann", by="Cyd")
        await following.pipeline.check()
        await following.pipeline.check()
        assert told == ["ann"]
        assert following.pipeline.entities == 1
        assert following.pipeline.latest("ann") is None
        following.told.clear()
        await following.wait(HOUR.end_time + timedelta(minutes=30))
        assert {result.entity_id for result in following.told} == {"bob"}
        await following.pipeline.stop()

    asyncio.run(asyncio.wait_for(work(), 300))


def test_a_new_one_of_its_name_begins_anew(database: Database, tmp_path: Path) -> None:
    """What is sent after it was forgotten is scored by models that know nothing."""
    following = Following(database, tmp_path)

    async def work() -> None:
        sent = people_sending(["ann"], HOUR)
        half = HOUR.start_time + timedelta(minutes=30)
        await following.start()
        await following.send([r for r in sent if r.sent_at < half])
        await asyncio.to_thread(forget_entity, following.deployment(), "ann", by="Cyd")
        await following.send([r for r in sent if r.sent_at >= half])
        await following.pipeline.check()
        await following.pipeline.settled()
        following.told.clear()
        await following.send([], until=HOUR.end_time + timedelta(minutes=20))
        assert following.pipeline.differences == 0
        await following.pipeline.stop()

    asyncio.run(asyncio.wait_for(work(), 300))
    first = query(database, "SELECT min(event_time) FROM readings")[0][0]
    assert first >= HOUR.start_time + timedelta(minutes=25)


def test_events_are_erased_in_their_place() -> None:
    """Readers that come back miss none of the others, and get nothing of the one."""

    async def work() -> None:
        log = EventLog()
        for entity_id in ("ann", "bob", "ann"):
            log._events.append(_event(log, entity_id))
            log._next += 1
        log.drop("ann")
        gone, events = log.after(0)
        assert (gone, [event.number for event in events]) == (0, [1, 2, 3])
        assert [event.is_one_of(set(WebhookEvent)) for event in events] == [False, True, False]
        assert "ann" not in repr(events)

    asyncio.run(work())


def _event(log: EventLog, entity_id: str) -> Event:
    return Event(log.latest + 1, WebhookEvent.WINDOW, entity_id, {"entity_id": entity_id})


@needs_redis
def test_the_service_cleans_up_behind_itself(database: Database, tmp_path: Path) -> None:
    """The cached score goes, and so do alerts that were written since."""
    load_people(database, ["ann", "bob"])
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis")
    server.start()
    deployment = deployment_of(database, tmp_path)
    deployment.settings = deployment.settings.model_copy(
        update={"redis_url": SecretStr(server.url)}
    )

    async def work() -> None:
        async with LiveService(deployment) as service:
            cache: ScoreCache = service.context.cache
            for entity_id in ("ann", "bob"):
                assert await cache.put(
                    LatestScore(entity_id, HOUR.start_time, 0.5, 1.0, is_anomaly=False)
                )
            forget_entity(deployment, "ann", by="Cyd")
            execute(
                database,
                "INSERT INTO alerts (alert_key, entity_id, rule, severity, status, first_seen, "
                "last_seen, summary, details) VALUES ('k', 'ann', 'r', 'info', 'sent', now(), "
                "now(), 's', '{}')",
            )
            assert service.pipeline is not None
            service._forget("ann")
            await until(lambda: not service._forgotten, "what was forgotten is swept")
            assert await cache.get("ann") is None
            assert await cache.get("bob") is not None
        assert query(database, "SELECT * FROM alerts") == []

    try:
        asyncio.run(asyncio.wait_for(work(), 120))
    finally:
        server.kill()


def test_readings_past_retention_are_refused_and_recorded(
    database: Database, tmp_path: Path
) -> None:
    """The sender is told the limit; the rest of the batch is stored."""
    load_people(database, ["ann", "bob"])
    limit = HOUR.end_time
    execute(database, "UPDATE entities SET raw_from = %s WHERE entity_id = 'ann'", limit)
    committer = Committer(deployment_of(database, tmp_path))
    rows = [
        raw(LiveReading(entity_id, "steps", at, 1.0))
        for entity_id, at in (
            ("ann", limit - timedelta(seconds=1)),
            ("ann", limit + timedelta(days=1)),
            ("bob", limit - timedelta(seconds=1)),
        )
    ]
    try:
        done = committer.store(rows, [Span(0, 3)], "api")
    finally:
        committer.close()
    assert [done.results[n].accepted for n in range(3)] == [False, True, True]
    assert done.results[0].reason == "past_retention"
    assert "before 2026-01-05" in done.results[0].detail
    # Its window is not computed again, so nobody has to be told of it.
    assert done.refused == {}
    assert query(database, "SELECT entity_id, reason, source FROM rejected_readings") == [
        ("ann", "past_retention", "api")
    ]
