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

import numpy as np

from anomaly_assets.streams.windows import FloatArray

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
    return 1.0 - np.power(np.clip(p, SMALLEST_P, 1.0), EXPONENT)


def p_of_score(score: FloatArray) -> FloatArray:
    """Turn scores back into p-values, the inverse of :func:`score_of_p`."""
    return np.clip(np.power(1.0 - score, 1.0 / EXPONENT), SMALLEST_P, 1.0)


def student_t_p(t: FloatArray, degrees_of_freedom: FloatArray) -> FloatArray:
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
    squared = np.minimum(t * t, 1e100)
    q = 4.0 / (4.0 + squared)
    s = np.sqrt(1.0 - q)
    p = q * q * (3.0 + q) / 4.0 / (1.0 + s * (1.0 + q / 2.0))
    if np.min(degrees_of_freedom) < 4:
        size = np.sqrt(squared)
        q2 = 2.0 / (2.0 + squared)
        p2 = q2 / (1.0 + np.sqrt(1.0 - q2))
        p1 = 2.0 / np.pi * np.arctan2(1.0, size)
        r3 = np.sqrt(3.0)
        p3 = 2.0 / np.pi * (np.arctan2(r3, size) - (size / r3) / (1.0 + squared / 3.0))
        p = np.where(degrees_of_freedom >= 4, p, p3)
        p = np.where(degrees_of_freedom == 2, p2, p)
        p = np.where(degrees_of_freedom <= 1, p1, p)
    return np.clip(p, SMALLEST_P, 1.0)


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
    taking_part = np.isfinite(p) & (weights > 0.0)
    used = np.where(taking_part, np.clip(p, SMALLEST_P, LARGEST_COMBINED_P), 0.5)
    # tan((0.5 - p) pi) = 1 / tan(p pi), which keeps its precision where p is tiny.
    statistic = np.where(taking_part, weights / np.tan(used * np.pi), 0.0).sum(axis=-1)
    total = np.where(taking_part, weights, 0.0).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = statistic / total
    return np.where(total > 0.0, np.arctan2(1.0, mean) / np.pi, np.nan)
