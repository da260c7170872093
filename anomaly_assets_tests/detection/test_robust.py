"""The library's front door."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest

from anomaly_assets.detection.explanation.record import Explanation
from anomaly_assets.detection.robust import (
    LONGEST_BREAK,
    RawValue,
    RobustAnomalySystem,
    WindowResult,
)
from anomaly_assets.detection.system import DetectionState, detect
from anomaly_assets.errors import InputError
from anomaly_assets.streams.aggregation import Readings, aggregate
from anomaly_assets.streams.catalogue import Aggregation, Catalogue, Group, Stream, StreamType
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowBlock, WindowRange

START = datetime(2026, 1, 5, 8, tzinfo=UTC)
WINDOW = timedelta(seconds=WINDOW_SECONDS)


def catalogue() -> Catalogue:
    """Return four streams: aggregated in three ways, one of them zero-suppressed."""
    return Catalogue(
        name="four",
        groups=(Group(id="body"), Group(id="phone")),
        streams=(
            Stream(
                id="pulse",
                type=StreamType.CONTINUOUS_SMOOTH,
                group="body",
                valid_range=(20.0, 250.0),
            ),
            Stream(id="skin", type=StreamType.CONTINUOUS_SMOOTH, group="body"),
            Stream(
                id="battery",
                type=StreamType.SPORADIC,
                group="phone",
                aggregation=Aggregation.LAST,
            ),
            Stream(
                id="launches",
                type=StreamType.DISCRETE_EVENTS,
                group="phone",
                aggregation=Aggregation.SUM,
                zero_suppressed=True,
                witnesses=("battery",),
            ),
        ),
    )


def usual(number: int) -> dict[str, RawValue]:
    """Return an ordinary window."""
    return {
        "pulse": 70.0 + 2.0 * math.sin(number) + number % 3,
        "skin": 33.0 + 0.1 * math.cos(1.7 * number),
        "battery": 90.0 - 0.1 * number,
        "launches": float(number % 4),
    }


def fed(n_windows: int) -> RobustAnomalySystem:
    """Return a system that has seen some ordinary windows."""
    system = RobustAnomalySystem(catalogue())
    for number in range(n_windows):
        system.process_timestamp(START + number * WINDOW, usual(number))
    return system


@cache
def spiked(*, thorough: bool) -> WindowResult:
    """Return what is said of a pulse of 180 after 200 ordinary windows."""
    system, at = fed(200), START + 200 * WINDOW
    odd = usual(200) | {"pulse": 180.0}
    if thorough:
        return system.analyze_with_full_explanation(at, odd)
    return system.process_timestamp(at, odd)


def test_it_says_what_the_detectors_say() -> None:
    """Window by window through the front door is the same, to the bit, as a block of them."""
    values = np.array([list(usual(number).values()) for number in range(120)], dtype=np.float64)
    start = int(START.timestamp())
    windows = WindowRange(start, start + len(values) * WINDOW_SECONDS)
    block = WindowBlock("entity", "UTC", windows, values)
    expected = detect(DetectionState.fresh(catalogue()), block)
    system = RobustAnomalySystem(catalogue(), time_zone="UTC")
    for number in range(len(values)):
        # Any moment of a window names it.
        at = START + number * WINDOW + timedelta(seconds=number)
        result = system.process_timestamp(at, usual(number))
        assert result.window == START + number * WINDOW
        assert result.score == expected.ensemble.score[number]
        assert result.cross_stream_score == expected.cross_stream.score[number]
        assert result.gap_score == expected.gaps.score[number]
        for index, stream in enumerate(result.streams.values()):
            assert stream.value == values[number, index]
            assert stream.score == expected.individual.score[number, index]


def test_what_is_missing_is_unknown() -> None:
    """A stream that is not named, None or NaN has no value and no score, but is forecast."""
    result = fed(50).process_timestamp(
        START + 50 * WINDOW, {"pulse": 71.0, "skin": None, "battery": math.nan}
    )
    assert result.missing == ("skin", "battery", "launches")
    assert result.rejected == {}
    for name in result.missing:
        stream = result.streams[name]
        assert (stream.value, stream.score, stream.deviation) == (None, None, None)
        assert stream.expected is not None
    assert result.streams["pulse"].score is not None
    assert result.confidence == pytest.approx(1 / 4)


def test_a_suppressed_zero_is_a_zero_where_a_witness_is_there() -> None:
    """No launches beside a battery reading are none; with a refused count they are unknown."""
    at = START + 50 * WINDOW
    assert fed(50).process_timestamp(at, {"battery": 85.0}).streams["launches"].value == 0.0
    refused = fed(50).process_timestamp(at, {"battery": 85.0, "launches": math.inf})
    assert refused.streams["launches"].value is None
    assert "launches" in refused.missing


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("pulse", "seventy", "'seventy' is no number"),
        ("pulse", b"70", "no number"),
        ("pulse", True, "True is no number"),
        ("pulse", np.array([70.0]), "no number"),
        ("pulse", math.inf, "infinite"),
        ("pulse", 10**400, "infinite"),
        ("pulse", 19.9, r"19.9 is outside of the valid range \[20.0, 250.0\]"),
        ("pulse", Fraction(501, 2), "250.5 is outside"),
        ("pace", 5.0, "'four' has no such stream"),
        ("pulse", [(START, 70.0)], "outside of the window"),
        ("pulse", [(START.replace(tzinfo=None), 70.0)], "no datetime with a time zone"),
        ("pulse", [(1_767_600_000, 70.0)], "no datetime with a time zone"),
        ("pulse", [70.0, 71.0], "time 70.0 is no datetime"),
        ("pulse", [(START + 50 * WINDOW, "seventy")], "no number"),
    ],
)
def test_what_cannot_be_used_is_named(name: str, value: RawValue, reason: str) -> None:
    """It counts as missing, with the reason; the other streams are scored."""
    system, raw = fed(50), usual(50)
    result = system.process_timestamp(START + 50 * WINDOW, raw | {name: value})
    assert list(result.rejected) == [name]
    with pytest.raises(InputError, match=reason):
        raise InputError(result.rejected[name])
    assert result.missing == (("pulse",) if name == "pulse" else ())
    assert result.streams["skin"].score is not None
    system.process_timestamp(START + 51 * WINDOW, usual(51))


def test_numbers_of_other_types_are_numbers() -> None:
    """Integers, fractions and NumPy's own are taken as they are."""
    raw: dict[str, Any] = {"pulse": 70, "skin": np.float32(33.5), "battery": Fraction(181, 2)}
    result = fed(5).process_timestamp(START + 5 * WINDOW, raw)
    assert [result.streams[name].value for name in raw] == [70.0, 33.5, 90.5]
    assert result.rejected == {}


def test_one_bad_reading_does_not_cost_the_others() -> None:
    """Of several readings only those that can be used count; the stream is named all the same."""
    at = START + 5 * WINDOW
    pulse: Any = [(at, 70.0), (at + WINDOW, 90.0), (at, None)]
    result = fed(5).process_timestamp(at, {"pulse": pulse})
    assert result.streams["pulse"].value == 70.0
    assert list(result.rejected) == ["pulse"]


def test_timed_readings_are_aggregated_as_everywhere_else() -> None:
    """Means, sums, last values and filled zeros are those of :func:`aggregate`, in any order."""
    rng = np.random.default_rng(0)
    start = int(START.timestamp())
    windows = WindowRange(start, start + 20 * WINDOW_SECONDS)
    streams, times, values = [], [], []
    system = RobustAnomalySystem(catalogue())
    got = []
    for number in range(20):
        at = START + number * WINDOW
        raw: dict[str, RawValue] = {}
        for index, name in enumerate(catalogue().stream_ids):
            n_readings = int(rng.integers(0, 5))
            moments = [
                at + timedelta(microseconds=int(us))
                for us in rng.integers(0, 300_000_000, n_readings)
            ]
            readings = [float(x) for x in rng.uniform(30.0, 90.0, n_readings)]
            raw[name] = list(zip(moments, readings, strict=True))
            streams += [index] * n_readings
            times += [round(moment.timestamp() * 1e6) for moment in moments]
            values += readings
        got.append([s.value for s in system.process_timestamp(at, raw).streams.values()])
    expected = aggregate(Readings.of(streams, times, values), windows, catalogue()).values
    np.testing.assert_array_equal(np.array(got, dtype=np.float64), expected)
    assert np.isnan(expected).any()


def test_windows_only_go_forwards() -> None:
    """A window given twice, or an earlier one, is an error that names it and changes nothing."""
    system, other = fed(50), fed(50)
    for back in (1, 2):
        with pytest.raises(InputError, match=r"2026-01-05 12:0\d UTC has been"):
            system.process_timestamp(START + (50 - back) * WINDOW, usual(0))
    with pytest.raises(InputError, match="processed already"):
        system.analyze_with_full_explanation(START + 48 * WINDOW, usual(0))
    with pytest.raises(InputError, match="no time zone"):
        system.process_timestamp(START.replace(tzinfo=None), usual(0))
    at = START + 50 * WINDOW
    assert system.process_timestamp(at, usual(50)) == other.process_timestamp(at, usual(50))


def test_windows_left_out_are_windows_without_data() -> None:
    """Skipping an hour is the same as giving twelve windows in which everything is missing."""
    skipping, giving = fed(50), fed(50)
    for number in range(50, 62):
        result = giving.process_timestamp(START + number * WINDOW, {})
        assert result.missing == catalogue().stream_ids
        assert all(stream.score is None for stream in result.streams.values())
        assert result.score is not None
        assert result.confidence == pytest.approx(0.3)
    at = START + 62 * WINDOW
    assert skipping.process_timestamp(at, usual(62)) == giving.process_timestamp(at, usual(62))


def test_a_long_break_is_left_out() -> None:
    """After more than seven days nothing is made of the time between: no gap, no history."""
    system = fed(50)
    at = START + (51 + LONGEST_BREAK) * WINDOW
    result = system.analyze_with_full_explanation(at, usual(50))
    assert result.gap_score is not None
    assert result.gap_score < 0.7
    assert result.streams["pulse"].score is not None
    assert isinstance(result.explanation, Explanation)


def test_before_anything_is_observed_nothing_is_known() -> None:
    """Windows without data come first: their scores are unknown, and confidence is 0."""
    system = RobustAnomalySystem(catalogue())
    result = system.process_timestamp(START, {})
    assert (result.score, result.cross_stream_score, result.gap_score) == (None, None, None)
    assert result.confidence == 0.0
    assert not result.is_anomaly
    assert result.explanation is None
    assert system.process_timestamp(START + WINDOW, usual(1)).score is not None


def test_an_ordinary_window_is_not_explained_and_an_odd_one_is() -> None:
    """A pulse of 180 is an anomaly, explained by that stream; the window before it was neither."""
    before = fed(199).process_timestamp(START + 199 * WINDOW, usual(199))
    assert not before.is_anomaly
    assert before.explanation is None
    result = spiked(thorough=False)
    assert result.score is not None
    assert result.score > 0.7
    assert result.is_anomaly
    assert result.explanation is not None
    assert "pulse" in str(result.explanation)


def test_a_full_explanation_is_given_in_any_case() -> None:
    """Asked for it, an ordinary window is explained too, and an odd one scores the same."""
    ordinary = fed(50).analyze_with_full_explanation(START + 50 * WINDOW, usual(50))
    assert not ordinary.is_anomaly
    assert ordinary.explanation is not None
    fast, thorough = spiked(thorough=False), spiked(thorough=True)
    assert thorough.explanation is not None
    assert thorough.score == fast.score
    assert thorough.streams == fast.streams


def test_a_full_explanation_consults_the_day_before() -> None:
    """Four hours are enough for a causal network and for lead-lag; one hour is not, and said so."""
    explanation = spiked(thorough=True).explanation
    assert explanation is not None
    assert {"causal network", "lead-lag"} <= set(explanation.methods_used)
    short = fed(12).analyze_with_full_explanation(START + 12 * WINDOW, usual(12)).explanation
    assert short is not None
    assert any("a causal network needs 24" in reason for reason in short.degraded)


def test_the_last_window_is_explained_again_without_being_learnt_twice() -> None:
    """The explanation is of the window as it was given; what comes next is scored the same."""
    system, other = fed(50), fed(50)
    at = START + 50 * WINDOW
    result = system.process_timestamp(at, usual(50))
    assert other.process_timestamp(at, usual(50)) == result
    for _ in range(2):
        again = system.analyze_with_full_explanation(at, {"pulse": 240.0})
        assert again.explanation is not None
        assert again.streams == result.streams
        assert again.score == result.score
    after = START + 51 * WINDOW
    assert system.process_timestamp(after, usual(51)) == other.process_timestamp(after, usual(51))


def test_the_ensemble_can_be_the_specifications_mean() -> None:
    """The literal mean dilutes what one stream of four says; another method is refused."""
    system = RobustAnomalySystem(catalogue(), ensemble="mean")
    for number in range(200):
        system.process_timestamp(START + number * WINDOW, usual(number))
    result = system.process_timestamp(START + 200 * WINDOW, usual(200) | {"pulse": 180.0})
    odd = spiked(thorough=False).score
    assert result.score is not None
    assert odd is not None
    assert result.score < odd


def test_shipped_catalogues_are_known_by_name() -> None:
    """The default is the person's; its time zone is taken unless another is given."""
    system = RobustAnomalySystem()
    assert system.catalogue.name == "default"
    assert system.time_zone == system.catalogue.time_zone
    assert RobustAnomalySystem(time_zone="Asia/Tokyo").time_zone == "Asia/Tokyo"
