"""Event counts: how far a count lies above its own rolling 95 % quantile."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from anomaly_assets.detection.compiled import compiled
from anomaly_assets.detection.individual.carried import CarriedBlock
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
TAIL_SHARE = 0.7
#: An excess is learnt as at most this many units beyond the largest known.
LARGEST_STEP = 2.0
#: Index of the generalised Pareto tail beyond the largest known excess.
TAIL_INDEX = 8.0
LARGEST_EXCESS = 1e30
LARGEST_BEYOND = 1e6
Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EventJudgement:
    """What is said of a block of counts, arrays of shape ``(n_windows, n_streams)``.

    Parameters
    ----------
    p
        The p-value of each count: its mid-rank, and a tail beyond the largest; NaN where nothing
        is judged.
    expected
        Median of the counts before.
    deviation
        Distance from it in spreads, NaN where nothing is judged.
    """

    p: FloatArray
    expected: FloatArray
    deviation: FloatArray


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
        #: The same, sorted.
        self.ordered = self.window.copy()
        self.upper = np.zeros(n_streams)
        self.median = np.zeros(n_streams)
        self.spread = np.zeros(n_streams)
        self.excesses = np.full((n_streams, N_RANKS), -np.inf, dtype=np.float32)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is recomputed from the rest."""
        return {name: held for name, held in self.__dict__.items() if name != "ordered"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`__getstate__` returned."""
        self.__dict__.update(state)
        self.ordered = np.sort(self.window, axis=1)

    def run(self, block: CarriedBlock, first: int, *, learn: bool) -> EventJudgement:
        """Judge every window of a block by what was learnt before it, and learn it.

        Parameters
        ----------
        block
            The windows.
        first
            Column of the first stream with this model; the others follow.
        learn
            Whether to learn.
        """
        shape = (len(block.value), len(self.upper))
        result = EventJudgement(*(np.full(shape, np.nan) for _ in range(3)))
        readings = (block.value, block.observed, block.readings_before)
        counts = (self.window, self.ordered, self.excesses)
        state = (self.upper, self.median, self.spread)
        judged = (result.p, result.expected, result.deviation)
        _run(*readings, first, learn, *counts, *state, *judged)
        return result


@compiled
def _run(
    value: FloatArray,
    observed: BoolArray,
    readings_before: IntArray,
    first: int,
    learn: bool,  # noqa: FBT001 - compiled functions take positions only
    window: FloatArray,
    ordered: FloatArray,
    excesses: Float32Array,
    upper: FloatArray,
    median: FloatArray,
    spread: FloatArray,
    p: FloatArray,
    expected: FloatArray,
    deviation: FloatArray,
) -> None:
    """Judge counts stream by stream and window by window, and learn them."""
    for i in range(upper.size):
        column = first + i
        for t in range(value.shape[0]):
            expected[t, i] = median[i]
            if not observed[t, column]:
                continue
            count, before = value[t, column], readings_before[t, column]
            excess = np.float32(min(max(count - upper[i], -LARGEST_EXCESS), LARGEST_EXCESS))
            known = min(before - 1, N_RANKS)
            if known > 0:
                unit = max(spread[i], SMALLEST_SPREAD)
                deviation[t, i] = (count - median[i]) / unit
                p[t, i], excess = _judge(excess, excesses[i, :known], unit)
            if not learn:
                continue
            if before > 0:
                excesses[i, (before - 1) % N_RANKS] = excess
                distance = abs(count - median[i])
                if spread[i] != 0.0:
                    distance = min(distance, max(spread[i], SMALLEST_SPREAD) * LARGEST_LEARNT)
                spread[i] += max(1.0 / before, SPREAD_RATE) * (distance - spread[i])
            _replace(ordered[i], window[i, before % WINDOW_SIZE], count)
            window[i, before % WINDOW_SIZE] = count
            last = min(before, WINDOW_SIZE - 1)
            upper[i] = _quantile(ordered[i], last, QUANTILE)
            median[i] = _quantile(ordered[i], last, 0.5)


@compiled
def _judge(excess: np.float32, known: Float32Array, unit: float) -> tuple[float, np.float32]:
    """Return the p-value of an excess, and what is to be learnt of it."""
    greater, ties = 0, 0
    for other in known:
        greater += other > excess
        ties += other == excess
    beyond, learnt = 0.0, excess
    if greater == 0 and ties == 0:
        largest = -math.inf
        for other in known:
            largest = max(largest, float(other))
        unit = max(unit, largest * TAIL_SHARE)
        past = float(excess) - largest
        beyond = past / unit
        # One burst must not hide the next: it is learnt as little more than the largest so far.
        learnt = np.float32(largest + min(past, LARGEST_STEP * unit))
    decay = 1.0 + min(beyond, LARGEST_BEYOND) / TAIL_INDEX
    # To the power of the tail's index.
    decay *= decay
    decay *= decay
    decay *= decay
    return min((greater + 0.5 * ties + 0.5) / (known.size + 1.0) / decay, 1.0), learnt


@compiled
def _replace(ordered: FloatArray, old: float, new: float) -> None:
    """Take `old` out of sorted numbers, and put `new` in."""
    at = 0
    while ordered[at] != old:
        at += 1
    while at + 1 < ordered.size and ordered[at + 1] < new:
        ordered[at] = ordered[at + 1]
        at += 1
    while at > 0 and ordered[at - 1] > new:
        ordered[at] = ordered[at - 1]
        at -= 1
    ordered[at] = new


@compiled
def _quantile(ordered: FloatArray, last: int, q: float) -> float:
    """Return a quantile of numbers sorted up to index `last`, interpolated as River does it."""
    at = q * last
    low = int(at)
    upper = ordered[min(low + 1, last)]
    return ordered[low] + (at - low) * (upper - ordered[low])
