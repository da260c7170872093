"""Short gaps of many streams, filled with what the other streams and windows say.

Covariances over the pairs of values that happen to be there are those of a different set of windows
for each pair; where streams remember their past, the small differences look like causes. So gaps of
up to half an hour are filled with their expected values, and how uncertain those are is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from anomaly_assets.detection.explanation.network.lagged import lagged_covariance

if TYPE_CHECKING:
    from anomaly_assets.streams.windows import BoolArray, FloatArray

#: Longest gap that is filled, windows.
LONGEST: Final = 6
#: Windows to either side that a missing value is told from.
_REACH: Final = 2
_PASSES: Final = 4
_SWEEPS: Final = 3


def fill_short_gaps(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fill the gaps of up to :data:`LONGEST` windows between two observed values.

    A missing value is the conditional mean of a Gaussian over all streams within two windows of it;
    means and covariances are worked out in turn, as in expectation maximisation (Dempster, Laird
    and Rubin 1977).

    Parameters
    ----------
    values
        Standardised, consecutive windows, shape ``(n_windows, n_streams)``, NaN where missing.

    Returns
    -------
    filled
        As `values`; longer gaps are still NaN.
    variance
        Conditional variance of each filled value, 0 where observed, same shape.
    """
    missing = np.isnan(values)
    short = _short_gaps(missing)
    variance = np.zeros_like(values)
    if not short.any():
        return values, variance
    # Longer gaps are guessed along, so that they do not pull their neighbours to the mean.
    guessed: FloatArray = np.where(missing, 0.0, values).astype(np.float64)
    for column in np.flatnonzero(short.any(axis=0)).tolist():
        known = np.flatnonzero(~missing[:, column])
        rows = np.flatnonzero(short[:, column])
        guessed[rows, column] = np.interp(rows, known, values[known, column])
    filled: FloatArray = np.where(missing & ~short, np.nan, guessed)
    for _ in range(_PASSES):
        covariance = lagged_covariance(filled, 2 * _REACH, variance=variance).matrix
        precision: FloatArray = np.linalg.inv(covariance).astype(np.float64)
        own = np.diagonal(precision)[_centre(values.shape[1])]
        guessed = _sweep(guessed, missing, precision)
        filled = np.where(missing & ~short, np.nan, guessed)
        variance = np.where(short, 1.0 / own, 0.0)
    return filled, variance


def _short_gaps(missing: BoolArray) -> BoolArray:
    """Return which missing values lie in a short gap that has both its ends."""
    rows = np.arange(len(missing))[:, None]
    before = np.maximum.accumulate(np.where(missing, -1, rows), axis=0)
    after = np.minimum.accumulate(np.where(missing, len(missing), rows)[::-1], axis=0)[::-1]
    short: BoolArray = (
        missing & (before >= 0) & (after < len(missing)) & (after - before - 1 <= LONGEST)
    )
    return short


def _centre(n_streams: int) -> slice:
    return slice(_REACH * n_streams, (_REACH + 1) * n_streams)


def _sweep(guessed: FloatArray, missing: BoolArray, precision: FloatArray) -> FloatArray:
    """Replace every missing value by its mean given all others, stream after stream."""
    n_windows, n_streams = guessed.shape
    padded = np.zeros((n_windows + 2 * _REACH, n_streams))
    padded[_REACH : _REACH + n_windows] = guessed
    gaps = [np.flatnonzero(missing[:, column]) for column in range(n_streams)]
    for _ in range(_SWEEPS):
        for column, rows in enumerate(gaps):
            if not len(rows):
                continue
            place = _REACH * n_streams + column
            weights = -precision[place] / precision[place, place]
            weights[place] = 0.0
            total = np.zeros(len(rows))
            # Block `lag` of the covariance is `lag` windows before the first one.
            for lag in range(2 * _REACH + 1):
                part = weights[lag * n_streams : (lag + 1) * n_streams]
                total += padded[rows + 2 * _REACH - lag] @ part
            padded[rows + _REACH, column] = total
    return padded[_REACH : _REACH + n_windows]
