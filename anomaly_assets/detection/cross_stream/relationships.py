"""A voice for broken relationships: every value in its range, but not together.

A heart rate at rest is ordinary and so is running; a heart rate at rest while running is not. Each
stream's level is predicted from the other observed ones through the precision matrix of their
exponentially weighted covariance, and the residual is what counts, held against the stream's own
tail of residuals.
"""

from __future__ import annotations

import numpy as np

from anomaly_assets.detection.cross_stream.selection import choose_tracked, predictiveness
from anomaly_assets.detection.scoring import cauchy_combination
from anomaly_assets.detection.tails import TailShape
from anomaly_assets.streams.windows import WINDOWS_PER_DAY, FloatArray, IntArray

#: Levels are learnt up to here and scored up to twice that, in standard deviations.
LARGEST_STANDARDISED = 4.0
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
#: Windows before the voice speaks.
MIN_WINDOWS = 50
#: Larger p-values are combined as this: an ordinary stream must not outvote an odd one.
ORDINARY_P = 0.5


def _clip(x: FloatArray, limit: float) -> FloatArray:
    """Clip in place; two ufuncs cost a fraction of one ``np.clip``."""
    np.minimum(x, limit, out=x)
    np.maximum(x, -limit, out=x)
    return x


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
        self._settled = np.full((1, k), MIN_WINDOWS, dtype=np.int64)
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
            Levels clipped to 8 standard deviations, 0 where missing or not yet known.
        """
        spread = np.sqrt(self._variance)
        z = (values - self._mean) / (spread + 1e-9 * np.abs(self._mean) + 1e-200)
        _clip(z, 2 * LARGEST_STANDARDISED)
        z[np.isnan(z) | (self._n < 10)] = 0.0
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
            inside = self._covariance * (observed[:, None] * observed)
            inside.ravel()[:: observed.size + 1] += 1.0 - observed
            self._precision = np.asarray(np.linalg.inv(inside))
            self._pattern = pattern
        raw: FloatArray = self._precision.dot(z.take(self.columns))
        raw /= np.sqrt(self._precision.diagonal())
        raw *= observed
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
        columns = self.columns
        z = _clip(z.copy(), LARGEST_STANDARDISED)
        tracked, observed = z.take(columns), available.take(columns)
        self._products *= COVARIANCE_DECAY
        self._products += z[:, None] * tracked
        self._weights *= COVARIANCE_DECAY
        self._weights += available[:, None] * observed
        self._learn_level(values, available)
        if self.n_windows >= MIN_WINDOWS:
            limit = 9.0 * self._residual_square
            gain = (1.0 - RESIDUAL_DECAY) * observed
            self._residual_square += gain * (np.minimum(raw * raw, limit) - self._residual_square)
            np.maximum(self._residual_square, 0.01, out=self._residual_square)
        self.n_windows += 1
        if self.n_windows % REFRESH == 0:
            self._refresh()

    def _learn_level(self, values: FloatArray, available: FloatArray) -> None:
        self._n += available
        rate = np.maximum(1.0 / np.maximum(self._n, 1.0), 1.0 - LEVEL_DECAY) * available
        known = np.where(available > 0.0, values, self._mean)
        # A stream that has been constant has no scale yet: its first change gives it one, within
        # reason.
        unknown = (self._variance == 0.0) | (self._n < 10.0)
        reach = LARGEST_STANDARDISED * np.sqrt(self._variance)
        limit = np.where(unknown, UNKNOWN_REACH * np.maximum(np.abs(self._mean), 1.0), reach)
        limit[self._n <= 1.0] = np.inf  # the first value is the level
        delta = np.maximum(np.minimum(known - self._mean, limit), -limit)
        self._mean += rate * delta
        self._variance += rate * (delta * delta * (1.0 - rate) - self._variance)

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
