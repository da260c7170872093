"""Which streams' values tier 2 looks at, re-chosen as data arrives."""

from __future__ import annotations

import numpy as np

from anomaly_assets.streams.windows import FloatArray, IntArray

#: Values are given this many places in the main forest even where time and availability features,
#: which always stay, use up the whole budget.
MIN_VALUE_FEATURES = 8
#: A stream in use is replaced only by one that is this much more predictive.
INCUMBENT_BONUS = 1.25
#: Share of the tracked streams given in turn to streams that are not tracked, to get to know them.
EXPLORATION = 0.2
#: Joint windows that a correlation needs before half of it is believed.
SHRINKAGE = 50.0


def value_features(n_streams: int, n_time: int, max_features: int) -> int:
    """Return how many streams' values fit in the main forest.

    Parameters
    ----------
    n_streams, n_time
        Number of availability and of time features, which always stay.
    max_features
        Budget of all of them together.

    Examples
    --------
    >>> value_features(10, 4, 40), value_features(30, 4, 40), value_features(500, 4, 40)
    (10, 8, 8)
    """
    left = max_features - n_time - n_streams
    return min(n_streams, max(left, MIN_VALUE_FEATURES))


def predictiveness(correlation: FloatArray, weight: FloatArray, columns: IntArray) -> FloatArray:
    """Say how strongly each stream is tied to the tracked ones.

    Parameters
    ----------
    correlation
        Of every stream (rows) with the tracked ones (columns), shape ``(n_streams, n_tracked)``.
    weight
        Effective number of joint windows, same shape.
    columns
        Which streams are tracked, shape ``(n_tracked,)``.

    Returns
    -------
    numpy.ndarray
        Mean of the three largest shrunk squared correlations with *other* streams, in [0, 1], shape
        ``(n_streams,)``.
    """
    squared = correlation * correlation * (weight / (weight + SHRINKAGE))
    squared[columns, np.arange(columns.size)] = 0.0
    best = np.sort(squared, axis=1)[:, ::-1][:, :3]
    return np.asarray(best.sum(axis=1) / 3.0)


def choose(score: FloatArray, current: IntArray, size: int) -> IntArray:
    """Choose the best `size` streams; those that stay keep their place.

    Ties go to the stream that comes first in the catalogue.

    Parameters
    ----------
    score
        Predictiveness of every stream, -1 for one that must not be chosen; shape ``(n_streams,)``.
    current
        The streams chosen so far, shape ``(size,)``.
    size
        How many to choose.
    """
    biased = score.copy()
    mine = score[current]
    biased[current] = np.where(mine > 0.0, INCUMBENT_BONUS * mine, mine)
    # Incumbents also win ties, so that nothing moves before there is evidence.
    tie = np.ones(score.size)
    tie[current] = 0.0
    best = np.lexsort((np.arange(score.size), tie, -biased))[:size]
    chosen = current.copy()
    gone = ~np.isin(current, best)
    chosen[gone] = np.sort(best[~np.isin(best, current)])
    return chosen


def choose_tracked(score: FloatArray, current: IntArray, round_number: int) -> IntArray:
    """Choose the streams whose relationships are tracked: the best, and some in turn.

    Parameters
    ----------
    score
        Predictiveness of every stream.
    current
        Those tracked so far.
    round_number
        Number of the choice, which decides whose turn it is.
    """
    n_streams, size = score.size, current.size
    if size >= n_streams:
        return current
    exploring = max(1, int(size * EXPLORATION))
    kept = np.zeros(n_streams, dtype=bool)
    order = np.lexsort((np.arange(n_streams), -score))
    kept[order[: size - exploring]] = True
    others = np.flatnonzero(~kept)
    turn = (round_number * exploring + np.arange(exploring)) % others.size
    kept[others[turn]] = True
    wanted = np.flatnonzero(kept)
    chosen = current.copy()
    gone = ~np.isin(current, wanted)
    chosen[gone] = wanted[~np.isin(wanted, current)]
    return chosen
