"""One-minute events: onsets, baselines, states of a span."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_assets.detection.explanation.events import (
    MULTIPLE_STREAMS_AFFECTED,
    NO_MOVEMENT_CHANGE,
    NORMAL_ACTIVITY,
    NORMAL_STATE,
    SUDDEN_ANOMALY,
    Event,
    EventNames,
    find_excursions,
    minute_means,
    robust_baseline,
    sequence_of,
)
from anomaly_assets.errors import InputError
from anomaly_assets.streams.catalogue import Aggregation
from anomaly_assets.streams.windows import FloatArray
from anomaly_assets_tests.detection.explanation.cases import CATALOGUE, N_STREAMS, position

NAMES = EventNames.of(CATALOGUE)
HOLD = np.full(N_STREAMS, 5)
HEART = position("heart_rate")


def excursions(z: list[float], stream: int = HEART) -> tuple[Event, ...]:
    minutes = np.full((len(z), N_STREAMS), np.nan)
    minutes[:, stream] = z
    return find_excursions(minutes, np.zeros(N_STREAMS), np.ones(N_STREAMS), NAMES, HOLD)


def test_minutes_are_means_of_their_finite_readings() -> None:
    """Readings in any order fall into their minute; others, and those not finite, do not count."""
    second = 1_000_000
    times = np.array([61, 0, 59, 60, 119, 120, -1]) * second + 600 * second
    values = np.array([4.0, 1.0, 3.0, np.nan, 6.0, 99.0, 99.0])
    means = minute_means(np.array([1, 0, 0, 1, 1, 0, 0]), times, values, 600, 2, 2)
    np.testing.assert_array_equal(means, [[2.0, np.nan], [np.nan, 5.0]])


def test_summed_and_counted_streams_keep_their_totals() -> None:
    """A minute of a summed stream is a sum, of a counted one a number of readings."""
    times = np.zeros(6, dtype=np.int64)
    streams, values = np.array([0, 0, 1, 1, 2, 2]), np.array([1.0, 2.0] * 3)
    kinds = [Aggregation.SUM, Aggregation.COUNT, Aggregation.MEAN]
    means = minute_means(streams, times, values, 0, 1, 3, aggregations=kinds)
    np.testing.assert_array_equal(means, [[3.0, 2.0, 1.5]])


def test_journal_columns_that_do_not_fit_are_refused() -> None:
    """Columns of different lengths and unknown stream positions are errors."""
    with pytest.raises(InputError, match="differ in length"):
        minute_means(np.array([0]), np.array([0, 1]), np.array([1.0]), 0, 1, 1)
    with pytest.raises(InputError, match=r"outside 0\.\.1"):
        minute_means(np.array([2]), np.array([0]), np.array([1.0]), 0, 1, 2)


def test_onset_is_the_backward_crossing() -> None:
    """An excursion begins where 1.5 scales were crossed, though 3 were reached later."""
    (event,) = excursions([0.0, 1.0, 1.6, 2.0, 3.5, 2.0, 1.6, 1.0])
    assert (event.name, event.minute, event.last, event.peak) == ("heart_rate_spike", 2, 6, 3.5)


def test_an_excursion_that_never_reaches_three_scales_is_none() -> None:
    """Between 1.5 and 3 scales nothing is reported; a dip below 1.5 splits two excursions."""
    assert excursions([0.0, 2.9, 2.9, 0.0]) == ()
    assert [e.minute for e in excursions([0.0, 4.0, 1.4, 4.0])] == [1, 3]


def test_falls_have_their_own_name() -> None:
    """Without a name in the catalogue an event is called after its stream."""
    assert [e.name for e in excursions([0.0, -4.0])] == ["heart_rate_decrease"]
    fell = excursions([4.0, -4.0], position("skin_temperature"))
    assert [e.name for e in fell] == ["skin_temperature_increase", "skin_temperature_decrease"]


def test_one_reading_a_window_still_gives_an_event() -> None:
    """A reading stands for the minutes up to the next one; the onset says how coarse it is."""
    z = [np.nan] * 20
    z[0], z[5], z[10], z[15] = 0.0, 0.0, 5.0, 5.0
    (event,) = excursions(z)
    assert (event.minute, event.resolution, event.last) == (10, 5, 19)


def test_a_long_silence_ends_an_excursion() -> None:
    """Beyond its hold a last value says nothing any more."""
    first, second = excursions([5.0] + [np.nan] * 9 + [5.0])
    assert (first.last, second.minute) == (5, 10)


def test_no_scale_no_minutes_no_events() -> None:
    """Streams without a baseline and empty matrices give nothing, silently."""
    minutes = np.full((4, N_STREAMS), 9.0)
    level = np.zeros(N_STREAMS)
    for scale in (np.zeros(N_STREAMS), np.full(N_STREAMS, np.nan)):
        assert find_excursions(minutes, level, scale, NAMES, HOLD) == ()
    assert find_excursions(minutes[:0], level, level + 1.0, NAMES, HOLD) == ()


def test_baseline_prefers_earlier_minutes_and_falls_back_to_tier_1() -> None:
    """Enough earlier minutes give the level; else forecast and scale of tier 1 are taken."""
    minutes = np.full((20, 3), np.nan)
    minutes[:, 0] = 10.0 + 0.1 * (np.arange(20) % 5)
    minutes[15:, 0] = 20.0
    minutes[:3, 1] = 7.0
    level, scale = robust_baseline(
        minutes, 10, np.array([15.0, 5.0, np.nan]), np.array([np.nan, 2.0, np.nan])
    )
    np.testing.assert_allclose(level, [10.2, 5.0, np.nan])
    assert 0.0 < scale[0] < 1.0
    assert scale[1] == pytest.approx(2.0)
    assert np.isnan(scale[2])


def test_a_stream_that_stood_still_may_move() -> None:
    """Zero steps, then many: the constant past has no spread, and the change still is an event."""
    minutes = np.zeros((20, 1))
    minutes[15:] = 80.0
    unknown = np.full(1, np.nan)
    level, scale = robust_baseline(minutes, 10, unknown, unknown)
    assert level[0] == pytest.approx(0.0)
    assert 80.0 / scale[0] > 3.0


def _sequence(*at: tuple[str, int], observed: FloatArray | None = None) -> list[str]:
    events = [Event(NAMES.increase[position(s)], m, position(s), 4.0, m + 1) for s, m in at]
    seen = np.ones(N_STREAMS, dtype=bool) if observed is None else observed > 0.0
    sequence = sequence_of(events, seen, NAMES, (5, 20))
    return [*(event.name for event in sequence.events), *sorted(sequence.states)]


def test_calm_before_the_first_event_is_a_normal_state() -> None:
    """Heart rate alone leaves movement unchanged; an event under way leaves nothing normal."""
    alone = _sequence(("heart_rate", 10))
    assert {NORMAL_STATE, NORMAL_ACTIVITY, NO_MOVEMENT_CHANGE} <= set(alone)
    moving = _sequence(("accel_magnitude", 4), ("heart_rate", 10))
    assert {NORMAL_STATE, NORMAL_ACTIVITY, NO_MOVEMENT_CHANGE}.isdisjoint(moving)
    later = _sequence(("accel_magnitude", 10))
    assert {NORMAL_STATE, NORMAL_ACTIVITY} <= set(later)
    assert NO_MOVEMENT_CHANGE not in later


def test_unobserved_movement_is_not_unchanged_movement() -> None:
    """Where no movement stream was observed, nothing is said of movement."""
    observed = np.array([0.0, 0.0, 1.0, 1.0, 1.0, 1.0])
    assert NO_MOVEMENT_CHANGE not in _sequence(("heart_rate", 10), observed=observed)


def test_three_streams_at_once_are_multiple_streams() -> None:
    """The third of several streams within five minutes makes it an event of its own."""
    assert MULTIPLE_STREAMS_AFFECTED in _sequence(
        ("heart_rate", 10), ("gps_speed", 11), ("accel_magnitude", 12)
    )
    assert MULTIPLE_STREAMS_AFFECTED not in _sequence(
        ("heart_rate", 6), ("gps_speed", 11), ("accel_magnitude", 18)
    )


def test_only_a_steep_rise_is_sudden() -> None:
    """Six scales within three minutes are sudden; the same height reached slowly is not."""
    everything = np.ones(N_STREAMS, dtype=bool)
    for z, expected in (([0.0, 2.0, 7.0], True), ([0.0, 2.0, 3.0, 4.0, 5.0, 7.0], False)):
        sequence = sequence_of(excursions(z), everything, NAMES, (0, 10))
        assert (SUDDEN_ANOMALY in {e.name for e in sequence.events}) is expected
