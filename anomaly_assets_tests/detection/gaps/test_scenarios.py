"""What the gap detector finds, and what it lets pass, on simulated persons with known habits."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pytest

from anomaly_assets.detection.gaps.detector import GapDetector
from anomaly_assets_tests.detection.gaps.simulation import Person

if TYPE_CHECKING:
    from anomaly_assets.streams.windows import FloatArray
    from anomaly_assets_tests.detection.gaps.conftest import Watched

PHONE = ("app_launches", "screen_on", "keystrokes")
#: Weekdays after one to two, and after two to four weeks of history.
EARLY_DAYS = (8, 9, 10, 11)
DAYS = (15, 17, 18, 22, 24)


def _scores(
    watched: list[Watched],
    days: tuple[int, ...],
    hours: tuple[float, float],
    columns: tuple[str, ...],
    value: float = np.nan,
) -> list[FloatArray]:
    """Return the scores of the windows from hour to hour in which columns were set to a value."""
    found = []
    for watch in watched:
        for day in days:
            start, stop = (watch.person.at(day, hour) for hour in hours)
            values = watch.person.values.copy()
            chosen = watch.person.columns(*columns) if columns else range(values.shape[1])
            values[start:stop, list(chosen)] = value
            first, scores = watch.with_values(day, values)
            found.append(scores.score[start - first : stop - first])
    return found


def _recall(found: list[FloatArray], above: float, within: int | None = None) -> float:
    return float(np.mean([(scores[:within] > above).any() for scores in found]))


def test_clean_weeks_raise_few_false_alarms(watched: list[Watched]) -> None:
    """After five days less than 1 % of clean windows are flagged, and none on the first day."""
    for watch in watched:
        day = watch.person.day
        assert watch.clean.is_anomalous[day >= 5].mean() < 0.01
        assert watch.clean.is_anomalous[(day >= 1) & (day < 5)].mean() < 0.03
        assert not watch.clean.is_anomalous[day == 0].any()


def test_a_watch_taken_off_every_night_is_normal(watched: list[Watched]) -> None:
    """After five days the nights without the watch, at 22:00 +- 1 h, are hardly ever flagged."""
    for watch in watched:
        person = watch.person
        off = np.isnan(person.values[:, person.columns("biometric")]).all(axis=1)
        nights = off & (person.day >= 5)
        assert nights.sum() > 2000
        assert watch.clean.is_anomalous[nights].mean() < 0.01
        assert np.median(watch.clean.score[nights]) < 0.2


def test_a_phone_unused_for_four_hours_at_work_is_found(watched: list[Watched]) -> None:
    """Nothing on the phone from 11 to 15 is found in nine of ten cases, and then above 0.8."""
    unused = (*PHONE, "notifications")
    assert _recall(_scores(watched, DAYS, (11, 15), unused, 0.0), 0.7) >= 0.9
    assert _recall(_scores(watched, DAYS, (11, 15), unused, 0.0), 0.8) >= 0.8
    assert _recall(_scores(watched, EARLY_DAYS, (11, 15), unused, 0.0), 0.7) >= 0.75


def test_notifications_do_not_hide_an_unused_phone(watched: list[Watched]) -> None:
    """A phone nobody touches is found although notifications keep coming in."""
    assert _recall(_scores(watched, DAYS, (11, 15), PHONE, 0.0), 0.7) >= 0.75


def test_a_short_break_at_work_is_not_flagged(watched: list[Watched]) -> None:
    """An hour without the phone at work happens."""
    assert _recall(_scores(watched, DAYS, (13, 14), PHONE, 0.0), 0.7) <= 0.2


def test_phone_use_at_three_in_the_morning_is_found(watched: list[Watched]) -> None:
    """Half an hour of use at 3 am is found after little more than a week, at once after two."""
    assert _recall(_scores(watched, EARLY_DAYS, (3, 3.5), PHONE, 2.0), 0.7) >= 0.75
    assert _recall(_scores(watched, DAYS, (3, 3.5), PHONE, 2.0), 0.8, within=4) >= 0.9


@pytest.mark.parametrize("hour", [10, 14, 19.5])
def test_the_device_going_down_is_found_at_once(watched: list[Watched], hour: float) -> None:
    """All streams missing in waking hours scores above 0.8 within two windows, and goes on so."""
    found = _scores(watched, (*EARLY_DAYS, *DAYS), (hour, hour + 2), ())
    assert _recall(found, 0.8, within=2) == 1.0
    assert np.mean([(scores > 0.7).mean() for scores in found]) > 0.95


@pytest.mark.parametrize("group", [("biometric",), ("biometric", "motion"), ("environment",)])
def test_a_group_outage_is_found(watched: list[Watched], group: tuple[str, ...]) -> None:
    """A group that is reliably there at noon scores above 0.8 within three windows of vanishing."""
    assert _recall(_scores(watched, DAYS, (13, 15), group), 0.8, within=3) >= 0.9


def test_a_sporadic_group_is_found_later(watched: list[Watched]) -> None:
    """GPS, missing in 40 % of the windows anyway, is found within an hour of vanishing."""
    assert _recall(_scores(watched, DAYS, (13, 16), ("location",)), 0.8, within=12) >= 0.9


def test_one_missing_reading_is_no_sensation(watched: list[Watched]) -> None:
    """A single stream that misses a single window is not flagged, however reliable it was."""
    found = _scores(watched, DAYS, (13, 13 + 1 / 12), ("heart_rate",))
    assert _recall(found, 0.7) == 0.0


def test_an_outage_is_not_learnt_away_while_it_lasts(watched: list[Watched]) -> None:
    """Half a day without any data is still flagged at its end."""
    for scores in _scores(watched, (16, 22), (9, 21), ()):
        assert (scores > 0.7).mean() > 0.9
        assert (scores[-12:] > 0.7).mean() > 0.5


def test_a_lasting_change_becomes_normal_within_days(watched: list[Watched]) -> None:
    """A watch never worn again is flagged on the first day and, but for moments, not after a week:
    seven days of silence amid companions make it a stream that takes no part.
    """
    for watch in watched:
        values = watch.person.values.copy()
        values[watch.person.at(16, 10) :, watch.person.columns("biometric")] = np.nan
        first, scores = watch.with_values(16, values, days=10)
        day = watch.person.day[first : first + len(scores.score)]
        assert scores.is_anomalous[day == 16].mean() > 0.2
        assert scores.is_anomalous[day >= 24].mean() < 0.02


def test_an_earlier_outage_leaves_the_next_one_found(watched: list[Watched]) -> None:
    """Two days after a device was down for six hours, its next failure is found as fast."""
    for watch in watched:
        values = watch.person.values.copy()
        values[watch.person.at(15, 10) : watch.person.at(15, 16)] = np.nan
        values[watch.person.at(17, 13) : watch.person.at(17, 15)] = np.nan
        first, scores = watch.with_values(15, values, days=3)
        again = watch.person.at(17, 13) - first
        assert (scores.score[again : again + 3] > 0.8).any()


def test_habits_follow_the_local_clock_through_daylight_saving() -> None:
    """In the week after the clocks change no more windows are flagged than before."""
    person = Person(5, 24, start=datetime(2026, 3, 11))  # noqa: DTZ001
    scores = GapDetector(person.catalogue).process(person.block())
    after = person.day >= 18
    assert person.at(18, 0.0) - person.at(17, 23.0) < 30
    assert scores.is_anomalous[after].mean() < 0.01
    assert scores.is_anomalous[person.day >= 5].mean() < 0.01


def test_another_time_zone_gives_the_same_picture() -> None:
    """A person of Auckland is judged by the clock of Auckland."""
    person = Person(6, 14, zone="Pacific/Auckland")
    block = person.block()
    detector = GapDetector(person.catalogue)
    start = person.at(13, 3.0)
    assert detector.process(block.part(0, start)).is_anomalous.mean() < 0.01
    person.values[start : start + 6, person.columns(*PHONE)] = 2.0
    assert (detector.process(block.part(start, start + 6)).score > 0.7).any()
