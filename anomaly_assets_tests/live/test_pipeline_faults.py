"""Faults stay where they are: of an entity, of its state, of a subscriber, of the database."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from anomaly_assets.detection.individual.detector import IndividualDetector
from anomaly_assets.errors import InputError
from anomaly_assets.live.options import PipelineOptions
from anomaly_assets.live.pipeline import StreamingPipeline
from anomaly_assets.pipeline.stateless import aggregate_windows
from anomaly_assets.streams.windows import WINDOW_SECONDS
from anomaly_assets_tests.live.following import MINUTES, Following, Sent, append, people_sending
from anomaly_assets_tests.live.test_pipeline import (
    FIRST_HOUR,
    SECOND_HOUR,
    SPIKE,
    TWO_HOURS,
    assert_verified,
    newest,
    run_async,
)
from anomaly_assets_tests.pipeline.people import START, execute, query

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.storage.database import Database


@pytest.fixture
def following(database: Database, tmp_path: Path) -> Following:
    """Return a pipeline over an empty database, not started."""
    return Following(database, tmp_path)


def test_a_poisoned_entity_is_quarantined_and_released(
    following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reason is stored, the others are scored as ever; mended, it is as if nothing had been."""
    working = IndividualDetector.process

    def poisoned(self: IndividualDetector, block: Any) -> Any:
        if block.entity_id == "bob":
            msg = "the model diverged"
            raise FloatingPointError(msg)
        return working(self, block)

    async def work() -> None:
        sent = people_sending(["ann", "bob"], FIRST_HOUR)
        half = FIRST_HOUR.start_time + 30 * MINUTES
        await following.start()
        await following.send([r for r in sent if r.sent_at < half])
        with monkeypatch.context() as patched:
            patched.setattr(IndividualDetector, "process", poisoned)
            await following.send([r for r in sent if r.sent_at >= half])
            assert list(following.pipeline.quarantined) == ["bob"]
            reason = query(
                following.database,
                "SELECT entity_id, quarantined_reason FROM entities ORDER BY entity_id",
            )
            assert reason == [
                ("ann", None),
                ("bob", "live: FloatingPointError: the model diverged"),
            ]
        await following.wait(FIRST_HOUR.end_time + 20 * MINUTES)
        assert following.pipeline.quarantined == {}
        following.run(FIRST_HOUR)
        said = {r.entity_id for r in following.told if r.window_start >= half}
        assert "ann" in said
        assert await following.pipeline.check() == []
        assert following.pipeline.differences == following.pipeline.counts.outdated == 0
        stored = query(following.database, "SELECT DISTINCT quarantined_reason FROM entities")
        assert stored == [(None,)]
        await following.pipeline.stop()

    run_async(work())


def test_an_unusable_catalogue_or_a_person_s_quarantine_leaves_the_others_alone(
    following: Following,
) -> None:
    """At the start, one cannot be loaded and one must not be: the third is watched."""

    async def work() -> None:
        append(following.database, people_sending(["ann", "bob", "cat"], FIRST_HOUR))
        execute(
            following.database,
            "UPDATE entities SET catalogue = '/gone.yaml' WHERE entity_id = 'bob'",
        )
        execute(
            following.database,
            "UPDATE entities SET quarantined_reason = 'by ann' WHERE entity_id = 'cat'",
        )
        following.clock.now = FIRST_HOUR.end_time + 11 * MINUTES
        await following.start()
        assert sorted(following.pipeline.quarantined) == ["bob", "cat"]
        assert "/gone.yaml" in following.pipeline.quarantined["bob"]
        assert following.pipeline.latest("ann") is not None
        look = await following.pipeline.process_stream(
            "bob", "heart_rate", following.clock.now, 60.0
        )
        assert look is None
        rows = query(
            following.database, "SELECT quarantined_reason FROM entities WHERE entity_id = 'cat'"
        )
        assert rows == [("by ann",)]
        await following.pipeline.stop()

    run_async(work())


@pytest.mark.parametrize("damage", ["blob = '\\x00'", "signature = repeat('0', 64)"])
def test_damaged_snapshots_cost_a_replay(following: Following, damage: str) -> None:
    """State that fails verification is rebuilt from stored windows, counted, and the same."""

    async def work() -> None:
        sent = people_sending(["ann"], TWO_HOURS)
        append(following.database, [r for r in sent if r.at < FIRST_HOUR.end_time])
        following.run(FIRST_HOUR)
        execute(following.database, f"UPDATE model_snapshots SET {damage}")  # noqa: S608 - ours
        following.clock.now = FIRST_HOUR.end_time
        await following.start()
        assert following.pipeline.counts.snapshots_refused >= 3
        await following.send([r for r in sent if r.at >= FIRST_HOUR.end_time])
        await following.wait(TWO_HOURS.end_time + 11 * MINUTES)
        following.run(SECOND_HOUR)
        assert await following.pipeline.check() == []
        assert following.pipeline.counts.verified >= 2 * len(FIRST_HOUR)
        assert following.pipeline.differences == following.pipeline.counts.outdated == 0
        await following.pipeline.stop()

    run_async(work())


def test_a_restart_amid_a_replay_does_not_trust_the_old_states(following: Following) -> None:
    """Windows rewritten with late readings, states not yet: the snapshots before them are taken."""

    async def work() -> None:
        sent = people_sending(["ann"], TWO_HOURS)
        held_back = [r for r in sent if r.stream_id == "heart_rate"][60:90]
        append(following.database, [r for r in sent if r not in held_back])
        following.run(TWO_HOURS)
        append(following.database, held_back)
        deployment = following.deployment()
        assert list(aggregate_windows(deployment, deployment.entities(), TWO_HOURS))
        assert query(following.database, "SELECT * FROM late_windows WHERE readings > 0") == []
        following.clock.now = TWO_HOURS.end_time + 11 * MINUTES
        await following.start()
        # What is stored of these windows is older than their values, and is not compared.
        assert await following.pipeline.check() == []
        assert following.pipeline.counts.verified == 0
        following.run(TWO_HOURS)
        await assert_verified(following, len(TWO_HOURS))
        await following.pipeline.stop()

    run_async(work())


def test_a_slow_subscriber_is_dropped_and_the_others_hear_everything(following: Following) -> None:
    """Whoever does not read ends after its bound, counted; memory is given back."""
    following.options = PipelineOptions(most_unread=5)

    async def work() -> None:
        await following.start()
        slow, quick = following.pipeline.subscribe(), following.pipeline.subscribe()
        heard = []
        for reading in _hourly(people_sending(["ann"], FIRST_HOUR)):
            await following.send(reading)
            while len(quick):
                heard.append(await anext(quick))
        assert slow.dropped
        assert len(slow) == 0
        assert [result async for result in slow] == []
        assert following.pipeline.counts.subscribers_dropped == 1
        assert following.pipeline.subscribers == 1
        assert [r.window_start for r in heard] == [r.window_start for r in following.told]
        await following.pipeline.stop()

    run_async(work())


def _hourly(sent: list[Sent]) -> list[list[Sent]]:
    """Return readings in parts of five minutes."""
    parts: dict[int, list[Sent]] = {}
    for reading in sent:
        parts.setdefault(int(reading.at.timestamp()) // WINDOW_SECONDS, []).append(reading)
    return list(parts.values())


def test_explanations_follow_their_results(following: Following) -> None:
    """An anomalous window is told at once, and once more with its explanation."""

    async def work() -> None:
        await following.start()
        sent = people_sending(["ann"], TWO_HOURS, faults=[SPIKE])
        await following.send(sent, until=TWO_HOURS.end_time + 11 * MINUTES)
        called = [result for result in following.told if result.trigger]
        assert called
        assert all(result.explanation is None for result in called)
        assert following.pipeline.waiting_explanations >= len(called)
        subscription = following.pipeline.subscribe()
        told = await following.pipeline.explain_waiting()
        await following.pipeline.stop()
        explained = [result async for result in subscription]
        assert len(explained) == told > 0
        said = newest(following.told)
        for result in explained:
            assert result.explanation is not None
            assert result.explanation.summary
            key = (result.entity_id, int(result.window_start.timestamp()))
            assert replace(result, explanation=None) == said[key]

    run_async(work())


def test_memory_is_bounded(following: Following) -> None:
    """Buffers, pending explanations, remembered windows and entities stay within their bounds."""
    following.options = PipelineOptions(
        most_entities=1, most_readings=50, most_explanations=1, remembered_windows=3
    )

    async def work() -> None:
        sent = people_sending(["ann"], FIRST_HOUR)
        await following.start()
        await following.send(sent, until=FIRST_HOUR.end_time + 11 * MINUTES)
        bob = replace(sent[-1], entity_id="bob", sent_at=following.clock.now)
        append(following.database, [bob])
        assert await following.pipeline.process_stream("bob", bob.stream_id, bob.at, 1.0) is None
        assert following.pipeline.entities == 1
        assert following.pipeline.counts.refused == 1
        assert following.pipeline.waiting_explanations <= 1
        # Windows with more readings than are held were computed from the journal all the same.
        following.run(FIRST_HOUR)
        await assert_verified(following, 3)
        await following.pipeline.stop()

    run_async(work())


def test_what_the_journal_would_refuse_is_refused(following: Following) -> None:
    """A value that is not finite and a time without a zone are errors of the caller's."""

    async def work() -> None:
        await following.start()
        for at, value in ((START, float("nan")), (START.replace(tzinfo=None), 1.0)):
            with pytest.raises(InputError, match="heart_rate"):
                await following.pipeline.process_stream("ann", "heart_rate", at, value)
        await following.pipeline.stop()

    run_async(work())


def test_it_runs_by_itself(following: Following) -> None:
    """In the background windows close, are explained and compared without anybody's asking."""
    following.options = PipelineOptions(check_every=timedelta(milliseconds=50))

    async def work() -> None:
        append(following.database, people_sending(["ann"], FIRST_HOUR))
        following.clock.now = FIRST_HOUR.end_time + 5 * MINUTES
        pipeline = StreamingPipeline(
            following.deployment(), options=following.options, clock=following.clock
        )
        subscription = pipeline.subscribe()
        await pipeline.start()
        async for result in subscription:
            if result.window_end >= FIRST_HOUR.end_time:
                break
        await asyncio.to_thread(following.run, FIRST_HOUR)
        while pipeline.counts.verified < len(FIRST_HOUR):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        assert pipeline.differences == 0
        await pipeline.stop()

    run_async(work())


def test_a_database_that_is_away_is_waited_for(
    following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restore that finds no database is nobody's fault: it is tried again, and all is there."""

    async def work() -> None:
        sent = people_sending(["ann"], FIRST_HOUR)
        append(following.database, sent)
        await following.start()
        following.clock.now = FIRST_HOUR.end_time + 11 * MINUTES

        def gone(*_: object) -> None:
            msg = "server closed the connection unexpectedly"
            raise psycopg.OperationalError(msg)

        with monkeypatch.context() as patched:
            patched.setattr("anomaly_assets.live.restoring.restore_entity", gone)
            await following.pipeline.stop()
            await following.start()
            assert following.pipeline.counts.database_errors == 1
            assert following.pipeline.quarantined == {}
            assert following.pipeline.latest("ann") is None
        following.clock.now += MINUTES
        await following.tick()
        following.run(FIRST_HOUR)
        await assert_verified(following, len(FIRST_HOUR))
        await following.pipeline.stop()

    run_async(work())
