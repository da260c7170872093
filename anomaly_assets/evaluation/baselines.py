"""What a user would otherwise pick, each over the same windows and each scoring before learning.

None of them looks at labels, and each has one setting for all data sets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from river import anomaly

from anomaly_assets.evaluation.datasets.series import LabelledSeries
from anomaly_assets.evaluation.metrics.optional import sklearn
from anomaly_assets.evaluation.prequential import Scored
from anomaly_assets.streams.windows import BoolArray, FloatArray

_SEED = 42
#: Rows of the half-life of a z-score, where a day has fewer.
_LEAST_HALF_LIFE = 288
#: Half-life, in days, of a z-score against the same time of day.
_SEASONAL_DAYS = 7.0
#: Of the training deviation, added to the sigma of a time of day.
_SIGMA_FLOOR = 0.1
#: Values without which there is no z-score.
_LEAST_SEEN = 2
#: No z-score is larger, or one stream that was always constant would outvote all others.
_MOST_SIGMA = 20.0
_PCA_VARIANCE = 0.9

_Pair = tuple[FloatArray, FloatArray | None]


def baselines_for(series: LabelledSeries) -> list[str]:
    """Return the names of the baselines that make sense for a series, in order.

    PCA and a maximum over streams need two streams; PCA and the isolation forest need something to
    learn from.
    """
    left_out: set[str] = set()
    if series.n_train < 2:
        left_out |= {"pca", "isolation_forest"}
    if series.block.values.shape[1] < 2:
        left_out |= {"pca", "seasonal_ew_z_max"}
    return [name for name in _BASELINES if name not in left_out]


def run_baseline(name: str, series: LabelledSeries) -> Scored:
    """Run one baseline over a series.

    Parameters
    ----------
    name
        One of :func:`baselines_for`.
    series
        What to run over; its labels are not looked at.

    Raises
    ------
    EvaluationError
        If scikit-learn is needed and not installed.
    """
    started = time.perf_counter()
    score, evidence = _BASELINES[name](series)
    return Scored(score, evidence, time.perf_counter() - started)


def _random(series: LabelledSeries) -> _Pair:
    generator = np.random.default_rng(_SEED)
    evidence = generator.random(series.block.values.shape)
    return generator.random(len(series.block)), evidence


def _ew_z(series: LabelledSeries) -> _Pair:
    values = series.block.values
    rate = _rate(max(series.rows_per_day, _LEAST_HALF_LIFE))
    mean, variance, seen = (np.zeros(values.shape[1]) for _ in range(3))
    evidence = np.full(values.shape, np.nan)
    for row, x in enumerate(values):
        observed = np.isfinite(x)
        off = np.where(observed, x - mean, 0.0)
        known = observed & (seen >= _LEAST_SEEN)
        evidence[row, known] = _sigmas(off, np.sqrt(variance))[known]
        seen += observed
        # Before there are a half-life's rows, all of them weigh the same.
        step = np.where(observed, np.maximum(rate, 1.0 / np.maximum(seen, 1.0)), 0.0)
        mean = mean + step * off
        variance = (1.0 - step) * (variance + step * off * off)
    return _mean(evidence), evidence


def _seasonal_ew_z(series: LabelledSeries) -> _Pair:
    evidence = _seasonal_evidence(series)
    return _mean(evidence), evidence


def _seasonal_ew_z_max(series: LabelledSeries) -> _Pair:
    evidence = _seasonal_evidence(series)
    known = np.isfinite(evidence)
    highest = np.where(known, evidence, -np.inf).max(axis=1)
    return np.where(known.any(axis=1), highest, np.nan), evidence


def _seasonal_evidence(series: LabelledSeries) -> FloatArray:
    """Return how far each stream is off its mean at this time of day, in sigmas of such residuals.

    The mean of a time of day and the variance of the residuals are exponentially weighted with a
    half-life of seven days. A tenth of the training deviation is added to sigma: streams that
    repeat themselves almost exactly would outvote all others.
    """
    values, per_day = series.block.values, series.rows_per_day
    slots = np.rint(series.block.calendar.hour * per_day / 24.0).astype(np.int64) % per_day
    floor = _SIGMA_FLOOR * _deviation(values[: series.n_train])
    slot_rate, rate = _rate(_SEASONAL_DAYS), _rate(_SEASONAL_DAYS * per_day)
    mean, seen = np.zeros((per_day, values.shape[1])), np.zeros((per_day, values.shape[1]))
    variance, residuals = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    evidence = np.full(values.shape, np.nan)
    for row, (slot, x) in enumerate(zip(slots.tolist(), values, strict=True)):
        observed = np.isfinite(x)
        off = np.where(observed, x - mean[slot], 0.0)
        known = observed & (seen[slot] >= _LEAST_SEEN)
        evidence[row, known] = _sigmas(off, np.sqrt(variance) + floor)[known]
        seen[slot] += observed
        step = np.where(observed, np.maximum(slot_rate, 1.0 / np.maximum(seen[slot], 1.0)), 0.0)
        mean[slot] += step * off
        repeated = observed & (seen[slot] >= _LEAST_SEEN)
        residuals += repeated
        step = np.where(repeated, np.maximum(rate, 1.0 / np.maximum(residuals, 1.0)), 0.0)
        variance = (1.0 - step) * variance + step * off * off
    return evidence


def _rate(half_life: float) -> float:
    return float(1.0 - 0.5 ** (1.0 / half_life))


def _sigmas(off: FloatArray, sigma: FloatArray) -> FloatArray:
    """Return how many sigmas off, at most 20; 0 where nothing is off."""
    distance = np.abs(off)
    least = np.maximum(distance / _MOST_SIGMA, np.finfo(np.float64).tiny)
    return np.asarray(distance / np.maximum(sigma, least))


def _half_space_trees(series: LabelledSeries) -> _Pair:
    model = anomaly.HalfSpaceTrees(n_trees=25, height=8, window_size=250, seed=_SEED)
    score = np.empty(len(series.block))
    for row, x in enumerate(_dicts(_unit_scaled(series))):
        score[row] = model.score_one(x)
        model.learn_one(x)
    return score, None


def _gaussian_scorer(series: LabelledSeries) -> _Pair:
    values = _unit_scaled(series)
    evidence = np.full(values.shape, np.nan)
    for stream, column in enumerate(values.T):
        model = anomaly.GaussianScorer()
        for row, x in enumerate(column.tolist()):
            if x == x:  # noqa: PLR0124 - NaN, at a tenth of the cost of math.isnan on numpy floats
                evidence[row, stream] = model.score_one(None, x)
                model.learn_one(None, x)
    return _mean(evidence), evidence


def _pca(series: LabelledSeries) -> _Pair:
    values = _standardised(series)
    model = sklearn("decomposition").PCA(n_components=_PCA_VARIANCE, svd_solver="full")
    model.fit(values[: series.n_train])
    residual = values - model.inverse_transform(model.transform(values))
    evidence = np.abs(residual)
    return np.sqrt((residual**2).sum(axis=1)), evidence


def _isolation_forest(series: LabelledSeries) -> _Pair:
    values = _standardised(series)
    model = sklearn("ensemble").IsolationForest(random_state=_SEED)
    model.fit(values[: series.n_train])
    return -model.score_samples(values), None


def _standardised(series: LabelledSeries) -> FloatArray:
    """Return values less the training mean, over the training deviation; 0 where missing."""
    train = series.block.values[: series.n_train]
    mean, deviation = _centre(train), _deviation(train)
    scaled = (series.block.values - mean) / np.where(deviation > 0.0, deviation, 1.0)
    return np.nan_to_num(scaled, nan=0.0)


def _centre(values: FloatArray) -> FloatArray:
    """Return the mean of each stream; 0 where nothing is known."""
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=0), 1)
    return np.asarray(np.where(known, values, 0.0).sum(axis=0) / count)


def _deviation(values: FloatArray) -> FloatArray:
    """Return the standard deviation of each stream; 0 where nothing is known."""
    return np.sqrt(_centre((values - _centre(values)) ** 2))


def _unit_scaled(series: LabelledSeries) -> FloatArray:
    """Return values scaled so that those of the training part lie in [0, 1]; NaN where missing."""
    values = series.block.values
    train = values[: series.n_train]
    known = np.isfinite(train)
    low = np.where(known, train, np.inf).min(axis=0, initial=np.inf)
    high = np.where(known, train, -np.inf).max(axis=0, initial=-np.inf)
    usable: BoolArray = high > low
    low, high = np.where(np.isfinite(low), low, 0.0), np.where(usable, high, 0.0)
    return (values - low) / np.where(usable, high - low, 1.0)


def _dicts(values: FloatArray) -> Iterator[dict[int, float]]:
    """Return each row as River takes it; what is missing is left out."""
    for row in values:
        known = np.flatnonzero(np.isfinite(row))
        yield dict(zip(known.tolist(), row[known].tolist(), strict=True))


def _mean(evidence: FloatArray) -> FloatArray:
    """Return the mean over the streams that have evidence; NaN where none has."""
    known = np.isfinite(evidence)
    count = known.sum(axis=1)
    total = np.where(known, evidence, 0.0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(evidence), np.nan), where=count > 0)


_BASELINES: dict[str, Callable[[LabelledSeries], Any]] = {
    "random": _random,
    "ew_z": _ew_z,
    "seasonal_ew_z": _seasonal_ew_z,
    "seasonal_ew_z_max": _seasonal_ew_z_max,
    "half_space_trees": _half_space_trees,
    "gaussian_scorer": _gaussian_scorer,
    "pca": _pca,
    "isolation_forest": _isolation_forest,
}
#: Names of all baselines, in the order they are shown.
BASELINES = tuple(_BASELINES)
