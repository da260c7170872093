"""What is said of a window while it happens is what is stored of it later, to the last bit."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from anomaly_assets.evaluation.simulator import Fault, FaultKind
from anomaly_assets.live.options import PipelineOptions
from anomaly_assets.live.results import ClosedBy
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange
from anomaly_assets_tests.live.following import (
    CATALOGUE,
    MINUTES,
    Following,
    Sent,
    append,
    people_sending,
)
from anomaly_assets_tests.pipeline.people import START, WINDOWS, execute, query

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from anomaly_assets.live.results import LiveResult
    from anomaly_assets.storage.database import Database

HOUR = 12 * WINDOW_SECONDS
HALF = 30 * MINUTES
TWO_HOURS = WindowRange(WINDOWS.start, WINDOWS.start + 2 * HOUR)
FIRST_HOUR = WindowRange(WINDOWS.start, WINDOWS.start + HOUR)
SECOND_HOUR = WindowRange(FIRST_HOUR.end, TWO_HOURS.end)
SPIKE = Fault("ann", FaultKind.SPIKE, START + timedelta(minutes=75), 10, "heart_rate", 12.0)


@pytest.fixture
def following(database: Database, tmp_path: Path) -> Following:
    """Return a pipeline over an empty database, not started."""
    return Following(database, tmp_path)


def run_async(work: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine; nothing in here takes half as long."""
    asyncio.run(asyncio.wait_for(work, 300))


def newest(told: list[LiveResult]) -> dict[tuple[str, int], LiveResult]:
    """Return what was said last of each window."""
    return {(r.entity_id, int(r.window_start.timestamp())): r for r in told}


def assert_as_stored(following: Following, windows: WindowRange, people: tuple[str, ...]) -> None:
    """Compare everything that was said with what the tables hold, floats by their bits."""
    said = newest(following.told)
    final = query(
        following.database,
        "SELECT entity_id, extract(epoch FROM timestamp)::bigint, anomaly_score, confidence "
        "FROM anomaly_scores WHERE method = 'ensemble'",
    )
    streams = query(
        following.database,
        "SELECT entity_id, extract(epoch FROM timestamp)::bigint, stream_id, anomaly_score, "
        "expected, deviation FROM anomaly_scores WHERE method = 'river_individual'",
    )
    values = query(
        following.database,
        "SELECT entity_id, extract(epoch FROM timestamp)::bigint, stream_id, value "
        "FROM time_series_data",
    )
    assert len(final) == len(windows) * len(people)
    assert set(said) == {(entity_id, window) for entity_id, window, *_ in final}
    for entity_id, window, score, confidence in final:
        result = said[entity_id, window]
        assert (result.score, result.confidence) == (score, confidence), (entity_id, window)
    for entity_id, window, stream, score, expected, deviation in streams:
        single = said[entity_id, window].streams[stream]
        assert (single.score, single.expected, single.deviation) == (score, expected, deviation)
    for entity_id, window, stream, value in values:
        assert said[entity_id, window].streams[stream].value == value


async def assert_verified(following: Following, windows: int) -> None:
    """Have the pipeline compare for itself."""
    assert await following.pipeline.check() == []
    await following.pipeline.settled()
    assert following.pipeline.differences == 0
    assert following.pipeline.counts.outdated == 0
    assert following.pipeline.counts.verified == windows


def test_results_are_what_is_stored_later(following: Following) -> None:
    """Window by window as the readings come, for two people: the rows of a later run."""

    async def work() -> None:
        sent = people_sending(["ann", "bob"], TWO_HOURS, faults=[SPIKE])
        await following.start()
        await following.send(sent, until=TWO_HOURS.end_time + 11 * MINUTES)
        following.told = [r for r in following.told if r.window_start < TWO_HOURS.end_time]
        following.run(TWO_HOURS)
        assert_as_stored(following, TWO_HOURS, ("ann", "bob"))
        await assert_verified(following, 2 * len(TWO_HOURS))
        assert any(result.trigger for result in following.told)
        await following.pipeline.stop()

    run_async(work())


def test_a_restart_goes_on_where_the_state_is(following: Following) -> None:
    """With an hour stored and half an hour not, a new process says what an undisturbed one does."""

    async def work() -> None:
        sent = people_sending(["ann"], TWO_HOURS)
        cut = FIRST_HOUR.end_time + 32 * MINUTES
        await following.start()
        await following.send([r for r in sent if r.sent_at < cut])
        following.run(FIRST_HOUR)
        await following.pipeline.stop()

        await following.start()
        await following.send([r for r in sent if r.sent_at >= cut])
        await following.wait(TWO_HOURS.end_time + 11 * MINUTES)
        following.told = [r for r in following.told if r.window_start < TWO_HOURS.end_time]
        following.run(SECOND_HOUR)
        assert_as_stored(following, TWO_HOURS, ("ann",))
        await following.pipeline.check()
        assert following.pipeline.differences == 0
        assert following.pipeline.counts.outdated == 0
        await following.pipeline.stop()

    run_async(work())


def shuffled(sent: list[Sent]) -> list[Sent]:
    """Send some readings up to 40 minutes late, some out of order, and some twice."""
    chance = random.Random(5)
    found = []
    for reading in sent:
        delay = timedelta(seconds=chance.choice([0, 0, 0, 30, 90]))
        if chance.random() < 0.01:
            delay = timedelta(minutes=chance.choice([6, 14, 40]))
        found.append(replace(reading, sent_at=reading.sent_at + delay))
        if chance.random() < 0.02:
            # Sent again with another value: the first one stays.
            again = reading.sent_at + delay + timedelta(minutes=1)
            found.append(replace(reading, sent_at=again, value=reading.value + 1.0))
    return sorted(found)


def test_late_duplicate_and_unordered_readings_end_at_the_same_rows(following: Following) -> None:
    """Windows closed too early are revised, and the last word on each is what is stored."""

    async def work() -> None:
        sent = shuffled(people_sending(["ann", "bob"], TWO_HOURS))
        await following.start()
        await following.send(sent, until=TWO_HOURS.end_time + 60 * MINUTES)
        following.told = [r for r in following.told if r.window_start < TWO_HOURS.end_time]
        assert following.pipeline.counts.late > 0
        assert following.pipeline.counts.revised > 0
        assert max(result.revision for result in following.told) > 0
        following.run(TWO_HOURS)
        assert await following.pipeline.check() == []
        assert following.pipeline.differences == following.pipeline.counts.outdated == 0
        # Restores tell of what they change, but a subscriber hears it, not close_due's caller.
        for entity_id in ("ann", "bob"):
            assert following.pipeline.latest(entity_id) is not None
        await following.pipeline.stop()

    run_async(work())


def test_windows_computed_ahead_are_those_that_are_stored(following: Following) -> None:
    """Readings may still arrive for them: some results wait, some are computed once more."""
    following.options = PipelineOptions(
        close_after=timedelta(seconds=150), prepare_before=timedelta(seconds=150)
    )

    async def work() -> None:
        sent = shuffled(people_sending(["ann", "bob"], TWO_HOURS))
        await following.start()
        await following.send(sent)
        assert following.prepared > len(newest(following.told)) / 2
        await following.wait(TWO_HOURS.end_time + 60 * MINUTES)
        following.run(TWO_HOURS)
        assert await following.pipeline.check() == []
        assert following.pipeline.counts.verified >= 2 * len(FIRST_HOUR)
        assert following.pipeline.differences == following.pipeline.counts.outdated == 0
        await following.pipeline.stop()

    run_async(work())


def test_nothing_of_a_window_computed_ahead_shows_before_it_closes(following: Following) -> None:
    """First looks are as they would be; then the result is told at once, and is stored later."""

    async def work() -> None:
        sent = people_sending(["ann"], FIRST_HOUR)
        start = FIRST_HOUR.start_time
        await following.start()
        await following.send([r for r in sent if r.sent_at < start + HALF])
        told = len(following.told)
        following.clock.now = start + HALF + timedelta(seconds=4)
        assert await following.pipeline.prepare() == 1
        assert await following.pipeline.prepare() == 0
        latest = following.pipeline.latest("ann")
        assert latest is not None
        assert latest.window_end < start + HALF
        last = next(r for r in reversed(sent) if r.sent_at < start + HALF)
        at = start + HALF - timedelta(microseconds=7)
        late = replace(last, at=at, sent_at=following.clock.now)
        append(following.database, [late])
        look = await following.pipeline.process_stream("ann", late.stream_id, at, late.value)
        assert look is not None
        # Outdated by that reading, it is computed once more.
        assert await following.pipeline.prepare() == 1
        following.clock.now += timedelta(seconds=1)
        await following.tick()
        (result,) = following.told[told:]
        assert result.closed_by is ClosedBy.TIME
        await following.send([r for r in sent if r.sent_at >= start + HALF])
        await following.wait(FIRST_HOUR.end_time + 11 * MINUTES)
        following.told = [r for r in following.told if r.window_start < FIRST_HOUR.end_time]
        following.run(FIRST_HOUR)
        assert_as_stored(following, FIRST_HOUR, ("ann",))
        await following.pipeline.stop()

    run_async(work())


def test_windows_name_the_episode_that_dagster_finds(following: Following) -> None:
    """Before and after a restart, each anomalous window is told with its episode's start."""

    async def work() -> None:
        sent = people_sending(["ann"], TWO_HOURS, faults=[SPIKE])
        cut = SPIKE.start + 6 * MINUTES
        await following.start()
        await following.send([r for r in sent if r.sent_at < cut])
        until = int(SPIKE.start.timestamp()) + WINDOW_SECONDS
        following.run(WindowRange(FIRST_HOUR.start, until))
        await following.pipeline.stop()
        await following.start()
        await following.send([r for r in sent if r.sent_at >= cut])
        await following.wait(TWO_HOURS.end_time + 11 * MINUTES)
        following.told = [r for r in following.told if r.window_start < TWO_HOURS.end_time]
        following.run(TWO_HOURS)
        rows = query(following.database, "SELECT timestamp, episode_end FROM causal_explanations")
        said = newest(following.told).values()
        assert all((r.episode_start is None) == (r.trigger is None) for r in said)
        found = {(r.episode_start, r.window_start) for r in said if r.episode_start is not None}
        assert {start for start, _ in found} == {start for start, _ in rows}
        ends = dict(rows)
        assert all(start <= window < ends[start] for start, window in found)
        await following.pipeline.stop()

    run_async(work())


def test_every_word_reaches_subscribers(following: Following) -> None:
    """A subscriber's last message of each window is what is stored, however late readings were."""

    async def work() -> None:
        sent = shuffled(people_sending(["ann"], TWO_HOURS))
        await following.start()
        subscription = following.pipeline.subscribe()
        await following.send(sent, until=TWO_HOURS.end_time + 60 * MINUTES)
        await following.pipeline.stop()
        following.told = [r async for r in subscription if r.window_start < TWO_HOURS.end_time]
        following.run(TWO_HOURS)
        assert_as_stored(following, TWO_HOURS, ("ann",))

    run_async(work())


def test_only_what_is_far_above_is_explained_where_that_is_chosen(following: Following) -> None:
    """The results stay; fewer windows wait for their explanation, those with the highest scores."""

    async def waiting(above: float | None) -> int:
        following.options = PipelineOptions(explain_above=above)
        await following.start()
        await following.send(people_sending(["ann"], TWO_HOURS, faults=[SPIKE]))
        waiting = following.pipeline.waiting_explanations
        await following.pipeline.stop()
        return waiting

    async def work() -> None:
        everything = await waiting(None)
        assert everything > await waiting(0.99) == 0

    run_async(work())


def test_a_late_reading_of_a_stored_window_is_taken_in_before_the_replay(
    following: Following,
) -> None:
    """The state is set back by a restore; when the run takes the reading in, it agrees."""

    async def work() -> None:
        sent = people_sending(["ann"], TWO_HOURS)
        held_back = [r for r in sent if r.stream_id == "heart_rate"][60:64]
        rest = [r for r in sent if r not in held_back]
        await following.start()
        subscription = following.pipeline.subscribe()
        await following.send(rest, until=TWO_HOURS.end_time + 11 * MINUTES)
        following.run(TWO_HOURS)
        await following.pipeline.check()
        late = [replace(r, sent_at=following.clock.now) for r in held_back]
        await following.send(late, until=following.clock.now + 2 * MINUTES)
        assert following.pipeline.counts.restored == 2
        # Until the run has come, what is stored is known to be old.
        assert await following.pipeline.check() == []
        assert following.pipeline.differences == 0
        before = following.pipeline.counts.verified
        following.run(TWO_HOURS)
        assert await following.pipeline.check(everything=True) == []
        assert following.pipeline.counts.verified > before
        assert following.pipeline.differences == following.pipeline.counts.outdated == 0
        await following.pipeline.stop()
        following.told = [r async for r in subscription if r.window_start < TWO_HOURS.end_time]
        assert_as_stored(following, TWO_HOURS, ("ann",))

    run_async(work())


def test_late_readings_that_dagster_takes_in_first_are_told_all_the_same(
    following: Following,
) -> None:
    """A run stores their windows before the live path has revised them, and it is restored."""

    async def work() -> None:
        sent = people_sending(["ann"], TWO_HOURS)
        held_back = [r for r in sent if r.stream_id == "heart_rate"][60:64]
        await following.start()
        subscription = following.pipeline.subscribe()
        rest = [r for r in sent if r not in held_back]
        await following.send(rest, until=TWO_HOURS.end_time + 11 * MINUTES)
        for late in append(following.database, held_back):
            await following.pipeline.process_stream("ann", late.stream_id, late.at, late.value)
        following.run(TWO_HOURS)
        await following.wait(following.clock.now + 10 * MINUTES)
        assert following.pipeline.counts.restored == 2
        assert await following.pipeline.check() == []
        await following.pipeline.settled()
        assert following.pipeline.differences == 0
        await following.pipeline.stop()
        following.told = [r async for r in subscription if r.window_start < TWO_HOURS.end_time]
        assert_as_stored(following, TWO_HOURS, ("ann",))

    run_async(work())


def test_readings_that_came_another_way_are_taken_over(following: Following) -> None:
    """What only the journal was told is said once it is stored, and is no difference."""

    async def work() -> None:
        sent = people_sending(["ann"], TWO_HOURS)
        other = [r for r in sent if r.stream_id == "heart_rate"][50:70]
        await following.start()
        await following.send([r for r in sent if r not in other])
        append(following.database, other)
        await following.wait(TWO_HOURS.end_time + 11 * MINUTES)
        following.run(TWO_HOURS)
        subscription = following.pipeline.subscribe()
        assert await following.pipeline.check() == []
        await following.pipeline.settled()
        assert following.pipeline.counts.outdated > 0
        assert following.pipeline.differences == 0
        assert await following.pipeline.check(everything=True) == []
        await following.pipeline.stop()
        following.told += [r async for r in subscription]
        following.told = [r for r in following.told if r.window_start < TWO_HOURS.end_time]
        assert_as_stored(following, TWO_HOURS, ("ann",))
        assert ClosedBy.STORED in {result.closed_by for result in following.told}

    run_async(work())


def test_a_difference_without_a_reason_is_counted_and_shown(following: Following) -> None:
    """A stored score that nothing accounts for is reported once, and taken over."""

    async def work() -> None:
        await following.start()
        sent = people_sending(["ann"], FIRST_HOUR)
        await following.send(sent, until=FIRST_HOUR.end_time + 11 * MINUTES)
        following.run(FIRST_HOUR)
        execute(
            following.database,
            "UPDATE anomaly_scores SET anomaly_score = 0.999 WHERE method = 'ensemble' "
            "AND timestamp = %s",
            FIRST_HOUR.start_time + 30 * MINUTES,
        )
        (found,) = await following.pipeline.check()
        assert (found.what, found.stored) == ("final", 0.999)
        assert found.window_start == FIRST_HOUR.start_time + 30 * MINUTES
        await following.pipeline.settled()
        assert following.pipeline.differences == 1
        assert list(following.pipeline.recent_differences) == [found]
        assert await following.pipeline.check() == []
        await following.pipeline.stop()

    run_async(work())


def test_windows_close_by_completeness_by_time_and_by_lateness(following: Following) -> None:
    """Complete ones at once; others a moment after their end, or later if that is asked for."""
    following.options = PipelineOptions(close_after=timedelta(days=1))

    async def work() -> None:
        start = FIRST_HOUR.start_time
        await following.start()
        for minute in (1, 2):
            for stream in ("heart_rate", "skin_temperature"):
                at = start + minute * MINUTES
                await following.send([Sent(at, "ann", stream, at, 60.0 + minute)])
        at = start + 6 * MINUTES
        await following.send([Sent(at, "ann", "heart_rate", at, 62.0)])
        assert following.told == []
        await following.send([Sent(at, "ann", "skin_temperature", at, 33.0)])
        assert [result.closed_by for result in following.told] == [ClosedBy.COMPLETENESS]
        await following.wait(start + 19 * MINUTES)
        assert len(following.told) == 1
        await following.wait(start + 20 * MINUTES)
        assert following.told[-1].closed_by is ClosedBy.LATENESS
        assert not following.told[-1].provisional
        await following.pipeline.stop()

    run_async(work())


def test_a_window_closed_by_time_is_provisional(following: Following) -> None:
    """A moment after its end it is told, though a stream that reports has not passed it."""

    async def work() -> None:
        start = FIRST_HOUR.start_time
        for minute, stream in ((1, "heart_rate"), (1, "skin_temperature"), (12, "heart_rate")):
            at = start + minute * MINUTES
            append(following.database, [Sent(at, "ann", stream, at, 60.0)])
        following.clock.now = start + 13 * MINUTES
        await following.start()
        await following.tick()
        told = len(following.told)
        following.clock.now = start + 15 * MINUTES + timedelta(seconds=5)
        await following.tick()
        (result,) = following.told[told:]
        assert result.window_end == start + 15 * MINUTES
        assert result.closed_by is ClosedBy.TIME
        assert result.provisional
        await following.pipeline.stop()

    run_async(work())


def test_first_looks_score_at_once_and_learn_nothing(following: Following) -> None:
    """A spike is odd at first look, its neighbours are not, and results are as ever."""

    async def work() -> None:
        sent = people_sending(["ann"], TWO_HOURS, faults=[SPIKE])
        await following.start()
        await following.send(sent, until=TWO_HOURS.end_time + 11 * MINUTES)
        pulse = [look for look in following.looks if look.stream_id == "heart_rate"]
        during = [x for x in pulse if SPIKE.start <= x.at < SPIKE.start + 10 * MINUTES]
        before = [x for x in pulse if SPIKE.start - 30 * MINUTES <= x.at < SPIKE.start]
        assert sum(look.is_anomaly for look in during) >= 0.8 * len(during) > 0
        # In the first hour of all, scales are still being learnt.
        assert sum(look.is_anomaly for look in before) <= 0.2 * len(before)
        following.run(TWO_HOURS)
        await assert_verified(following, len(TWO_HOURS))
        await following.pipeline.stop()

    run_async(work())


def test_a_stream_with_a_rejected_reading_does_not_count_as_zero(following: Following) -> None:
    """A zero-suppressed stream is unknown in that window, as it is stored, if that is noted."""

    async def work() -> None:
        start = FIRST_HOUR.start_time
        await following.start()
        sent = people_sending(["ann"], FIRST_HOUR)
        position = next(i for i, w in enumerate(CATALOGUE.witnesses_of_stream) if len(w))
        stream = CATALOGUE.stream_ids[position]
        await following.send([r for r in sent if r.stream_id != stream and r.at < start + HALF])
        at = start + HALF + timedelta(seconds=20)
        with following.database.connect() as connection:
            connection.execute(
                "INSERT INTO rejected_readings "
                "(entity_id, event_time, stream_id, raw, reason, detail, source) "
                "VALUES ('ann', %s, %s, 'odd', 'not_a_number', 'no number', 'test')",
                (at, stream),
            )
        following.pipeline.note_rejected("ann", stream, at)
        await following.send([r for r in sent if r.stream_id != stream and r.at >= start + HALF])
        await following.wait(FIRST_HOUR.end_time + 11 * MINUTES)
        following.told = [r for r in following.told if r.window_start < FIRST_HOUR.end_time]
        following.run(FIRST_HOUR)
        assert_as_stored(following, FIRST_HOUR, ("ann",))
        said = [result.streams[stream].value for result in following.told]
        assert 0.0 in said
        assert (
            newest(following.told)["ann", int((start + HALF).timestamp())].streams[stream].value
            is None
        )
        await following.pipeline.stop()

    run_async(work())
