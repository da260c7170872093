"""Faults found, delays and false alarms on hand-made scores."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.found import Rules, ScoredWindows, false_alarms, find, summary
from anomaly_assets.evaluation.simulator import FaultKind, InjectedFault
from anomaly_assets.streams.windows import WINDOW_SECONDS, WINDOWS_PER_DAY

_START = datetime(2026, 1, 5, tzinfo=UTC)


def _scored(days: float, *alarms: float) -> ScoredWindows:
    """Quiet windows with an alarm in the window that holds each of `alarms` (days)."""
    n = round(days * WINDOWS_PER_DAY)
    scores = np.full(n, 0.1)
    scores[[int(alarm * WINDOWS_PER_DAY + 1e-6) for alarm in alarms]] = 0.9
    starts = int(_START.timestamp()) + WINDOW_SECONDS * np.arange(n, dtype=np.int64)
    return ScoredWindows(starts, scores)


def _fault(day: float, minutes: int = 60, entity: str = "ann") -> InjectedFault:
    start = _START + timedelta(days=day)
    end = start + timedelta(minutes=minutes)
    return InjectedFault(entity, FaultKind.SPIKE, start, end, ("heart_rate",), 8.0, "heart_rate")


@pytest.mark.parametrize(
    ("alarm_minute", "delay"),
    [(-5, None), (0, 5.0), (20, 25.0), (55, 60.0), (85, 90.0), (90, None)],
)
def test_an_alarm_up_to_half_an_hour_after_the_end_finds_a_fault(
    alarm_minute: int, delay: float | None
) -> None:
    """The delay runs from the fault's start to the end of the first alarm window."""
    scored = _scored(6, 4 + alarm_minute / 1440)
    (result,) = find({"ann": scored}, [_fault(4)])
    assert result.found is (delay is not None)
    assert result.delay_minutes == delay


def test_a_window_that_a_fault_touches_counts() -> None:
    """A fault that begins inside a window is found by that window."""
    (result,) = find({"ann": _scored(6, 4)}, [_fault(4 + 3 / 1440, minutes=1)])
    assert result.found
    assert result.delay_minutes == 2.0


def test_the_first_alarm_counts_and_the_peak_is_the_highest() -> None:
    """Further alarms change the peak, not the delay."""
    scored = _scored(6, 4 + 10 / 1440, 4 + 40 / 1440)
    scored.scores[int(4 * WINDOWS_PER_DAY) + 8] = 0.97
    (result,) = find({"ann": scored}, [_fault(4)])
    assert result.delay_minutes == 15.0
    assert result.peak == 0.97


def test_alarms_of_another_entity_find_nothing() -> None:
    """Each entity has its own scores, and one without any has found nothing."""
    scored = {"ann": _scored(6), "bob": _scored(6, 4)}
    results = find(scored, [_fault(4), _fault(4, entity="eve")])
    assert [r.found for r in results] == [False, False]
    assert results[1].peak is None


def test_an_alarm_clear_of_faults_is_false_and_one_near_a_fault_is_not() -> None:
    """The tolerance holds on both sides of a fault."""
    scored = {"ann": _scored(6, 4 - 25 / 1440, 4 + 80 / 1440, 5)}
    (alarm,) = false_alarms(scored, [_fault(4)])
    assert alarm.start == _START + timedelta(days=5)


def test_an_episode_that_reaches_a_fault_is_not_false() -> None:
    """An episode is judged as a whole: it is enough that part of it overlaps."""
    scored = {"ann": _scored(6, *(4 - minutes / 1440 for minutes in (60, 45, 30)))}
    assert false_alarms(scored, [_fault(4)]) == []


def test_the_learning_period_is_left_out_and_said_to_be() -> None:
    """Neither its alarms nor its faults count, and the summary names its length."""
    scored = {"ann": _scored(5, 1, 2)}
    result = summary(scored, [_fault(2)])
    assert (result["faults"], result["found"], result["false_alarms"]) == (0, 0, 0)
    assert result["learning_days_excluded"] == 3.0
    assert result["entity_days"] == 2.0
    assert result["details"][0]["in_learning_period"]
    assert result["details"][0]["found"]


def test_rates_are_a_day_and_entity() -> None:
    """Two false alarms over two entities of two days each are half a one a day."""
    scored = {"ann": _scored(5, 3.5, 4.5), "bob": _scored(5)}
    result = summary(scored, [])
    assert result["false_alarms"] == 2
    assert result["false_alarms_per_day"] == 0.5
    assert result["clean_alarm_share"] == 2 / (4 * WINDOWS_PER_DAY)


def test_unknown_windows_are_neither_clean_nor_time_watched() -> None:
    """NaN scores do not dilute the rates."""
    scored = _scored(5, 3.5)
    scored.scores[4 * WINDOWS_PER_DAY :] = np.nan
    result = summary({"ann": scored}, [])
    assert result["entity_days"] == 1.0
    assert result["clean_windows"] == WINDOWS_PER_DAY


def test_the_summary_counts_by_kind_and_fits_json() -> None:
    """All values survive strict JSON, and plain pairs of arrays do as scores."""
    scored = _scored(6, 4)
    result = summary({"ann": (scored.starts, scored.scores)}, [_fault(4), _fault(5)])
    assert result["by_kind"] == {"spike": {"faults": 2, "found": 1}}
    assert result["found_share"] == 0.5
    assert result["median_delay_minutes"] == 5.0
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_nothing_to_divide_by_is_none() -> None:
    """Without scores there are no rates, and no division by zero."""
    result = summary({}, [], Rules())
    assert result["found_share"] is None
    assert result["false_alarms_per_day"] is None
    assert result["clean_alarm_share"] is None


def test_scores_that_do_not_fit_their_windows_are_refused() -> None:
    """The error names the entity."""
    with pytest.raises(EvaluationError, match="'ann'"):
        summary({"ann": (np.arange(3), np.zeros(2))}, [])
