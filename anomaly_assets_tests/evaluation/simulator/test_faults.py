"""Every kind of fault changes what it should and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from anomaly_assets.errors import InputError
from anomaly_assets.evaluation.simulator import (
    NOTHING_MISSING,
    Fault,
    FaultKind,
    InjectedFault,
    simulate,
)
from anomaly_assets.evaluation.simulator.equations import downstream
from anomaly_assets.evaluation.simulator.sensors import STREAM_IDS, streams_of_group

_DAYS = 4
_WORKDAY = datetime(2026, 1, 7, tzinfo=UTC)
#: The charge of a battery keeps what happened to it until it is full again.
_REMEMBERS = {"battery_level"}
_SETTLED = timedelta(hours=4)


@pytest.fixture(scope="module")
def before() -> pd.DataFrame:
    """Simulate without a fault."""
    return simulate(5, ["ann"], days=_DAYS, missing=NOTHING_MISSING).readings


def _inject(fault: Fault) -> tuple[pd.DataFrame, InjectedFault]:
    simulation = simulate(5, ["ann"], days=_DAYS, missing=NOTHING_MISSING, faults=[fault])
    (label,) = simulation.labels
    return simulation.readings, label


def _changed(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Return the readings that differ, are new or are gone."""
    keys = ["stream_id", "timestamp"]
    both = before.astype({"stream_id": str}).merge(
        after.astype({"stream_id": str}), how="outer", on=keys, suffixes=("", "_after")
    )
    same = both["value"] == both["value_after"]
    return both[~same]


_FAULTS = [
    Fault("ann", FaultKind.SPIKE, _WORKDAY.replace(hour=14), 5, "heart_rate", 8.0),
    Fault("ann", FaultKind.LEVEL_SHIFT, _WORKDAY.replace(hour=10), 240, "heart_rate", 8.0),
    Fault("ann", FaultKind.FLAT_LINE, _WORKDAY.replace(hour=13), 120, "audio_level"),
    Fault("ann", FaultKind.GROUP_OUTAGE, _WORKDAY.replace(hour=13), 90, "biometric"),
    Fault("ann", FaultKind.DEVICE_DOWN, _WORKDAY.replace(hour=15), 60),
    Fault("ann", FaultKind.UNUSUAL_ABSENCE_AT_WORK, _WORKDAY.replace(hour=9), 240),
    Fault("ann", FaultKind.USE_AT_3AM, _WORKDAY.replace(hour=2), 40, strength=0.7),
    Fault("ann", FaultKind.RELATIONSHIP_BREAK, _WORKDAY.replace(hour=20), 45, strength=0.75),
]
_MAY_CHANGE = {
    FaultKind.SPIKE: ("heart_rate",),
    FaultKind.LEVEL_SHIFT: downstream("heart_rate"),
    FaultKind.FLAT_LINE: ("audio_level",),
    FaultKind.GROUP_OUTAGE: streams_of_group("biometric"),
    FaultKind.DEVICE_DOWN: STREAM_IDS,
    FaultKind.UNUSUAL_ABSENCE_AT_WORK: downstream(
        "screen_use", "notifying", "talking", "media", "calling"
    ),
    FaultKind.USE_AT_3AM: downstream("screen_use", "effort"),
    FaultKind.RELATIONSHIP_BREAK: downstream("heart_rate"),
}


def test_every_kind_is_tested() -> None:
    """No kind of fault is left out below."""
    assert {fault.kind for fault in _FAULTS} == set(FaultKind) == set(_MAY_CHANGE)


@pytest.mark.parametrize("fault", _FAULTS, ids=lambda fault: str(fault.kind))
def test_a_fault_changes_its_streams_in_its_time_and_nothing_else(
    before: pd.DataFrame, fault: Fault
) -> None:
    """What differs lies downstream, begins with the fault and ends soon after it."""
    after, label = _inject(fault)
    changed = _changed(before, after)
    assert not changed.empty
    assert set(changed["stream_id"]) <= set(_MAY_CHANGE[fault.kind])
    assert changed["timestamp"].min() >= label.start
    settling = changed[~changed["stream_id"].isin(_REMEMBERS)]
    assert settling["timestamp"].max() < label.end + _SETTLED


@pytest.mark.parametrize("fault", _FAULTS, ids=lambda fault: str(fault.kind))
def test_the_label_says_what_happened(before: pd.DataFrame, fault: Fault) -> None:
    """Time, kind and strength are those asked for; every stream named was changed."""
    after, label = _inject(fault)
    assert (label.entity, label.kind, label.strength) == ("ann", fault.kind, fault.strength)
    assert label.start == fault.start
    assert label.end - label.start == timedelta(minutes=fault.minutes)
    assert label.streams
    assert set(label.streams) <= set(_changed(before, after)["stream_id"])


def _values(readings: pd.DataFrame, stream: str, label: InjectedFault) -> pd.Series:
    """Values of a stream while the fault lasts."""
    mine = readings[readings["stream_id"] == stream].set_index("timestamp")["value"]
    return mine[(mine.index >= label.start) & (mine.index < label.end)]


def test_a_spike_is_eight_deviations_for_one_window(before: pd.DataFrame) -> None:
    """All readings of the window move by the same step, far beyond the usual change."""
    after, label = _inject(_FAULTS[0])
    step = _values(after, "heart_rate", label) - _values(before, "heart_rate", label)
    heart = before[before["stream_id"] == "heart_rate"]["value"].to_numpy()
    usual = np.diff(heart.reshape(-1, 5).mean(axis=1)).std()
    assert len(step) == 5
    assert np.allclose(step, 8.0 * usual, atol=1.0)


def test_a_shift_propagates_along_the_causes(before: pd.DataFrame) -> None:
    """A faster heart raises respiration and lowers its own variability; movement stays."""
    after, label = _inject(_FAULTS[1])
    moved = {
        stream: (_values(after, stream, label) - _values(before, stream, label)).iloc[30:].mean()
        for stream in ("heart_rate", "respiration_rate", "accel_magnitude")
    }
    assert moved["heart_rate"] > 10.0
    assert moved["respiration_rate"] == pytest.approx(0.06 * moved["heart_rate"], rel=0.1)
    assert moved["accel_magnitude"] == 0.0
    variability = _values(after, "hrv_rmssd", label) - _values(before, "hrv_rmssd", label)
    assert variability.iloc[6:].mean() < -5.0
    assert label.cause == "heart_rate"


def test_a_stuck_sensor_keeps_sending_one_value() -> None:
    """Readings keep coming, all the same."""
    after, label = _inject(_FAULTS[2])
    stuck = _values(after, "audio_level", label)
    assert len(stuck) == 120
    assert stuck.min() == stuck.max()


@pytest.mark.parametrize(("number", "group"), [(3, "biometric"), (4, None)])
def test_an_outage_leaves_no_reading(number: int, group: str | None) -> None:
    """A group, or everything, is silent from start to end."""
    after, label = _inject(_FAULTS[number])
    silent = STREAM_IDS if group is None else streams_of_group(group)
    assert all(_values(after, stream, label).empty for stream in silent)
    assert len(_values(after, "heart_rate", label)) == 0
    assert group is None or len(_values(after, "cpu_load", label)) > 0


def test_an_absence_at_work_leaves_the_phone_untouched(before: pd.DataFrame) -> None:
    """No interaction at all for four hours, an idle processor, and a phone that still reports."""
    after, label = _inject(_FAULTS[5])
    for stream in streams_of_group("interaction"):
        assert _values(after, stream, label).empty, stream
    load = _values(after, "cpu_load", label)
    assert len(load) == 240
    assert load.mean() < _values(before, "cpu_load", label).mean()


def test_use_at_night_is_full_of_events(before: pd.DataFrame) -> None:
    """Screen, apps and keys are busy where there was nothing."""
    after, label = _inject(_FAULTS[6])
    for stream in ("screen_on_seconds", "app_launches", "keystrokes"):
        assert _values(before, stream, label).size < 5
        assert _values(after, stream, label).size > 10


def test_a_broken_relationship_keeps_every_value_normal(before: pd.DataFrame) -> None:
    """The heart races at rest, no faster than it does in sport, and movement is as before."""
    after, label = _inject(_FAULTS[7])
    racing = _values(after, "heart_rate", label)
    all_day = before[before["stream_id"] == "heart_rate"]["value"]
    assert racing.mean() > _values(before, "heart_rate", label).mean() + 30.0
    assert racing.max() <= all_day.max() + 10.0
    assert _values(after, "accel_magnitude", label).equals(
        _values(before, "accel_magnitude", label)
    )


@pytest.mark.parametrize(
    ("kind", "target"),
    [(FaultKind.SPIKE, "no_stream"), (FaultKind.GROUP_OUTAGE, "no_group"), (FaultKind.SPIKE, "")],
)
def test_an_unknown_target_is_refused(kind: FaultKind, target: str) -> None:
    """The message lists what there is."""
    with pytest.raises(InputError, match="target"):
        Fault("ann", kind, _WORKDAY, 60, target)


def test_a_fault_without_time_is_refused() -> None:
    """A naive start and an empty duration are errors."""
    with pytest.raises(InputError, match="aware"):
        Fault("ann", FaultKind.DEVICE_DOWN, _WORKDAY.replace(tzinfo=None), 60)
    with pytest.raises(InputError, match="minute"):
        Fault("ann", FaultKind.DEVICE_DOWN, _WORKDAY, 0)


def test_a_fault_outside_the_simulation_is_refused() -> None:
    """The message names the fault and its time."""
    fault = Fault("ann", FaultKind.DEVICE_DOWN, datetime(2026, 3, 1, tzinfo=UTC), 60)
    with pytest.raises(InputError, match="outside"):
        _inject(fault)
