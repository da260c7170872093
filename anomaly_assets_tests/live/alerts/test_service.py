"""The service against a real database and a real receiver, through restarts and outages."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from anomaly_assets.live.alerts.delivery import Deliverer
from anomaly_assets.live.alerts.policy import Policy, QuietHours
from anomaly_assets.live.alerts.service import AlertService
from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets.settings import Settings
from anomaly_assets.storage.alerts import AlertStatus, add_snooze, list_alerts
from anomaly_assets.storage.database import Database
from anomaly_assets.storage.entities import ensure_entity
from anomaly_assets_tests.live.alerts.results import result
from anomaly_assets_tests.live.receivers import HOST, Receiver, http_receiver, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from anomaly_assets.live.results import LiveResult

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


class Home:
    """A deployment with one person, a receiver, and a clock to be set."""

    def __init__(self, database: Database, folder: Path, receiver: Receiver) -> None:
        self.database = database
        self.deployment = Deployment(
            Settings(home=folder, live_public_url="https://watch.example/"), database
        )
        self.receiver = receiver
        self.now = NOON
        with database.connect() as connection:
            ensure_entity(connection, "ann", time_zone="Europe/Berlin")

    def service(self, policy: Policy | None = None) -> AlertService:
        """Return a service as after a start of the process."""
        return AlertService(
            self.deployment,
            deliverer=Deliverer([self.receiver.url("json")], delays=(0.0,)),
            policy=policy,
            clock=lambda: self.now,
        )

    @property
    def told(self) -> list[dict[str, Any]]:
        """What has been posted."""
        return [json.loads(posted.body) for posted in self.receiver.posted]

    def stored(self) -> list[tuple[str, AlertStatus]]:
        """Rule and status of the stored alerts."""
        with self.database.connect() as connection:
            return [(row.rule, row.status) for row in list_alerts(connection)]


@pytest.fixture
def home(database: Database, tmp_path: Path) -> Iterator[Home]:
    """Return a deployment with a receiver."""
    with http_receiver() as receiver:
        yield Home(database, tmp_path, receiver)


async def started(home: Home, policy: Policy | None = None) -> AlertService:
    """Return a service that runs."""
    service = home.service(policy)
    await service.start()
    return service


async def settle(service: AlertService) -> None:
    """Decide, and let everything arrive."""
    await service.step()
    await service.stop()


def test_an_explained_anomaly_is_told_and_recorded(home: Home) -> None:
    """Sentence, streams with actual and expected, advice and link arrive; it is on record."""

    async def play() -> None:
        service = await started(home)
        service.take(result(NOON))
        await service.step()
        assert home.told == []
        service.take(result(NOON, explained=True))
        await settle(service)
        assert (service.counts.raised, service.counts.sent) == (1, 1)

    asyncio.run(play())
    (told,) = home.told
    assert told["title"] == "[warning] ann: anomaly, 2026-01-05 13:00"
    for part in (
        "Heart rate rose while nobody moved.",
        "Heart rate: 141 bpm, expected 72 bpm",
        "Steps: missing, expected 30",
        "Ask how Ann is.",
        "https://watch.example/ui/episode?anomaly=",
    ):
        assert part in told["message"]
    assert home.stored() == [("episode", AlertStatus.SENT)]


def test_without_an_explanation_the_scores_tell(home: Home) -> None:
    """After the wait the streams that stand out are told instead."""

    async def play() -> None:
        service = await started(home)
        service.take(result(NOON))
        home.now += timedelta(seconds=6)
        await settle(service)

    asyncio.run(play())
    assert "heart_rate: 141 bpm, expected 72 bpm" in home.told[0]["message"]


def test_a_restart_repeats_nothing(home: Home) -> None:
    """The same results, taken in again by a new process, raise no second alert."""

    async def play() -> None:
        for _ in range(3):
            service = await started(home)
            for window in range(6):
                service.take(result(NOON + timedelta(minutes=5 * window), explained=True))
                await service.step()
            await settle(service)

    asyncio.run(play())
    assert len(home.told) == 1
    assert sorted(home.stored()) == [
        ("anomaly_rate", AlertStatus.GROUPED),
        ("episode", AlertStatus.SENT),
    ]


def test_what_a_kill_cut_short_is_sent_at_the_next_start(home: Home) -> None:
    """A message that was decided on and stored, and not sent, is sent by the next process."""

    async def killed() -> None:
        service = await started(home)
        service.take(result(NOON, explained=True))
        await service.step()
        # The loop ends before the message's task has run: as if the process had been killed.
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def again() -> None:
        service = await started(home)
        await settle(service)

    asyncio.run(killed())
    assert home.told == []
    assert home.stored() == [("episode", AlertStatus.SENDING)]
    asyncio.run(again())
    assert len(home.told) == 1
    assert home.stored() == [("episode", AlertStatus.SENT)]


def test_a_failure_is_on_record_and_comes_again(home: Home) -> None:
    """Each attempt that failed is stored; the alert is held, and a digest brings it."""

    async def play() -> None:
        service = await started(home)
        home.receiver.answers = [500, 500]
        service.take(result(NOON, explained=True))
        await settle(service)
        assert (service.counts.failed_attempts, service.counts.undelivered) == (2, 1)
        with home.database.connect() as connection:
            (row,) = list_alerts(connection)
        assert row.status is AlertStatus.HELD
        assert row.details["hold"] == "undelivered"
        first, second = row.details["failures"]
        assert first.startswith("1: JSON, attempt 1: ")
        assert second.startswith("1: JSON, attempt 2: ")
        assert "500" in first
        home.now += timedelta(minutes=15)
        await settle(service)
        assert service.counts.digests == 1

    asyncio.run(play())
    assert len(home.told) == 3
    assert home.stored() == [("episode", AlertStatus.SENT)]


def test_a_snooze_of_another_process_is_heeded(home: Home) -> None:
    """What the command line has stored holds within seconds, and its end, too."""

    async def play() -> None:
        service = await started(home)
        with home.database.connect() as connection:
            add_snooze(
                connection,
                NOON + timedelta(hours=1),
                "ann",
                entity_id="ann",
                starts_at=NOON - timedelta(hours=1),
            )
        service.take(result(NOON, explained=True))
        await service.step()
        assert home.told == []
        home.now += timedelta(hours=1)
        await settle(service)

    asyncio.run(play())
    assert "Held back: snoozed." in home.told[0]["message"]


def test_while_the_database_is_away_nothing_is_sent_and_nothing_lost(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alerts wait in memory for it, since a restart must know of what was sent."""

    async def play() -> None:
        service = await started(home)
        with monkeypatch.context() as patch:
            patch.setattr(home.deployment, "database", Database(f"postgresql://x@{HOST}:1/none"))
            service.take(result(NOON, explained=True))
            await service.step()
            assert service.counts.database_errors == 1
            assert home.told == []
        await settle(service)

    asyncio.run(play())
    assert len(home.told) == 1


def test_it_runs_by_itself(home: Home) -> None:
    """Fed with results it decides as they come, with no further call."""

    async def results() -> AsyncIterator[LiveResult]:
        yield result(NOON, score=0.1)
        yield result(NOON + timedelta(minutes=5), explained=True)
        await until(lambda: len(home.told) == 1, "the alert has arrived")

    async def play() -> None:
        service = await started(home)
        await service.run(results())
        await service.stop()

    asyncio.run(play())
    assert len(home.told) == 1


def test_batches_that_take_too_long(home: Home) -> None:
    """The deployment's own alert names the time and leads to its health."""

    async def play() -> None:
        service = await started(home)
        service.batch_took(3.0)
        service.batch_took(12.34)
        await settle(service)

    asyncio.run(play())
    (told,) = home.told
    assert "A batch took 12.3 s" in told["message"]
    assert "https://watch.example/ui/" in told["message"]


def test_a_flood_over_a_real_restart(home: Home) -> None:
    """Three messages in the hour and one digest, whichever process decides."""
    policy = Policy(per_hour=4)

    async def first() -> None:
        service = await started(home, policy)
        for number in range(20):
            service.take(result(NOON, f"e{number:02d}", explained=True))
        await settle(service)

    async def second() -> None:
        service = await started(home, policy)
        service.take(result(NOON, "late", explained=True))
        await settle(service)
        assert len(home.told) == 3
        home.now += timedelta(minutes=15)
        await settle(service)

    asyncio.run(first())
    asyncio.run(second())
    assert len(home.told) == 4
    assert "18 alerts of 18 entities" in home.told[-1]["title"]
    assert {status for _, status in home.stored()} == {AlertStatus.SENT}


def test_too_few_streams_are_named(home: Home) -> None:
    """The alert says which have no value, and what was expected of them."""

    async def play() -> None:
        service = await started(home)
        service.take(result(NOON, score=0.1, confidence=0.5))
        await settle(service)

    asyncio.run(play())
    (told,) = home.told
    assert "Only 50% of the streams are available" in told["message"]
    assert "- steps: missing, expected 30" in told["message"]
    assert "https://watch.example/ui/entity?id=ann" in told["message"]


def test_a_night_over_a_restart_is_told_in_the_morning_once(home: Home) -> None:
    """Quiet hours of the entity's clock hold over a restart, and their end brings one digest."""
    policy = Policy(quiet_hours=QuietHours(time(22), time(7)))

    async def night() -> None:
        service = await started(home, policy)
        service.take(result(home.now, explained=True))
        await settle(service)
        assert home.told == []

    async def morning() -> None:
        for _ in range(2):
            service = await started(home, policy)
            await settle(service)

    home.now = NOON.replace(hour=22)
    asyncio.run(night())
    home.now = NOON.replace(day=6, hour=5, minute=59)
    asyncio.run(morning())
    assert home.told == []
    home.now = NOON.replace(day=6, hour=6)
    asyncio.run(morning())
    (told,) = home.told
    assert "Held back: quiet hours." in told["message"]


def test_late_readings_take_back_what_another_process_has_sent(home: Home) -> None:
    """The notice arrives once, both alerts are on record, and nothing stays open."""

    async def play() -> None:
        service = await started(home)
        service.take(result(NOON, explained=True))
        await settle(service)
        for _ in range(2):
            service = await started(home)
            service.take(result(NOON, score=0.1, revision=1))
            await settle(service)

    asyncio.run(play())
    alert, notice = home.told
    assert "Heart rate rose while nobody moved." in alert["message"]
    assert notice["title"] == "[info] ann: withdrawn: anomaly, 2026-01-05 13:00"
    assert "Withdrawn: late readings explain it." in notice["message"]
    assert sorted(home.stored()) == [
        ("episode", AlertStatus.SENT),
        ("episode", AlertStatus.WITHDRAWN),
    ]


def test_each_instance_tells_of_its_entities_and_goes_on_with_those_it_takes_over(
    home: Home,
) -> None:
    """What another one has stored and not sent is sent by whoever scores the entity then, once."""
    owned: set[str] = set()

    async def play() -> None:
        first = await started(home)
        first.take(result(NOON))
        await first.step()
        assert home.stored() == [("episode", AlertStatus.PENDING)]
        other = AlertService(
            home.deployment,
            deliverer=Deliverer([home.receiver.url("json")], delays=(0.0,)),
            clock=lambda: home.now,
            owns=owned.__contains__,
        )
        await other.start()
        home.now += timedelta(seconds=6)
        await settle(other)
        assert home.told == []
        owned.add("ann")
        await other.reload()
        await settle(other)
        assert len(home.told) == 1
        owned.clear()
        await other.reload()
        await settle(other)

    asyncio.run(play())
    assert len(home.told) == 1
    assert home.stored() == [("episode", AlertStatus.SENT)]


@pytest.mark.parametrize(("part", "limit"), [(1, 3), (2, 5), (5, 12)])
def test_the_limit_is_divided_by_shards(part: int, limit: int) -> None:
    """All instances together tell about as much as one would."""
    assert Policy(per_hour=12).share(part, 5).per_hour == limit
