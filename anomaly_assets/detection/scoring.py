r"""The one scale on which all scores live.

Every detector states a p-value, the probability of something at least as odd on a clean window, and
every score is ``1 - p ** EXPONENT``: 0.70 is p = 0.0136 and 0.80 is p = 0.003. Scores of different
streams and tiers are thereby comparable, can be combined, and can be turned back into p-values.

References
----------
Liu, Y. and Xie, J. (2020). Cauchy combination test: a powerful test with analytic p-value
calculation under arbitrary dependency structures. Journal of the American Statistical Association
115(529).
"""

from __future__ import annotations

import math

import numpy as np

from anomaly_assets.detection.compiled import compiled
from anomaly_assets.streams.windows import FloatArray, IntArray

EXPONENT = 0.277
#: p-values are kept inside these bounds: below, scores no longer differ from 1; above, the Cauchy
#: combination would let one perfectly ordinary stream outvote all others.
SMALLEST_P = 1e-50
LARGEST_COMBINED_P = 0.99


def score_of_p(p: FloatArray) -> FloatArray:
    """Turn p-values into scores.

    Parameters
    ----------
    p
        p-values in [0, 1], any shape; NaN stays NaN.

    Returns
    -------
    numpy.ndarray
        Scores in [0, 1], same shape.

    Examples
    --------
    >>> score_of_p(np.array([1.0, 0.0136, 0.003])).round(2).tolist()
    [0.0, 0.7, 0.8]
    """
    return 1.0 - np.power(np.minimum(np.maximum(p, SMALLEST_P), 1.0), EXPONENT)


def p_of_score(score: FloatArray) -> FloatArray:
    """Turn scores back into p-values, the inverse of :func:`score_of_p`."""
    p = np.power(1.0 - score, 1.0 / EXPONENT)
    return np.minimum(np.maximum(p, SMALLEST_P), 1.0)


def student_t_p(t: FloatArray, degrees_of_freedom: FloatArray | IntArray) -> FloatArray:
    """Two-sided tail of Student's t with 1, 2, 3 or 4 degrees of freedom.

    Closed forms, so that the tail keeps full relative precision (no ``1 - cdf``), without SciPy.

    Parameters
    ----------
    t
        Statistics, any shape; NaN stays NaN.
    degrees_of_freedom
        1, 2, 3 or 4 for each statistic (values above 4 are read as 4), broadcastable to `t`.

    Returns
    -------
    numpy.ndarray
        p-values in (0, 1].
    """
    freedom = np.asarray(degrees_of_freedom, dtype=np.int64)
    if freedom.shape != t.shape:
        freedom = np.broadcast_to(freedom, t.shape)
    p = np.empty(t.shape)
    _student_t_p(np.ascontiguousarray(t).ravel(), np.ascontiguousarray(freedom).ravel(), p.ravel())
    return p


@compiled
def _student_t_p(t: FloatArray, freedom: IntArray, p: FloatArray) -> None:
    """Write the two-sided tail of Student's t into `p`."""
    r3 = math.sqrt(3.0)
    for i in range(t.size):
        squared = min(t[i] * t[i], 1e100)
        if freedom[i] >= 4:
            q = 4.0 / (4.0 + squared)
            s = math.sqrt(1.0 - q)
            tail = q * q * (3.0 + q) / 4.0 / (1.0 + s * (1.0 + q / 2.0))
        elif freedom[i] == 3:
            size = math.sqrt(squared)
            angle = math.atan2(r3, size)
            tail = 2.0 / math.pi * (angle - (size / r3) / (1.0 + squared / 3.0))
        elif freedom[i] == 2:
            q = 2.0 / (2.0 + squared)
            tail = q / (1.0 + math.sqrt(1.0 - q))
        else:
            tail = 2.0 / math.pi * math.atan2(1.0, math.sqrt(squared))
        if tail < SMALLEST_P:
            tail = SMALLEST_P
        elif tail > 1.0:
            tail = 1.0
        p[i] = tail


def cauchy_combination(p: FloatArray, weights: FloatArray) -> FloatArray:
    """Combine dependent p-values along the last axis by the weighted Cauchy combination.

    Parameters
    ----------
    p
        p-values, shape ``(..., n)``; NaN entries do not take part.
    weights
        Non-negative weights, broadcastable to `p`.

    Returns
    -------
    numpy.ndarray
        Combined p-values, shape ``(...)``; NaN where nothing with a positive weight took part.
    """
    if weights.ndim == 1 or p.shape == weights.shape:
        lead = p.shape[:-1]
    else:
        lead = np.broadcast_shapes(p.shape[:-1], weights.shape[:-1])
    combined = np.empty(lead)
    _combine(_rows(p, lead), _rows(weights, lead), combined.ravel())
    return combined


def _rows(x: FloatArray, lead: tuple[int, ...]) -> FloatArray:
    """Return the last axes of `x` as rows; one row alone stands for all."""
    if x.ndim > 1 and x.shape[:-1] != lead:
        x = np.broadcast_to(x, (*lead, x.shape[-1]))
    return np.ascontiguousarray(x).reshape(-1, x.shape[-1])


@compiled
def _combine(p: FloatArray, weights: FloatArray, combined: FloatArray) -> None:
    """Write each row's combined p-value, summed from left to right."""
    for row in range(combined.size):
        own_p = p[row if len(p) > 1 else 0]
        own_weight = weights[row if len(weights) > 1 else 0]
        statistic, total = 0.0, 0.0
        for i in range(own_p.size):
            if own_weight[i] > 0.0 and math.isfinite(own_p[i]):
                used = min(max(own_p[i], SMALLEST_P), LARGEST_COMBINED_P)
                # tan((0.5 - p) pi) = 1 / tan(p pi), which keeps its precision where p is tiny.
                statistic += own_weight[i] / math.tan(used * math.pi)
                total += own_weight[i]
        if total > 0.0:
            combined[row] = math.atan2(1.0, statistic / total) / math.pi
        else:
            combined[row] = math.nan
