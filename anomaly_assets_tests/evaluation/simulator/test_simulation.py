"""Readings of simulated people: shape, ranges, gaps and reproducibility."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from anomaly_assets.errors import InputError
from anomaly_assets.evaluation.simulator import (
    EQUATIONS,
    NOTHING_MISSING,
    Fault,
    FaultKind,
    Simulation,
    simulate,
)
from anomaly_assets.evaluation.simulator.sensors import SENSORS, Device, Reporting
from anomaly_assets.evaluation.simulator.simulation import DEFAULT_START
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import FloatArray


def _of(simulation: Simulation, stream: str, entity: str = "person-1") -> pd.Series:
    """Values of one stream by time."""
    readings = simulation.readings
    mine = readings[(readings["stream_id"] == stream) & (readings["entity_id"] == entity)]
    return mine.set_index("timestamp")["value"]


def _times(simulation: Simulation, stream: str, entity: str = "person-1") -> pd.DatetimeIndex:
    """Return the times of one stream's readings, UTC."""
    return pd.DatetimeIndex(_of(simulation, stream, entity).index)


def test_the_same_seed_gives_the_same_readings() -> None:
    """Everything random comes from the seed."""
    first, second, other = (simulate(seed, ["ann"], days=2) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first.readings, second.readings)
    assert not first.readings.equals(other.readings)


def test_a_person_does_not_depend_on_the_others() -> None:
    """Adding a person leaves the readings of the others as they were."""
    alone = _of(simulate(1, ["ann"], days=2), "heart_rate", "ann")
    together = _of(simulate(1, ["bob", "ann"], days=2), "heart_rate", "ann")
    pd.testing.assert_series_equal(alone, together)


def test_streams_and_groups_are_those_of_the_default_catalogue() -> None:
    """Identifiers, order, groups and intervals agree with what is shipped."""
    catalogue = load_catalogue("default")
    assert tuple(sensor.stream for sensor in SENSORS) == catalogue.stream_ids
    for sensor, stream in zip(SENSORS, catalogue.streams, strict=True):
        assert sensor.group == stream.group
        if sensor.reporting is Reporting.REGULAR:
            assert 60.0 * sensor.interval == stream.expected_interval, stream.id
        if stream.zero_suppressed:
            assert sensor.reporting is Reporting.EVENTS, stream.id


def test_the_demonstration_has_about_a_million_readings(clean: Simulation) -> None:
    """Three people over fourteen days, every stream of each, in a tidy table."""
    readings = clean.readings
    assert 700_000 < len(readings) < 1_300_000
    assert list(readings.columns) == ["entity_id", "stream_id", "timestamp", "value"]
    assert str(readings["timestamp"].dt.tz) == "UTC"
    assert not readings.duplicated(["entity_id", "stream_id", "timestamp"]).any()
    assert readings.groupby(["entity_id", "stream_id"], observed=False).size().min() > 0
    assert clean.truth is EQUATIONS


def test_readings_stay_inside_the_catalogue_s_ranges(clean: Simulation) -> None:
    """Clean data are never rejected."""
    span = clean.readings.groupby("stream_id", observed=True)["value"].agg(["min", "max"])
    assert np.isfinite(clean.readings["value"]).all()
    for stream in load_catalogue("default").streams:
        assert stream.valid_range is not None
        low, high = stream.valid_range
        assert low <= span["min"][stream.id], stream.id
        assert span["max"][stream.id] <= high, stream.id


def test_streams_of_events_send_no_zeros(clean: Simulation) -> None:
    """Nothing happened means no row."""
    for sensor in SENSORS:
        if sensor.reporting is Reporting.EVENTS:
            assert (_of(clean, sensor.stream) > 0.0).all(), sensor.stream


def test_people_sleep_at_night_and_move_by_day(clean: Simulation) -> None:
    """Activity, heart rate, light and phone use follow the local hour."""
    for stream, factor in (
        ("activity_intensity", 3.0),
        ("heart_rate", 1.1),
        ("ambient_light", 10.0),
    ):
        values = _of(clean, stream)
        local = _times(clean, stream).tz_convert("Europe/Berlin").hour
        assert values[local == 15].mean() > factor * values[local == 2].mean(), stream
    phone = _times(clean, "app_launches").tz_convert("Europe/Berlin").hour
    assert (phone == 15).sum() > 50 * max((phone == 2).sum(), 1)


def test_days_follow_the_wall_clock_through_a_change_of_time() -> None:
    """After the clocks change, people get up at the same local time, an hour earlier in UTC."""
    simulation = simulate(
        1, ["ann"], datetime(2026, 3, 23, tzinfo=UTC), days=14, missing=NOTHING_MISSING
    )
    launches = _times(simulation, "app_launches", "ann")
    first = launches.to_series().groupby(launches.date).min()
    workdays = [moment for moment in first if moment.weekday() < 5]
    before = [m.hour + m.minute / 60 for m in workdays[:5]]
    after = [m.hour + m.minute / 60 for m in workdays[5:]]
    assert np.median(before) - np.median(after) == pytest.approx(1.0, abs=0.4)


def test_nothing_is_missing_if_so_asked() -> None:
    """Regular streams then have every reading that is due."""
    simulation = simulate(1, ["ann"], days=3, missing=NOTHING_MISSING)
    for sensor in SENSORS:
        if sensor.reporting is Reporting.REGULAR:
            assert len(_of(simulation, sensor.stream, "ann")) == 3 * 1440 // sensor.interval


def _hours_away(simulation: Simulation, stream: str) -> FloatArray:
    """Length of every gap of a stream in hours."""
    seconds = _times(simulation, stream).as_unit("s").to_numpy(np.int64)
    return np.asarray(np.diff(seconds) / 3600.0)


def test_natural_gaps_are_there(clean: Simulation) -> None:
    """The watch and the phone are away some nights, and single readings are lost."""
    for stream in ("heart_rate", "battery_level"):
        gaps = _hours_away(clean, stream)
        assert 2 <= (gaps > 5.0).sum() <= 7, stream
        assert gaps.max() < 12.0, stream
    assert (np.rint(_hours_away(clean, "heart_rate") * 60) == 2).sum() > 50


def test_what_one_device_carries_is_away_together(clean: Simulation) -> None:
    """While the watch charges, none of its streams has a reading."""
    heart = _times(clean, "heart_rate")
    longest = int(_hours_away(clean, "heart_rate").argmax())
    for sensor in SENSORS:
        times = _times(clean, sensor.stream)
        inside = (times > heart[longest]) & (times < heart[longest + 1])
        if sensor.device is Device.WATCH:
            assert not inside.any(), sensor.stream


def test_position_is_sparse_indoors(clean: Simulation) -> None:
    """There is a fix nearly always on the way and seldom at work."""
    minutes = _times(clean, "gps_speed")
    work = minutes[(minutes.hour == 10) & (minutes.day_of_week < 5)]
    assert 0 < len(work) < 0.15 * 60 * 10


@pytest.mark.parametrize(
    ("start", "days", "entities", "words"),
    [
        (DEFAULT_START.replace(tzinfo=None), 1, ["ann"], "time zone"),
        (DEFAULT_START.replace(minute=1), 1, ["ann"], "multiple"),
        (DEFAULT_START, 0, ["ann"], "at least one day"),
        (DEFAULT_START, 1, [], "at least one entity"),
        (DEFAULT_START, 1, ["ann", "ann"], "each once"),
    ],
)
def test_unusable_arguments_are_refused(
    start: datetime, days: int, entities: list[str], words: str
) -> None:
    """The message says what to do."""
    with pytest.raises(InputError, match=words):
        simulate(1, entities, start, days)


def test_a_fault_of_nobody_is_refused() -> None:
    """A fault must concern someone who is simulated."""
    fault = Fault("eve", FaultKind.DEVICE_DOWN, DEFAULT_START, 60)
    with pytest.raises(InputError, match="eve"):
        simulate(1, ["ann"], days=1, faults=[fault])
