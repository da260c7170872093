"""Behaviour of the rank layer."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_assets.detection.ranking import RankCalibrator
from anomaly_assets.errors import InputError


def learnt(values: np.ndarray, window: int = 400) -> RankCalibrator:
    calibrator = RankCalibrator(values.shape[1], window)
    for row in values:
        calibrator.learn(row)
    return calibrator


@pytest.mark.parametrize("distribution", ["normal", "exponential", "beta"])
def test_p_values_hold_on_exchangeable_data(distribution: str) -> None:
    """Clean values fall below a p-value about as often as it says, and not much more often."""
    rng = np.random.default_rng(3)
    draws = {
        "normal": rng.standard_normal((3000, 10)),
        "exponential": rng.exponential(size=(3000, 10)),
        "beta": rng.beta(5.0, 1.0, (3000, 10)),
    }[distribution]
    calibrator = RankCalibrator(10, 400)
    p = np.empty_like(draws)
    for i, row in enumerate(draws):
        p[i] = calibrator.p(row)
        calibrator.learn(row)
    for level, most in ((0.1, 1.15), (0.0136, 1.3), (0.003, 1.6), (0.0005, 3.0)):
        assert (p[400:] < level).mean() < most * level
    assert (p[400:] < 0.1).mean() > 0.085


def test_p_values_are_not_bounded_by_the_window() -> None:
    """A value far beyond all learnt ones gets a p-value far below one in a window."""
    calibrator = learnt(np.random.default_rng(0).exponential(size=(400, 1)))
    p = [float(calibrator.p(np.array([v]))[0]) for v in (5.0, 10.0, 15.0, 30.0)]
    assert p == sorted(p, reverse=True)
    assert 1e-9 < p[2] < 1e-4
    assert p[3] < 1e-7


def test_ties_share_their_rank() -> None:
    """A value equal to all learnt ones is in the middle, not at an end."""
    calibrator = learnt(np.zeros((100, 1)))
    assert calibrator.p(np.array([0.0]))[0] == 0.5
    assert calibrator.p(np.array([-1.0]))[0] > 0.99


def test_nothing_is_extrapolated_without_a_spread_or_enough_values() -> None:
    """Where the tail is unknown the smallest p-value is one over the number of values plus one."""
    assert learnt(np.zeros((100, 1))).p(np.array([1e9]))[0] == pytest.approx(1 / 101)
    few = np.random.default_rng(0).standard_normal((16, 1))
    assert learnt(few).p(np.array([1e9]))[0] == pytest.approx(1 / 17)
    assert RankCalibrator(1, 100).p(np.array([3.0]))[0] == 1.0


def test_unknown_values_are_neither_judged_nor_learnt() -> None:
    """NaN gives NaN, and a channel that said nothing keeps what it knew."""
    calibrator = RankCalibrator(2, 10)
    for value in range(5):
        calibrator.learn(np.array([float(value), np.nan]))
    assert calibrator.n_seen.tolist() == [5.0, 0.0]
    assert np.isnan(calibrator.p(np.array([np.nan, 1.0]))).tolist() == [True, False]


def test_only_the_last_window_counts() -> None:
    """A level that has lasted a whole window is ordinary."""
    calibrator = learnt(np.concatenate([np.zeros((50, 1)), np.full((50, 1), 7.0)]), window=50)
    assert calibrator.p(np.array([7.0]))[0] == 0.5


@given(
    rows=st.lists(
        st.lists(st.one_of(st.just(np.nan), st.floats(-1e12, 1e12)), min_size=3, max_size=3),
        max_size=60,
    ),
    cut=st.integers(0, 60),
)
def test_p_values_are_probabilities_and_survive_pickling(rows: list[list[float]], cut: int) -> None:
    """Whatever is learnt, p-values lie in (0, 1], and a pickle in between changes nothing."""
    straight, pickled = RankCalibrator(3, 16), RankCalibrator(3, 16)
    for i, row in enumerate(rows):
        values = np.array(row)
        p = straight.p(values)
        assert np.array_equal(p, pickled.p(values), equal_nan=True)
        assert np.array_equal(np.isnan(p), np.isnan(values))
        known = p[~np.isnan(p)]
        assert ((known > 0.0) & (known <= 1.0)).all()
        straight.learn(values)
        pickled.learn(values)
        if i == cut:
            pickled = pickle.loads(pickle.dumps(pickled))


def test_impossible_sizes_are_refused() -> None:
    """A window of nothing is an error that names the setting."""
    with pytest.raises(InputError, match="window 0"):
        RankCalibrator(1, 0)
