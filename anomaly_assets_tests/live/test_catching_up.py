"""Readings that the journal has and nobody told of are taken in as if somebody had."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from anomaly_assets.streams.windows import WindowRange
from anomaly_assets_tests.live.following import MINUTES, Following, append, people_sending
from anomaly_assets_tests.live.test_pipeline import FIRST_HOUR, assert_verified, run_async

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.storage.database import Database

HOUR_BUT_FIVE = FIRST_HOUR.start_time + 55 * MINUTES


@pytest.fixture
def following(database: Database, tmp_path: Path) -> Following:
    """Return a pipeline over an empty database, not started."""
    return Following(database, tmp_path)


def test_the_open_window_gets_what_was_lost_on_the_way(following: Following) -> None:
    """What a lost notification was about is in its window when that closes, and counts once."""

    async def work() -> None:
        sent = people_sending(["ann"], FIRST_HOUR)
        await following.start()
        await following.send([one for one in sent if one.at < HOUR_BUT_FIVE])
        last = [one for one in sent if one.at >= HOUR_BUT_FIVE]
        append(following.database, last)
        following.clock.now = last[-1].at
        for one in last[::2]:
            await following.pipeline.process_stream("ann", one.stream_id, one.at, one.value)
        assert await following.pipeline.catch_up() == len(last[1::2])
        assert await following.pipeline.catch_up() == 0
        await following.wait(FIRST_HOUR.end_time + 11 * MINUTES)
        assert following.pipeline.counts.revised == 0
        following.run(FIRST_HOUR)
        await assert_verified(following, len(FIRST_HOUR))
        await following.pipeline.stop()

    run_async(work())


def test_windows_of_long_ago_are_computed_again(following: Following) -> None:
    """Readings of windows that only the journal has in full revise them; each version is told once.

    The youngest windows, closed by time and open again in the restored state, say nothing anew.
    """

    async def work() -> None:
        sent = people_sending(["ann"], FIRST_HOUR)
        lost = [one for one in sent if one.stream_id == "heart_rate"]
        early = WindowRange.between(FIRST_HOUR.start_time, FIRST_HOUR.start_time + 15 * MINUTES)
        lost = [one for one in lost if one.at < early.end_time]
        await following.start()
        heard = following.pipeline.subscribe()
        await following.send([one for one in sent if one not in lost])
        following.clock.now = FIRST_HOUR.end_time + MINUTES
        await following.tick()
        append(following.database, lost)
        assert await following.pipeline.catch_up() == 0
        await following.pipeline.settled()
        await following.wait(FIRST_HOUR.end_time + 11 * MINUTES)
        following.run(FIRST_HOUR)
        await assert_verified(following, len(FIRST_HOUR))
        await following.pipeline.stop()
        told = [(one.window_start, one.revision) async for one in heard]
        assert len(told) == len(set(told))
        assert {start for start, revision in told if revision} >= {FIRST_HOUR.start_time}

    run_async(work())


def test_who_reports_and_has_no_place_is_restored(following: Following) -> None:
    """As after a shard has been taken over: only those that are scored here, and let go again."""

    async def work() -> None:
        await following.start()
        following.clock.now = FIRST_HOUR.end_time
        append(following.database, people_sending(["ann"], FIRST_HOUR))
        await following.pipeline.catch_up()
        await following.pipeline.settled()
        assert following.pipeline.entities == 1
        following.pipeline.release(lambda entity_id: entity_id == "ann")
        assert following.pipeline.entities == 0
        await following.pipeline.stop()

    run_async(work())
