"""The score of the Numenta Anomaly Benchmark, standard profile.

Each labelled anomaly has a window around it. The earliest alarm in a window earns up to 1, falling
along a sigmoid to 0 at the window's right edge; a window without alarm costs 1; each alarm outside
costs up to 0.11, less if it comes shortly after a window. The first 15 % of a file, at most 750
rows, are for learning and do not count. Files are summed, and scaled so that no alarm at all scores
0 and an alarm at the left edge of every window and nowhere else 100.

NAB scores at one threshold for all files: the one that is best over all of them. An alarm is a
score that reaches the threshold.

References
----------
A. Lavin, S. Ahmad: Evaluating Real-time Anomaly Detection Algorithms -- the Numenta Anomaly
Benchmark. ICMLA 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from anomaly_assets.errors import EvaluationError
from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray

#: Standard profile.
_FALSE_ALARM_COST = 0.11
_MISSED_COST = 1.0
_LEARNING_SHARE = 0.15
_MOST_LEARNING_ROWS = 750
#: Beyond three widths after a window, an alarm is as false as one can be.
_FAR = 3.0


class NabSeries(Protocol):
    """A file of the benchmark: `known` holds the first and last row of every window, in order."""

    @property
    def known(self) -> Sequence[tuple[int, int]]:
        """First and last row of every labelled window."""

    @property
    def name(self) -> str:
        """What to call it in messages."""


class Threshold(NamedTuple):
    """The best threshold over all files, and its score (100 is perfect)."""

    threshold: float
    score: float


def learning_rows(n_rows: int) -> int:
    """Return how many rows at the beginning of a file do not count."""
    return min(int(_LEARNING_SHARE * n_rows), _MOST_LEARNING_ROWS)


def nab_score(series: Sequence[NabSeries], scores: Sequence[FloatArray], threshold: float) -> float:
    """Return the NAB score of a set of files at one threshold.

    Parameters
    ----------
    series
        The files.
    scores
        Of each file, shape ``(n_rows,)``; NaN is never an alarm.
    threshold
        Scores that reach it are alarms.

    Returns
    -------
    float
        100 for perfect, 0 for no alarm at all, negative for worse than that.

    Raises
    ------
    EvaluationError
        If there is no window at all, files and scores do not fit, or a score is infinite.
    """
    files = _files(series, scores)
    gained = sum(file.gain(s >= threshold) for file, s in zip(files, scores, strict=True))
    return _scaled(gained, files)


def best_threshold(series: Sequence[NabSeries], scores: Sequence[FloatArray]) -> Threshold:
    """Return the one threshold that is best over all files, as NAB optimises it.

    Of equally good thresholds the highest is returned; infinity if it is best never to alarm.

    Parameters
    ----------
    series, scores
        As for :func:`nab_score`.

    Raises
    ------
    EvaluationError
        As for :func:`nab_score`.
    """
    files = _files(series, scores)
    at, steps = [], []
    for file, of_file in zip(files, scores, strict=True):
        for rows in file.parts():
            known = rows[~np.isnan(of_file[rows])]
            order = known[np.argsort(-of_file[known], kind="stable")]
            total = file.reward[order]
            inside = bool(file.window[order[0]] >= 0) if order.size else False
            gain = np.maximum.accumulate(total) + _MISSED_COST if inside else np.cumsum(total)
            steps.append(np.diff(gain, prepend=0.0))
            at.append(of_file[order])
    threshold, step = np.concatenate(at), np.concatenate(steps)
    order = np.argsort(-threshold, kind="stable")
    threshold, gained = threshold[order], np.cumsum(step[order])
    # All rows of one score become alarms at once.
    last = np.flatnonzero(np.append(threshold[1:] != threshold[:-1], threshold.size > 0))
    if not last.size or gained[last].max() <= 0.0:
        return Threshold(float("inf"), 0.0)
    best = last[np.argmax(gained[last])]
    return Threshold(float(threshold[best]), _scaled(float(gained[best]), files))


class _File:
    """What each row of a file earns if it is an alarm."""

    def __init__(self, name: str, windows: Sequence[tuple[int, int]], n_rows: int) -> None:
        self.window: IntArray = np.full(n_rows, -1, dtype=np.int64)
        self.reward: FloatArray = np.full(n_rows, -_FALSE_ALARM_COST)
        rows = np.arange(n_rows)
        for first, last in windows:
            if not 0 <= first <= last < n_rows:
                msg = f"{name}: window {first} to {last} is outside of its {n_rows} scored rows"
                raise EvaluationError(msg)
            width = last - first + 1
            after = rows[last + 1 :]
            past = (after - last) / max(width - 1, 1)
            self.reward[after] = _FALSE_ALARM_COST * np.where(past > _FAR, -1.0, _sigmoid(past))
        for number, (first, last) in enumerate(windows):
            width = last - first + 1
            inside = rows[first : last + 1]
            self.window[inside] = number
            self.reward[inside] = _sigmoid((inside - last - 1) / width) / _sigmoid(np.array(-1.0))
        self.counted = rows >= learning_rows(n_rows)
        self.n_windows = len(windows)

    def parts(self) -> list[IntArray]:
        """Return the rows that count: those outside of all windows, and those of each window."""
        return [
            np.flatnonzero(self.counted & (self.window == number))
            for number in range(-1, self.n_windows)
        ]

    def gain(self, alarms: BoolArray) -> float:
        """Return what the alarms earn beyond no alarm at all."""
        outside, *inside = self.parts()
        total = float(self.reward[outside[alarms[outside]]].sum())
        for rows in inside:
            found = rows[alarms[rows]]
            if found.size:
                total += float(self.reward[found].max()) + _MISSED_COST
        return total

    def best_gain(self) -> float:
        """Return what perfect alarms would earn, as NAB reckons it.

        NAB counts every window as one that can be found, even where it begins in the learning part;
        one that ends there can cost nothing either.
        """
        _, *inside = self.parts()
        return self.n_windows + _MISSED_COST * sum(1 for rows in inside if rows.size)


def _files(series: Sequence[NabSeries], scores: Sequence[FloatArray]) -> list[_File]:
    if len(series) != len(scores):
        msg = f"{len(series)} files but {len(scores)} arrays of scores; give one for each file"
        raise EvaluationError(msg)
    for one, s in zip(series, scores, strict=True):
        if s.ndim != 1:
            msg = f"{one.name}: scores have shape {s.shape}, expected (n_rows,)"
            raise EvaluationError(msg)
        if np.isinf(s).any():
            row = int(np.flatnonzero(np.isinf(s))[0])
            msg = f"{one.name}: row {row} has an infinite score; give a finite one, or NaN"
            raise EvaluationError(msg)
    files = [_File(one.name, one.known, s.size) for one, s in zip(series, scores, strict=True)]
    if not any(file.n_windows for file in files):
        msg = "no file has a labelled window, so nothing can be found in them"
        raise EvaluationError(msg)
    return files


def _scaled(gained: float, files: Sequence[_File]) -> float:
    return 100.0 * gained / sum(file.best_gain() for file in files)


def _sigmoid(position: FloatArray) -> FloatArray:
    """Return 1 far left of a window's right edge, 0 at it, -1 far right (positions in widths)."""
    return np.asarray(2.0 / (1.0 + np.exp(5.0 * position)) - 1.0)
