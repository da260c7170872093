"""Lives by the clock of another zone, and through changes of time."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from anomaly_assets.errors import InputError
from anomaly_assets.evaluation.simulator import (
    NOTHING_MISSING,
    FaultKind,
    Travel,
    many_faults,
    simulate,
)

_DAY = date(2026, 1, 10)


@pytest.mark.parametrize(
    ("time_zone", "later"), [("America/New_York", 6.0), ("Asia/Kolkata", -4.5)]
)
def test_a_traveller_s_days_move_by_the_difference(time_zone: str, later: float) -> None:
    """After the day of travel, activity lies that many hours later in UTC; before, as at home."""
    home = simulate(1, ["ann"], days=12, missing=NOTHING_MISSING).readings
    away = simulate(
        1,
        ["ann"],
        days=12,
        missing=NOTHING_MISSING,
        travels=[Travel("ann", _DAY, time_zone)],
    ).readings
    early = pd.Timestamp("2026-01-09", tz="UTC")
    before = [r[r["timestamp"] < early].reset_index(drop=True)["timestamp"] for r in (home, away)]
    assert len(before[0]) == pytest.approx(len(before[1]), rel=0.01)
    late = pd.Timestamp("2026-01-12", tz="UTC")
    hours = [
        _hour_of_activity(r[(r["timestamp"] >= late) & (r["timestamp"] < late + 5 * _ONE)])
        for r in (home, away)
    ]
    difference = (hours[1] - hours[0] + 12.0) % 24.0 - 12.0
    assert difference == pytest.approx(later, abs=1.0)


_ONE = pd.Timedelta(days=1)


def _hour_of_activity(readings: pd.DataFrame) -> float:
    """Return the circular mean of the hours UTC at which apps are used."""
    times = readings[readings["stream_id"] == "app_launches"]["timestamp"]
    angle = (times.dt.hour + times.dt.minute / 60.0).to_numpy() * (2.0 * np.pi / 24.0)
    mean = np.angle(np.exp(1j * angle).mean())
    return float(mean * 24.0 / (2.0 * np.pi) % 24.0)


def _first_use_on_work_days(readings: pd.DataFrame) -> pd.Series:
    """Return the hour UTC, by day, at which apps are used first."""
    times = readings[readings["stream_id"] == "app_launches"]["timestamp"]
    times = times[(times.dt.hour >= 3) & (times.dt.dayofweek < 5)]
    first = times.groupby(times.dt.floor("D")).min()
    return first.dt.hour + first.dt.minute / 60.0


def test_only_the_traveller_travels() -> None:
    """The readings of others are the same to the last bit."""
    travels = [Travel("ann", _DAY, "Asia/Tokyo")]
    both = simulate(1, ["ann", "bob"], days=7, travels=travels).readings
    alone = simulate(1, ["bob"], days=7).readings
    bob = both[both["entity_id"] == "bob"].reset_index(drop=True)
    assert np.array_equal(bob["value"], alone["value"])
    assert np.array_equal(bob["timestamp"], alone["timestamp"])


def test_faults_at_night_follow_the_traveller() -> None:
    """Three at night is three where the person is."""
    travels = [Travel("ann", date(2026, 1, 5), "America/New_York")]
    faults = many_faults(1, ["ann"], travels=travels, kinds=(FaultKind.USE_AT_3AM,))
    assert faults
    assert {fault.start.hour for fault in faults} == {8}


@pytest.mark.parametrize(
    ("start", "hours"),
    [(datetime(2026, 3, 16, tzinfo=UTC), -1.0), (datetime(2026, 10, 12, tzinfo=UTC), 1.0)],
)
def test_days_follow_the_clock_through_both_changes(start: datetime, hours: float) -> None:
    """After the change in March life is an hour earlier in UTC, after that in October later."""
    readings = simulate(1, ["ann"], start, days=24, missing=NOTHING_MISSING).readings
    first = _first_use_on_work_days(readings)
    before = first[first.index < start + timedelta(days=12)]
    after = first[first.index >= start + timedelta(days=14)]
    assert after.median() - before.median() == pytest.approx(hours, abs=0.4)


def test_an_unknown_zone_or_traveller_is_refused() -> None:
    """The message names it."""
    with pytest.raises(InputError, match="Mars/Base"):
        simulate(1, ["ann"], days=1, time_zone="Mars/Base")
    with pytest.raises(InputError, match="Mars/Base"):
        simulate(1, ["ann"], days=1, travels=[Travel("ann", _DAY, "Mars/Base")])
    with pytest.raises(InputError, match="eve"):
        simulate(1, ["ann"], days=1, travels=[Travel("eve", _DAY, "Asia/Tokyo")])
