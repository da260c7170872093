"""How far a window lies from the level before its anomaly began."""

from __future__ import annotations

import numpy as np

from anomaly_assets.errors import InputError
from anomaly_assets.streams.windows import FloatArray

#: A level rests on windows that together weigh this much, in windows just before the onset: what a
#: stream did half a day ago is no level to compare with.
LEAST_WEIGHT = 0.25
#: Residuals beyond this are all alike; they stay finite, so that whoever reads them may add them.
LARGEST = 1e300


def frozen_residuals(
    history: FloatArray,
    onset: int,
    *,
    scale: FloatArray,
    half_life: float = 6.0,
) -> FloatArray:
    """Return the standardised residual of the last window against the level before the onset.

    The level is an exponentially weighted mean (Roberts 1959) that stops learning at the onset: one
    that went on learning would take a lasting anomaly for normal, sooner in the streams that
    change first, which are the causes sought.

    Parameters
    ----------
    history
        Shape ``(n_windows, n_streams)``, oldest first, NaN where missing; its last row is the
        window explained.
    onset
        Row in which the anomaly began, from 0 to the last.
    scale
        Shape ``(n_streams,)``, in the unit of each stream; the scale of a causal network, where the
        residuals are to be read by it.
    half_life
        Windows after which a value weighs half, > 0.

    Returns
    -------
    FloatArray
        Shape ``(n_streams,)``; NaN where the last value is missing, where too little was observed
        before the onset, and where the scale is unknown or not positive.

    Raises
    ------
    InputError
        If shapes disagree, the onset is no row, or the half-life is not positive.

    Examples
    --------
    >>> history = np.array([[1.0, 5.0], [1.0, 5.0], [4.0, np.nan]])
    >>> frozen_residuals(history, 2, scale=np.array([1.5, 1.0]))
    array([ 2., nan])
    """
    history, scale = np.asarray(history, dtype=np.float64), np.asarray(scale, dtype=np.float64)
    _check(history, onset, scale, half_life)
    before, last = history[:onset], history[-1]
    known = np.isfinite(before)
    weight = np.where(known, 0.5 ** (np.arange(onset - 1, -1, -1.0) / half_life)[:, None], 0.0)
    total = weight.sum(axis=0)
    trusted = (total >= LEAST_WEIGHT) & np.isfinite(last) & np.isfinite(scale) & (scale > 0.0)
    # Dividing the weights first keeps values near the largest float from overflowing.
    share = weight / np.where(trusted, total, 1.0)
    with np.errstate(over="ignore"):
        level = np.sum(share * np.where(known, before, 0.0), axis=0)
        residual = (last - level) / np.where(trusted, scale, 1.0)
    return np.where(trusted, np.clip(residual, -LARGEST, LARGEST), np.nan)


def _check(history: FloatArray, onset: int, scale: FloatArray, half_life: float) -> None:
    if history.ndim != 2 or not len(history):
        msg = f"history has shape {history.shape}; give (n_windows, n_streams), one row at least"
        raise InputError(msg)
    if scale.shape != history.shape[1:]:
        msg = f"scale has shape {scale.shape} but history has {history.shape[1]} streams"
        raise InputError(msg)
    if not 0 <= onset < len(history):
        msg = f"onset {onset} is no row of a history of {len(history)} windows"
        raise InputError(msg)
    if not half_life > 0.0:
        msg = f"half_life is {half_life} windows; give a positive number"
        raise InputError(msg)
