"""Aggregation of readings into windows, held against a plain definition window by window."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_assets.errors import InputError
from anomaly_assets.streams.aggregation import (
    Aggregated,
    MissingReason,
    Readings,
    ReadingTimes,
    aggregate,
    lookback_windows,
)
from anomaly_assets.streams.catalogue import Aggregation, Catalogue, Group, Stream, StreamType
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange

START = 1_700_000_100
WINDOW = WINDOW_SECONDS * 1_000_000
SPAN = 8
WINDOWS = WindowRange(START, START + SPAN * WINDOW_SECONDS)


def _stream(name: str, group: str = "a", **fields: object) -> Stream:
    return Stream.model_validate(
        {"id": name, "type": StreamType.CONTINUOUS_SMOOTH, "group": group, **fields}
    )


CATALOGUE = Catalogue(
    name="test",
    groups=(Group(id="a"), Group(id="b"), Group(id="c")),
    streams=(
        _stream("mean", stuck_after=3),
        _stream("sum", aggregation=Aggregation.SUM),
        _stream("last", "b", aggregation=Aggregation.LAST, stuck_after=2),
        _stream("count", "b", aggregation=Aggregation.COUNT, zero_suppressed=True),
        _stream("max", "b", aggregation=Aggregation.MAX),
        _stream("steps", "c", aggregation=Aggregation.SUM, zero_suppressed=True),
        _stream("walk", "c", zero_suppressed=True, witnesses=["sum", "max"], stuck_after=2),
    ),
)
WITNESSES = {3: (2, 4), 5: (0, 1, 2, 3, 4, 6), 6: (1, 4)}


@dataclass(frozen=True)
class Reading:
    """One reading, as a person would write it."""

    stream: int
    microseconds: int
    value: float


def _arrays(readings: list[Reading]) -> Readings:
    return Readings.of(
        [r.stream for r in readings],
        [r.microseconds for r in readings],
        [r.value for r in readings],
    )


def _times(readings: list[Reading]) -> ReadingTimes:
    arrays = _arrays(readings)
    return ReadingTimes(arrays.stream, arrays.microseconds)


def _in_window(readings: list[Reading], stream: int, window: int) -> list[float]:
    """Values of one window and stream in order of time, one a time."""
    at: dict[int, float] = {}
    for reading in readings:
        if reading.stream == stream and reading.microseconds // WINDOW == window:
            at[reading.microseconds] = max(reading.value, at.get(reading.microseconds, -math.inf))
    return [at[moment] for moment in sorted(at)]


def _combined(how: Aggregation, values: list[float]) -> float:
    total = 0.0
    for value in values:
        total += value
    return {
        Aggregation.MEAN: total / len(values),
        Aggregation.SUM: total,
        Aggregation.LAST: values[-1],
        Aggregation.COUNT: float(len(values)),
        Aggregation.MAX: max(values),
    }[how]


def _plain_cell(
    readings: list[Reading], late: list[Reading], rejected: list[Reading], stream: int, window: int
) -> tuple[float, MissingReason]:
    """Value and reason of one window and stream, `off` apart, straight from the definition."""
    rules = CATALOGUE.streams[stream]
    here = _in_window(readings, stream, window)
    if here and rules.stuck_after:
        recent = [_in_window(readings, stream, window - back) for back in range(rules.stuck_after)]
        if all(recent) and len({value for values in recent for value in values}) == 1:
            return math.nan, MissingReason.STUCK
    if here:
        return _combined(rules.aggregation, here), MissingReason.NONE
    if _in_window(rejected, stream, window):
        return math.nan, MissingReason.REJECTED
    if _in_window(late, stream, window):
        return math.nan, MissingReason.LATE
    if any(_in_window(readings, witness, window) for witness in WITNESSES.get(stream, ())):
        return 0.0, MissingReason.NONE
    return math.nan, MissingReason.ABSENT


def _plain(
    readings: list[Reading], late: list[Reading], rejected: list[Reading]
) -> tuple[list[list[float]], list[list[MissingReason]]]:
    values, reasons = [], []
    for window in range(START // WINDOW_SECONDS, START // WINDOW_SECONDS + SPAN):
        cells = [
            _plain_cell(readings, late, rejected, stream, window)
            for stream in range(len(CATALOGUE.streams))
        ]
        off = all(math.isnan(value) for value, _ in cells)
        values.append([value for value, _ in cells])
        reasons.append(
            [
                MissingReason.OFF if off and reason is MissingReason.ABSENT else reason
                for _, reason in cells
            ]
        )
    return values, reasons


# Few values and few times, so that stuck sensors, duplicates and edges of windows come up often.
_values = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0]),
    st.floats(-1e6, 1e6),
    st.floats(allow_nan=False, allow_infinity=False),
)
_moments = st.builds(
    lambda window, offset: START * 1_000_000 + window * WINDOW + offset,
    st.integers(-4, SPAN),
    st.one_of(st.sampled_from([0, 1, WINDOW - 1]), st.integers(0, WINDOW - 1)),
)
_readings = st.lists(
    st.builds(Reading, st.integers(0, len(CATALOGUE.streams) - 1), _moments, _values), max_size=80
)
_few = st.lists(
    st.builds(Reading, st.integers(0, len(CATALOGUE.streams) - 1), _moments, st.just(1.0)),
    max_size=6,
)


def _constant_runs(draw: st.DrawFn) -> list[Reading]:
    runs = draw(
        st.lists(
            st.tuples(
                st.sampled_from([0, 2, 6]),
                st.integers(-4, SPAN),
                st.integers(1, 6),
                st.sampled_from([0.0, 1.0]),
            ),
            max_size=6,
        )
    )
    return [
        Reading(stream, START * 1_000_000 + (first + step) * WINDOW + 5, value)
        for stream, first, length, value in runs
        for step in range(length)
    ]


_runs = st.composite(_constant_runs)()
_all_readings = st.builds(lambda readings, runs: readings + runs, _readings, _runs)


def _parts(size: int) -> list[WindowRange]:
    """Cut the windows into consecutive ranges of at most `size` windows."""
    step = size * WINDOW_SECONDS
    return [
        WindowRange(start, min(start + step, WINDOWS.end))
        for start in range(WINDOWS.start, WINDOWS.end, step)
    ]


def _same_bits(one: Aggregated, other: Aggregated) -> bool:
    return (
        one.values.tobytes() == other.values.tobytes()
        and one.reason.tobytes() == other.reason.tobytes()
    )


@settings(max_examples=150, deadline=None)
@given(readings=_all_readings, late=_few, rejected=_few)
def test_values_and_reasons_follow_the_plain_definition(
    readings: list[Reading], late: list[Reading], rejected: list[Reading]
) -> None:
    """Every cell equals, to the last bit, what the rules say when applied to it alone."""
    result = aggregate(
        _arrays(readings), WINDOWS, CATALOGUE, late=_times(late), rejected=_times(rejected)
    )
    values, reasons = _plain(readings, late, rejected)
    limit = np.finfo(np.float64).max
    finite = [i for i, row in enumerate(values) if not any(math.isinf(value) for value in row)]
    np.testing.assert_array_equal(result.values[finite], np.array(values)[finite])
    np.testing.assert_array_equal(result.reason, np.array(reasons, dtype=np.int8))
    assert (np.isnan(result.values) | (np.abs(result.values) <= limit)).all()


@settings(max_examples=100, deadline=None)
@given(data=st.data(), readings=_all_readings)
def test_the_order_of_readings_never_matters(data: st.DataObject, readings: list[Reading]) -> None:
    """Shuffled readings give the same bits, with duplicated times and negative zeros among them."""
    shuffled = data.draw(st.permutations(readings))
    assert _same_bits(
        aggregate(_arrays(readings), WINDOWS, CATALOGUE),
        aggregate(_arrays(shuffled), WINDOWS, CATALOGUE),
    )


@settings(max_examples=100, deadline=None)
@given(readings=_all_readings, late=_few, rejected=_few, size=st.integers(1, SPAN))
def test_a_range_in_parts_gives_the_bits_of_the_whole(
    readings: list[Reading], late: list[Reading], rejected: list[Reading], size: int
) -> None:
    """Windows asked one by one or a few at a time, with look-back only, equal the whole range."""
    extra = {"late": _times(late), "rejected": _times(rejected)}
    whole = aggregate(_arrays(readings), WINDOWS, CATALOGUE, **extra)
    parts = []
    for part in _parts(size):
        first = (part.start - lookback_windows(CATALOGUE) * WINDOW_SECONDS) * 1_000_000
        needed = [r for r in readings if first <= r.microseconds < part.end * 1_000_000]
        parts.append(aggregate(_arrays(needed), part, CATALOGUE, **extra))
    joined = Aggregated(
        WINDOWS,
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.reason for part in parts]),
    )
    assert _same_bits(whole, joined)


def test_long_sums_do_not_depend_on_the_range() -> None:
    """A window of thousands of readings sums to the same bits alone and among others."""
    generator = np.random.default_rng(1)
    count = 40_000
    readings = Readings(
        generator.integers(0, len(CATALOGUE.streams), count),
        START * 1_000_000 + generator.integers(0, SPAN * WINDOW, count),
        generator.lognormal(0.0, 5.0, count),
    )
    whole = aggregate(readings, WINDOWS, CATALOGUE)
    parts = [aggregate(readings, part, CATALOGUE).values for part in _parts(1)]
    assert whole.values.tobytes() == np.concatenate(parts).tobytes()


def test_a_reading_on_the_edge_belongs_to_the_later_window() -> None:
    """A window holds its start and not its end, to the microsecond."""
    edge = (START + WINDOW_SECONDS) * 1_000_000
    readings = _arrays([Reading(1, edge - 1, 1.0), Reading(1, edge, 2.0)])
    result = aggregate(readings, WindowRange(START, START + 2 * WINDOW_SECONDS), CATALOGUE)
    assert result.values[:, 1].tolist() == [1.0, 2.0]


def test_the_two_zeros_are_one_value() -> None:
    """0.0 and -0.0 at one time, in either order, give the same bits for every aggregation."""
    zeros = [Reading(i, START * 1_000_000, z) for i in range(5) for z in (0.0, -0.0)]
    assert _same_bits(
        aggregate(_arrays(zeros), WINDOWS, CATALOGUE),
        aggregate(_arrays(zeros[::-1]), WINDOWS, CATALOGUE),
    )
    alone = aggregate(_arrays([Reading(2, START * 1_000_000, -0.0)]), WINDOWS, CATALOGUE)
    assert math.copysign(1.0, alone.values[0, 2]) == 1.0


def test_no_readings_at_all_is_off() -> None:
    """An entity that sends nothing is off in every window, with nothing filled in."""
    result = aggregate(Readings.empty(), WINDOWS, CATALOGUE)
    assert np.isnan(result.values).all()
    assert (result.reason == MissingReason.OFF).all()


def test_an_empty_range_gives_empty_arrays() -> None:
    """No windows asked, none given, whatever the readings."""
    readings = _arrays([Reading(0, START * 1_000_000, 1.0)])
    result = aggregate(readings, WindowRange(START, START), CATALOGUE)
    assert result.values.shape == result.reason.shape == (0, len(CATALOGUE.streams))


def test_a_rejected_reading_is_not_taken_for_zero() -> None:
    """A zero-suppressed stream whose reading was refused is missing although a witness spoke."""
    spoke = _arrays([Reading(1, START * 1_000_000, 1.0)])
    refused = _times([Reading(6, START * 1_000_000, 1.0)])
    one = WindowRange(START, START + WINDOW_SECONDS)
    assert aggregate(spoke, one, CATALOGUE).values[0, 6] == 0.0
    result = aggregate(spoke, one, CATALOGUE, rejected=refused)
    assert np.isnan(result.values[0, 6])
    assert result.reason[0, 6] == MissingReason.REJECTED


def test_huge_sums_stay_finite() -> None:
    """A sum beyond float64 is held at its limit, because no detector may see an infinite value."""
    readings = _arrays([Reading(1, START * 1_000_000 + i, 1.7e308) for i in range(3)])
    result = aggregate(readings, WINDOWS, CATALOGUE)
    assert result.values[0, 1] == np.finfo(np.float64).max
    result.block("somebody", "UTC")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_non_finite_reading_is_refused_by_name(value: float) -> None:
    """The error names the stream, because the gate before should have rejected the reading."""
    readings = _arrays([Reading(0, START * 1_000_000, 1.0), Reading(4, START * 1_000_000, value)])
    with pytest.raises(InputError, match="stream 'max': 1 non-finite"):
        aggregate(readings, WINDOWS, CATALOGUE)


@pytest.mark.parametrize("stream", [-1, len(CATALOGUE.streams)])
def test_a_stream_outside_the_catalogue_is_refused(stream: int) -> None:
    """A wrong code is an error of the caller and never lands in another stream's column."""
    readings = _arrays([Reading(stream, START * 1_000_000, 1.0)])
    with pytest.raises(InputError, match="has streams 0 to 6"):
        aggregate(readings, WINDOWS, CATALOGUE)
    with pytest.raises(InputError, match="has streams 0 to 6"):
        aggregate(Readings.empty(), WINDOWS, CATALOGUE, late=_times([Reading(stream, 0, 1.0)]))


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    """Lengths and types are checked where readings are built."""
    good = _arrays([Reading(0, START, 1.0)])
    with pytest.raises(InputError, match="microseconds is float64"):
        replace(good, microseconds=np.array([1.0]))
    with pytest.raises(InputError, match="shape"):
        replace(good, microseconds=np.array([1, 2]))
    with pytest.raises(InputError, match="value is int64"):
        replace(good, value=np.array([1]))


def test_readings_are_kept_in_a_sliding_buffer() -> None:
    """Joined readings keep their order; `since` keeps the bound itself."""
    joined = Readings.empty().joined(Readings.of([0, 1], [10, 20], [1.0, 2.0]))
    joined = joined.joined(Readings.of([2], [15], [3.0]))
    kept = joined.since(15)
    assert joined.stream.tolist() == [0, 1, 2]
    assert (kept.stream.tolist(), kept.value.tolist()) == ([1, 2], [2.0, 3.0])


def test_seconds_become_exact_microseconds() -> None:
    """Fractional epoch seconds of our days keep their microseconds, also across a window's edge."""
    seconds = np.array([START + 0.000001, START + 299.999999, START - 0.5])
    readings = Readings.at_seconds(np.zeros(3, dtype=np.int64), seconds, np.ones(3))
    offsets = readings.microseconds - START * 1_000_000
    assert offsets.tolist() == [1, 299_999_999, -500_000]
    with pytest.raises(InputError, match="not finite"):
        Readings.at_seconds(np.zeros(1, dtype=np.int64), np.array([np.nan]), np.ones(1))


def test_reasons_have_the_names_that_are_stored() -> None:
    """The labels are those of the table's ``missing_reason``; a present value has none."""
    labels = [reason.label for reason in MissingReason]
    assert labels == [None, "absent", "late", "stuck", "off", "rejected"]


def test_a_month_of_thirty_six_streams_takes_less_than_a_second() -> None:
    """1.5 million unsorted readings are aggregated in under a second of processor time."""
    catalogue = load_catalogue("default")
    generator = np.random.default_rng(2)
    windows = WindowRange(START, START + 8_640 * WINDOW_SECONDS)
    readings = Readings(
        generator.integers(0, len(catalogue.streams), 1_500_000),
        START * 1_000_000 + generator.integers(0, 8_640 * WINDOW, 1_500_000),
        generator.normal(size=1_500_000),
    )
    started = time.process_time()
    aggregate(readings, windows, catalogue)
    assert time.process_time() - started < 1.0
