"""What a source is: batches of rows that are acknowledged only once they are durable.

A source hands over each row at least once. The journal keeps one reading for each entity, stream
and time, so that a row which comes again counts once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from anomaly_assets.live.readings import Row, RowResult

#: What became of each row, in order; None for one that could not be settled yet.
Settled = Sequence[RowResult | None]
#: Stores rows durably and says what became of each, or raises
#: :class:`~anomaly_assets.live.limits.TemporaryError` when nothing is certain.
Sink = Callable[[Sequence[Row]], Awaitable[Sequence[RowResult]]]


@dataclass(frozen=True)
class Batch:
    """Rows that arrived together.

    Parameters
    ----------
    rows
        The rows as they were sent.
    ack
        Called with the rows' results when they are durable. Messages with an unsettled row are not
        acknowledged, and come again. Never raises: an acknowledgement that is lost on the way
        brings the message back, which does no harm.
    """

    rows: Sequence[Row]
    ack: Callable[[Settled], Awaitable[None]]


class Source(Protocol):
    """A place that readings come from."""

    @property
    def name(self) -> str:
        """What the journal records as the readings' source."""

    @property
    def connected(self) -> bool:
        """Whether it can be reached at the moment."""

    def batches(self) -> AsyncIterator[Batch]:
        """Yield what arrives, for ever, reconnecting as often as it takes.

        Close the iterator to leave; what was not acknowledged comes again the next time.
        """


class Backoff:
    """Waiting times between attempts: each twice the last, up to a limit.

    Parameters
    ----------
    first, longest
        Seconds.

    Examples
    --------
    >>> backoff = Backoff(1.0, 3.0)
    >>> backoff.next(), backoff.next(), backoff.next()
    (1.0, 2.0, 3.0)
    >>> backoff.reset()
    >>> backoff.next()
    1.0
    """

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._wait = first

    def next(self) -> float:
        """Return how long to wait now."""
        wait = min(self._wait, self._longest)
        self._wait = min(2 * wait, self._longest)
        return wait

    def reset(self) -> None:
        """Begin anew, after a success."""
        self._wait = self._first


def settled_through(results: Settled, first: int, count: int) -> bool:
    """Whether `count` rows from `first` on are all settled."""
    return all(result is not None for result in results[first : first + count])


def leave_if_cancelled() -> None:
    """Raise ``CancelledError`` if this task has been cancelled.

    The clients of brokers now and then swallow the cancellation that ends a wait of theirs; without
    this a source would go on for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
