"""Prewhitening: what is left of a stream when everything that could be foreseen is gone."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_assets.detection.explanation.innovations import WINSORISE, innovations
from anomaly_assets.streams.windows import BoolArray, FloatArray


def autoregression(coefficient: float, rows: int = 2000) -> FloatArray:
    values = np.random.default_rng(4).standard_normal((rows, 1))
    for row in range(1, rows):
        values[row] += coefficient * values[row - 1]
    return values


def autocorrelation(values: FloatArray, known: BoolArray, lag: int) -> float:
    pairs = known[lag:] & known[:-lag]
    return float(np.corrcoef(values[lag:][pairs], values[:-lag][pairs])[0, 1])


@pytest.mark.parametrize("coefficient", [-0.5, 0.0, 0.5, 0.9, 0.98])
@pytest.mark.parametrize("missing", [0.0, 0.2, 0.6])
def test_innovations_are_white(coefficient: float, missing: float) -> None:
    """Neighbours no longer tell of each other, whatever the memory and the gaps."""
    values = autoregression(coefficient)
    values[np.random.default_rng(5).random(values.shape) < missing] = np.nan
    found = innovations(values, 5)
    np.testing.assert_array_equal(found.known, np.isfinite(values))
    for lag in (1, 2, 3):
        assert abs(autocorrelation(found.values[:, 0], found.known[:, 0], lag)) < 0.12


def test_every_observed_value_has_an_innovation() -> None:
    """A gap before a value makes its innovation less telling, not unknown; missing ones are 0."""
    values = autoregression(0.9, 288)
    values[::3] = np.nan
    found = innovations(values, 5)
    assert found.known.sum() == np.isfinite(values).sum()
    assert (found.values[~found.known] == 0.0).all()


def test_extreme_values_are_cut() -> None:
    """One wild reading does not outweigh a day."""
    values = autoregression(0.5, 288)
    values[100] = 1e6
    found = innovations(values, 5)
    assert np.abs(found.values).max() <= WINSORISE + 1.0
    assert np.abs(found.values).argmax() == 100


def test_slow_waves_are_counted_by_the_length_of_time() -> None:
    """A day of windows has fourteen of them, an hour of minutes only its mean and its trend."""
    assert innovations(autoregression(0.5, 288), 5).n_waves == 14
    assert innovations(autoregression(0.5, 75), 1).n_waves == 2
