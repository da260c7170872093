"""The recent history of all scores as one multivariate series a window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from anomaly_assets.streams.windows import FloatArray, IntArray

if TYPE_CHECKING:
    from anomaly_assets.detection.results import CrossStreamScores, IndividualScores

#: Windows of history: an hour.
HISTORY: Final = 12


def scores_of(individual: IndividualScores, cross_stream: CrossStreamScores) -> FloatArray:
    """Return every tier-1 and tier-2 score of a block, shape ``(n_windows, n_channels)``.

    Streams come first, then tier 2 as a whole, then its groups; NaN where unknown.
    """
    return np.concatenate(
        [individual.score, cross_stream.score[:, np.newaxis], cross_stream.group_score], axis=1
    )


def recent_scores(scores: FloatArray, rows: IntArray, before: FloatArray) -> FloatArray:
    """Return the last windows up to each of some rows.

    Parameters
    ----------
    scores
        As :func:`scores_of` returns them, of consecutive windows.
    rows
        Whose history.
    before
        Scores of the windows just before, in order, at most so many as are needed.

    Returns
    -------
    numpy.ndarray
        Shape ``(len(rows), HISTORY, n_channels)``, the window itself last; NaN where a score, or
        the whole window, is unknown.

    Examples
    --------
    >>> recent = recent_scores(np.array([[0.5], [0.6]]), np.array([1]), np.array([[0.4]]))
    >>> recent[0, -3:, 0].tolist()
    [0.4, 0.5, 0.6]
    """
    n_channels = scores.shape[1]
    known = np.concatenate([before, scores])[-(HISTORY - 1 + len(scores)) :]
    lacking = HISTORY - 1 + len(scores) - len(known)
    padded = np.concatenate([np.full((lacking, n_channels), np.nan), known])
    return padded[rows[:, np.newaxis] + np.arange(HISTORY)]


def as_series(recent: FloatArray) -> FloatArray:
    """Return histories as the forest takes them: channel after channel, then which are known.

    Unknown scores are filled with 0, and a channel of its own for each says where they were known.

    Parameters
    ----------
    recent
        Shape ``(n, HISTORY, n_channels)``.

    Returns
    -------
    numpy.ndarray
        Shape ``(n, 2 * n_channels * HISTORY)``.
    """
    channels = np.moveaxis(recent, 2, 1)
    both = np.concatenate([np.nan_to_num(channels), np.isfinite(channels).astype(float)], axis=1)
    return both.reshape(len(recent), both.shape[1] * both.shape[2])
