"""Drift, wrong clocks, and readings that arrive late, twice or out of order."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from anomaly_assets.errors import InputError
from anomaly_assets.evaluation.simulator import (
    ClockSkew,
    Delivery,
    SensorDrift,
    Simulation,
    in_order_of_arrival,
    simulate,
    with_drift,
    with_skew,
)
from anomaly_assets.evaluation.simulator.sensors import Device
from anomaly_assets.evaluation.simulator.simulation import DEFAULT_START

_NOON = DEFAULT_START + timedelta(days=1, hours=12)


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    """Simulate four days of two people."""
    return simulate(4, ["ann", "bob"], days=4)


def _of(simulation: Simulation, stream: str, entity: str) -> pd.DataFrame:
    readings = simulation.readings
    return readings[(readings["stream_id"] == stream) & (readings["entity_id"] == entity)]


def test_a_drifting_sensor_gains_day_by_day(simulation: Simulation) -> None:
    """From its start on, by the rate asked for; nothing else changes."""
    drift = SensorDrift("ann", "skin_temperature", _NOON, 0.4)
    after = with_drift(simulation, [drift])
    mine, before = (_of(s, "skin_temperature", "ann") for s in (after, simulation))
    days = ((mine["timestamp"] - _NOON) / pd.Timedelta(days=1)).to_numpy().clip(0.0)
    assert np.allclose((mine["value"] - before["value"]).to_numpy(), 0.4 * days, atol=0.011)
    same = simulation.readings.drop(index=before.index)
    pd.testing.assert_frame_equal(after.readings.drop(index=mine.index), same)


def test_drift_stays_inside_the_limits(simulation: Simulation) -> None:
    """A hundred percent remain the most."""
    after = with_drift(simulation, [SensorDrift("ann", "blood_oxygen", _NOON, -50.0)])
    assert _of(after, "blood_oxygen", "ann")["value"].min() == 90.0


def test_a_wrong_clock_moves_times_of_one_device(simulation: Simulation) -> None:
    """Its readings come ahead while it is wrong; the other device and person keep their times."""
    skew = ClockSkew("ann", Device.PHONE, _NOON, _NOON + timedelta(hours=12), 7.0, 2.0)
    after = with_skew(simulation, [skew])
    assert len(after.readings) == len(simulation.readings)
    pd.testing.assert_frame_equal(
        _of(after, "heart_rate", "ann"), _of(simulation, "heart_rate", "ann")
    )
    pd.testing.assert_frame_equal(_of(after, "cpu_load", "bob"), _of(simulation, "cpu_load", "bob"))
    moved, before = (_of(s, "battery_level", "ann")["timestamp"] for s in (after, simulation))
    extra = set(moved) - set(before)
    assert extra
    assert min(extra) == _NOON + timedelta(minutes=7)
    assert max(extra) < _NOON + timedelta(hours=12, minutes=8)
    order = after.readings.sort_values(["entity_id", "stream_id", "timestamp"], kind="stable")
    assert order.index.is_monotonic_increasing


def test_readings_arrive_late_twice_and_out_of_order(simulation: Simulation) -> None:
    """Every reading arrives, none before it was made, duplicates unchanged, in order of arrival."""
    arrived = in_order_of_arrival(simulation, 1)
    readings = simulation.readings
    extra = len(arrived) - len(readings)
    assert extra == pytest.approx(0.01 * len(readings), rel=0.2)
    assert arrived["received_at"].is_monotonic_increasing
    assert not arrived["timestamp"].is_monotonic_increasing
    delay = (arrived["received_at"] - arrived["timestamp"]).dt.total_seconds()
    assert delay.min() >= 0.0
    assert (delay > 300.0).mean() == pytest.approx(0.02 * np.exp(-5.0 / 45.0), rel=0.2)
    once = arrived.drop(columns="received_at").drop_duplicates()
    assert len(once) == len(readings)
    assert len(once.merge(readings)) == len(readings)


def test_delivery_follows_from_its_seed(simulation: Simulation) -> None:
    """The same seed gives the same arrivals; nothing late or twice means neither."""
    first, second = (in_order_of_arrival(simulation, 1) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert not first.equals(in_order_of_arrival(simulation, 2))
    punctual = in_order_of_arrival(simulation, 1, Delivery(0.0, 0.0, 0.0, 0.0))
    assert len(punctual) == len(simulation.readings)
    assert (punctual["received_at"] == punctual["timestamp"]).all()


def test_unusable_disturbances_are_refused(simulation: Simulation) -> None:
    """The message says what to give."""
    with pytest.raises(InputError, match="'moon'"):
        SensorDrift("ann", "moon", _NOON, 1.0)
    with pytest.raises(InputError, match="finite"):
        SensorDrift("ann", "heart_rate", _NOON, float("inf"))
    with pytest.raises(InputError, match="in order"):
        ClockSkew("ann", Device.WATCH, _NOON, _NOON)
    with pytest.raises(InputError, match="not finite"):
        ClockSkew("ann", Device.WATCH, _NOON, _NOON + timedelta(days=1), float("nan"))
    with pytest.raises(InputError, match="late_share"):
        Delivery(late_share=1.5)
    with pytest.raises(InputError, match="seconds"):
        Delivery(seconds=-1.0)
    with pytest.raises(InputError, match="eve"):
        with_drift(simulation, [SensorDrift("eve", "heart_rate", _NOON, 1.0)])
