"""Clocks that are wrong, and what only looks like one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from anomaly_assets.detection.explanation.cause import CauseKind
from anomaly_assets.detection.explanation.evidence import ArrivalRow, GapRow, WindowEvidence
from anomaly_assets.detection.explanation.explain import Explainer
from anomaly_assets.detection.explanation.record import ClockEvidence, Explanation
from anomaly_assets.errors import InputError
from anomaly_assets.streams.windows import FloatArray, IntArray
from anomaly_assets_tests.detection.explanation.cases import (
    CATALOGUE,
    N_STREAMS,
    WINDOW,
    calm,
    deviating,
    without,
)

N_MINUTES = 420
#: Minutes of arrivals at the end of which a clock is wrong.
LATELY = 25
HOUR = 3600.0
LOCATION, BIOMETRIC = 1, 2
BODY = ("heart_rate", "skin_temperature")
FAST = Explainer(CATALOGUE)


def punctual() -> FloatArray:
    """Lags of four groups that send every minute and arrive within seconds."""
    lags: FloatArray = 5.0 + np.sin(np.arange(N_MINUTES * 4)).reshape(N_MINUTES, 4)
    return lags


def late(lags: FloatArray, group: int, seconds: float | FloatArray) -> FloatArray:
    """Let the latest readings of a group be late by so much more (ahead, if below 0)."""
    lags = lags.copy()
    lags[-LATELY:, group] += seconds
    return lags


def arrivals(lags: FloatArray, tolerance: float = 300.0) -> ArrivalRow:
    """Return arrivals of which the gate refused what came from the future, or from before 2000."""
    with np.errstate(invalid="ignore"):
        refused: IntArray = ((lags < -tolerance) | (lags > 20 * 365 * 24 * HOUR)).astype(np.int64)
    return ArrivalRow(lags, 2 * refused)


def silent(lags: FloatArray, *streams: str, **changes: object) -> WindowEvidence:
    """Evidence of a window that misses the streams of a device, as gap patterns notice."""
    groups = np.full(4, 0.1)
    at = [CATALOGUE.index(stream) for stream in streams]
    groups[CATALOGUE.group_of_stream[at]] = 0.97
    surprise = np.full(N_STREAMS, -0.1)
    surprise[at] = 4.0
    evidence = calm(
        score=0.9, gaps=GapRow(0.97, groups, groups > 0.5, surprise), arrivals=arrivals(lags)
    )
    return replace(without(evidence, *streams), **changes)  # type: ignore[arg-type]


def told(evidence: WindowEvidence) -> list[str]:
    """Return the kinds of all causes named, the primary one first."""
    record = FAST.explain(evidence)
    return [record.cause_kind, *(other.cause for other in record.alternative_explanations)]


def test_a_clock_that_jumped_ahead_explains_the_silence_of_its_device() -> None:
    """What the device sends is refused, so that it seems to be off; it is not."""
    record = FAST.explain(silent(late(punctual(), BIOMETRIC, -2 * HOUR), *BODY))
    assert record.cause_kind == CauseKind.CLOCK_JUMP
    assert record.primary_cause == "clock of the biometric device 2 h ahead"
    assert record.summary == (
        "The clock of the biometric device has been about 2 h ahead since 10:15: readings of "
        "biometric keep arriving but bear times still to come (50 of them were refused), so that "
        "this window has none."
    )
    assert "time zone" in record.recommended_action
    assert "biometric device: it is about 2 h ahead" in record.recommended_action
    assert record.cause_streams == BODY
    clock = record.evidence.clock
    assert clock is not None
    assert clock.seconds_ahead == pytest.approx(2 * HOUR - 5.0, abs=2.0)
    since = WINDOW + 300 - 60 * LATELY
    assert clock == ClockEvidence(("biometric",), clock.seconds_ahead, since, 50)
    assert record.alternative_explanations[0].cause == CauseKind.DEVICE_OFF
    assert record.primary_probability > 0.9
    assert record.alternative_explanations[0].probability < 0.1


def test_a_clock_that_fell_behind_explains_the_silence_of_its_device() -> None:
    """Its readings go on arriving, and all belong to windows an hour and a half ago."""
    record = FAST.explain(silent(late(punctual(), BIOMETRIC, 1.5 * HOUR), *BODY))
    assert record.cause_kind == CauseKind.CLOCK_JUMP
    assert record.primary_cause == "clock of the biometric device 1.5 h behind"
    assert "bear times long past, so that this window has none" in record.summary
    clock = record.evidence.clock
    assert clock is not None
    assert clock.seconds_ahead == pytest.approx(-1.5 * HOUR, abs=2.0)
    assert clock.refused == 0


def test_a_clock_that_was_never_set_is_decades_behind() -> None:
    """Times before the year 2000 are refused, and need nothing to compare with."""
    lags = punctual()
    lags[:, BIOMETRIC] = np.nan
    lags[-LATELY:, BIOMETRIC] = 56 * 365.25 * 24 * HOUR
    record = FAST.explain(silent(lags, *BODY))
    assert record.primary_cause == "clock of the biometric device 56 years behind"
    assert "for hours" in record.summary


def test_a_device_that_is_off_is_off() -> None:
    """Nothing of it arrives, whatever the times were that came before."""
    lags = punctual()
    lags[-LATELY:, BIOMETRIC] = np.nan
    assert told(silent(lags, *BODY))[0] == CauseKind.DEVICE_OFF
    assert CauseKind.CLOCK_JUMP not in told(silent(lags, *BODY))


def test_a_device_that_was_switched_off_after_its_clock_jumped_is_off() -> None:
    """What its clock was an hour ago does not say why nothing comes now."""
    lags = np.roll(late(punctual(), BIOMETRIC, -2 * HOUR), -60, axis=0)
    lags[-60:, BIOMETRIC] = np.nan
    assert told(silent(lags, *BODY))[0] == CauseKind.DEVICE_OFF


def test_the_clock_precedes_the_silence_it_explains_whatever_else_goes_on() -> None:
    """A device that keeps sending is not off, even if little of the anomaly is its silence."""
    evidence = silent(late(punctual(), BIOMETRIC, -2 * HOUR), *BODY)
    assert evidence.gaps is not None
    surprise = evidence.gaps.surprise.copy()
    surprise[CATALOGUE.index("screen_on")] = 90.0
    record = FAST.explain(replace(evidence, gaps=replace(evidence.gaps, surprise=surprise)))
    assert record.cause_kind == CauseKind.CLOCK_JUMP
    assert record.alternative_explanations[0].cause == CauseKind.DEVICE_OFF
    assert record.primary_probability > 0.9


def test_groups_that_are_wrong_by_the_same_hang_on_one_device() -> None:
    """One cause names them all, and the silences of all are explained by it."""
    lags = late(late(punctual(), BIOMETRIC, -HOUR), LOCATION, -HOUR - 20.0)
    record = FAST.explain(silent(lags, *BODY, "gps_speed"))
    assert record.primary_cause == "clock of the location and biometric device 1 h ahead"
    assert set(record.cause_streams) == {*BODY, "gps_speed"}
    assert [a.cause for a in record.alternative_explanations].count(CauseKind.CLOCK_JUMP) == 0


def test_clocks_that_are_wrong_by_different_times_are_two_causes() -> None:
    """Each is told apart from the other."""
    lags = late(late(punctual(), BIOMETRIC, -HOUR), LOCATION, 3 * HOUR)
    kinds = told(silent(lags, *BODY, "gps_speed"))
    assert kinds.count(CauseKind.CLOCK_JUMP) == 2


def test_a_single_straggler_is_no_clock() -> None:
    """A reading that waited on the device says nothing of the others."""
    lags = punctual()
    lags[-LATELY:, BIOMETRIC] = np.nan
    lags[-3, BIOMETRIC] = HOUR
    assert CauseKind.CLOCK_JUMP not in told(silent(lags, *BODY))


def test_a_device_that_was_out_of_reach_catches_up_without_a_wrong_clock() -> None:
    """Each reading has waited for another time, however long all of them did."""
    waited = np.linspace(3 * HOUR, HOUR, LATELY)
    assert CauseKind.CLOCK_JUMP not in told(silent(late(punctual(), BIOMETRIC, waited), *BODY))


def test_readings_that_came_in_one_burst_tell_nothing() -> None:
    """A file of yesterday that is imported now is no course of time."""
    lags = punctual()
    lags[-LATELY:, BIOMETRIC] = np.nan
    lags[-3:-1, BIOMETRIC] = 24 * HOUR
    assert CauseKind.CLOCK_JUMP not in told(silent(lags, *BODY))


@pytest.mark.parametrize("days", [30.0, np.linspace(30.0, 2.0, LATELY)[:, None]])
def test_an_import_that_makes_everything_late_is_no_clock(days: float | FloatArray) -> None:
    """Nothing was punctual before: late is what these readings are, the same or not."""
    lags = np.full((N_MINUTES, 4), np.nan)
    lags[-LATELY:] = days * 24 * HOUR
    assert CauseKind.CLOCK_JUMP not in told(silent(lags, *BODY))


def test_a_device_that_is_always_late_is_not_wrong() -> None:
    """Its own lag is its measure, not that of the others."""
    lags = punctual()
    lags[:, BIOMETRIC] += 3 * HOUR
    assert CauseKind.CLOCK_JUMP not in told(silent(lags, *BODY))


def test_a_lag_within_what_is_usual_for_a_device_is_no_step() -> None:
    """It sends what it has now and then: a quarter of an hour more is one of its moods."""
    lags = punctual()
    lags[:, BIOMETRIC] = np.tile(np.arange(60) * 60.0, N_MINUTES // 60)
    lags[-LATELY:, BIOMETRIC] = 45 * 60.0
    assert CauseKind.CLOCK_JUMP not in told(silent(lags, *BODY))


def test_a_clock_that_was_set_right_is_not_wrong() -> None:
    """What arrives in time is in time, whatever was usual before."""
    lags = punctual()
    lags[:-LATELY, BIOMETRIC] -= 2 * HOUR
    assert CauseKind.CLOCK_JUMP not in told(silent(lags, *BODY))


@pytest.mark.parametrize("seconds", [-240.0, 300.0])
def test_a_clock_that_is_off_by_less_than_windows_is_not_told(seconds: float) -> None:
    """Networks take minutes at times, and the gate lets minutes pass."""
    assert CauseKind.CLOCK_JUMP not in told(calm(arrivals=arrivals(late(punctual(), 2, seconds))))


def test_a_wrong_clock_that_has_little_to_do_with_the_anomaly_is_an_alternative() -> None:
    """The telephone's clock does not make a heart race."""
    evidence = deviating("heart_rate", arrivals=arrivals(late(punctual(), LOCATION, -HOUR)))
    record = FAST.explain(evidence)
    assert record.cause_kind == CauseKind.SPIKE
    assert CauseKind.CLOCK_JUMP in {other.cause for other in record.alternative_explanations}
    assert record.evidence.clock is not None


@pytest.mark.parametrize("hours", [-1.0, 2.0])
def test_what_all_devices_share_may_be_the_receiver(hours: float) -> None:
    """Where everything bears the same wrong times, no single device is accused."""
    lags = punctual()
    lags[-LATELY:] += hours * HOUR
    record = FAST.explain(silent(lags, *CATALOGUE.stream_ids))
    assert record.cause_kind == CauseKind.CLOCK_JUMP
    assert "every device or of the system that receives them" in record.summary
    assert ("held up on its way" in record.summary) == (hours > 0.0)
    assert record.alternative_explanations[0].cause == CauseKind.NOTHING_RECEIVED


@pytest.mark.parametrize("known", [None, np.full((N_MINUTES, 4), np.nan), np.empty((0, 4))])
def test_without_arrivals_nothing_changes(known: FloatArray | None) -> None:
    """What was imported later has none, and is explained as ever."""
    evidence = silent(punctual(), *BODY)
    expected = FAST.explain(replace(evidence, arrivals=None))
    unknown = None if known is None else arrivals(known)
    assert FAST.explain(replace(evidence, arrivals=unknown)) == expected
    assert expected.cause_kind == CauseKind.DEVICE_OFF


def test_the_record_keeps_the_clock() -> None:
    """What is stored as JSON is read back, and records from before have no clock."""
    record = FAST.explain(silent(late(punctual(), BIOMETRIC, -2 * HOUR), *BODY))
    plain = json.loads(json.dumps(record.to_dict(), allow_nan=False))
    assert Explanation.from_dict(plain) == record
    assert "Clock:       biometric 2 h ahead since 10:15, 50 readings refused" in record.as_text()
    del plain["evidence"]["clock"]
    assert Explanation.from_dict(plain).evidence.clock is None


def test_arrivals_of_other_groups_or_shapes_are_refused() -> None:
    """The message says which groups the catalogue has."""
    with pytest.raises(InputError, match="arrivals of 3 groups, the catalogue 'person' has 4"):
        FAST.explain(calm(arrivals=arrivals(punctual()[:, :3])))
    with pytest.raises(InputError, match="lag has shape"):
        ArrivalRow(punctual(), np.zeros(4, dtype=np.int64))
