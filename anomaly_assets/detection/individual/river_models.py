"""One stream's model made of River objects: the reference of the array models.

Slow beside the arrays, and plain: this is where to read what tier 1 computes.
"""

from __future__ import annotations

import collections
from collections.abc import Hashable
from typing import Any

import numpy as np
from river import base, linear_model, optim, stats, time_series

from anomaly_assets.detection.individual import event_counts, holt_winters, snarimax
from anomaly_assets.detection.scoring import score_of_p


class StableSNARIMAX(time_series.base.Forecaster):
    """River's SNARIMAX on a stabilised series.

    With its default regressor, SNARIMAX(1, 1, 1) diverges on most real series. Here it is fed the
    running sum of the differences of the series, each scaled by their exponentially weighted mean
    absolute size and clipped, its linear regression takes small, clipped, regularised steps, and
    its forecast is scaled back.

    Parameters
    ----------
    p, d, q
        Orders of the autoregressive, differencing and moving average parts.
    scale_rate
        Weight of a new difference in the mean absolute difference, in the long run.
    largest_step
        Scaled differences are clipped at this size.

    Examples
    --------
    >>> model = StableSNARIMAX()
    >>> for y in (10.0, 11.0, 12.0, 13.0):
    ...     model.learn_one(y)
    >>> round(model.forecast(horizon=1)[0], 2)
    13.04
    """

    def __init__(
        self,
        p: int = 1,
        d: int = 1,
        q: int = 1,
        scale_rate: float = snarimax.SCALE_RATE,
        largest_step: float = snarimax.LARGEST_STEP,
    ) -> None:
        self.p = p
        self.d = d
        self.q = q
        self.scale_rate = scale_rate
        self.largest_step = largest_step
        self._model = time_series.SNARIMAX(
            p=p,
            d=d,
            q=q,
            regressor=linear_model.LinearRegression(
                optimizer=optim.SGD(snarimax.LEARNING_RATE),
                l2=snarimax.L2,
                intercept_lr=0.0,
                clip_gradient=snarimax.LARGEST_GRADIENT,
            ),
        )
        self._last: float | None = None
        self._n_differences = 0
        self._scale = 0.0
        self._total = 0.0

    def learn_one(self, y: float, x: dict[str, Any] | None = None) -> None:
        """Learn the next value `y` of the series, with optional exogenous features `x`."""
        if self._last is not None:
            difference = y - self._last
            self._n_differences += 1
            rate = max(1.0 / self._n_differences, self.scale_rate)
            self._scale += rate * (abs(difference) - self._scale)
            step = difference / max(self._scale, snarimax.SMALLEST_SCALE)
            self._total += max(min(step, self.largest_step), -self.largest_step)
        self._last = y
        self._model.learn_one(self._total, x)

    def forecast(self, horizon: int, xs: list[dict[str, Any]] | None = None) -> list[float]:
        """Return the next `horizon` values; 0 before the first value."""
        last = 0.0 if self._last is None else self._last
        totals = self._model.forecast(horizon, xs)
        return [last + (total - self._total) * self._scale for total in totals]


class GuardedHoltWinters(time_series.base.Forecaster):
    """River's Holt-Winters without seasonality, able to forecast from the first value on.

    River's raises until it has two values: before that, this forecasts the first one.

    Parameters
    ----------
    alpha
        Smoothing parameter of the level.
    beta
        Smoothing parameter of the trend.

    Examples
    --------
    >>> model = GuardedHoltWinters()
    >>> model.learn_one(3.0)
    >>> model.forecast(horizon=2)
    [3.0, 3.0]
    """

    def __init__(self, alpha: float = holt_winters.ALPHA, beta: float = holt_winters.BETA) -> None:
        self.alpha = alpha
        self.beta = beta
        self._model = time_series.HoltWinters(alpha=alpha, beta=beta)
        self._first: float | None = None
        self._n_values = 0

    def learn_one(self, y: float, x: dict[str, Any] | None = None) -> None:
        """Learn the next value `y` of the series."""
        if self._n_values == 0:
            self._first = y
        self._n_values += 1
        self._model.learn_one(y, x)

    def forecast(self, horizon: int, xs: list[dict[str, Any]] | None = None) -> list[float]:
        """Return the next `horizon` values; 0 before the first value."""
        if self._n_values < 2:
            return [0.0 if self._first is None else self._first] * horizon
        values: list[float] = self._model.forecast(horizon, xs)
        return values


class EventCountDetector(base.AnomalyDetector):
    """Scores event counts by how far they lie above their rolling quantile.

    River's ``anomaly.QuantileFilter`` wraps a detector and has no window. This detector takes the
    threshold from River's rolling quantile and calibrates the excess over it: its mid-rank among
    the excesses of a week, and a generalised Pareto tail beyond the largest of them. It can itself
    be wrapped by River's filter.

    Parameters
    ----------
    q
        Quantile that counts are compared with.
    window_size
        Counts that the quantile is taken over.
    n_ranks
        Excesses that an excess is ranked among.
    feature
        The feature that holds the count; without it nothing is learnt and the score is 0.

    Examples
    --------
    >>> detector = EventCountDetector()
    >>> for i in range(100):
    ...     detector.learn_one({"count": float(i % 5)})
    >>> detector.score_one({"count": 2.0}) < 0.2 < 0.8 < detector.score_one({"count": 30.0})
    True
    """

    def __init__(
        self,
        q: float = event_counts.QUANTILE,
        window_size: int = event_counts.WINDOW_SIZE,
        n_ranks: int = event_counts.N_RANKS,
        feature: str = "count",
    ) -> None:
        self.q = q
        self.window_size = window_size
        self.n_ranks = n_ranks
        self.feature = feature
        self._upper = stats.RollingQuantile(q=q, window_size=window_size)
        self._median = stats.RollingQuantile(q=0.5, window_size=window_size)
        self._excesses: collections.deque[float] = collections.deque(maxlen=n_ranks)
        self._spread = 0.0
        self._n_counts = 0

    @property
    def expected(self) -> float | None:
        """Rolling median of the counts, None before the first."""
        return self._median.get()

    @property
    def spread(self) -> float:
        """Mean absolute deviation from the rolling median, at least one event."""
        return max(self._spread, event_counts.SMALLEST_SPREAD)

    def _excess(self, count: float) -> float:
        upper = self._upper.get()
        excess = count - (0.0 if upper is None else upper)
        excess = max(min(excess, event_counts.LARGEST_EXCESS), -event_counts.LARGEST_EXCESS)
        return float(np.float32(excess))

    def _beyond(self, excess: float) -> tuple[float, float]:
        """Return how far an excess lies beyond the largest, in units, and what is learnt of it."""
        if not self._excesses or excess <= max(self._excesses):
            return 0.0, excess
        largest = max(self._excesses)
        unit = max(self.spread, largest * event_counts.TAIL_SHARE)
        past = excess - largest
        return past / unit, largest + min(past, event_counts.LARGEST_STEP * unit)

    def p_value(self, count: float) -> float:
        """Return the probability of so high a count; 1 as long as fewer than two are known."""
        if self._n_counts < 2:
            return 1.0
        excess = self._excess(count)
        greater = sum(known > excess for known in self._excesses)
        ties = sum(known == excess for known in self._excesses)
        p = (greater + 0.5 * ties + 0.5) / (len(self._excesses) + 1.0)
        beyond = min(self._beyond(excess)[0], event_counts.LARGEST_BEYOND)
        decay: float = (1.0 + beyond / event_counts.TAIL_INDEX) ** event_counts.TAIL_INDEX
        return min(p / decay, 1.0)

    def score_one(self, x: dict[Hashable, Any]) -> float:
        """Return the score in [0, 1] of a count, on the scale of :mod:`..scoring`."""
        if self.feature not in x:
            return 0.0
        return float(score_of_p(np.array([self.p_value(float(x[self.feature]))]))[0])

    def learn_one(self, x: dict[Hashable, Any]) -> None:
        """Learn a count."""
        if self.feature not in x:
            return
        count = float(x[self.feature])
        expected = self.expected
        if expected is not None:
            self._excesses.append(float(np.float32(self._beyond(self._excess(count))[1])))
            deviation = abs(count - expected)
            if self._spread != 0.0:
                deviation = min(deviation, event_counts.LARGEST_LEARNT * self.spread)
            rate = max(1.0 / self._n_counts, event_counts.SPREAD_RATE)
            self._spread += rate * (deviation - self._spread)
        self._n_counts += 1
        self._upper.update(count)
        self._median.update(count)
