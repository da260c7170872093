"""Tests of stream health and gap classes."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_assets.detection.health import (
    GapClass,
    StreamHealthTracker,
    classify_gap,
    effective_limits,
)
from anomaly_assets.detection.results import StreamHealth
from anomaly_assets.streams.catalogue import (
    Catalogue,
    Group,
    HealthLimits,
    Stream,
    StreamType,
)
from anomaly_assets.streams.windows import BoolArray, FloatArray


def _stream(
    stream_type: StreamType = StreamType.CONTINUOUS_SMOOTH, limits: HealthLimits | None = None
) -> Stream:
    return Stream(id="s", type=stream_type, group="g", health=limits or HealthLimits())


def _health(
    observed: BoolArray, forecast_p: FloatArray | None = None, stream: Stream | None = None
) -> StreamHealth:
    catalogue = Catalogue(name="c", groups=(Group(id="g"),), streams=(stream or _stream(),))
    tracker = StreamHealthTracker(catalogue)
    column = observed[:, np.newaxis]
    p = np.where(column, 0.5, np.nan) if forecast_p is None else forecast_p[:, np.newaxis]
    return tracker.learn(tracker.presence(column), p)


def _pattern(*runs: int) -> BoolArray:
    """Return windows observed and missing in turns, for so many windows each."""
    return np.concatenate([np.full(n, i % 2 == 0) for i, n in enumerate(runs)])


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        (0, GapClass.NONE),
        (1, GapClass.POINT_MISSING),
        (2, GapClass.SHORT_GAP),
        (48, GapClass.SHORT_GAP),
        (49, GapClass.MEDIUM_GAP),
        (288, GapClass.MEDIUM_GAP),
        (289, GapClass.LONG_OUTAGE),
        (2016, GapClass.LONG_OUTAGE),
        (2017, GapClass.PERMANENT_FAILURE),
        (8639, GapClass.PERMANENT_FAILURE),
        (8640, GapClass.DEAD),
    ],
)
def test_gaps_are_classed_by_length(windows: int, expected: GapClass) -> None:
    """Limits are 5 minutes, 4 hours, 1 day, 7 and 30 days, and three times that if sporadic."""
    for stream_type in StreamType:
        factor = 3 if stream_type is StreamType.SPORADIC else 1
        assert classify_gap(np.array([windows * factor]), stream_type)[0] is expected


def test_gaps_are_classed_in_arrays() -> None:
    """Gaps of many streams of different types are classed in one call, and a single one too."""
    types = np.array([StreamType.CONTINUOUS_NOISY, StreamType.SPORADIC], dtype=object)
    classes = classify_gap(np.array([[2, 2], [49, 49]]), types)
    assert classes.tolist() == [
        [GapClass.SHORT_GAP, GapClass.POINT_MISSING],
        [GapClass.MEDIUM_GAP, GapClass.SHORT_GAP],
    ]
    assert classify_gap(1, StreamType.SPORADIC).tolist() is GapClass.POINT_MISSING


def test_a_sporadic_stream_is_not_unhealthy_for_being_sporadic() -> None:
    """Limits left at their defaults become lenient for sporadic streams; chosen ones stay."""
    limits = effective_limits(_stream(StreamType.SPORADIC, HealthLimits(retrain_after_missing=9)))
    assert limits.min_availability == 0.0
    assert limits.max_consecutive_missing == 144
    assert limits.retrain_after_missing == 9
    assert effective_limits(_stream()) == HealthLimits()
    health = _health(np.arange(300) % 20 == 0, stream=_stream(StreamType.SPORADIC))
    assert health.predictable.all()


def test_a_stream_never_seen_is_not_there() -> None:
    """It has availability and score 0, is not predictable, and has no accuracy."""
    health = _health(np.zeros(100, dtype=bool))
    assert not health.availability.any()
    assert not health.score.any()
    assert not health.predictable.any()
    assert np.isnan(health.accuracy).all()
    assert health.consecutive_missing[-1, 0] == 100


def test_the_first_reading_is_predictable() -> None:
    """After however long a silence, the first reading ever is predictable and fully available."""
    health = _health(_pattern(0, 500, 3))
    assert health.predictable[:, 0].tolist() == [False] * 500 + [True] * 3
    assert health.availability[500:, 0].tolist() == [1.0] * 3


def test_availability_rolls() -> None:
    """It is taken over the windows since the first reading, later over the last 48."""
    health = _health(_pattern(10, 10, 100))
    assert health.availability[19, 0] == 0.5
    assert health.availability[47, 0] == 38 / 48
    assert health.availability[60, 0] == 41 / 48
    assert health.availability[-1, 0] == 1.0


def test_a_stream_falls_silent_and_recovers() -> None:
    """It is predictable up to its limits, and again when it was available often enough."""
    lenient = HealthLimits(min_availability=0.0)
    health = _health(_pattern(100, 60, 5), stream=_stream(limits=lenient))
    # Window 100 is the first missing one; up to 48 may be missing before a prediction.
    assert health.predictable[:149].all()
    assert not health.predictable[149:161].any()
    assert health.predictable[161:].all()
    strict = _health(_pattern(100, 60, 60))
    assert not strict.predictable[112:190].any()
    assert strict.predictable[-1, 0]


def test_the_health_score_falls_with_availability_and_with_the_gap() -> None:
    """It is availability times one minus the gap's share of its limit."""
    health = _health(_pattern(48, 12, 1))
    assert health.score[47, 0] == 1.0
    assert health.score[59, 0] == pytest.approx(36 / 48 * (1 - 12 / 48))
    assert health.score[60, 0] == pytest.approx(36 / 48)


def test_bad_forecasts_ask_for_retraining_after_fifty() -> None:
    """Accuracy is the share of values inside the 95 % interval, judged from 50 forecasts on."""
    observed = np.ones(100, dtype=bool)
    p = np.where(np.arange(100) % 2 == 0, 0.5, 0.01)
    health = _health(observed, p)
    assert health.accuracy[49, 0] == pytest.approx(0.5)
    assert not health.needs_retraining[:49].any()
    assert health.needs_retraining[49:].all()
    good = _health(observed, np.full(100, 0.5))
    assert not good.needs_retraining.any()
    assert good.accuracy[-1, 0] == 1.0


def test_a_long_absence_asks_for_retraining() -> None:
    """More than 144 missing windows do, and the first reading after them no longer does."""
    health = _health(_pattern(10, 150, 1))
    assert not health.needs_retraining[:154].any()
    assert health.needs_retraining[154:160].all()
    assert not health.needs_retraining[160, 0]


def test_chunks_change_nothing() -> None:
    """Health in parts of one window equals health in one block, to the last bit."""
    observed = np.random.default_rng(0).random((300, 3)) < 0.7
    p = np.where(observed, np.random.default_rng(1).random((300, 3)), np.nan)
    limits = [HealthLimits(availability_window=n) for n in (1, 12, 100)]
    streams = tuple(
        Stream(id=f"s{i}", type=StreamType.CONTINUOUS_NOISY, group="g", health=x)
        for i, x in enumerate(limits)
    )
    catalogue = Catalogue(name="c", groups=(Group(id="g"),), streams=streams)
    whole, parts = StreamHealthTracker(catalogue), StreamHealthTracker(catalogue)
    expected = whole.learn(whole.presence(observed), p)
    for t in range(300):
        got = parts.learn(parts.presence(observed[t : t + 1]), p[t : t + 1])
        for name in vars(expected):
            left, right = getattr(got, name)[0], getattr(expected, name)[t]
            assert left.tobytes() == right.tobytes(), name
