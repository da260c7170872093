"""Simulate people with phones and watches: readings, labels of what went wrong, and the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from anomaly_assets.errors import InputError
from anomaly_assets.evaluation.simulator.causality import Equation
from anomaly_assets.evaluation.simulator.clock import MinuteGrid
from anomaly_assets.evaluation.simulator.equations import EQUATIONS
from anomaly_assets.evaluation.simulator.faults import (
    Effects,
    Fault,
    InjectedFault,
    effects_of,
    label_of,
)
from anomaly_assets.evaluation.simulator.gaps import (
    MissingPattern,
    Presence,
    satellites_seen,
    streams_heard,
)
from anomaly_assets.evaluation.simulator.lives import Life, Travel, hidden_causes
from anomaly_assets.evaluation.simulator.randomness import generator
from anomaly_assets.evaluation.simulator.sensors import SENSORS, STREAM_IDS, Reporting, Sensor
from anomaly_assets.evaluation.simulator.silence import MissingStreams
from anomaly_assets.evaluation.simulator.solving import solve
from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray, WindowRange

DEFAULT_ENTITIES = ("person-1", "person-2", "person-3")
#: A Monday.
DEFAULT_START = datetime(2026, 1, 5, tzinfo=UTC)
DEFAULT_DAYS = 14
DEFAULT_TIME_ZONE = "Europe/Berlin"


@dataclass(frozen=True)
class Simulation:
    """What :func:`simulate` returns.

    Parameters
    ----------
    readings
        One row a reading: ``entity_id`` and ``stream_id`` (categories), ``timestamp`` (UTC) and
        ``value`` (float64); ordered by entity, stream (catalogue order) and time.
    labels
        Every injected fault, by entity and time.
    truth
        The causal equations behind the values.
    windows
        The windows simulated.
    time_zone
        Zone of the people.
    """

    readings: pd.DataFrame
    labels: tuple[InjectedFault, ...]
    truth: tuple[Equation, ...]
    windows: WindowRange
    time_zone: str


def simulate(  # noqa: PLR0913 - what a simulation is made of, all with defaults
    seed: int = 0,
    entities: Sequence[str] = DEFAULT_ENTITIES,
    start: datetime = DEFAULT_START,
    days: int = DEFAULT_DAYS,
    *,
    time_zone: str = DEFAULT_TIME_ZONE,
    faults: Sequence[Fault] = (),
    missing: MissingPattern | None = None,
    silence: MissingStreams | None = None,
    travels: Sequence[Travel] = (),
) -> Simulation:
    """Simulate the 36 streams of the default catalogue at one-minute resolution.

    The same arguments give the same readings. An entity does not depend on the others, and a fault
    changes nothing but the streams it touches and what they cause.

    Parameters
    ----------
    seed
        Seed of everything random.
    entities
        Who is simulated.
    start
        First minute, aware, on the window grid.
    days
        Length in days of 24 hours.
    time_zone
        Zone of the people; their days follow its wall clock, daylight saving time included.
    faults
        What goes wrong; see :func:`~anomaly_assets.evaluation.simulator.demo.demo_faults`.
    missing
        Natural gaps; the default :class:`MissingPattern` unless given.
    silence
        Streams that are silent beyond that; none unless given.
    travels
        Who goes to live by another clock. The zone of the simulation stays the one at home.

    Raises
    ------
    InputError
        If the start or a zone is unusable, or a fault or travel concerns an unknown entity or time.

    Examples
    --------
    >>> simulation = simulate(seed=1, entities=["ann"], days=1)
    >>> simulation.readings["stream_id"].cat.categories.size
    36
    """
    grid = MinuteGrid.of(start, days, time_zone)
    unknown = sorted({fault.entity for fault in faults} - set(entities))
    unknown += sorted({travel.entity for travel in travels} - set(entities))
    if unknown or not entities or len(set(entities)) != len(entities):
        msg = (
            f"entities are {list(entities)} and faults or travels concern unknown {unknown}; "
            "name at least one entity, each once, and give faults and travels to those only"
        )
        raise InputError(msg)
    columns, labels = [], []
    for number, entity in enumerate(entities):
        own = sorted((f for f in faults if f.entity == entity), key=lambda fault: fault.start)
        reported, own_labels = _simulate_one(
            Life.travelling(seed, entity, grid, travels),
            own,
            missing or MissingPattern(),
            silence or MissingStreams(),
        )
        labels += own_labels
        columns += [(number, *stream) for stream in reported]
    return Simulation(
        _frame(columns, entities, grid), tuple(labels), EQUATIONS, grid.windows, time_zone
    )


#: Position of the stream in the catalogue, minutes of its readings, values.
_Reported = tuple[int, IntArray, FloatArray]


def _simulate_one(
    life: Life, faults: Sequence[Fault], missing: MissingPattern, silence: MissingStreams
) -> tuple[list[_Reported], list[InjectedFault]]:
    """Simulate one person: the readings of each stream, and the labels."""
    causes = hidden_causes(life)
    clean = solve(life.seed, life.entity, causes)
    faulty, effects = clean, Effects()
    if faults:
        effects = effects_of(faults, life.grid, clean)
        faulty = solve(life.seed, life.entity, causes, tuple(effects.interventions))
    fix = satellites_seen(life, causes["outdoors"])
    heard = streams_heard(life, silence)
    reporter = _Reporter(life, Presence.of(life, missing), fix, missing.dropout, effects, heard)
    shown = {sensor.stream: reporter.show(sensor, faulty[sensor.stream]) for sensor in SENSORS}
    with_or_without = {
        sensor.stream: reporter.usually_sends(sensor)
        & (
            reporter.says(sensor, shown[sensor.stream])
            | reporter.says(sensor, clean[sensor.stream])
        )
        for sensor in SENSORS
    }
    labels = [label_of(fault, life.grid, clean, shown, with_or_without) for fault in faults]
    reported = []
    for position, sensor in enumerate(SENSORS):
        at = np.flatnonzero(reporter.sends(sensor, shown[sensor.stream]))
        reported.append((position, at, shown[sensor.stream][at]))
    return reported, labels


@dataclass(frozen=True)
class _Reporter:
    """Decides what becomes a reading.

    Parameters
    ----------
    life, presence, fix, dropout
        When the devices report, whether there is a position fix, and how much is lost on the way.
    effects
        What the faults do to sensors.
    heard
        By stream: minutes in which it is not silent.
    """

    life: Life
    presence: Presence
    fix: BoolArray
    dropout: float
    effects: Effects
    heard: dict[str, BoolArray]

    def show(self, sensor: Sensor, true: FloatArray) -> FloatArray:
        """Return what the sensor would show at every minute."""
        values = true
        for changed, start, stop, change in self.effects.sensor_changes:
            if changed == sensor.stream:
                values = values.copy()
                values[start:stop] = change(values[start:stop])
        # Adding 0 turns a rounded -0.0 into 0.0.
        return np.round(values, sensor.decimals) + 0.0

    def usually_sends(self, sensor: Sensor) -> BoolArray:
        """Return when the device would send the stream if there was something to send."""
        due = sensor.due(self.life.grid.seconds) & self.presence.worn[sensor.device]
        due &= self.heard[sensor.stream]
        return due & self.fix if sensor.reporting is Reporting.POSITION_FIX else due

    @staticmethod
    def says(sensor: Sensor, shown: FloatArray) -> BoolArray:
        """Return when there is something to send: of events, when there was one."""
        return np.asarray((shown > 0.0) | (sensor.reporting is not Reporting.EVENTS))

    def sends(self, sensor: Sensor, shown: FloatArray) -> BoolArray:
        """Return when a reading arrives."""
        rng = generator(self.life.seed, self.life.entity, sensor.stream, "dropout")
        arrives = self.presence.linked[sensor.device] & (rng.random(shown.size) >= self.dropout)
        for changed, start, stop, _ in self.effects.sensor_changes:
            if changed == sensor.stream:
                # A lost reading must not hide the fault that a label claims to be there.
                arrives[start:stop] = True
        sent = self.usually_sends(sensor) & arrives
        sent &= self.says(sensor, shown)
        for stream, start, stop in self.effects.outages:
            if stream == sensor.stream:
                sent[start:stop] = False
        return sent


def _frame(
    columns: list[tuple[int, int, IntArray, FloatArray]], entities: Sequence[str], grid: MinuteGrid
) -> pd.DataFrame:
    sizes = [at.size for _, _, at, _ in columns]
    entity = np.repeat(np.array([number for number, _, _, _ in columns], dtype=np.int64), sizes)
    stream = np.repeat(np.array([position for _, position, _, _ in columns], dtype=np.int64), sizes)
    minutes = np.concatenate([at for _, _, at, _ in columns])
    return pd.DataFrame(
        {
            "entity_id": pd.Categorical.from_codes(entity, categories=pd.Index(list(entities))),
            "stream_id": pd.Categorical.from_codes(stream, categories=pd.Index(list(STREAM_IDS))),
            "timestamp": pd.to_datetime(grid.seconds[minutes], unit="s", utc=True),
            "value": np.concatenate([values for _, _, _, values in columns]),
        }
    )
