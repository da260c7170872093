"""Event counts: how far a count lies above its own rolling 95 % quantile."""

from __future__ import annotations

import numpy as np

from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray

QUANTILE = 0.95
WINDOW_SIZE = 50
#: Excesses that an excess is ranked among: a week of windows.
N_RANKS = 2016
SPREAD_RATE = 0.02
#: Least spread: one event.
SMALLEST_SPREAD = 1.0
#: A deviation is learnt as at most this many spreads.
LARGEST_LEARNT = 5.0
#: The unit of the tail beyond the largest known excess is the spread, and at least this share of
#: that excess: what has bursts has larger ones.
TAIL_SHARE = 0.35
#: An excess is learnt as at most this many units beyond the largest known.
LARGEST_STEP = 2.0
#: Index of the generalised Pareto tail beyond the largest known excess.
TAIL_INDEX = 8.0
LARGEST_EXCESS = 1e30
LARGEST_BEYOND = 1e6
#: Ranks are counted 64 at a time.
_PADDED = 2048


def tail_p(greater: IntArray, ties: IntArray, n: IntArray, beyond: FloatArray) -> FloatArray:
    """Return the p-value of an excess: its mid-rank, and a tail beyond the largest.

    Parameters
    ----------
    greater, ties
        How many of the known excesses are greater, and how many equal.
    n
        How many are known.
    beyond
        Distance beyond the largest known, in units of the tail; 0 where it is not beyond.
    """
    p = greater + 0.5 * ties
    p += 0.5
    p /= n + 1.0
    decay = 1.0 + np.minimum(beyond, LARGEST_BEYOND) / TAIL_INDEX
    decay *= decay
    decay *= decay
    decay *= decay
    p /= decay
    return np.minimum(p, 1.0)


def _count(where: BoolArray) -> IntArray:
    """Count the true entries of each row of ``(n, 2048)`` bools."""
    words = np.packbits(where, axis=1).view(np.uint64)
    counts: IntArray = np.add.reduce(np.bitwise_count(words), axis=1, dtype=np.int64)
    return counts


class EventCounts:
    """The arithmetic of :class:`~.river_models.EventCountDetector`, stream by stream in arrays.

    A count is compared with the 95 % quantile of the 50 before it; that alone would flag 6 to 9 %
    of counts, so the excess is ranked among those of a week.

    Parameters
    ----------
    n_streams
        Length of the stream axis.
    """

    def __init__(self, n_streams: int) -> None:
        self.window = np.full((n_streams, WINDOW_SIZE), np.inf)
        self.upper = np.zeros(n_streams)
        self.median = np.zeros(n_streams)
        self.spread = np.zeros(n_streams)
        self.excesses = np.full((n_streams, _PADDED), -np.inf, dtype=np.float32)

    def excess(self, value: FloatArray) -> FloatArray:
        """Return how far `value` lies above the quantile, rounded to what is kept of it."""
        excess = value - self.upper
        np.minimum(excess, LARGEST_EXCESS, out=excess)
        np.maximum(excess, -LARGEST_EXCESS, out=excess)
        return excess.astype(np.float32).astype(np.float64)

    def rank(
        self, excess: FloatArray, judged: BoolArray, greater: IntArray, ties: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Rank excesses among the known ones.

        Parameters
        ----------
        excess
            What :meth:`excess` gave.
        judged
            Streams with a reading and at least one known excess.
        greater, ties
            Receive how many known excesses are greater and how many equal.

        Returns
        -------
        beyond, learnt
            How far each excess lies beyond the largest known one, in units of the tail (0 where it
            does not, and where nothing is judged), and what is to be learnt of it.
        """
        column = excess.astype(np.float32)[:, np.newaxis]
        greater[:] = _count(self.excesses > column)
        ties[:] = _count(self.excesses == column)
        beyond = np.zeros(len(excess))
        learnt = excess.copy()
        rows = np.flatnonzero(judged & (greater == 0) & (ties == 0))
        if rows.size:
            largest = self.excesses[rows].max(axis=1).astype(np.float64)
            unit = np.maximum(self.spread[rows], SMALLEST_SPREAD)
            np.maximum(unit, largest * TAIL_SHARE, out=unit)
            past = excess[rows] - largest
            beyond[rows] = past / unit
            # One burst must not hide the next: it is learnt as little more than the largest so far.
            learnt[rows] = largest + np.minimum(past, LARGEST_STEP * unit)
        return beyond, learnt

    def learn(
        self,
        value: FloatArray,
        observed: BoolArray,
        readings_before: IntArray,
        learnt: FloatArray,
    ) -> None:
        """Learn the counts of a window, and of their excesses what :meth:`rank` gave as learnt."""
        rows = np.flatnonzero(observed)
        if not rows.size:
            return
        before = readings_before[rows]
        value = value[rows]
        known = np.flatnonzero(before)
        at = rows[known]
        self.excesses[at, (before[known] - 1) % N_RANKS] = learnt[at]
        self._learn_spread(rows, before, value)
        window = self.window[rows]
        window[np.arange(rows.size), before % WINDOW_SIZE] = value
        self.window[rows] = window
        window.sort(axis=1)
        last = np.minimum(before, WINDOW_SIZE - 1)
        self.upper[rows] = _quantile(window, last, QUANTILE)
        self.median[rows] = _quantile(window, last, 0.5)

    def _learn_spread(self, rows: IntArray, before: IntArray, value: FloatArray) -> None:
        spread = self.spread[rows]
        limit = np.maximum(spread, SMALLEST_SPREAD) * LARGEST_LEARNT
        limit = np.where(spread == 0.0, np.inf, limit)
        deviation = np.minimum(np.abs(value - self.median[rows]), limit)
        rate = np.maximum(1.0 / np.maximum(before, 1), SPREAD_RATE) * (before > 0)
        self.spread[rows] = spread + rate * (deviation - spread)


def _quantile(ordered: FloatArray, last: IntArray, q: float) -> FloatArray:
    """Return quantiles of rows sorted up to index `last`, interpolated as River does it."""
    at = q * last
    low = at.astype(np.int64)
    rows = np.arange(len(ordered))
    lower = ordered[rows, low]
    fraction = at - low
    upper = ordered[rows, np.minimum(low + 1, last)]
    result: FloatArray = lower + fraction * (upper - lower)
    return result
