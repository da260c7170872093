"""How much one sender, and all together, may ask for."""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from anomaly_assets.errors import AnomalyAssetsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MOST_BUCKETS = 10_000
_MINUTE = 60.0


class TemporaryError(AnomalyAssetsError):
    """Nothing was acknowledged; the same may succeed later.

    Parameters
    ----------
    message
        What stands in the way.
    retry_after
        Seconds after which to try again.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    @property
    def retry_after_seconds(self) -> int:
        """Whole seconds, at least one, as the header ``Retry-After`` wants them."""
        return max(1, math.ceil(self.retry_after))


class OverloadedError(TemporaryError):
    """More is asked for than can be done now (429)."""


class NotStoredError(TemporaryError):
    """The database is away, full or busy (503)."""


class RateLimiter:
    """A token bucket for each sender.

    Parameters
    ----------
    per_second
        Units that come back each second.
    burst
        Units a rested sender has. A request for more than that is let through when the bucket is
        full, and paid off afterwards.
    clock
        Seconds, never going back.

    Examples
    --------
    >>> now = 0.0
    >>> limiter = RateLimiter(per_second=10, burst=20, clock=lambda: now)
    >>> limiter.take("phone", 20)
    >>> limiter.take("phone", 5)
    Traceback (most recent call last):
        ...
    anomaly_assets.live.limits.OverloadedError: more than 10 units a second; wait 0.5 s
    """

    def __init__(
        self, *, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = per_second
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[object, tuple[float, float]] = OrderedDict()

    def take(self, sender: object, units: float) -> None:
        """Spend units of a sender.

        Raises
        ------
        OverloadedError
            If it has not that many; nothing is spent then.
        """
        now = self._clock()
        level, since = self._buckets.get(sender, (self._burst, now))
        level = min(self._burst, level + (now - since) * self._rate)
        short = min(units, self._burst) - level
        if short > 0:
            wait = short / self._rate
            msg = f"more than {self._rate:g} units a second; wait {wait:.3g} s"
            raise OverloadedError(msg, wait)
        self._buckets[sender] = (level - units, now)
        self._buckets.move_to_end(sender)
        while len(self._buckets) > _MOST_BUCKETS:
            # The one that has been silent longest has the fullest bucket.
            self._buckets.popitem(last=False)


class FailureLimit:
    """How many failures one address may have in any minute.

    Parameters
    ----------
    per_minute
        After so many it has to wait until the first of them is a minute old.
    addresses
        How many are remembered; of more, those that have failed least lately are forgotten.
    clock
        Seconds, never going back.

    Examples
    --------
    >>> limit = FailureLimit(1, clock=lambda: 0.0)
    >>> limit.note("192.0.2.1")
    >>> limit.require("192.0.2.2")
    >>> limit.require("192.0.2.1")
    Traceback (most recent call last):
        ...
    anomaly_assets.live.limits.OverloadedError: too many failures from this address; wait 60 s
    """

    def __init__(
        self,
        per_minute: int,
        *,
        addresses: int = _MOST_BUCKETS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_minute = per_minute
        self._addresses = addresses
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many addresses are remembered."""
        return len(self._failures)

    def require(self, address: str) -> None:
        """Let an address go on, unless it has failed too often.

        Raises
        ------
        OverloadedError
            With the seconds it has to wait.
        """
        failures = self._failures.get(address)
        if failures is None or len(failures) < self._per_minute:
            return
        wait = failures[0] + _MINUTE - self._clock()
        if wait > 0:
            msg = f"too many failures from this address; wait {math.ceil(wait)} s"
            raise OverloadedError(msg, wait)

    def note(self, address: str) -> None:
        """Count a failure of an address."""
        failures = self._failures.setdefault(address, deque(maxlen=self._per_minute))
        failures.append(self._clock())
        self._failures.move_to_end(address)
        while len(self._failures) > self._addresses:
            self._failures.popitem(last=False)


class Budget:
    """A stock of bytes that all requests in progress share.

    Parameters
    ----------
    total
        Bytes in stock.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self.used = 0

    @contextmanager
    def share(self) -> Iterator[Share]:
        """Take part; what was taken goes back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            share.give_back()

    def take(self, size: int) -> None:
        """Take bytes.

        Raises
        ------
        OverloadedError
            If there are not that many left.
        """
        if self.used + size > self._total:
            msg = "too many large requests at once"
            raise OverloadedError(msg, 1.0)
        self.used += size


class Share:
    """What one request has taken of a budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._taken = 0

    def take(self, size: int) -> None:
        """Take bytes; see :meth:`Budget.take`."""
        self._budget.take(size)
        self._taken += size

    def give_back(self) -> None:
        """Return all that was taken."""
        self._budget.used -= self._taken
        self._taken = 0
