"""Tests of tier 1 as a whole."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from anomaly_assets.detection.individual.detector import IndividualDetector
from anomaly_assets.errors import InputError
from anomaly_assets.streams.catalogue import Catalogue, Group, Stream, StreamType
from anomaly_assets_tests.detection.individual.samples import (
    block_of,
    catalogue_of,
    mixed_series,
    scores_of,
)

CONTINUOUS = [StreamType.CONTINUOUS_SMOOTH, StreamType.CONTINUOUS_NOISY]


def test_peek_says_what_process_will_say_and_learns_nothing() -> None:
    """A peek equals the next window's result, and the state is the same before and after it."""
    catalogue, values = mixed_series(seed=3, n_windows=300)
    detector = IndividualDetector(catalogue)
    for start in range(0, 300, 50):
        detector.process(block_of(values[start : start + 49], start))
        state = pickle.dumps(detector)
        score, expected, deviation = detector.peek(values[start + 49])
        assert pickle.dumps(detector) == state
        result = detector.process(block_of(values[start + 49 : start + 50], start + 49))
        np.testing.assert_array_equal(score, result.score[0])
        np.testing.assert_array_equal(expected, result.expected[0])
        np.testing.assert_array_equal(deviation, result.deviation[0])


def test_the_first_reading_scores_zero_without_a_forecast() -> None:
    """The first reading ever is predictable, scores 0, and has no expectation."""
    for stream_type in StreamType:
        result = scores_of(np.array([[np.nan], [5.0], [5.5]]), stream_type)
        assert np.isnan(result.score[0, 0])
        assert result.score[1, 0] == 0.0
        assert np.isnan(result.expected[1, 0])
        assert result.expected[2, 0] == 5.0


def test_shapes_and_infinities_are_refused() -> None:
    """A block with too few columns, and a peek at infinity, are refused with a reason."""
    detector = IndividualDetector(catalogue_of(list(StreamType)))
    with pytest.raises(InputError, match="4 streams"):
        detector.process(block_of(np.zeros((3, 2))))
    with pytest.raises(InputError, match="4 streams"):
        detector.peek(np.zeros(3))
    with pytest.raises(InputError, match="infinite"):
        detector.peek(np.array([1.0, np.inf, 0.0, 0.0]))


@pytest.mark.parametrize("stream_type", CONTINUOUS)
@pytest.mark.parametrize("tail", ["gaussian", "t3", "autoregressive"])
def test_clean_data_rarely_alarms(stream_type: StreamType, tail: str) -> None:
    """Clean data score above 0.8 in under 1 %, and above 0.7 in under 2.5 %, of windows."""
    rng = np.random.default_rng(5)
    values = rng.standard_t(3, (2000, 20)) if tail == "t3" else rng.standard_normal((2000, 20))
    if tail == "autoregressive":
        for t in range(1, len(values)):
            values[t] += 0.9 * values[t - 1]
    score = scores_of(values, stream_type).score
    assert (score > 0.8).mean() < 0.01
    assert (score > 0.7).mean() < 0.025


@pytest.mark.parametrize("counts", ["poisson", "heavy", "zero inflated", "rare"])
def test_clean_event_counts_rarely_alarm(counts: str) -> None:
    """Clean event counts score above 0.8 in under 1 %, and above 0.7 in under 2.5 %, of windows."""
    rng = np.random.default_rng(6)
    values = {
        "poisson": rng.poisson(3.0, (3000, 20)),
        "heavy": np.floor(rng.pareto(1.5, (3000, 20))),
        "zero inflated": rng.poisson(10, (3000, 20)) * (rng.random((3000, 20)) < 0.1),
        "rare": rng.poisson(0.01, (3000, 20)),
    }[counts].astype(np.float64)
    score = scores_of(values, StreamType.DISCRETE_EVENTS).score
    assert (score > 0.8).mean() < 0.01
    assert (score > 0.7).mean() < 0.025


@pytest.mark.parametrize("stream_type", CONTINUOUS)
def test_a_spike_of_eight_sigma_is_found(stream_type: StreamType) -> None:
    """A spike of 8 standard deviations of the forecast's residual scores above 0.7."""
    rng = np.random.default_rng(7)
    values = rng.standard_normal((500, 400))
    clean = scores_of(values, stream_type)
    residual = (values - clean.expected)[100:].std(axis=0)
    values[-1] = clean.expected[-1] + 8.0 * residual * rng.choice([-1.0, 1.0], 400)
    assert (scores_of(values, stream_type).score[-1] > 0.7).mean() >= 0.99


@pytest.mark.parametrize("window", [24, 100, 1000])
def test_a_burst_of_events_is_found_from_the_second_hour_on(window: int) -> None:
    """A burst of 8 standard deviations scores above 0.7 from hour 2 on, mostly above 0.8."""
    values = np.random.default_rng(8).poisson(3.0, (window + 1, 200)).astype(np.float64)
    values[-1] += 8.0 * np.sqrt(3.0)
    score = scores_of(values, StreamType.DISCRETE_EVENTS).score[-1]
    assert (score > 0.8).mean() > 0.9
    assert (score > 0.7).mean() >= 0.99


@pytest.mark.parametrize("stream_type", CONTINUOUS)
def test_a_change_after_a_constant_is_certain_but_finite(stream_type: StreamType) -> None:
    """A constant stream that moves scores above 0.95 with a finite deviation, then is learnt."""
    values = np.full((600, 1), 5.0)
    values[500:] = 6.0
    result = scores_of(values, stream_type)
    assert result.score[500, 0] > 0.95
    assert np.isfinite(result.deviation[500, 0])
    assert result.score[512:540, 0].max() < 0.7


@pytest.mark.parametrize("stream_type", CONTINUOUS)
def test_a_lasting_change_of_scale_is_normal_again(stream_type: StreamType) -> None:
    """Tenfold noise alarms at first and is rarely above 0.7 after 30 windows."""
    values = np.random.default_rng(9).standard_normal((400, 100))
    values[300:] *= 10.0
    score = scores_of(values, stream_type).score
    assert (score[300:306] > 0.7).mean() > 0.3
    assert (score[330:] > 0.7).mean() < 0.02


@pytest.mark.parametrize("stream_type", CONTINUOUS)
def test_a_flat_line_alarms_and_keeps_alarming(stream_type: StreamType) -> None:
    """A stream whose values never repeat alarms at 4 to 6 equal values, and on while it is flat."""
    values = np.random.default_rng(10).standard_normal((900, 20))
    values[800:] = values[800]
    score = scores_of(values, stream_type).score[800:]
    first = (score > 0.7).argmax(axis=0) + 1
    assert ((first >= 4) & (first <= 6)).all()
    assert (score[6:] > 0.8).all()


def test_natural_plateaus_do_not_alarm() -> None:
    """Hours of rest every night (no steps, a full battery) stay quiet, from the first night on."""
    rng = np.random.default_rng(11)
    asleep = (np.arange(288 * 7) % 288) < 96
    steps = np.where(asleep, 0.0, rng.gamma(1.0, 40.0, len(asleep)).round())
    battery = np.where(asleep, 100.0, 95.0 - (np.arange(len(asleep)) % 288 - 96) * 0.4)
    catalogue = Catalogue(
        name="phone",
        groups=(Group(id="all"),),
        streams=(
            Stream(id="steps", type=StreamType.CONTINUOUS_SMOOTH, group="all"),
            Stream(
                id="battery",
                type=StreamType.CONTINUOUS_SMOOTH,
                group="all",
                valid_range=(0.0, 100.0),
            ),
        ),
    )
    score = IndividualDetector(catalogue).process(block_of(np.stack([steps, battery], 1))).score
    at_rest = asleep & np.roll(asleep, 1)
    assert (score[at_rest] > 0.7).mean() < 0.02
    assert (score[at_rest] > 0.8).mean() < 0.01


def test_residuals_after_a_gap_count_less() -> None:
    """The same jump scores lower after a gap than without one."""
    values = np.random.default_rng(12).standard_normal((300, 2))
    values[285:290, 1] = np.nan
    values[290] = 6.0
    result = scores_of(values, StreamType.CONTINUOUS_SMOOTH)
    assert result.score[290, 1] < result.score[290, 0]


def test_an_unhealthy_stream_is_silent_but_learns() -> None:
    """A stream back from a long outage scores NaN until it is healthy, with forecasts all along."""
    values = np.random.default_rng(13).standard_normal((600, 1)) + 50.0
    values[200:400] = np.nan
    result = scores_of(values, StreamType.CONTINUOUS_NOISY)
    assert np.isnan(result.score[400:435, 0]).all()
    assert np.isfinite(result.score[450:, 0]).all()
    assert np.isfinite(result.expected[400:, 0]).all()


def test_the_state_is_small() -> None:
    """The state of 36 streams, a fifth of them event counts, pickles to less than 150 kB."""
    types = [*StreamType] * 7 + [StreamType.CONTINUOUS_SMOOTH] * 8
    detector = IndividualDetector(catalogue_of(types))
    detector.process(block_of(np.random.default_rng(0).standard_normal((50, 36))))
    assert len(pickle.dumps(detector)) < 150_000
