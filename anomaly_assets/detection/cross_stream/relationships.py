"""A voice for broken relationships: every value in its range, but not together.

A heart rate at rest is ordinary and so is running; a heart rate at rest while running is not. What
is related here are innovations, the deviations of all streams from their own forecasts: streams
that belong together move together. Each one is predicted from those of the other observed streams
through the precision matrix of their exponentially weighted covariance, and the residual is what
counts, held against the stream's own tail of residuals. What has been off for hours is expected by
its forecast and says nothing here.
"""

from __future__ import annotations

import math

import numpy as np

from anomaly_assets.detection.compiled import compiled
from anomaly_assets.detection.cross_stream.selection import choose_tracked, predictiveness
from anomaly_assets.detection.scoring import cauchy_combination
from anomaly_assets.detection.tails import TailShape
from anomaly_assets.streams.windows import WINDOWS_PER_DAY, FloatArray, IntArray

#: Levels are learnt up to here, predict others up to twice that, and are judged up to the second
#: figure, in standard deviations: a spike must not look broken in everything it predicts.
LARGEST_STANDARDISED = 4.0
LARGEST_JUDGED = 30.0
#: Added to the diagonal of the correlation matrix, so that copies of one signal stay invertible.
RIDGE = 0.05
LEVEL_DECAY = 0.5 ** (1.0 / WINDOWS_PER_DAY)
COVARIANCE_DECAY = 0.5 ** (1.0 / (3 * WINDOWS_PER_DAY))
RESIDUAL_DECAY = 0.5 ** (1.0 / WINDOWS_PER_DAY)
#: Windows between two inversions of the covariance.
REFRESH = 12
#: Furthest change learnt of a stream without a scale, in units of its level (or of 1 around 0).
UNKNOWN_REACH = 10.0
#: Joint windows that a covariance needs before half of it is believed.
SHRINKAGE = 30.0
#: Readings that a residual's tail is taken to rest on.
SETTLED = 100_000
#: Windows before the voice speaks.
MIN_WINDOWS = 50
#: Larger p-values are combined as this: an ordinary stream must not outvote an odd one.
ORDINARY_P = 0.5


class RelationshipModel:
    """Conditional residuals of the tracked streams, and the p-value of all of them together.

    Parameters
    ----------
    n_streams
        Number of streams.
    n_tracked
        Number of streams whose covariance is kept, which bounds the cost.
    """

    def __init__(self, n_streams: int, n_tracked: int) -> None:
        self.columns: IntArray = np.arange(min(n_streams, n_tracked), dtype=np.int64)
        k = self.columns.size
        self.n_windows = 0
        self._n = np.zeros(n_streams)
        self._mean = np.zeros(n_streams)
        self._variance = np.zeros(n_streams)
        # Sums of products, and of the weights they were taken with: means only where both are seen.
        self._products = np.zeros((n_streams, k))
        self._weights = np.zeros((n_streams, k))
        self._covariance = np.eye(k)
        self._residual_square = np.ones(k)
        self._tails = TailShape(k)
        # Residuals have a scale by the time they are judged: the prior stands at once.
        self._settled = np.full((1, k), SETTLED, dtype=np.int64)
        self._precision = np.eye(k)
        self._pattern = b""

    def __getstate__(self) -> dict[str, object]:
        """Leave out what is recomputed from the rest."""
        return {**self.__dict__, "_precision": None, "_pattern": b""}

    def standardise(self, values: FloatArray) -> FloatArray:
        """Standardise values against their exponentially weighted level.

        Parameters
        ----------
        values
            Shape ``(n_streams,)``; NaN where missing.

        Returns
        -------
        numpy.ndarray
            Levels clipped to 30 standard deviations, 0 where missing or not yet known.
        """
        z = np.empty(values.size)
        _standardise(values, self._n, self._mean, self._variance, z)
        return z

    def residuals(self, z: FloatArray, available: FloatArray) -> FloatArray:
        """Return each tracked stream's residual given the other observed ones.

        Parameters
        ----------
        z
            From :meth:`standardise`.
        available
            Availability as 0 and 1, shape ``(n_streams,)``.

        Returns
        -------
        numpy.ndarray
            Residuals over their standard deviation in the model, shape ``(n_tracked,)``; 0 where
            missing.
        """
        observed = available.take(self.columns)
        pattern = observed.tobytes()
        if pattern != self._pattern:
            self._precision = _observed_part(self._covariance, observed)
            _invert(self._precision)
            self._pattern = pattern
        raw = np.empty(observed.size)
        _residuals(self._precision, z, self.columns, observed, raw)
        return raw

    def p(self, raw: FloatArray) -> float:
        """Return how broken the relationships look, and learn the tails of the residuals.

        Each stream's residual is held against the tail of its own, since relationships that are not
        straight lines (heart rate and steps in sport) have heavy ones; the p-values are combined by
        the Cauchy combination. One stream that breaks away speaks at once; a little of everybody is
        for the forests to find.

        Parameters
        ----------
        raw
            From :meth:`residuals`.

        Returns
        -------
        float
            p-value; NaN in the first windows and where no tracked stream has a residual.
        """
        if self.n_windows < MIN_WINDOWS:
            return float("nan")
        observed = raw != 0.0
        own = raw / np.sqrt(self._residual_square)
        p = self._tails.p(own[np.newaxis], self._settled, observed[np.newaxis], learn=True)[0]
        return float(cauchy_combination(np.minimum(p, ORDINARY_P), observed.astype(np.float64)))

    def learn(
        self, values: FloatArray, z: FloatArray, raw: FloatArray, available: FloatArray
    ) -> None:
        """Learn one window.

        Parameters
        ----------
        values, z, available
            As above.
        raw
            From :meth:`residuals`.
        """
        held = (self.columns, self._products, self._weights)
        _learn_pairs(z, available, *held)
        _learn_level(values, available, self._n, self._mean, self._variance)
        if self.n_windows >= MIN_WINDOWS:
            _learn_residuals(raw, available, self.columns, self._residual_square)
        self.n_windows += 1
        if self.n_windows % REFRESH == 0:
            self._refresh()

    def _refresh(self) -> None:
        columns = self.columns
        weight = self._weights[columns]
        covariance = self._products[columns] / (weight + SHRINKAGE)
        covariance = 0.5 * (covariance + covariance.T)
        diagonal = np.maximum(covariance.diagonal(), 1e-6)
        # A stream seen rarely has a shrunk diagonal: scale it back to a correlation matrix.
        full = diagonal * (weight.diagonal() + SHRINKAGE) / np.maximum(weight.diagonal(), 1e-6)
        covariance /= np.sqrt(full[:, None] * full)
        covariance.ravel()[:: columns.size + 1] = 1.0 + RIDGE
        # Pairwise estimates may not fit together; mixing in the identity makes them.
        lowest = np.linalg.eigvalsh(covariance)[0]
        if lowest < RIDGE:
            share = (RIDGE - lowest) / (1.0 + RIDGE - lowest)
            covariance *= 1.0 - share
            covariance.ravel()[:: columns.size + 1] += share
        self._covariance = covariance
        self._pattern = b""

    def correlations(self) -> FloatArray:
        """Return each stream's correlation with the tracked ones, ``(n_streams, n_tracked)``."""
        mean = self._products / np.maximum(self._weights, 1e-6)
        # Standardised levels have about unit variance already; clipping makes them a little
        # smaller.
        return np.asarray(np.clip(mean, -1.0, 1.0))

    def predictiveness(self) -> FloatArray:
        """Return how strongly each stream is tied to the tracked ones, shape ``(n_streams,)``."""
        return predictiveness(self.correlations(), self._weights, self.columns)

    def reselect(self, score: FloatArray, round_number: int) -> None:
        """Choose the tracked streams anew; what is known of pairs that stay is kept.

        Parameters
        ----------
        score
            From :meth:`predictiveness`.
        round_number
            Number of the choice.
        """
        chosen = choose_tracked(score, self.columns, round_number)
        changed = np.flatnonzero(chosen != self.columns)
        if not changed.size:
            return
        old = self.columns
        for held in (self._products, self._weights):
            # A new column knows at least its pairs with the old ones, by symmetry.
            rows = held[chosen[changed]].copy()
            held[:, changed] = 0.0
            held[old[:, None], changed] = rows.T
        self._residual_square[changed] = 1.0
        self._tails.forget(changed)
        self.columns = chosen
        self._refresh()


@compiled
def _standardise(
    values: FloatArray, n: FloatArray, mean: FloatArray, variance: FloatArray, z: FloatArray
) -> None:
    """Write levels in standard deviations into `z`, 0 where missing or not yet known."""
    for i in range(values.size):
        z[i] = 0.0
        if n[i] >= 10.0 and not math.isnan(values[i]):
            spread = math.sqrt(variance[i]) + 1e-9 * abs(mean[i]) + 1e-200
            level = (values[i] - mean[i]) / spread
            z[i] = max(min(level, LARGEST_JUDGED), -LARGEST_JUDGED)


@compiled
def _observed_part(covariance: FloatArray, observed: FloatArray) -> FloatArray:
    """Return the covariance with rows and columns of the identity where nothing is observed."""
    n = observed.size
    part = np.eye(n)
    for i in range(n):
        if observed[i] > 0.0:
            for j in range(n):
                if observed[j] > 0.0:
                    part[i, j] = covariance[i, j]
    return part


@compiled
def _invert(matrix: FloatArray) -> None:
    """Invert a positive definite matrix in place."""
    n = len(matrix)
    row = np.empty(n)
    # Gauss and Jordan, without pivots: the diagonal of a positive definite matrix stays positive.
    for pivot in range(n):
        scale = 1.0 / matrix[pivot, pivot]
        matrix[pivot, pivot] = 1.0
        for j in range(n):
            row[j] = matrix[pivot, j] * scale
        for i in range(n):
            factor = matrix[i, pivot]
            if i == pivot:
                matrix[i, :] = row
            elif factor != 0.0:
                matrix[i, pivot] = 0.0
                for j in range(n):
                    matrix[i, j] -= factor * row[j]


@compiled
def _residuals(
    precision: FloatArray, z: FloatArray, columns: IntArray, observed: FloatArray, raw: FloatArray
) -> None:
    """Write each tracked stream's residual given the other observed ones into `raw`."""
    raw[:] = 0.0
    # The precision is symmetric: its rows, which lie together, stand for its columns.
    for j in range(columns.size):
        own = z[columns[j]]
        level = max(min(own, 2 * LARGEST_STANDARDISED), -2 * LARGEST_STANDARDISED)
        for i in range(columns.size):
            raw[i] += precision[j, i] * (own if i == j else level)
    for i in range(columns.size):
        raw[i] = raw[i] / math.sqrt(precision[i, i]) * observed[i]


@compiled
def _learn_pairs(
    z: FloatArray,
    available: FloatArray,
    columns: IntArray,
    products: FloatArray,
    weights: FloatArray,
) -> None:
    """Fade the sums of products and of weights, and add a window to them."""
    tracked = np.empty(columns.size)
    observed = np.empty(columns.size)
    for j in range(columns.size):
        level = z[columns[j]]
        tracked[j] = max(min(level, LARGEST_STANDARDISED), -LARGEST_STANDARDISED)
        observed[j] = available[columns[j]]
    for i in range(z.size):
        level, there = max(min(z[i], LARGEST_STANDARDISED), -LARGEST_STANDARDISED), available[i]
        for j in range(columns.size):
            products[i, j] = products[i, j] * COVARIANCE_DECAY + level * tracked[j]
            weights[i, j] = weights[i, j] * COVARIANCE_DECAY + there * observed[j]


@compiled
def _learn_level(
    values: FloatArray,
    available: FloatArray,
    n: FloatArray,
    mean: FloatArray,
    variance: FloatArray,
) -> None:
    """Move the levels and variances of the available streams."""
    for i in range(values.size):
        if available[i] == 0.0:
            continue
        n[i] += 1.0
        rate = max(1.0 / n[i], 1.0 - LEVEL_DECAY)
        limit = LARGEST_STANDARDISED * math.sqrt(variance[i])
        # A stream that has been constant has no scale yet: its first change gives it one, within
        # reason; the first value is the level.
        if n[i] <= 1.0:
            limit = math.inf
        elif variance[i] == 0.0 or n[i] < 10.0:
            limit = UNKNOWN_REACH * max(abs(mean[i]), 1.0)
        delta = max(min(values[i] - mean[i], limit), -limit)
        mean[i] += rate * delta
        variance[i] += rate * (delta * delta * (1.0 - rate) - variance[i])


@compiled
def _learn_residuals(
    raw: FloatArray, available: FloatArray, columns: IntArray, square: FloatArray
) -> None:
    """Move the mean squares of the observed streams' residuals."""
    for i in range(columns.size):
        gain = (1.0 - RESIDUAL_DECAY) * available[columns[i]]
        square[i] += gain * (min(raw[i] * raw[i], 9.0 * square[i]) - square[i])
        square[i] = max(square[i], 0.01)
