"""Windows are looked at when they may be closed, and nobody waits for long meanwhile."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from anomaly_assets.live.rounds import Rounds, Turns, until_deadline
from anomaly_assets.live.slots import Slots

START = datetime(2026, 1, 5, 12, tzinfo=UTC)
FIVE_SECONDS = timedelta(seconds=5)


@pytest.mark.parametrize(
    ("seconds", "left"), [(0, 5), (4.75, 0.25), (5, 300), (6, 299), (304.5, 0.5)]
)
def test_the_next_window_closes_a_moment_after_its_end(seconds: float, left: float) -> None:
    """The deadline itself belongs to the window that closes then."""
    now = START + timedelta(seconds=seconds)
    assert until_deadline(now, FIVE_SECONDS) == timedelta(seconds=left)


def test_those_that_may_be_complete_come_between_the_rounds_of_all() -> None:
    """A woken entity is handed out alone, one that was given up is not, then all again."""

    async def work() -> None:
        slots = Slots(3)
        places = [slots.open(name, START) for name in ("ann", "bob", "cat")]
        rounds = Rounds(slots, lambda: START + timedelta(minutes=1), FIVE_SECONDS)
        assert await rounds.upcoming() == places
        for place in places[1:]:
            assert place is not None
            rounds.wake(place)
        slots.close("cat")
        assert await rounds.upcoming() == places[1:2]
        assert await rounds.upcoming() == places[:2]

    asyncio.run(asyncio.wait_for(work(), 60))


def test_woken_entities_do_not_put_the_round_of_all_off() -> None:
    """However often somebody is woken, all are looked at in time."""

    async def work() -> None:
        slots = Slots(2)
        ann, bob = slots.open("ann", START), slots.open("bob", START)
        rounds = Rounds(slots, lambda: START + timedelta(minutes=1), FIVE_SECONDS)
        await rounds.upcoming()
        assert ann is not None
        found = [ann]
        while bob not in found:
            rounds.wake(ann)
            found = await rounds.upcoming()
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(work(), 60))


def test_others_have_their_turn() -> None:
    """What goes on for long lets another task run in between."""

    async def work() -> None:
        ran = asyncio.Event()

        async def other() -> None:
            ran.set()

        task = asyncio.create_task(other())
        turns = Turns()
        while not ran.is_set():
            await turns.give()
        await task

    asyncio.run(asyncio.wait_for(work(), 60))
