"""How long things took, in a few counters: cheap enough for the hot path."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from anomaly_assets.monitoring.families import histogram

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prometheus_client import Metric

#: Upper bounds, seconds: a first look takes milliseconds, a window that waits minutes.
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Timing:
    """A histogram of seconds by one label; of one thread, or of one event loop.

    Parameters
    ----------
    name
        Of its family.
    bounds
        Upper bounds of the buckets, ascending, seconds.

    Examples
    --------
    >>> timing = Timing("batch_seconds")
    >>> timing.observe(0.2)
    >>> timing.count, timing.seconds
    (1, 0.2)
    """

    def __init__(self, name: str, bounds: Sequence[float] = SECONDS) -> None:
        self._name = name
        self._bounds = tuple(bounds)
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}

    @property
    def count(self) -> int:
        """How many were observed."""
        return sum(sum(counts) for counts in self._counts.values())

    @property
    def seconds(self) -> float:
        """Their sum."""
        return sum(self._sums.values())

    def observe(self, seconds: float, *labels: str) -> None:
        """Count one."""
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = [0] * (len(self._bounds) + 1)
            self._sums[labels] = 0.0
        counts[bisect_left(self._bounds, seconds)] += 1
        self._sums[labels] += seconds

    def metric(self) -> Metric:
        """Return it for Prometheus."""
        names = [*(repr(bound) for bound in self._bounds), "+Inf"]
        return histogram(
            self._name,
            [
                (labels, list(zip(names, accumulate(counts), strict=True)), self._sums[labels])
                for labels, counts in list(self._counts.items())
            ],
        )
