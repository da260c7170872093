"""What tier 2 sees of a window."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_assets.detection.cross_stream.features import FeatureExtractor, RunningScale
from anomaly_assets_tests.detection.cross_stream.lives import block_of, catalogue, tier_1


def scale_of(history: np.ndarray) -> RunningScale:
    scale = RunningScale(1)
    for value in history:
        scale.learn(np.array([value]), np.array([np.isfinite(value)]))
    return scale


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_the_scale_follows_the_quantiles_in_any_unit(unit: float) -> None:
    """The 5 % and 95 % quantiles scale to about -1 and 1, the middle to about 0."""
    history = 100 * unit + unit * np.random.default_rng(0).standard_normal(3000)
    scale = scale_of(history)
    low, middle, high = (
        float(scale.scale(np.array([(100 + z) * unit]))[0]) for z in (-1.645, 0.0, 1.645)
    )
    assert low == pytest.approx(-1.0, abs=0.4)
    assert middle == pytest.approx(0.0, abs=0.3)
    assert high == pytest.approx(1.0, abs=0.4)


def test_one_outlier_does_not_ruin_the_scale() -> None:
    """After a value a million times too large, ordinary ones are still told apart."""
    history = np.random.default_rng(0).standard_normal(2000)
    history[1900] = 1e6
    scale = scale_of(history)
    spread = scale.scale(np.array([1.6])) - scale.scale(np.array([-1.6]))
    assert spread[0] > 0.8


def test_a_stream_that_was_zero_for_a_day_gets_a_scale_when_it_begins() -> None:
    """Long constancy leaves no scale at all, and must not leave none for ever."""
    history = np.concatenate([np.zeros(300), np.random.default_rng(0).gamma(2.0, 100.0, 1000)])
    assert abs(scale_of(history).scale(np.array([200.0]))[0]) < 2.0


def test_features_are_bounded_and_missing_ones_are_nan() -> None:
    """Values lie in [0, 1]; a missing value is NaN, its availability 0, its group's share lower."""
    values = np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, np.nan, 1e9]])
    extractor = FeatureExtractor(catalogue(8), 3)
    layout = extractor.layout
    scaled = RunningScale(8).scale(values[0])
    scaled[7] = 1e6
    inputs = extractor.prepare(block_of(values), tier_1(values))
    x, active = extractor.vector(inputs, 0, scaled, np.array([6, 0, 7]))
    assert x[layout.bits].tolist() == [1, 1, 1, 1, 1, 1, 0, 1]
    assert np.isnan(x[layout.slots]).tolist() == [True, False, False]
    known = x[np.isfinite(x)]
    assert ((known >= 0.0) & (known <= 1.0)).all()
    assert x[layout.summaries_of(0)[0]] == 0.5
    assert active.all()


def test_time_features_follow_the_catalogues_contexts() -> None:
    """Monday 2026-01-05, 09:00 in Berlin begins the working hours; no weekend."""
    values = np.zeros((120, 1))
    time = FeatureExtractor(catalogue(1), 1).prepare(block_of(values), tier_1(values)).time
    # 01:00 local time at the first window (midnight UTC), so nine o'clock is eight hours later.
    assert time[95].tolist() == [(8 + 55 / 60) / 24, 0.0, 0.0, 0.0]
    assert time[96].tolist() == [9 / 24, 0.0, 0.0, 1.0]
