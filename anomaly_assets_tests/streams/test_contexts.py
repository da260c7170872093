"""Contexts of windows, and the local calendar they are read from."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from anomaly_assets.streams.catalogue import Contexts
from anomaly_assets.streams.contexts import (
    CONTEXT_NAMES,
    context_codes,
    is_weekend,
    is_work_hours,
)
from anomaly_assets.streams.windows import Calendar, WindowRange

MONDAY, FRIDAY, SATURDAY = 0, 4, 5


def _context(weekday: int, hour: float, contexts: Contexts | None = None) -> str:
    calendar = Calendar(hour=np.array([hour]), weekday=np.array([weekday]))
    return CONTEXT_NAMES[context_codes(calendar, contexts or Contexts())[0]]


@pytest.mark.parametrize(
    ("weekday", "hour", "expected"),
    [
        (MONDAY, 9.0, "work_hours"),
        (MONDAY, 16.95, "work_hours"),
        (MONDAY, 17.0, "other"),
        (MONDAY, 8.95, "other"),
        (MONDAY, 7.0, "other"),
        (MONDAY, 6.95, "sleep_hours"),
        (MONDAY, 0.0, "sleep_hours"),
        (FRIDAY, 23.0, "sleep_hours"),
        (SATURDAY, 3.0, "sleep_hours"),
        (SATURDAY, 10.0, "weekend"),
        (SATURDAY, 20.0, "weekend"),
    ],
)
def test_a_window_has_the_first_context_that_holds(
    weekday: int, hour: float, expected: str
) -> None:
    """Sleep comes before the weekend, that before work; bounds include the start only."""
    assert _context(weekday, hour) == expected


def test_hours_may_wrap_midnight_or_not() -> None:
    """A night shift from 22 to 6 is work on both sides of midnight; sleep by day is sleep."""
    shift = Contexts(work_hours=(22.0, 6.0), sleep_hours=(8.0, 15.0))
    assert _context(MONDAY, 23.0, shift) == "work_hours"
    assert _context(MONDAY, 5.0, shift) == "work_hours"
    assert _context(MONDAY, 6.0, shift) == "other"
    assert _context(MONDAY, 8.0, shift) == "sleep_hours"


def test_equal_bounds_are_no_hours_at_all() -> None:
    """An entity that never sleeps is given sleep hours of no length."""
    assert _context(MONDAY, 3.0, Contexts(sleep_hours=(0.0, 0.0))) == "other"
    assert _context(MONDAY, 3.0, Contexts(sleep_hours=(0.0, 24.0))) == "sleep_hours"


def test_codes_are_small_and_flags_ignore_precedence() -> None:
    """Codes are int8; the two flags hold whatever the context is called."""
    calendar = Calendar(hour=np.array([3.0, 10.0]), weekday=np.array([SATURDAY, MONDAY]))
    assert context_codes(calendar, Contexts()).dtype == np.int8
    assert is_weekend(calendar, Contexts()).tolist() == [True, False]
    assert is_work_hours(calendar, Contexts()).tolist() == [False, True]


def _hours(start: datetime, end: datetime, zone: str) -> list[float]:
    return [float(hour) for hour in Calendar.of(WindowRange.between(start, end), zone).hour]


def test_clocks_going_forward_skip_the_local_hour() -> None:
    """In Berlin on 29 March 2026 the hour from 2 to 3 does not exist."""
    hours = _hours(
        datetime(2026, 3, 29, 0, 50, tzinfo=UTC),
        datetime(2026, 3, 29, 1, 10, tzinfo=UTC),
        "Europe/Berlin",
    )
    assert hours == pytest.approx([1 + 50 / 60, 1 + 55 / 60, 3.0, 3 + 5 / 60])


def test_clocks_going_back_repeat_the_local_hour() -> None:
    """In Berlin on 25 October 2026 the hour from 2 to 3 comes twice, and windows go on."""
    start, end = datetime(2026, 10, 25, 0, tzinfo=UTC), datetime(2026, 10, 25, 2, tzinfo=UTC)
    hours = _hours(start, end, "Europe/Berlin")
    assert len(hours) == 24
    assert hours[:12] == hours[12:] == pytest.approx([2 + 5 * i / 60 for i in range(12)])


def test_the_working_day_follows_the_local_clock_through_the_year() -> None:
    """Nine o'clock in Berlin is 7:00 UTC in summer and 8:00 UTC in winter: work begins at both."""
    for month, utc_hour in ((7, 7), (1, 8)):
        start = datetime(2026, month, 15, utc_hour - 1, 55, tzinfo=UTC)
        end = datetime(2026, month, 15, utc_hour, 5, tzinfo=UTC)
        calendar = Calendar.of(WindowRange.between(start, end), "Europe/Berlin")
        assert is_work_hours(calendar, Contexts()).tolist() == [False, True]


def test_the_weekday_is_the_local_one() -> None:
    """Sunday evening UTC is already Monday in Tokyo and still Sunday in Chicago."""
    start, end = datetime(2026, 1, 4, 20, tzinfo=UTC), datetime(2026, 1, 4, 20, 5, tzinfo=UTC)
    windows = WindowRange.between(start, end)
    assert Calendar.of(windows, "Asia/Tokyo").weekday.tolist() == [0]
    assert Calendar.of(windows, "America/Chicago").weekday.tolist() == [6]


def test_half_hour_zones_keep_their_minutes() -> None:
    """India's clocks stand at half past when UTC is on the hour."""
    start, end = datetime(2026, 1, 5, 0, tzinfo=UTC), datetime(2026, 1, 5, 0, 5, tzinfo=UTC)
    assert _hours(start, end, "Asia/Kolkata") == [5.5]
