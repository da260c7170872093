"""Covariances of streams with each other's earlier windows, where values may be missing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from anomaly_assets.streams.windows import BoolArray, FloatArray

#: A pair of variables seen together less often says nothing.
FEWEST_PAIRS: Final = 60
#: Waves a day by which the daily cycle is described.
_HARMONICS: Final = 4
#: Least variance of any direction among standardised variables: less is an error of estimation.
LEAST_DIRECTION: Final = 0.003


@dataclass(frozen=True)
class LaggedCovariance:
    """Covariances of every stream with every stream, now and up to some windows earlier.

    Variable ``lag * n_streams + stream`` is a stream `lag` windows ago.

    Parameters
    ----------
    matrix
        Shape ``(m, m)`` with ``m = (1 + max_lag) * n_streams``; 0 where a pair was seen too seldom.
    pairs
        How often each pair was seen together, of the same shape.
    """

    matrix: FloatArray
    pairs: FloatArray


def without_daily_cycle(values: FloatArray, hours: FloatArray) -> FloatArray:
    """Return what the time of day does not say of each stream.

    Parameters
    ----------
    values
        Shape ``(n_windows, n_streams)``, NaN where missing.
    hours
        Local hour of each window, in [0, 24), shape ``(n_windows,)``.
    """
    angle = hours[:, None] * (2.0 * np.pi / 24.0) * np.arange(1, _HARMONICS + 1)
    waves = np.concatenate([np.ones((len(hours), 1)), np.sin(angle), np.cos(angle)], axis=1)
    rest = np.full_like(values, np.nan)
    for column in range(values.shape[1]):
        seen = np.isfinite(values[:, column])
        if seen.sum() < FEWEST_PAIRS:
            continue
        own = waves[seen]
        # A stream seen at some hours only cannot tell all waves apart: least norm, not an error.
        fitted = own @ np.linalg.lstsq(own, values[seen, column], rcond=None)[0]
        rest[seen, column] = values[seen, column] - fitted
    return rest


def gaussian_ranks(values: FloatArray) -> FloatArray:
    """Replace each stream's values by the normal quantiles of their ranks; ties share one.

    A stream that hardly varies becomes NaN: its ranks would be those of rounding errors.

    Parameters
    ----------
    values
        Shape ``(n_windows, n_streams)``, NaN where missing.
    """
    ranked = np.full_like(values, np.nan)
    for column in range(values.shape[1]):
        seen = np.flatnonzero(np.isfinite(values[:, column]))
        own = values[seen, column]
        if len(seen) < FEWEST_PAIRS or np.ptp(own) <= 1e-9 * max(1.0, float(np.abs(own).max())):
            continue
        _, place, counts = np.unique(own, return_inverse=True, return_counts=True)
        last = np.cumsum(counts)
        # Twice the mean rank of each tied group is a whole number.
        quantiles = _quantiles(len(seen))[(2 * last - counts)[place] - 1]
        ranked[seen, column] = quantiles / quantiles.std()
    return ranked


@lru_cache(maxsize=8)
def _quantiles(count: int) -> FloatArray:
    normal = NormalDist()
    return np.array([normal.inv_cdf(k / (2 * count)) for k in range(1, 2 * count)])


def lagged_covariance(
    values: FloatArray,
    max_lag: int,
    *,
    weights: FloatArray | None = None,
    variance: FloatArray | None = None,
) -> LaggedCovariance:
    """Estimate all covariances from the pairs of values that were seen together.

    Parameters
    ----------
    values
        Standardised, consecutive windows, shape ``(n_windows, n_streams)``, NaN where missing.
    max_lag
        Windows to look back, 0 or more.
    weights
        How often each window counts, shape ``(n_windows,)``; once unless given.
    variance
        What is uncertain of each value, shape as `values`; nothing unless given.
    """
    stacked = _stacked(values, max_lag)
    seen: BoolArray = np.isfinite(stacked)
    filled = np.where(seen, stacked, 0.0)
    own = np.ones((len(stacked), 1)) if weights is None else weights[max_lag:, None]
    pairs = (seen * own).T @ seen.astype(np.float64)
    products = (filled * own).T @ filled
    if variance is not None:
        added = (np.where(seen, _stacked(variance, max_lag), 0.0) * own).sum(axis=0)
        products[np.diag_indices(len(products))] += added
    matrix = np.where(pairs >= FEWEST_PAIRS, products / np.fmax(pairs, 1.0), 0.0)
    diagonal = np.diag_indices(len(matrix))
    matrix[diagonal] = np.fmax(matrix[diagonal], 0.5)
    return LaggedCovariance(_possible(matrix), pairs)


def _stacked(values: FloatArray, max_lag: int) -> FloatArray:
    """Return each window beside the ones before it, shape ``(n_windows - max_lag, m)``."""
    last = len(values)
    return np.concatenate(
        [values[max_lag - lag : last - lag] for lag in range(max_lag + 1)], axis=1
    )


def _possible(matrix: FloatArray) -> FloatArray:
    """Return the nearest matrix that some data could have, variances kept.

    Covariances over different windows need not be those of any data; causes found in such a matrix
    explain more than there is.
    """
    spread = np.sqrt(np.diagonal(matrix))
    values, vectors = np.linalg.eigh(matrix / np.multiply.outer(spread, spread))
    # As far as one direction varies by less than nothing, no small variance can be relied on.
    least = max(LEAST_DIRECTION, -float(values[0]))
    if values[0] < least:
        matrix = (vectors * np.fmax(values, least)) @ vectors.T
        own = np.sqrt(np.diagonal(matrix))
        matrix = matrix * np.multiply.outer(spread / own, spread / own)
    return matrix
