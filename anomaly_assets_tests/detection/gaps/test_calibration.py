"""Ranking among the worst of past hours."""

from __future__ import annotations

import pickle

import numpy as np

from anomaly_assets.detection.gaps.calibration import HourlyCalibrator


def live(calibrator: HourlyCalibrator, hours: np.ndarray) -> None:
    """Let hours pass whose largest surprise comes in the fifth window."""
    for largest in hours:
        for window in range(12):
            value = largest if window == 4 else -1.0
            calibrator.take(np.array([value, np.nan]), hour_over=window == 11)


def test_a_daily_moment_is_not_rare() -> None:
    """What happens in one window of every day has p = 1 in 24 hours, not 1 in 288 windows."""
    calibrator = HourlyCalibrator(2)
    rng = np.random.default_rng(0)
    hours = rng.random((14, 24))
    hours[:, 21] = 10.0
    live(calibrator, hours.ravel())
    p = calibrator.p(np.array([10.0, np.nan]))
    assert p[0] > 0.01
    assert np.isnan(p[1])


def test_one_outage_hardly_changes_what_is_unusual() -> None:
    """Five extreme hours are learnt capped; after a week of them they have become normal."""
    calibrator = HourlyCalibrator(2)
    live(calibrator, np.random.default_rng(1).exponential(1.0, 300))
    live(calibrator, np.full(5, 60.0))
    assert calibrator.p(np.array([60.0, np.nan]))[0] < 1e-4
    live(calibrator, np.full(168, 60.0))
    assert calibrator.p(np.array([60.0, np.nan]))[0] > 0.0136


def test_nothing_is_rare_on_the_first_day() -> None:
    """With few hours learnt even the largest surprise has no small p-value."""
    calibrator = HourlyCalibrator(2)
    live(calibrator, np.ones(20))
    assert calibrator.p(np.array([99.0, np.nan]))[0] > 0.0136


def test_pickling_changes_nothing() -> None:
    """The state is kept in single precision without losing a bit."""
    calibrator = HourlyCalibrator(2)
    live(calibrator, np.random.default_rng(2).exponential(1.0, 400))
    copy = pickle.loads(pickle.dumps(calibrator))
    rng = np.random.default_rng(3)
    for _ in range(50):
        values = rng.exponential(1.0, 2)
        assert copy.p(values).tobytes() == calibrator.p(values).tobytes()
    assert pickle.dumps(copy) == pickle.dumps(calibrator)
