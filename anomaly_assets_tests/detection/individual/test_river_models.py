"""Tests of the River models by River's own contract."""

from __future__ import annotations

import pickle
from collections.abc import Hashable, Iterator

import numpy as np
import pytest
from river import anomaly, base, checks, datasets, time_series

from anomaly_assets.detection.individual.river_models import (
    EventCountDetector,
    GuardedHoltWinters,
    StableSNARIMAX,
)


class _Counts:
    """Event counts in River's form, the last of every 100 a burst."""

    def take(self, k: int) -> Iterator[tuple[dict[Hashable, float], bool]]:
        """Yield `k` windows and whether each is a burst."""
        rng = np.random.default_rng(0)
        for i in range(k):
            burst = i % 100 == 99
            features: dict[Hashable, float] = {
                name: float(rng.random()) for name in ("a", "b", "c")
            }
            features["count"] = float(rng.poisson(3.0)) + 40.0 * burst
            yield features, burst


@pytest.mark.parametrize("model", [StableSNARIMAX(), GuardedHoltWinters(), EventCountDetector()])
def test_river_accepts_the_model(model: base.Estimator, monkeypatch: pytest.MonkeyPatch) -> None:
    """River's `check_estimator` passes, over counts instead of a data set it would download."""
    pytest.importorskip("sklearn", reason="River's checks need scikit-learn")
    monkeypatch.setattr(datasets, "CreditCard", _Counts)
    checks.check_estimator(model)


def test_stable_snarimax_does_not_explode_where_rivers_does() -> None:
    """On a series of large, jumping values the error stays that of the last value or better."""
    rng = np.random.default_rng(1)
    series = 1e4 + np.cumsum(rng.standard_t(2, 2000)) * 50.0
    model = StableSNARIMAX()
    error = last = 0.0
    for i, y in enumerate(series.tolist()):
        if i > 100:
            error += abs(y - model.forecast(horizon=1)[0])
            last += abs(y - series[i - 1])
        model.learn_one(y)
    assert error < 1.05 * last


def test_stable_snarimax_beats_the_last_value_on_noise() -> None:
    """Differences of white noise can be predicted, and are."""
    series = np.random.default_rng(2).standard_normal(3000).tolist()
    model = StableSNARIMAX()
    error = last = 0.0
    for i, y in enumerate(series):
        if i > 1000:
            error += (y - model.forecast(horizon=1)[0]) ** 2
            last += (y - series[i - 1]) ** 2
        model.learn_one(y)
    assert error < 0.8 * last


def test_guarded_holt_winters_is_rivers_from_two_values_on() -> None:
    """It forecasts 0, then the first value, then what River's model forecasts."""
    model, plain = GuardedHoltWinters(), time_series.HoltWinters(alpha=0.3, beta=0.1)
    assert model.forecast(horizon=1) == [0.0]
    for i, y in enumerate([3.0, 5.0, 4.0, 8.0]):
        model.learn_one(y)
        plain.learn_one(y)
        assert model.forecast(horizon=2) == ([3.0, 3.0] if i == 0 else plain.forecast(horizon=2))


def test_event_counts_can_be_wrapped_by_rivers_quantile_filter() -> None:
    """The detector is a River anomaly detector: River's filter wraps it and classifies a burst."""
    filtered = anomaly.QuantileFilter(EventCountDetector(), q=0.99)
    for x, _ in _Counts().take(99):
        filtered.learn_one(x)
    assert filtered.classify(filtered.score_one({"count": 60.0}))
    assert not filtered.classify(filtered.score_one({"count": 2.0}))


def test_event_counts_ignore_other_features() -> None:
    """Without the count nothing is learnt and nothing is odd."""
    model = EventCountDetector()
    before = pickle.dumps(model)
    model.learn_one({"other": 3.0})
    assert pickle.dumps(model) == before
    assert model.score_one({"other": 3.0}) == 0.0
