"""What happens to readings between the sensor and the table: drift, wrong clocks, delays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pandas as pd

from anomaly_assets.errors import InputError
from anomaly_assets.evaluation.simulator.equations import EQUATIONS
from anomaly_assets.evaluation.simulator.randomness import generator
from anomaly_assets.evaluation.simulator.sensors import SENSORS, STREAM_IDS, Device
from anomaly_assets.evaluation.simulator.simulation import Simulation
from anomaly_assets.streams.windows import BoolArray

_DAY = pd.Timedelta(days=1)


@dataclass(frozen=True)
class SensorDrift:
    """A sensor reads more and more (or less and less) than is true.

    Parameters
    ----------
    entity, stream
        Whose sensor.
    start
        Aware datetime from which it drifts.
    a_day
        Units of the stream gained a day, finite.
    """

    entity: str
    stream: str
    start: datetime
    a_day: float

    def __post_init__(self) -> None:
        """Refuse a drift of no stream, or without time or size."""
        if self.stream not in STREAM_IDS or self.start.tzinfo is None:
            msg = f"drift of {self.stream!r}: name one of {STREAM_IDS} and an aware start"
            raise InputError(msg)
        if not np.isfinite(self.a_day):
            msg = f"drift of {self.stream!r} is {self.a_day} a day; give a finite number"
            raise InputError(msg)


@dataclass(frozen=True)
class ClockSkew:
    """A device's clock is wrong for a while; what it measures is right.

    Parameters
    ----------
    entity, device
        Whose clock.
    start, end
        Aware datetimes between which it is wrong.
    minutes
        How far ahead the clock jumps (behind, if negative).
    minutes_a_day
        How much further ahead it runs each day until it is set right.
    """

    entity: str
    device: Device
    start: datetime
    end: datetime
    minutes: float = 0.0
    minutes_a_day: float = 0.0

    def __post_init__(self) -> None:
        """Refuse an unusable time or size."""
        if self.start.tzinfo is None or self.end.tzinfo is None or self.end <= self.start:
            msg = (
                f"clock of {self.device} from {self.start} to {self.end}: give aware times in order"
            )
            raise InputError(msg)
        if not np.isfinite([self.minutes, self.minutes_a_day]).all():
            msg = f"clock of {self.device}: minutes are not finite"
            raise InputError(msg)


def with_drift(simulation: Simulation, drifts: Sequence[SensorDrift]) -> Simulation:
    """Return the simulation as drifting sensors would report it, inside each stream's limits.

    Raises
    ------
    InputError
        If an entity was not simulated.
    """
    readings = simulation.readings.copy()
    values = readings["value"].to_numpy(copy=True)
    for drift in drifts:
        mine = _readings_of(readings, drift.entity, (drift.stream,))
        gained = drift.a_day * ((readings["timestamp"] - drift.start) / _DAY).to_numpy()
        at = mine & (gained * np.sign(drift.a_day) > 0.0)
        sensor = SENSORS[STREAM_IDS.index(drift.stream)]
        low, high = next(e.limits for e in EQUATIONS if e.stream == drift.stream)
        drifted = np.clip(values[at] + gained[at], low, high)
        values[at] = np.round(drifted, sensor.decimals) + 0.0
    readings["value"] = values
    return replace(simulation, readings=readings)


def with_skew(simulation: Simulation, skews: Sequence[ClockSkew]) -> Simulation:
    """Return the simulation with the times that wrong clocks would give; labels stay true.

    A clock that is set back gives some times twice, with different values.

    Raises
    ------
    InputError
        If an entity was not simulated.
    """
    readings = simulation.readings.copy()
    for skew in skews:
        streams = tuple(s.stream for s in SENSORS if s.device is skew.device)
        time = simulation.readings["timestamp"]
        wrong = _readings_of(readings, skew.entity, streams)
        wrong = wrong & ((time >= skew.start) & (time < skew.end)).to_numpy()
        ahead = skew.minutes + skew.minutes_a_day * ((time[wrong] - skew.start) / _DAY)
        moved = readings.loc[wrong, "timestamp"] + pd.to_timedelta((ahead * 60.0).round(), unit="s")
        readings.loc[wrong, "timestamp"] = moved.dt.as_unit(readings["timestamp"].dt.unit)
    order = np.lexsort(
        (
            readings["timestamp"].to_numpy(),
            readings["stream_id"].cat.codes.to_numpy(),
            readings["entity_id"].cat.codes.to_numpy(),
        )
    )
    return replace(simulation, readings=readings.iloc[order].reset_index(drop=True))


@dataclass(frozen=True)
class Delivery:
    """How readings arrive.

    Parameters
    ----------
    seconds
        Mean delay of a reading on its way.
    late_share
        Share of the readings that wait on the device, in [0, 1].
    late_minutes
        Mean of that wait.
    duplicate_share
        Share of the readings that are sent once more, in [0, 1].
    """

    seconds: float = 5.0
    late_share: float = 0.02
    late_minutes: float = 45.0
    duplicate_share: float = 0.01

    def __post_init__(self) -> None:
        """Refuse shares and delays out of range."""
        for name in ("late_share", "duplicate_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                msg = f"{name} is {getattr(self, name)}; give a share in [0, 1]"
                raise InputError(msg)
        for name in ("seconds", "late_minutes"):
            if not 0.0 <= getattr(self, name) < 1e6:
                msg = f"{name} is {getattr(self, name)}; give a delay of 0 or more, below a million"
                raise InputError(msg)


def in_order_of_arrival(
    simulation: Simulation, seed: int, delivery: Delivery | None = None
) -> pd.DataFrame:
    """Return the readings as they arrive: delayed, out of order, some of them twice.

    Parameters
    ----------
    simulation
        What was measured.
    seed
        Seed of delays and duplicates.
    delivery
        How readings arrive; :class:`Delivery` as it stands unless given.

    Returns
    -------
    DataFrame
        The columns of the readings and ``received_at`` (UTC), in its order. A duplicate has the
        same entity, stream, time and value, and another ``received_at``.
    """
    delivery = delivery or Delivery()
    readings = simulation.readings
    rng = generator(seed, "delivery")
    again = np.flatnonzero(rng.random(len(readings)) < delivery.duplicate_share)
    sent = readings.iloc[np.concatenate([np.arange(len(readings)), again])]
    seconds = rng.exponential(delivery.seconds, len(sent))
    late = rng.random(len(sent)) < delivery.late_share
    seconds += np.where(late, rng.exponential(60.0 * delivery.late_minutes, len(sent)), 0.0)
    received = sent["timestamp"] + pd.to_timedelta(np.rint(seconds * 1e6), unit="us")
    arrived = sent.assign(received_at=received)
    return arrived.sort_values("received_at", kind="stable").reset_index(drop=True)


def _readings_of(readings: pd.DataFrame, entity: str, streams: tuple[str, ...]) -> BoolArray:
    """Whether each reading is of `entity` and one of `streams`."""
    known = readings["entity_id"].cat.categories
    if entity not in known:
        msg = f"entity {entity!r} was not simulated; it is one of {list(known)}"
        raise InputError(msg)
    mine = (readings["entity_id"] == entity) & readings["stream_id"].isin(streams)
    return np.asarray(mine, dtype=np.bool_)
