"""Flat lines: a continuous stream that repeats one value for longer than it ever does."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from anomaly_assets.detection.compiled import compiled
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
_LEAST_P = np.array([max(STEEPEST_RATIO ** max(n - 1, 0), 1e-50) for n in range(LONGEST_RUN + 1)])


Int16Array = npt.NDArray[np.int16]
Int32Array = npt.NDArray[np.int32]


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
        self.windows_past = np.zeros((n_streams, len(GRID)), dtype=np.int32)

    def p(self, block: CarriedBlock, *, learn: bool) -> FloatArray:
        """Return how likely runs as long as the present ones are, and learn those that end.

        Parameters
        ----------
        block
            The windows; the streams judged here come first.
        learn
            Whether to learn.

        Returns
        -------
        numpy.ndarray
            The share of clean windows that lie this deep or deeper in a run, in (0, 1], shape
            ``(n_windows, n_streams)``; 1 at a resting value on a stream's first day.
        """
        p = np.empty((len(block.value), len(self.length)))
        readings = (block.value, block.previous, block.observed, block.readings_before)
        tables = (_GRID_OF_LENGTH, _LEAST_P, self.resting_values)
        length = self.length if learn else self.length.copy()
        counts = (self.position, self.n_runs, self.longest)
        _run(*readings, *tables, learn, length, self.history, *counts, self.windows_past, p)
        return p


@compiled
def _run(
    value: FloatArray,
    previous: FloatArray,
    observed: BoolArray,
    readings_before: IntArray,
    grid_of_length: IntArray,
    least_p: FloatArray,
    resting_values: FloatArray,
    learn: bool,  # noqa: FBT001 - compiled functions take positions only
    length: IntArray,
    history: Int16Array,
    position: IntArray,
    n_runs: IntArray,
    longest: IntArray,
    windows_past: Int32Array,
    p: FloatArray,
) -> None:
    """Write the p-values of runs into `p`, window by window, and learn those that end."""
    for t in range(p.shape[0]):
        for i in range(p.shape[1]):
            completed = 0
            if observed[t, i]:
                if value[t, i] != previous[t, i] or readings_before[t, i] == 0:
                    completed, length[i] = length[i], 1
                else:
                    length[i] = min(length[i] + 1, LONGEST_RUN)
            silent = False
            if readings_before[t, i] < READINGS_BEFORE_RESTING:
                for k in range(resting_values.shape[1]):
                    silent |= value[t, i] == resting_values[i, k]
            if silent:
                p[t, i] = 1.0
            else:
                past = windows_past[i, grid_of_length[length[i]]] / max(windows_past[i, 0], 1)
                ratio = max(length[i] / max(longest[i], 1), 1.0)
                # Beyond the longest run seen: a power law, flat as long as little is known.
                index = min(n_runs[i] / RUNS_PER_INDEX, LARGEST_INDEX)
                unseen = UNSEEN_RUNS / (n_runs[i] + 1.0) * ratio**-index
                p[t, i] = min(max(unseen + past, least_p[length[i]]), 1.0)
            if learn and completed > 0:
                _learn(i, completed, history, position, n_runs, longest, windows_past)


@compiled
def _learn(
    i: int,
    completed: int,
    history: Int16Array,
    position: IntArray,
    n_runs: IntArray,
    longest: IntArray,
    windows_past: Int32Array,
) -> None:
    """Learn a run of stream `i` that ended."""
    forgotten = history[i, position[i]]
    history[i, position[i]] = completed
    position[i] = (position[i] + 1) % N_RUNS
    n_runs[i] = min(n_runs[i] + 1, N_RUNS)
    if forgotten == completed:
        return
    past = 0
    for k in range(windows_past.shape[1]):
        # Windows of a run that are at or past this length of the grid.
        gained = max(completed + 1 - GRID[k], 0)
        windows_past[i, k] += gained - max(forgotten + 1 - GRID[k], 0)
        past += windows_past[i, k] != 0
    longest[i] = GRID[past - 1]
