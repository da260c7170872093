"""The faults of the demonstration."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import pairwise

import pytest

from anomaly_assets.errors import InputError
from anomaly_assets.evaluation.simulator import FaultKind, demo_faults, simulate
from anomaly_assets.evaluation.simulator.simulation import DEFAULT_DAYS, DEFAULT_START


@pytest.mark.parametrize("seed", range(8))
def test_a_dozen_faults_of_seven_kinds_after_a_week(seed: int) -> None:
    """Whatever the seed: four a person, every kind, after day 7, most of a day apart."""
    faults = demo_faults(seed)
    assert len(faults) == 12
    assert {fault.kind for fault in faults} == set(FaultKind) - {FaultKind.DEVICE_DOWN}
    assert set(Counter(fault.entity for fault in faults).values()) == {4}
    end = DEFAULT_START + timedelta(days=DEFAULT_DAYS)
    for fault in faults:
        assert fault.start >= DEFAULT_START + timedelta(days=7)
        assert fault.start + timedelta(minutes=fault.minutes) <= end
    for entity in {fault.entity for fault in faults}:
        own = [fault for fault in faults if fault.entity == entity]
        for before, after in pairwise(own):
            assert after.start - before.start > timedelta(hours=15)


def test_the_same_seed_gives_the_same_faults() -> None:
    """Placement is deterministic, and differs between seeds."""
    assert demo_faults(1) == demo_faults(1)
    assert demo_faults(1) != demo_faults(2)


def test_absence_is_on_work_days_and_use_in_the_night() -> None:
    """Local weekday and hour are right for every seed."""
    for seed in range(8):
        for fault in demo_faults(seed):
            local = fault.start + timedelta(hours=1)
            if fault.kind is FaultKind.UNUSUAL_ABSENCE_AT_WORK:
                assert local.weekday() < 5
                assert local.hour >= 9
                assert (local + timedelta(minutes=fault.minutes)).hour < 17
            if fault.kind is FaultKind.USE_AT_3AM:
                assert (local.hour, local.minute) == (3, 0)


def test_every_demonstration_fault_shows_in_its_streams() -> None:
    """The label of each names the streams it changed."""
    labels = simulate(2, faults=demo_faults(2)).labels
    assert len(labels) == 12
    assert all(label.streams for label in labels)


def test_strength_of_spikes_and_shifts_is_a_choice() -> None:
    """Larger ones are easier to see."""
    sizes = {
        fault.strength
        for fault in demo_faults(1, sigmas=20.0)
        if fault.kind in {FaultKind.SPIKE, FaultKind.LEVEL_SHIFT}
    }
    assert sizes == {20.0}


def test_fewer_days_leave_fewer_faults() -> None:
    """Each fault has a day of its own; without any left that is an error."""
    assert 1 <= len(demo_faults(1, ["ann"], days=9)) <= 2
    with pytest.raises(InputError, match="at least 8"):
        demo_faults(1, days=7)
