"""Many faults a person: where they are placed, how strong, and what the labels say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from anomaly_assets.errors import InputError
from anomaly_assets.evaluation.simulator import (
    SCORED_KINDS,
    Fault,
    FaultKind,
    MissingStreams,
    Simulation,
    Strengths,
    many_faults,
    simulate,
    window_block,
)
from anomaly_assets.evaluation.simulator.faults import witnesses_of
from anomaly_assets.evaluation.simulator.sensors import STREAM_IDS, streams_of_group
from anomaly_assets.evaluation.simulator.simulation import DEFAULT_START
from anomaly_assets.evaluation.simulator.testbed import FLAT_STREAMS, OUTAGE_GROUPS, SPIKE_STREAMS
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WINDOWS_PER_DAY

_BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(scope="module")
def faults() -> tuple[Fault, ...]:
    """Four weeks of one person."""
    return many_faults(1, ["ann"])


@pytest.fixture(scope="module")
def simulation(faults: tuple[Fault, ...]) -> Simulation:
    """Simulate them."""
    return simulate(1, ["ann"], days=28, faults=faults)


@pytest.mark.parametrize("seed", range(4))
def test_about_a_fault_a_day_of_every_kind(seed: int) -> None:
    """After a week, never within twelve hours of each other, all seven kinds, inside the time."""
    faults = many_faults(seed, ["ann"])
    assert 19 <= len(faults) <= 28
    assert {fault.kind for fault in faults} == set(SCORED_KINDS)
    assert faults[0].start >= DEFAULT_START + timedelta(days=7)
    last = faults[-1]
    assert last.start + timedelta(minutes=last.minutes) <= DEFAULT_START + timedelta(days=28)
    for before, after in pairwise(faults):
        assert after.start - before.start >= timedelta(hours=12, minutes=before.minutes)


def test_the_plan_follows_from_the_seed(faults: tuple[Fault, ...]) -> None:
    """The same seed gives the same faults, whoever else is there; another gives others."""
    assert many_faults(1, ["bob", "ann"])[-len(faults) :] == faults
    assert many_faults(2, ["ann"]) != faults


def test_targets_vary() -> None:
    """Spikes, flat lines and outages concern many streams and groups, none of them unsuitable."""
    faults = [f for seed in range(4) for f in many_faults(seed)]
    targets = {
        kind: {f.target for f in faults if f.kind is kind}
        for kind in (FaultKind.SPIKE, FaultKind.FLAT_LINE, FaultKind.GROUP_OUTAGE)
    }
    assert len(targets[FaultKind.SPIKE]) > 15
    assert targets[FaultKind.SPIKE] <= set(SPIKE_STREAMS)
    assert len(targets[FaultKind.FLAT_LINE]) > 12
    assert targets[FaultKind.FLAT_LINE] <= set(FLAT_STREAMS)
    assert targets[FaultKind.GROUP_OUTAGE] == set(OUTAGE_GROUPS)
    assert {f.target for f in faults if f.kind is FaultKind.DEVICE_DOWN} == {"", "watch", "phone"}


def test_faults_happen_when_they_are_unusual(faults: tuple[Fault, ...]) -> None:
    """Absence in working hours, use of the phone at three, outages by day."""
    for fault in faults:
        local = fault.start.astimezone(_BERLIN)
        if fault.kind is FaultKind.UNUSUAL_ABSENCE_AT_WORK:
            assert local.weekday() < 5
            assert 9 <= local.hour < 13
            assert fault.minutes == 240
        elif fault.kind is FaultKind.USE_AT_3AM:
            assert (local.hour, local.minute) == (3, 0)
        elif fault.kind is not FaultKind.SPIKE:
            assert 7 <= local.hour <= 22


def test_every_fault_is_visible_and_changes_its_windows(simulation: Simulation) -> None:
    """The windows of a fault differ, in the streams of its label, from those without it."""
    assert all(label.visible and label.streams for label in simulation.labels)
    catalogue = load_catalogue("default")
    after = window_block(simulation, "ann")
    before = window_block(simulate(1, ["ann"], days=28), "ann")
    assert after.values.shape == (28 * WINDOWS_PER_DAY, 36)
    for label in simulation.labels:
        first = int(label.start.timestamp() - after.windows.start) // 300
        stop = int(label.end.timestamp() - after.windows.start) // 300
        columns = [catalogue.stream_ids.index(stream) for stream in label.streams]
        assert not np.array_equal(
            after.values[first : stop + 1, columns],
            before.values[first : stop + 1, columns],
            equal_nan=True,
        )
    week = 7 * WINDOWS_PER_DAY
    assert np.array_equal(after.values[:week], before.values[:week], equal_nan=True)


def test_a_spike_is_never_cut_off(simulation: Simulation) -> None:
    """The values of its window leave the usual, and stay inside what the catalogue accepts."""
    catalogue = load_catalogue("default")
    block = window_block(simulation, "ann")
    for label in simulation.labels:
        if label.kind is FaultKind.SPIKE:
            stream = next(s for s in catalogue.streams if s.id == label.cause)
            at = int(label.start.timestamp() - block.windows.start) // 300
            value = block.values[at, catalogue.stream_ids.index(label.cause)]
            assert stream.valid_range is not None
            assert stream.valid_range[0] <= value <= stream.valid_range[1]


def test_strengths_are_drawn_from_what_is_asked() -> None:
    """Each kind comes at several strengths, level shifts too."""
    strengths = Strengths(
        spike_sigmas=(4.0, 12.0),
        shift_sigmas=(2.0, 4.0),
        outage_minutes=(15, 240),
        flat_minutes=(30, 480),
    )
    kinds = (
        FaultKind.SPIKE,
        FaultKind.LEVEL_SHIFT,
        FaultKind.GROUP_OUTAGE,
        FaultKind.FLAT_LINE,
    )
    faults = many_faults(2, kinds=kinds, strengths=strengths)
    sizes = {kind: {f.strength for f in faults if f.kind is kind} for kind in kinds}
    lengths = {kind: {f.minutes for f in faults if f.kind is kind} for kind in kinds}
    assert sizes[FaultKind.SPIKE] == {4.0, 12.0}
    assert sizes[FaultKind.LEVEL_SHIFT] == {2.0, 4.0}
    assert lengths[FaultKind.GROUP_OUTAGE] == {15, 240}
    assert lengths[FaultKind.FLAT_LINE] == {30, 480}


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_faults_concern_streams_that_are_there(share: float) -> None:
    """With most streams missing, every fault is still seen in some stream that is not."""
    silence = MissingStreams(share)
    faults = many_faults(3, ["ann"], silence=silence)
    simulation = simulate(3, ["ann"], days=28, faults=faults, silence=silence)
    there = {s for s, n in simulation.readings["stream_id"].value_counts().items() if n}
    assert len(there) == 36 - round(36 * share)
    for fault, label in zip(faults, simulation.labels, strict=True):
        assert label.visible
        assert set(label.streams) <= there
        if fault.kind in {FaultKind.SPIKE, FaultKind.FLAT_LINE}:
            assert fault.target in there


def test_what_nobody_can_see_is_marked() -> None:
    """A fault of silent streams has no streams and is not visible."""
    silence = MissingStreams(0.5)
    readings = simulate(3, ["ann"], days=1, silence=silence).readings
    gone = sorted(set(STREAM_IDS) - set(readings["stream_id"].astype(str)))
    spikes = [stream for stream in gone if stream in SPIKE_STREAMS]
    at = datetime(2026, 1, 5, 14, tzinfo=UTC)
    fault = Fault("ann", FaultKind.SPIKE, at, 5, spikes[0], 8.0)
    (label,) = simulate(3, ["ann"], days=1, silence=silence, faults=[fault]).labels
    assert label.streams == ()
    assert not label.visible


def test_a_relationship_needs_both_its_sides() -> None:
    """Heart rate and some measure of movement must be observed."""
    fault = Fault("ann", FaultKind.RELATIONSHIP_BREAK, DEFAULT_START, 45, strength=0.75)
    heart, movement = witnesses_of(fault)
    assert heart == ("heart_rate",)
    assert set(movement) <= set(streams_of_group("motion"))


@pytest.mark.parametrize(("device", "silent"), [("watch", 14), ("phone", 22), ("", 36)])
def test_one_device_may_go_down_alone(device: str, silent: int) -> None:
    """The label names it, and its streams, and no other stream is touched."""
    at = datetime(2026, 1, 5, 14, tzinfo=UTC)
    fault = Fault("ann", FaultKind.DEVICE_DOWN, at, 60, device)
    simulation = simulate(3, ["ann"], days=1, faults=[fault])
    (label,) = simulation.labels
    assert label.cause == (device or "all")
    time = simulation.readings["timestamp"]
    during = simulation.readings[(time >= label.start) & (time < label.end)]
    assert not set(label.streams) & set(during["stream_id"].astype(str))
    assert len(label.streams) <= silent
    assert (len(during) == 0) == (device == "")


def test_unusable_plans_are_refused() -> None:
    """Too few days, no kinds, strengths that are none, strangers: each with what to do."""
    with pytest.raises(InputError, match="at least 8"):
        many_faults(days=7)
    with pytest.raises(InputError, match="name a kind"):
        many_faults(kinds=())
    with pytest.raises(InputError, match="spike_sigmas"):
        Strengths(spike_sigmas=(0.0,))
    with pytest.raises(InputError, match="outage_minutes"):
        Strengths(outage_minutes=())
    with pytest.raises(InputError, match="target 'toaster'"):
        Fault("ann", FaultKind.DEVICE_DOWN, DEFAULT_START, 60, "toaster")


def test_windows_of_a_stranger_are_refused(simulation: Simulation) -> None:
    """So is a catalogue that does not know the streams."""
    with pytest.raises(InputError, match="eve"):
        window_block(simulation, "eve")
    with pytest.raises(InputError, match="lacks"):
        window_block(simulation, "ann", load_catalogue("asd"))
