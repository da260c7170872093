"""What goes silent although its companions still speak.

A watch that is taken off silences everything it measures. A heart rate that goes silent while the
same watch's accelerometer speaks is another matter, however often the watch is taken off.
"""

from __future__ import annotations

import numpy as np

from anomaly_assets.detection.compiled import compiled
from anomaly_assets.streams.windows import WINDOWS_PER_DAY, BoolArray, FloatArray, IntArray

#: Longer runs of silence count as this long: four hours.
LONGEST = 48
#: What has been silent for this many windows, or has never spoken, is gone: nothing is said of it,
#: and nothing learnt, until it speaks again.
GONE = WINDOWS_PER_DAY
#: What is known is halved at this many windows: four to eight weeks count.
MOST_WINDOWS = 56.0 * WINDOWS_PER_DAY
#: Runs longer than the longest known are expected as if this many of all windows had lain in one.
UNSEEN = 0.5
#: It is twice that once this many windows are known, and more before: a first week knows no other.
YOUNG = 5.0 * WINDOWS_PER_DAY
#: How fast they become less likely: by this power of their length over the longest known...
STEEPNESS = 5.0
#: ... and at most by this factor with every further window.
STEEPEST_RATIO = 0.3
#: A silence is learnt as at most this many times the longest known, and two windows: the first
#: fault must not excuse the next.
LARGEST_GROWTH = 1.25
#: Windows with a companion before anything is said.
MIN_WINDOWS = 3.0 * WINDOWS_PER_DAY
#: No silence is less likely than this.
SMALLEST_P = 1e-12


class CompanionSilence:
    """How unusual it is that one thing is silent for so long while another one speaks.

    For each pair of a row (all together, a group, or a group's activity) and a companion, waking
    windows in which the row is silent and the companion is there are counted in a run that ends
    when the row speaks again; windows without the companion neither lengthen nor end it. The
    p-value of a run's present length is the share of the windows with that companion that lay as
    deep in a run, and a power law beyond the longest known.

    Parameters
    ----------
    companions_of_row
        Which companions each row has (bool), shape ``(n_rows, n_companions)``.

    Examples
    --------
    Group 1 has always been there when group 0 was:

    >>> silence = CompanionSilence(np.array([[False, True], [True, False]]))
    >>> there = np.ones((1006, 2), dtype=bool)
    >>> there[1000:, 1] = False
    >>> p = silence.process(there, there, np.ones(1006, dtype=bool))
    >>> bool(p[999, 1] == 1.0), bool(p[1005, 1] < 1e-5)
    (True, True)
    """

    def __init__(self, companions_of_row: BoolArray) -> None:
        shape = companions_of_row.shape
        self._companions_of_row = companions_of_row
        self._run = np.full(shape, GONE, dtype=np.int64)
        self._longest = np.zeros(shape)
        self._windows = np.zeros(shape)
        # Windows at each depth of a run that has ended; the depth is the last axis.
        self._depths = np.zeros((*shape, LONGEST + 1))

    def process(self, present: BoolArray, companions: BoolArray, waking: BoolArray) -> FloatArray:
        """Judge and then learn windows, one after the other.

        Parameters
        ----------
        present
            Whether each row speaks, shape ``(n_windows, n_rows)``.
        companions
            Whether each companion is there, shape ``(n_windows, n_companions)``.
        waking
            Whether the window counts, shape ``(n_windows,)``.

        Returns
        -------
        numpy.ndarray
            p-values in (0, 1], the smallest of each row's companions times their number, shape
            ``(n_windows, n_rows)``; 1 where nothing is silent or too little is known.
        """
        p = np.ones(present.shape)
        known = (self._companions_of_row, self._run, self._longest, self._windows, self._depths)
        _process(present, companions, waking, *known, p)
        return p


@compiled
def _p_of_run(run: int, longest: float, windows: float, depths: FloatArray) -> float:
    """Return the share of windows that lie this deep in a run, with a tail beyond the longest."""
    deeper = 0.0
    for depth in range(run, depths.size):
        deeper += depths[depth]
    ratio = max(run / max(longest, 1.0), 1.0)
    beyond = max(run - max(longest, 1.0), 0.0)
    tail = UNSEEN * (1.0 + (YOUNG / windows) ** 2) * max(ratio**-STEEPNESS, STEEPEST_RATIO**beyond)
    return min((deeper + tail) / (windows + 1.0), 1.0)


@compiled
def _learn_run(run: int, longest: float, depths: FloatArray) -> float:
    """Add the windows of a run that ended; return the longest run now known."""
    learnt = min(run, LONGEST, int(longest * LARGEST_GROWTH) + 2)
    for depth in range(1, learnt + 1):
        depths[depth] += 1.0
    return max(longest, float(learnt))


@compiled
def _process(
    present: BoolArray,
    companions: BoolArray,
    waking: BoolArray,
    companions_of_row: BoolArray,
    run: IntArray,
    longest: FloatArray,
    windows: FloatArray,
    depths: FloatArray,
    p: FloatArray,
) -> None:
    """Judge and learn every pair of a row and a companion in every window."""
    n_rows, n_companions = run.shape
    for t in range(len(present)):
        if not waking[t]:
            continue
        for row in range(n_rows):
            smallest, asked = 1.0, 0
            for other in range(n_companions):
                asked += companions_of_row[row, other]
                if not (companions_of_row[row, other] and companions[t, other]):
                    continue
                pair = depths[row, other]
                windows[row, other] += 1.0
                if windows[row, other] >= MOST_WINDOWS:
                    windows[row, other] *= 0.5
                    pair *= 0.5
                if present[t, row]:
                    if 0 < run[row, other] < GONE:
                        longest[row, other] = _learn_run(run[row, other], longest[row, other], pair)
                    run[row, other] = 0
                    continue
                run[row, other] = min(run[row, other] + 1, GONE)
                if run[row, other] < GONE and windows[row, other] >= MIN_WINDOWS:
                    depth = min(run[row, other], LONGEST)
                    one = _p_of_run(depth, longest[row, other], windows[row, other], pair)
                    smallest = min(smallest, one)
            p[t, row] = max(min(smallest * max(asked, 1), 1.0), SMALLEST_P)
