"""Flat lines: a continuous stream that repeats one value for longer than it ever does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anomaly_assets.detection.individual.carried import CarriedBlock
from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray

#: Completed runs that a run is held against.
N_RUNS = 500
#: Longer runs count as this long (a week of windows).
LONGEST_RUN = 2016
#: Run lengths are told apart on this grid only, rounded down: exact where flat lines begin.
GRID = np.array(
    [
        *(1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64, 80, 96, 128, 160),
        *(192, 256, 288, 384, 576, 864, 1152, 1584, LONGEST_RUN),
    ],
    dtype=np.int64,
)
#: Whatever was seen so far, one more equal value makes a run at most six times less likely.
STEEPEST_RATIO = 0.16
#: Runs longer than the longest seen are expected as if this many of all runs had been such.
UNSEEN_RUNS = 0.8
#: Index of the power law beyond the longest run: the number of known runs over the first, at most
#: the second.
RUNS_PER_INDEX = 50.0
LARGEST_INDEX = 3.0
#: A stream's resting values are judged only once it has been seen for a day: days have nights.
READINGS_BEFORE_RESTING = 288

_LENGTHS = np.arange(LONGEST_RUN + 1)
_GRID_OF_LENGTH = np.maximum(np.searchsorted(GRID, _LENGTHS, side="right") - 1, 0)
#: Windows of a run of each length that are at or past each length of the grid.
_WINDOWS_PAST = np.maximum(_LENGTHS[:, np.newaxis] + 1 - GRID, 0).astype(np.int32)
_LEAST_P = np.array([max(STEEPEST_RATIO ** max(n - 1, 0), 1e-50) for n in range(LONGEST_RUN + 1)])


@dataclass(frozen=True)
class RunHistory:
    """The completed runs that present runs are held against, arrays ``(n_windows, n_streams)``.

    Parameters
    ----------
    past
        Windows of completed runs that lie at or past the present run's length (int32).
    total
        Windows of all completed runs (int32).
    n_runs
        Number of completed runs, at most :data:`N_RUNS` (int64).
    longest
        Length of the longest of them, on the grid (int64).
    """

    past: npt.NDArray[np.int32]
    total: npt.NDArray[np.int32]
    n_runs: IntArray
    longest: IntArray

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> RunHistory:
        """Return arrays of this shape, to be filled by :meth:`FlatLines.look_up`."""
        return cls(
            past=np.empty(shape, dtype=np.int32),
            total=np.empty(shape, dtype=np.int32),
            n_runs=np.empty(shape, dtype=np.int64),
            longest=np.empty(shape, dtype=np.int64),
        )


def tail_p(history: RunHistory, length: IntArray) -> FloatArray:
    """Return the share of clean windows that lie this deep or deeper in a run.

    Parameters
    ----------
    history
        What is known of completed runs.
    length
        Present length of the run, from 0 (nothing observed yet) to :data:`LONGEST_RUN`.
    """
    known = history.n_runs
    ratio = np.maximum(length / np.maximum(history.longest, 1), 1.0)
    # Beyond the longest run seen: a power law, flat as long as little is known.
    index = np.minimum(known / RUNS_PER_INDEX, LARGEST_INDEX)
    p: FloatArray = np.asarray(UNSEEN_RUNS / (known + 1.0), dtype=np.float64)
    p *= np.power(ratio, -index)
    p += history.past / np.maximum(history.total, 1)
    np.maximum(p, _LEAST_P[length], out=p)
    return np.minimum(p, 1.0)


@dataclass(frozen=True)
class Runs:
    """Runs of equal values in a block, arrays of shape ``(n_windows, n_streams)``.

    Parameters
    ----------
    length
        Length of the run after each window (int64); missing windows neither break nor lengthen it.
    completed
        Length of the run that ended in each window, 0 where none did (int64).
    """

    length: IntArray
    completed: IntArray


class FlatLines:
    """Run lengths of every stream against its last 500 completed runs.

    The p-value of a run that is `n` windows long is the share of past windows which lay at least
    that deep in their run. A stream whose nights are flat has many deep windows, so its nights do
    not alarm; one whose values never repeat has none and alarms after 5 equal ones. A run enters
    the history when it ends, so a line that stays flat keeps alarming.

    Parameters
    ----------
    resting_values
        Values of each stream at which it may rest naturally (0 and the bounds of its valid range),
        shape ``(n_streams, n_values)``; NaN fills up.
    """

    def __init__(self, resting_values: FloatArray) -> None:
        n_streams = len(resting_values)
        self.resting_values = resting_values
        self.length = np.zeros(n_streams, dtype=np.int64)
        self.history = np.zeros((n_streams, N_RUNS), dtype=np.int16)
        self.position = np.zeros(n_streams, dtype=np.int64)
        self.n_runs = np.zeros(n_streams, dtype=np.int64)
        self.longest = np.zeros(n_streams, dtype=np.int64)
        self._row_starts = np.arange(n_streams) * len(GRID)
        self.windows_past = np.zeros((n_streams, len(GRID)), dtype=np.int32)

    def runs(self, block: CarriedBlock) -> Runs:
        """Return the runs of `block` without learning them."""
        before = np.empty((len(block.value) + 1, len(self.length)), dtype=np.int64)
        before[0] = self.length
        broken = block.observed & ((block.value != block.previous) | (block.readings_before == 0))
        seen = np.cumsum(block.observed, axis=0)
        # Readings up to the one that began the run, counted from the start of the block.
        began = np.where(broken, seen, 1 - self.length)
        np.maximum.accumulate(began, axis=0, out=began)
        np.subtract(seen, began, out=before[1:])
        before[1:] += 1
        np.minimum(before, LONGEST_RUN, out=before)
        return Runs(length=before[1:], completed=before[:-1] * broken)

    def speaks(self, block: CarriedBlock) -> BoolArray:
        """Return where a run may be judged: not at a resting value on a stream's first day."""
        young = block.readings_before < READINGS_BEFORE_RESTING
        if not young.any():
            return np.ones(young.shape, dtype=bool)
        resting: BoolArray = block.value == self.resting_values[:, 0]
        for column in self.resting_values.T[1:]:
            resting |= block.value == column
        speaking: BoolArray = ~(young & resting)
        return speaking

    def look_up(self, length: IntArray, history: RunHistory, t: int) -> None:
        """Write what is known about runs of this length now into row `t` of `history`."""
        at = _GRID_OF_LENGTH[length]
        at += self._row_starts
        self.windows_past.take(at, out=history.past[t])
        history.total[t] = self.windows_past[:, 0]
        history.n_runs[t] = self.n_runs
        history.longest[t] = self.longest

    def advance(self, runs: Runs) -> None:
        """Move the present runs to the end of a block."""
        if len(runs.length):
            self.length = runs.length[-1].copy()

    def learn(self, completed: IntArray) -> None:
        """Learn the runs that ended in a window (0: none), shape ``(n_streams,)``."""
        rows = np.flatnonzero(completed)
        if not rows.size:
            return
        new = completed[rows]
        at = self.position[rows]
        old = self.history[rows, at]
        self.history[rows, at] = new
        self.position[rows] = (at + 1) % N_RUNS
        self.n_runs[rows] = np.minimum(self.n_runs[rows] + 1, N_RUNS)
        differ = np.flatnonzero(old != new)
        if differ.size:
            rows = rows[differ]
            past = self.windows_past[rows]
            past += _WINDOWS_PAST[new[differ]] - _WINDOWS_PAST[old[differ]]
            self.windows_past[rows] = past
            self.longest[rows] = GRID[np.count_nonzero(past, axis=1) - 1]
