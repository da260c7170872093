"""Turning raw detector outputs into p-values by their rank among their own recent past.

The raw score of a half-space forest or a Mahalanobis distance has no fixed meaning: its clean
median depends on the number of features, of missing values and of trees. Its rank among recent ones
has.
"""

from __future__ import annotations

import numpy as np

from anomaly_assets.detection.scoring import SMALLEST_P
from anomaly_assets.errors import InputError
from anomaly_assets.streams.windows import FloatArray

#: Share of the learnt values from which the scale of the upper tail is estimated.
TAIL_SHARE = 0.1


class RankCalibrator:
    r"""Upper-tail p-values of several channels, each against its own last `window` learnt values.

    Inside the learnt range the p-value is the Laplace-smoothed mid-rank
    ``(greater + (equal + 1) / 2) / (m + 1)``, exact for exchangeable values. Above the largest of
    the `m` learnt values it goes on along an exponential tail whose scale :math:`\beta` is the mean
    excess over the upper decile (of `k` values):

    .. math:: p = \frac{1}{m + 1} \left(1 + \frac{v - \max}{k \beta}\right)^{-k},

    the predictive distribution of an exponential whose scale was itself estimated from `k` values,
    so that a p-value is not bounded by ``1 / window``. With fewer than `minimum` learnt values, or
    none that differ, there is no extrapolation: the smallest p-value is ``1 / (m + 1)``.

    Parameters
    ----------
    n
        Number of channels.
    window
        Number of learnt values kept of each channel.
    minimum
        Learnt values needed before p-values below ``1 / (m + 1)`` are given.
    refresh
        The tail scale is estimated anew after every `refresh` calls of :meth:`learn`.

    Raises
    ------
    InputError
        If a size is not positive.

    References
    ----------
    Pickands, J. (1975). Statistical inference using extreme order statistics. Annals of Statistics
    3(1), 119-131.

    Examples
    --------
    >>> calibrator = RankCalibrator(1, 100)
    >>> for value in range(99):
    ...     calibrator.learn(np.array([float(value)]))
    >>> calibrator.p(np.array([49.0])).tolist()
    [0.5]
    >>> bool(calibrator.p(np.array([200.0]))[0] < 1e-4)
    True
    """

    def __init__(self, n: int, window: int, *, minimum: int = 30, refresh: int = 8) -> None:
        if n < 0 or window < 1 or minimum < 1 or refresh < 1:
            msg = (
                f"rank calibrator with {n} channels, window {window}, minimum {minimum}, refresh "
                f"{refresh}: channels must be >= 0 and the others >= 1"
            )
            raise InputError(msg)
        self.n = n
        self.window = window
        self.minimum = minimum
        self.refresh = refresh
        # Unused places hold -inf: never greater than, nor equal to, a finite value.
        self._learnt = np.full((n, window), -np.inf)
        self._seen = np.zeros(n, dtype=np.int64)
        self._scale = np.zeros(n)
        self._k = np.ones(n)
        self._calls = 0

    @property
    def n_seen(self) -> FloatArray:
        """Number of values each channel is ranked among, shape ``(n,)``, at most `window`."""
        return np.minimum(self._seen, self.window).astype(np.float64)

    def p(self, values: FloatArray) -> FloatArray:
        """Return the upper-tail p-value of each channel's value.

        Parameters
        ----------
        values
            Shape ``(n,)``; NaN where a channel says nothing.

        Returns
        -------
        numpy.ndarray
            p-values in (0, 1], shape ``(n,)``; NaN where `values` is NaN.
        """
        column = values[:, None]
        share = 1.0 / (np.minimum(self._seen, self.window) + 1.0)
        greater = (self._learnt > column).sum(axis=1)
        equal = (self._learnt == column).sum(axis=1)
        p: FloatArray = (greater + 0.5 * (equal + 1.0)) * share
        beyond = (greater == 0) & (equal == 0)
        if beyond.any():
            p = np.where(beyond, self._tail(values, share), p)
        p[np.isnan(values)] = np.nan
        return p

    def _tail(self, values: FloatArray, share: FloatArray) -> FloatArray:
        """Extrapolate beyond the largest learnt value; of use only where `values` is beyond it."""
        known = self._scale > 0.0
        reach = np.where(known, self._k * self._scale, 1.0)
        top = np.where(known, self._learnt.max(axis=1), values)
        excess = np.maximum(values - top, 0.0) / reach
        return np.maximum(share * np.exp(-self._k * np.log1p(excess)), SMALLEST_P)

    def learn(self, values: FloatArray) -> None:
        """Add one value of each channel, forgetting the oldest.

        Parameters
        ----------
        values
            Shape ``(n,)``; channels that are not finite learn nothing.
        """
        known = np.isfinite(values).nonzero()[0]
        self._learnt[known, self._seen[known] % self.window] = values[known]
        self._seen[known] += 1
        self._calls += 1
        if self._calls % self.refresh == 0:
            self._estimate_tail()

    def _estimate_tail(self) -> None:
        m = np.minimum(self._seen, self.window)
        k = np.maximum((m * TAIL_SHARE).astype(np.int64), 1)
        n_top = min(int(self.window * TAIL_SHARE) + 2, self.window)
        top = np.sort(self._learnt, axis=1)[:, ::-1][:, :n_top]
        k = np.minimum(k, n_top - 1)
        threshold = top[np.arange(self.n), k]
        enough = (m >= self.minimum) & np.isfinite(threshold)
        inside = np.arange(n_top) < k[:, None]
        with np.errstate(invalid="ignore"):
            excess = np.where(inside, top - threshold[:, None], 0.0).sum(axis=1)
        self._scale = np.where(enough, excess / np.maximum(k, 1), 0.0)
        self._k = np.maximum(k, 1).astype(np.float64)
