"""Which combinations of absences are common, and which streams fail together."""

from __future__ import annotations

import numpy as np

from anomaly_assets.detection.compiled import compiled
from anomaly_assets.streams.contexts import CONTEXT_NAMES
from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray

#: Windows within which streams must vanish to have vanished together.
TOGETHER_WINDOWS = 2
#: Windows in a row that a stream must have been there before its absence says anything.
STEADY_WINDOWS = 3
#: Share of a group's recently available streams that makes a failure a coordinated one.
COORDINATED_SHARE = 0.6

_NONE, _SOME, _ALL, _UNKNOWN = range(4)


class PatternFrequency:
    """Faded relative frequency of availability patterns, per context.

    Instead of fading every count at every window, new counts grow by the inverse of the fade, which
    is the same up to a common factor. At most `capacity` patterns of a context are kept; the rarest
    one (ties: the first in byte order) makes room for a new one.

    Parameters
    ----------
    fade
        Factor on a context's counts at each of its windows, in (0, 1).
    capacity
        Largest number of patterns kept of a context.
    """

    def __init__(self, *, fade: float = 0.9995, capacity: int = 64) -> None:
        self.fade = fade
        self.capacity = capacity
        self._weights: list[dict[bytes, float]] = [{} for _ in CONTEXT_NAMES]
        self._totals = [0.0 for _ in CONTEXT_NAMES]
        self._increments = [1.0 for _ in CONTEXT_NAMES]

    def frequency(self, context: int, pattern: bytes) -> float:
        """Return the share of `pattern` among the context's windows so far, in [0, 1]."""
        total = self._totals[context]
        return self._weights[context].get(pattern, 0.0) / total if total > 0.0 else 0.0

    def learn(self, context: int, pattern: bytes) -> None:
        """Count one window with `pattern`."""
        weights = self._weights[context]
        increment = self._increments[context]
        if pattern not in weights and len(weights) >= self.capacity:
            del weights[min(weights, key=lambda known: (weights[known], known))]
        weights[pattern] = weights.get(pattern, 0.0) + increment
        self._totals[context] += increment
        self._increments[context] = increment / self.fade
        # Long before the growing increments would lose the precision of their sums.
        if increment > 1e100:
            self._weights[context] = {known: w / increment for known, w in weights.items()}
            self._totals[context] /= increment
            self._increments[context] /= increment


def group_patterns(n_available: IntArray, n_known: IntArray) -> list[bytes]:
    """Return each window's pattern: whether none, some or all of each group's streams are there.

    Bits of single streams would make nearly every window of many streams unique.

    Parameters
    ----------
    n_available, n_known
        Observed and known streams of each group, shape ``(n_windows, n_groups)``.
    """
    state = np.where(n_available == n_known, _ALL, np.where(n_available == 0, _NONE, _SOME))
    state = np.where(n_known == 0, _UNKNOWN, state).astype(np.uint8)
    return [row.tobytes() for row in state]


def presence_runs(
    available: BoolArray, run: IntArray, missing: IntArray
) -> tuple[IntArray, IntArray]:
    """Count windows in a row, present and missing, of every stream after each window.

    Parameters
    ----------
    available
        Shape ``(n_windows, n_streams)``.
    run, missing
        The counts before the first window, shape ``(n_streams,)``.

    Returns
    -------
    runs, missings
        Both int64 of shape ``(n_windows, n_streams)``. While a stream is missing its run keeps the
        length it had: the last time it was there.
    """
    runs = np.empty(available.shape, dtype=np.int64)
    missings = np.empty(available.shape, dtype=np.int64)
    _count_runs(np.ascontiguousarray(available), run, missing, runs, missings)
    return runs, missings


@compiled
def _count_runs(
    available: BoolArray, run: IntArray, missing: IntArray, runs: IntArray, missings: IntArray
) -> None:
    """Write the windows in a row, present and missing, into `runs` and `missings`."""
    for t in range(available.shape[0]):
        for i in range(available.shape[1]):
            run_before = runs[t - 1, i] if t > 0 else run[i]
            missing_before = missings[t - 1, i] if t > 0 else missing[i]
            if available[t, i]:
                runs[t, i] = 1 if missing_before > 0 else run_before + 1
                missings[t, i] = 0
            else:
                runs[t, i] = run_before
                missings[t, i] = missing_before + 1


def lost_together(runs: IntArray, missings: IntArray) -> tuple[BoolArray, BoolArray]:
    """Return which streams were recently available, and which of these have just gone missing.

    Returns
    -------
    recent, lost
        Both bool, same shape as `runs`.
    """
    recent = (runs >= STEADY_WINDOWS) & (missings <= TOGETHER_WINDOWS)
    return recent, recent & (missings > 0)


def coordinated_failures(n_recent: IntArray, n_lost: IntArray) -> BoolArray:
    """Return whether a group failed as one: two streams or more, and 60 % of the recent ones.

    Parameters
    ----------
    n_recent, n_lost
        Recently available streams of each group and those of them just lost, any shape.
    """
    lost: FloatArray = n_lost.astype(np.float64)
    return (n_lost >= 2) & (lost >= COORDINATED_SHARE * n_recent)
