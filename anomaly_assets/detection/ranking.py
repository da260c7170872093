"""Turning raw detector outputs into p-values by their rank among their own recent past.

The raw score of a half-space forest or a Mahalanobis distance has no fixed meaning: its clean
median depends on the number of features, of missing values and of trees. Its rank among recent ones
has.
"""

from __future__ import annotations

import math

import numpy as np

from anomaly_assets.detection.compiled import compiled
from anomaly_assets.detection.scoring import SMALLEST_P
from anomaly_assets.errors import InputError
from anomaly_assets.streams.windows import FloatArray, IntArray

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
        p = np.empty(self.n)
        held = (self._learnt, self._seen, self._scale, self._k)
        _rank(np.ascontiguousarray(values), *held, SMALLEST_P, p)
        return p

    def learn(self, values: FloatArray) -> None:
        """Add one value of each channel, forgetting the oldest.

        Parameters
        ----------
        values
            Shape ``(n,)``; channels that are not finite learn nothing.
        """
        _keep(np.ascontiguousarray(values), self._learnt, self._seen)
        self._calls += 1
        if self._calls % self.refresh == 0:
            n_top = min(int(self.window * TAIL_SHARE) + 2, self.window)
            top = np.empty(n_top)
            _estimate(self._learnt, self._seen, self.minimum, top, self._scale, self._k)


@compiled
def _rank(
    values: FloatArray,
    learnt: FloatArray,
    seen: IntArray,
    scale: FloatArray,
    k: FloatArray,
    smallest_p: float,
    p: FloatArray,
) -> None:
    """Write each value's mid-rank, or its tail beyond the largest learnt value, into `p`."""
    window = learnt.shape[1]
    for channel in range(values.size):
        value = values[channel]
        if math.isnan(value):
            p[channel] = math.nan
            continue
        share = 1.0 / (min(seen[channel], window) + 1.0)
        greater, equal = 0, 0
        for known in learnt[channel]:
            greater += known > value
            equal += known == value
        if greater or equal:
            p[channel] = (greater + 0.5 * (equal + 1.0)) * share
        elif scale[channel] > 0.0:
            top = -math.inf
            for known in learnt[channel]:
                top = max(top, known)
            excess = max(value - top, 0.0) / (k[channel] * scale[channel])
            p[channel] = max(share * math.exp(-k[channel] * math.log1p(excess)), smallest_p)
        else:
            p[channel] = max(share, smallest_p)


@compiled
def _keep(values: FloatArray, learnt: FloatArray, seen: IntArray) -> None:
    """Put each finite value in the place of the channel's oldest."""
    for channel in range(values.size):
        if math.isfinite(values[channel]):
            learnt[channel, seen[channel] % learnt.shape[1]] = values[channel]
            seen[channel] += 1


@compiled
def _estimate(
    learnt: FloatArray,
    seen: IntArray,
    minimum: int,
    top: FloatArray,
    scale: FloatArray,
    k: FloatArray,
) -> None:
    """Estimate each channel's tail from its largest values, for which `top` has room."""
    for channel in range(seen.size):
        top[:] = -math.inf
        for value in learnt[channel]:
            if value > top[-1]:
                at = top.size - 1
                while at > 0 and top[at - 1] < value:
                    top[at] = top[at - 1]
                    at -= 1
                top[at] = value
        m = min(seen[channel], learnt.shape[1])
        inside = min(max(int(m * TAIL_SHARE), 1), top.size - 1)
        threshold = top[inside]
        excess = 0.0
        if m >= minimum and math.isfinite(threshold):
            for i in range(inside):
                excess += top[i] - threshold
        scale[channel] = excess / max(inside, 1)
        k[channel] = max(inside, 1)
