"""The buffer holds what the journal holds, within its bounds."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_assets.live.windows import ReadingBuffer
from anomaly_assets.streams.aggregation import MICROSECONDS, Readings, ReadingTimes, aggregate
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange

CATALOGUE = load_catalogue("default")
TEN = WindowRange(0, 10 * WINDOW_SECONDS)


def filled(readings: Readings, most: int = 1000) -> ReadingBuffer:
    """Return a buffer with readings in it."""
    buffer = ReadingBuffer(len(CATALOGUE.streams), most)
    buffer.fill(readings, ReadingTimes(np.array([3]), np.array([7 * MICROSECONDS])))
    return buffer


def test_the_first_of_equal_times_stays() -> None:
    """As in the journal: what comes later with the same stream and time changes nothing."""
    buffer = filled(Readings.of([1, 0, 1, 1], [5, 5, 5, 4], [1.0, 2.0, 3.0, 4.0]))
    held = buffer.readings(TEN)
    assert held.stream.tolist() == [0, 1, 1]
    assert held.microseconds.tolist() == [5, 4, 5]
    assert held.value.tolist() == [2.0, 4.0, 1.0]
    assert buffer.latest[:3].tolist() == [5, 5, -1]


def test_rejected_readings_are_known_by_stream_and_window() -> None:
    """The aggregation learns which streams were not silent in which window."""
    rejected = filled(Readings.empty()).rejected(TEN)
    assert (rejected.stream.tolist(), rejected.microseconds.tolist()) == ([3], [0])


def test_a_window_with_too_many_readings_is_given_up() -> None:
    """Repeats make no room scarce; distinct ones do, and then none of the window are held."""
    repeated = filled(Readings.of([0] * 100, [5] * 100, [1.0] * 100), most=10)
    assert not repeated.overflowed(TEN)
    assert len(repeated) <= 10
    distinct = filled(Readings.of([0] * 100, range(100), [1.0] * 100), most=10)
    assert distinct.overflowed(TEN)
    assert len(distinct) == 0


@pytest.mark.parametrize("seed", range(5))
def test_compacted_windows_tell_a_stuck_sensor_all_the_same(seed: int) -> None:
    """The last window's values are those of all readings, to the last bit."""
    random = np.random.default_rng(seed)
    lookback = WindowRange(0, 24 * WINDOW_SECONDS)
    n = 24 * 30
    stream = random.integers(0, len(CATALOGUE.streams), n)
    time = np.sort(random.integers(0, lookback.end * MICROSECONDS, n))
    # Streams with even numbers hardly ever move.
    value = np.where((stream % 2 == 0) & (random.random(n) < 0.99), 1.0, random.normal(size=n))
    readings = Readings(stream, time, value)
    last = WindowRange(lookback.end - WINDOW_SECONDS, lookback.end)
    buffer = filled(readings)
    expected = aggregate(buffer.readings(lookback), last, CATALOGUE)
    buffer.compact(last.start, keep=0)
    assert len(buffer) < n
    found = aggregate(buffer.readings(lookback), last, CATALOGUE)
    assert found.values.tobytes() == expected.values.tobytes()
    assert found.reason.tolist() == expected.reason.tolist()
    buffer.compact(last.start, keep=last.start)
    assert len(buffer) == len(buffer.readings(last).stream)
