"""Results to everybody who listens; whoever does not keep up is let go."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anomaly_assets.live.results import LiveResult


class Subscription:
    """The results since it was made, in order: ``async for result in subscription``.

    It ends when it is closed, when the pipeline stops, or when `most_unread` results wait to be
    read; then `dropped` is true, and what was missed is in the tables.

    Parameters
    ----------
    most_unread
        Results that may wait.
    """

    def __init__(self, most_unread: int) -> None:
        self._most_unread = most_unread
        self._unread: deque[LiveResult] = deque()
        self._arrived = asyncio.Event()
        self.closed = False
        self.dropped = False

    def __len__(self) -> int:
        """Return the number of results that wait to be read."""
        return len(self._unread)

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> LiveResult:
        """Wait for the next result."""
        while not self._unread:
            if self.closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._unread.popleft()

    async def aclose(self) -> None:
        """Stop listening."""
        self.close()

    def close(self) -> None:
        """Stop listening; what waits can still be read."""
        self.closed = True
        self._arrived.set()

    def put(self, result: LiveResult) -> bool:
        """Hand a result over; False if the subscriber has fallen too far behind."""
        if len(self._unread) >= self._most_unread:
            self.dropped = True
            # What it holds would only keep it behind, and the memory with it.
            self._unread.clear()
            self.close()
            return False
        self._unread.append(result)
        self._arrived.set()
        return True


class Broadcast:
    """All subscriptions of a pipeline.

    Parameters
    ----------
    most_unread
        Results that may wait for each subscriber.
    """

    def __init__(self, most_unread: int) -> None:
        self._most_unread = most_unread
        self._subscriptions: list[Subscription] = []

    def __len__(self) -> int:
        """Return the number of subscribers."""
        self._subscriptions = [s for s in self._subscriptions if not s.closed]
        return len(self._subscriptions)

    def subscribe(self) -> Subscription:
        """Listen from now on."""
        subscription = Subscription(self._most_unread)
        self._subscriptions.append(subscription)
        return subscription

    def publish(self, results: Iterable[LiveResult]) -> int:
        """Hand results to every subscriber; return how many subscribers had to be dropped."""
        dropped = 0
        for result in results:
            for subscription in self._subscriptions:
                if not subscription.closed and not subscription.put(result):
                    dropped += 1
        self._subscriptions = [s for s in self._subscriptions if not s.closed]
        return dropped

    def close(self) -> None:
        """End every subscription."""
        for subscription in self._subscriptions:
            subscription.close()
        self._subscriptions = []
