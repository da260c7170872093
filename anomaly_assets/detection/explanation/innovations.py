"""What could not be foreseen of each stream: prewhitening that bears gaps.

Slow waves (a daily cycle, a drift) are taken out by regression, the rest is foretold by an
autoregression of third order from whichever of the last three values were there, of first order
where gaps leave too little to estimate more. Dropping every row with an incomplete past would, with
20 % of the values missing, leave 41 % of the rows; this way every observed value has an innovation.

References
----------
Durbin, J. (1960). The fitting of time-series models. Review of the International Statistical
Institute 28(3).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from types import MappingProxyType

import numpy as np

from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray

#: Values before the present one that may foretell it.
ORDER = 3
#: Complete runs of four values without which only the first order is estimated.
ENOUGH_RUNS = 60
#: Values a stream must have; correlations need as many pairs.
LEAST_VALUES = 60
#: Waves with half a period longer than this, in minutes, are slow. Getting up and going to bed are
#: edges that streams share without having to do with each other: a day needs fourteen waves.
SLOW_HALF_PERIOD = 100.0
#: Partial autocorrelations are held below this, or a random walk would be foretold to explode.
LARGEST_PARTIAL = 0.98
#: Values are cut at so many standard deviations before, innovations after the autoregression.
CUT_VALUES = 5.0
WINSORISE = 3.0
#: Weight, in rows, that holds back waves which a stream was too seldom there to tell.
RIDGE = 1e-3
#: A rest of less than this share of a stream's extent is what the fit of the waves left behind.
SMOOTH = 1e-4
#: Less variation than this, relative to the largest value, is rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Innovations:
    """Prewhitened streams.

    Parameters
    ----------
    values
        Innovations of mean 0, in standard deviations, winsorised at three; 0 where
        there is none, shape ``(n, n_streams)``.
    known
        Where there is one, same shape.
    n_waves
        Number of slow waves that were taken out, the mean included.
    left_out
        Position of every stream without innovations, and why it has none.
    """

    values: FloatArray
    known: BoolArray
    n_waves: int
    left_out: MappingProxyType[int, str]


def innovations(values: FloatArray, minutes_per_row: int) -> Innovations:
    """Prewhiten streams.

    Parameters
    ----------
    values
        Shape ``(n, n_streams)``, oldest row first, without a break in time; what is not finite is
        missing.
    minutes_per_row
        Minutes from one row to the next.

    Returns
    -------
    Innovations
        Of the same shape; a stream that is constant, too short or empty is left out.
    """
    seen = np.isfinite(values)
    scaled, left_out = _scaled(values, seen)
    kept = np.array([i for i in range(values.shape[1]) if i not in left_out], dtype=np.int64)
    n_waves = max(2, round(len(values) * minutes_per_row / SLOW_HALF_PERIOD))
    found = np.zeros(values.shape)
    known = np.zeros(values.shape, dtype=np.bool_)
    if len(kept):
        rest = _without_slow_waves(scaled[:, kept], seen[:, kept], n_waves)
        there = seen[:, kept]
        spread = np.sqrt((rest * rest).sum(axis=0) / there.sum(axis=0))
        flat = spread <= SMOOTH
        for position in kept[flat].tolist():
            left_out[position] = "nothing but a slow wave: no innovation is left to compare"
        kept, there = kept[~flat], there[:, ~flat]
        rest = np.clip(rest[:, ~flat] / spread[~flat], -CUT_VALUES, CUT_VALUES)
        found[:, kept] = _whitened(rest, there)
        known[:, kept] = there
    return Innovations(found, known, n_waves, MappingProxyType(dict(sorted(left_out.items()))))


def _scaled(values: FloatArray, seen: BoolArray) -> tuple[FloatArray, dict[int, str]]:
    """Centre streams and bring them to a size of 1; name those that cannot be compared."""
    counts = seen.sum(axis=0)
    left_out: dict[int, str] = {}
    # Sizes come first: the square of a huge value would overflow.
    size = np.where(seen, np.abs(np.where(seen, values, 0.0)), 0.0).max(axis=0, initial=0.0)
    scaled = np.where(seen, values, 0.0) / np.where(size > 0.0, size, 1.0)
    scaled -= scaled.sum(axis=0) / np.maximum(counts, 1)
    scaled[~seen] = 0.0
    extent = np.abs(scaled).max(axis=0, initial=0.0)
    for position, count in enumerate(counts.tolist()):
        if count == 0:
            left_out[position] = "empty: it has no value"
        elif extent[position] <= _ROUNDING:
            left_out[position] = "constant: its value never changes"
        elif count < LEAST_VALUES:
            left_out[position] = f"too short: {count} values, {LEAST_VALUES} are needed"
    return scaled / np.where(extent > 0.0, extent, 1.0), left_out


def _without_slow_waves(values: FloatArray, seen: BoolArray, n_waves: int) -> FloatArray:
    """Take slow cosine waves out of each stream, fitted where it was seen; 0 where it was not."""
    n = len(values)
    waves = np.cos(np.pi * np.outer(np.arange(n) + 0.5, np.arange(n_waves)) / n)
    weights = seen.astype(np.float64)
    pairs = (waves[:, :, None] * waves[:, None, :]).reshape(n, -1)
    gram = (weights.T @ pairs).reshape(-1, n_waves, n_waves)
    # A stream seen for an hour of the day cannot tell ten waves apart: they share what there is.
    gram += RIDGE * np.eye(n_waves)
    fitted = np.linalg.solve(gram, (values.T @ waves)[:, :, None])[:, :, 0]
    rest: FloatArray = np.where(seen, values - waves @ fitted.T, 0.0)
    return rest


def _whitened(values: FloatArray, seen: BoolArray) -> FloatArray:
    """Subtract from each value what the last three foretell, in units of what is left."""
    autocorrelation = _autocorrelation(values, seen)
    expected, left = _foretold(values, seen, autocorrelation)
    surprise = np.where(seen, (values - expected) / np.sqrt(left), 0.0)
    counts = seen.sum(axis=0)
    surprise /= np.sqrt((surprise * surprise).sum(axis=0) / counts)
    cut = np.clip(surprise, -WINSORISE, WINSORISE)
    centred: FloatArray = np.where(seen, cut - cut.sum(axis=0) / counts, 0.0)
    return centred


def _autocorrelation(values: FloatArray, seen: BoolArray) -> FloatArray:
    """Autocorrelations at lags 0 to three that some autoregression has, ``(4, n_streams)``."""
    weights = seen.astype(np.float64)
    power = (values * values).sum(axis=0) / weights.sum(axis=0)
    raw = np.ones((ORDER + 1, values.shape[1]))
    runs = weights
    for lag in range(1, ORDER + 1):
        pairs = (weights[lag:] * weights[:-lag]).sum(axis=0)
        together = (values[lag:] * values[:-lag]).sum(axis=0)
        raw[lag] = together / np.maximum(pairs, 1.0) / power
        runs = runs[1:] * weights[: len(values) - lag]
    enough = runs.sum(axis=0) >= ENOUGH_RUNS
    found = raw.copy()
    coefficients = np.zeros((ORDER + 1, values.shape[1]))
    left = np.ones(values.shape[1])
    for lag in range(1, ORDER + 1):
        foretold = sum((coefficients[k] * found[lag - k] for k in range(1, lag)), np.zeros(()))
        partial = np.clip((raw[lag] - foretold) / left, -LARGEST_PARTIAL, LARGEST_PARTIAL)
        if lag > 1:
            partial = np.where(enough, partial, 0.0)
        before = coefficients.copy()
        coefficients[lag] = partial
        for k in range(1, lag):
            coefficients[k] = before[k] - partial * before[lag - k]
        found[lag] = foretold + partial * left
        left = left * (1.0 - partial * partial)
    return found


def _foretold(
    values: FloatArray, seen: BoolArray, autocorrelation: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Best linear forecast from the values that were there, and the variance it leaves."""
    n, n_streams = values.shape
    earlier = np.zeros((ORDER, n, n_streams))
    pattern = np.zeros((n, n_streams), dtype=np.int64)
    for lag in range(1, ORDER + 1):
        earlier[lag - 1, lag:] = values[:-lag]
        pattern[lag:] += seen[:-lag].astype(np.int64) << (lag - 1)
    weights, left = _weights_by_pattern(autocorrelation)
    columns = np.arange(n_streams)
    expected = (weights[pattern, :, columns] * np.moveaxis(earlier, 0, -1)).sum(axis=-1)
    remaining: FloatArray = left[pattern, columns]
    gap, last = _gap_before(seen)
    far = (pattern == 0) & (last >= 0)
    fading = autocorrelation[1] ** np.where(far, gap, 1)
    before = np.take_along_axis(values, np.maximum(last, 0), axis=0)
    expected = np.where(far, fading * before, expected)
    remaining = np.where(far, 1.0 - fading * fading, remaining)
    return expected, np.maximum(remaining, 1e-3)


def _weights_by_pattern(autocorrelation: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weights of the last three values for each of the eight ways in which some may be missing.

    Returns weights of shape ``(8, 3, n_streams)`` and the variances left, ``(8, n_streams)``.
    """
    n_streams = autocorrelation.shape[1]
    lags = np.arange(ORDER)
    toeplitz = np.moveaxis(autocorrelation[np.abs(lags[:, None] - lags)], -1, 0)
    weights = np.zeros((2**ORDER, ORDER, n_streams))
    left = np.ones((2**ORDER, n_streams))
    for there in product((False, True), repeat=ORDER):
        of = np.flatnonzero(there)
        if not len(of):
            continue
        code = int((1 << of).sum())
        covariance = autocorrelation[of + 1].T
        solved = np.linalg.solve(toeplitz[:, of][:, :, of], covariance[:, :, None])[:, :, 0]
        weights[code, of] = solved.T
        left[code] = 1.0 - (solved * covariance).sum(axis=1)
    return weights, left


def _gap_before(seen: BoolArray) -> tuple[IntArray, IntArray]:
    """Rows since each stream's last value, and that value's row; -1 where there is none."""
    rows = np.arange(len(seen))[:, None]
    last = np.full(seen.shape, -1, dtype=np.int64)
    last[1:] = np.maximum.accumulate(np.where(seen, rows, -1), axis=0)[:-1]
    return rows - last, last
