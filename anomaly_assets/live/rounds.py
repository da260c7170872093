"""When which entities are looked at, for windows to be closed or computed ahead."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from anomaly_assets.streams.windows import WINDOW_SECONDS, window_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from anomaly_assets.live.options import PipelineOptions
    from anomaly_assets.live.slots import Slot, Slots

#: How often all entities are looked at: readings of an hour ago stop counting by and by.
TICK_SECONDS: Final = 0.25
_WINDOW = timedelta(seconds=WINDOW_SECONDS)
#: Whatever is done for several entities in a row lets others have their turn this often.
_TURN_SECONDS: Final = 0.005
#: Pauses between windows that are computed ahead, in times of what one took, and how many windows
#: there are at most at a time: until they are closed each takes the room of a state.
_BREATH: Final = 2.0
_MOST_AHEAD: Final = 250
#: Clocks do not agree to the microsecond.
_SHORTEST_WAIT: Final = 0.001


def until_deadline(now: datetime, close_after: timedelta) -> timedelta:
    """Return how long it is until the next window closes by time."""
    return window_of(now - close_after) + _WINDOW + close_after - now


def prepared_first(slots: list[Slot]) -> list[Slot]:
    """Return entities in the order of closing: what is only told comes before what is computed."""
    return sorted(slots, key=lambda slot: slot.live is None or not slot.live.prepared)


async def compute_ahead(
    slots: Slots,
    clock: Callable[[], datetime],
    options: PipelineOptions,
    failed: Callable[[Slot, Exception], Awaitable[None]],
) -> int:
    """Compute windows ahead that are about to close by time; return how many.

    Parameters
    ----------
    slots
        The entities.
    clock
        Tells the time, aware.
    options
        When windows close, and how long before.
    failed
        Told of an entity whose window cannot be computed.
    """
    if until_deadline(clock(), options.close_after) > options.prepare_before:
        return 0
    time = asyncio.get_running_loop().time
    places = slots.all()
    ahead = sum(slot.live is not None and slot.live.prepared for slot in places)
    made = 0
    for slot in places:
        if ahead + made >= _MOST_AHEAD:
            break
        if slot.live is None or slot.restoring is not None:
            continue
        began = time()
        try:
            prepared = slot.live.prepare(clock())
        except Exception as error:  # noqa: BLE001 - one entity's fault must not stop the others
            await failed(slot, error)
            continue
        if prepared:
            made += 1
            await asyncio.sleep(_BREATH * (time() - began))
    return made


class Turns:
    """Lets others have their turn in the midst of something long."""

    def __init__(self) -> None:
        self._time = asyncio.get_running_loop().time
        self._since = self._time()

    async def give(self) -> None:
        """Step back for a moment, if it has been a while."""
        if self._time() - self._since > _TURN_SECONDS:
            await asyncio.sleep(0)
            self._since = self._time()


class Rounds:
    """Hands out the entities that may have a window to close.

    Those that may be complete at once, all of them every quarter of a second, and at the very
    moment at which windows close by time.

    Parameters
    ----------
    slots
        The entities.
    clock
        Tells the time, aware.
    close_after
        How long after their end windows close by time.
    """

    def __init__(self, slots: Slots, clock: Callable[[], datetime], close_after: timedelta) -> None:
        self._slots = slots
        self._clock = clock
        self._close_after = close_after
        self._woken = asyncio.Event()
        self._ready: dict[str, Slot] = {}
        #: Time of the loop at which all entities are due again.
        self._all_at = 0.0

    def wake(self, slot: Slot) -> None:
        """Have an entity looked at now."""
        self._ready[slot.entity_id] = slot
        self._woken.set()

    async def upcoming(self) -> list[Slot]:
        """Wait for the next round, and return whom it is about."""
        loop = asyncio.get_running_loop()
        left = self._all_at - loop.time()
        if left > 0.0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), left)
        ready = [s for s in self._ready.values() if self._slots.get(s.entity_id) is s]
        self._ready.clear()
        self._woken.clear()
        if loop.time() < self._all_at:
            return ready
        wait = until_deadline(self._clock(), self._close_after).total_seconds()
        self._all_at = loop.time() + min(max(wait, _SHORTEST_WAIT), TICK_SECONDS)
        return self._slots.all()
