"""The test bed: many labelled faults a person, and their readings as windows for detectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from anomaly_assets.errors import InputError
from anomaly_assets.evaluation.simulator.clock import MinuteGrid
from anomaly_assets.evaluation.simulator.equations import EQUATIONS
from anomaly_assets.evaluation.simulator.faults import (
    Fault,
    FaultKind,
    short_term_change,
    witnesses_of,
)
from anomaly_assets.evaluation.simulator.gaps import MissingPattern, streams_heard
from anomaly_assets.evaluation.simulator.lives import SATURDAY, Life, State, Travel, hidden_causes
from anomaly_assets.evaluation.simulator.placement import (
    EXERTION,
    REST,
    WINDOW_MINUTES,
    Placement,
    on_window,
)
from anomaly_assets.evaluation.simulator.randomness import generator
from anomaly_assets.evaluation.simulator.sensors import GROUP_IDS, SENSORS, Device, Reporting
from anomaly_assets.evaluation.simulator.silence import MissingStreams
from anomaly_assets.evaluation.simulator.simulation import (
    DEFAULT_ENTITIES,
    DEFAULT_START,
    DEFAULT_TIME_ZONE,
    Simulation,
)
from anomaly_assets.evaluation.simulator.solving import solve
from anomaly_assets.streams.aggregation import Readings, aggregate
from anomaly_assets.streams.catalogue import Catalogue
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WindowBlock

TESTBED_DAYS = 28
#: Kinds that recall is reported for.
SCORED_KINDS = (
    FaultKind.SPIKE,
    FaultKind.GROUP_OUTAGE,
    FaultKind.DEVICE_DOWN,
    FaultKind.FLAT_LINE,
    FaultKind.RELATIONSHIP_BREAK,
    FaultKind.UNUSUAL_ABSENCE_AT_WORK,
    FaultKind.USE_AT_3AM,
)
#: Light changes by eight of its standard deviations whenever the person goes out.
_SPIKY = frozenset({"ambient_light"})
#: Whole percentages that stay the same for hours.
_STILL = frozenset({"blood_oxygen"})
_REGULAR = tuple(s.stream for s in SENSORS if s.reporting is Reporting.REGULAR)
SPIKE_STREAMS = tuple(stream for stream in _REGULAR if stream not in _SPIKY)
FLAT_STREAMS = tuple(stream for stream in _REGULAR if stream not in _STILL)

_LEAST_APART = 12 * 60
_APART = (16 * 60, 21 * 60)
#: How far ahead of the intended time a suitable one is looked for.
_AHEAD = 6 * 60
#: A device must have been there this long before it can be missed.
_SETTLED = 60
#: A watch comes off for a shower and a phone lies switched off in the evening: a single device that
#: is away for less is no fault anybody could tell from life.
_NATURAL_ABSENCE = 60
#: Groups with something to say at any time. Nobody uses a phone all the time: an outage of
#: `interaction` is what its owner does every day.
OUTAGE_GROUPS = tuple(group for group in GROUP_IDS if group != "interaction")
_BOTH = (Device.WATCH, Device.PHONE)


@dataclass(frozen=True)
class Strengths:
    """How strong the faults are: one of each tuple is drawn for each fault.

    Parameters
    ----------
    spike_sigmas, shift_sigmas
        Standard deviations of the stream's short-term change.
    shift_minutes, outage_minutes, down_minutes, flat_minutes, break_minutes, absence_minutes, \
    night_minutes
        Duration by kind. A relationship broken during sport lasts as long as the sport.

    Raises
    ------
    InputError
        If there is nothing to draw from, or a strength is not positive.
    """

    spike_sigmas: tuple[float, ...] = (8.0,)
    shift_sigmas: tuple[float, ...] = (8.0,)
    shift_minutes: tuple[int, ...] = (300,)
    outage_minutes: tuple[int, ...] = (30, 60, 120)
    down_minutes: tuple[int, ...] = (30, 60, 120)
    flat_minutes: tuple[int, ...] = (120,)
    break_minutes: tuple[int, ...] = (45,)
    absence_minutes: tuple[int, ...] = (240,)
    night_minutes: tuple[int, ...] = (40,)

    def __post_init__(self) -> None:
        """Refuse strengths that no fault can have."""
        for name, choices in vars(self).items():
            if not choices or not all(0.0 < choice < np.inf for choice in choices):
                msg = f"{name} is {choices}; give at least one strength, all positive and finite"
                raise InputError(msg)


def many_faults(  # noqa: PLR0913 - the arguments of the simulation it is for
    seed: int = 0,
    entities: Sequence[str] = DEFAULT_ENTITIES,
    start: datetime = DEFAULT_START,
    days: int = TESTBED_DAYS,
    *,
    time_zone: str = DEFAULT_TIME_ZONE,
    missing: MissingPattern | None = None,
    silence: MissingStreams | None = None,
    travels: Sequence[Travel] = (),
    first_day: int = 7,
    kinds: Sequence[FaultKind] = SCORED_KINDS,
    strengths: Strengths | None = None,
) -> tuple[Fault, ...]:
    """Choose about a fault a day for each person, for a simulation with the same arguments.

    The kind that came up least is placed next if it suits the next hours, at a time when it differs
    from normal life: outages while the person is awake and the devices are worn, an absence while
    at work, use of the phone in a night in which the phone is on. Faults concern streams that are
    observed.

    Parameters
    ----------
    seed, entities, start, days, time_zone, missing, silence, travels
        As for :func:`~anomaly_assets.evaluation.simulator.simulation.simulate`.
    first_day
        Days left free of faults at the start, for the system to learn.
    kinds
        What may happen.
    strengths
        How strong it is; :class:`Strengths` as it stands unless given.

    Returns
    -------
    tuple of Fault
        By entity and time; at least 12 hours lie between the end of one and the start of the next.

    Raises
    ------
    InputError
        If no day is left after `first_day`, or no kind is named.
    """
    grid = MinuteGrid.of(start, days, time_zone)
    if days <= first_day or first_day < 0 or not kinds:
        msg = (
            f"{days} days with {first_day} free leave none for {len(kinds)} kinds of faults; "
            f"simulate at least {first_day + 1}, and name a kind"
        )
        raise InputError(msg)
    faults: list[Fault] = []
    for entity in entities:
        life = Life.travelling(seed, entity, grid, travels)
        planner = _Planner(
            life,
            Placement.of(life, missing, first_day),
            silence or MissingStreams(),
            strengths or Strengths(),
        )
        faults += planner.plan(tuple(kinds))
    return tuple(faults)


def window_block(
    simulation: Simulation, entity: str, catalogue: Catalogue | None = None
) -> WindowBlock:
    """Aggregate one person's readings into the windows that detectors take.

    Parameters
    ----------
    simulation
        Where the readings are.
    entity
        Whose.
    catalogue
        How streams are aggregated; the default catalogue unless given.

    Raises
    ------
    InputError
        If nobody of that name was simulated, or the catalogue lacks a stream.
    """
    catalogue = catalogue or load_catalogue("default")
    readings = simulation.readings
    known = readings["entity_id"].cat.categories
    if entity not in known:
        msg = f"entity {entity!r} was not simulated; it is one of {list(known)}"
        raise InputError(msg)
    names = readings["stream_id"].cat.categories
    lacking = [name for name in names if name not in catalogue.stream_ids]
    if lacking:
        msg = f"catalogue {catalogue.name!r} lacks the simulated streams {lacking}"
        raise InputError(msg)
    mine = readings[readings["entity_id"] == entity]
    position = np.array([catalogue.stream_ids.index(name) for name in names], dtype=np.int64)
    times = mine["timestamp"].dt.as_unit("us").to_numpy(np.int64)
    own = Readings(
        position[mine["stream_id"].cat.codes.to_numpy()], times, mine["value"].to_numpy()
    )
    return aggregate(own, simulation.windows, catalogue).block(entity, simulation.time_zone)


class _Planner:
    """Plans the faults of one person."""

    def __init__(
        self, life: Life, placement: Placement, silence: MissingStreams, strengths: Strengths
    ) -> None:
        self._life = life
        self._placement = placement
        self._strengths = strengths
        self._heard = streams_heard(life, silence)
        self._clean = solve(life.seed, life.entity, hidden_causes(life))
        self._limits = {equation.stream: equation.limits for equation in EQUATIONS}
        self._rng = generator(life.seed, life.entity, "testbed_faults")
        self._find = {
            FaultKind.SPIKE: self._spike,
            FaultKind.LEVEL_SHIFT: self._shift,
            FaultKind.FLAT_LINE: self._flat_line,
            FaultKind.GROUP_OUTAGE: self._group_outage,
            FaultKind.DEVICE_DOWN: self._device_down,
            FaultKind.RELATIONSHIP_BREAK: self._broken,
            FaultKind.UNUSUAL_ABSENCE_AT_WORK: self._absence,
            FaultKind.USE_AT_3AM: self._night,
        }

    def plan(self, kinds: tuple[FaultKind, ...]) -> list[Fault]:
        """Return the faults in order of time."""
        faults: list[Fault] = []
        counts: Counter[str] = Counter()
        grid = self._life.grid
        at = self._placement.first_minute + int(self._rng.integers(0, _AHEAD))
        while at < len(grid):
            order = list(kinds)
            self._rng.shuffle(order)
            order.sort(key=lambda kind: counts[kind])
            fault = next((f for kind in order if (f := self._first(kind, at)) is not None), None)
            if fault is None:
                at += 60
                continue
            faults.append(fault)
            counts[fault.kind] += 1
            begin = grid.minute_of(fault.start)
            at = max(begin + int(self._rng.integers(*_APART)), begin + fault.minutes + _LEAST_APART)
        return faults

    def _first(self, kind: FaultKind, at: int) -> Fault | None:
        """Return a fault that begins within the hours from `at` on, if one suits."""
        for begin in range(on_window(at + WINDOW_MINUTES - 1), at + _AHEAD, WINDOW_MINUTES):
            fault = self._find[kind](begin)
            if fault is not None:
                return fault if self._seen(fault) else None
        return None

    def _seen(self, fault: Fault) -> bool:
        begin = self._life.grid.minute_of(fault.start)
        period = slice(begin, begin + fault.minutes)
        return all(
            any(self._heard[stream][period].all() for stream in some)
            for some in witnesses_of(fault)
        )

    def _draw(self, choices: Sequence[float]) -> float:
        return choices[int(self._rng.integers(len(choices)))]

    def _minutes(self, choices: tuple[int, ...]) -> int:
        return int(self._draw(choices))

    def _target(self, streams: tuple[str, ...], begin: int, stop: int) -> str | None:
        """Draw one of the streams that are observed throughout."""
        usable = [stream for stream in streams if self._heard[stream][begin:stop].all()]
        return usable[int(self._rng.integers(len(usable)))] if usable else None

    def _awake(self, begin: int, stop: int) -> bool:
        """Whether the person is up, with both devices, for a while before, during and after."""
        start, end = max(begin - _SETTLED, 0), stop + _SETTLED
        return self._placement.allows(start, end, _BOTH) and not bool(
            (self._life.state[start:end] == State.SLEEP).any()
        )

    def _spike(self, begin: int) -> Fault | None:
        stop = begin + WINDOW_MINUTES
        return self._step(FaultKind.SPIKE, begin, stop, self._strengths.spike_sigmas)

    def _shift(self, begin: int) -> Fault | None:
        stop = begin + self._minutes(self._strengths.shift_minutes)
        return self._step(FaultKind.LEVEL_SHIFT, begin, stop, self._strengths.shift_sigmas)

    def _step(
        self, kind: FaultKind, begin: int, stop: int, choices: tuple[float, ...]
    ) -> Fault | None:
        target = self._target(SPIKE_STREAMS, begin, stop)
        # After a night without readings the first one is news whatever it says.
        if target is None or not self._placement.allows(max(begin - _SETTLED, 0), stop, _BOTH):
            return None
        sigmas = self._draw(choices)
        size = sigmas * short_term_change(target, self._clean[target])
        low, high = self._limits[target]
        values = self._clean[target][begin:stop]
        # Upwards unless that leaves the limits, as it is injected; neither must be cut off by them.
        goes_up = values[0] + size <= high
        fits = values.max() + size <= high if goes_up else values.min() - size >= low
        if not fits:
            return None
        return self._placement.fault(kind, begin, stop - begin, target, sigmas)

    def _flat_line(self, begin: int) -> Fault | None:
        stop = begin + self._minutes(self._strengths.flat_minutes)
        target = self._target(FLAT_STREAMS, begin, stop)
        if target is None or not self._awake(begin, stop):
            return None
        return self._placement.fault(FaultKind.FLAT_LINE, begin, stop - begin, target, 1.0)

    def _group_outage(self, begin: int) -> Fault | None:
        stop = begin + self._minutes(self._strengths.outage_minutes)
        group = OUTAGE_GROUPS[int(self._rng.integers(len(OUTAGE_GROUPS)))]
        if not self._awake(begin, stop):
            return None
        fault = self._placement.fault(FaultKind.GROUP_OUTAGE, begin, stop - begin, group, 1.0)
        return fault if self._seen(fault) else None

    def _device_down(self, begin: int) -> Fault | None:
        # Half of the time everything; else one of the two devices.
        target = ("", "", str(Device.WATCH), str(Device.PHONE))[int(self._rng.integers(4))]
        minutes = self._minutes(self._strengths.down_minutes)
        if target:
            minutes = max(minutes, _NATURAL_ABSENCE)
        stop = begin + minutes
        if not self._awake(begin, stop):
            return None
        fault = self._placement.fault(FaultKind.DEVICE_DOWN, begin, stop - begin, target, 1.0)
        return fault if self._seen(fault) else None

    def _broken(self, begin: int) -> Fault | None:
        """Break the heart's answer to a training that begins now, or let it race at rest."""
        for session in self._life.sessions:
            # A training that begins in the next hours is waited for.
            if session.state is State.SPORT and begin <= session.start < begin + _AHEAD:
                start, length = on_window(session.start), session.stop - session.start
                if not self._placement.allows(start, start + length, _BOTH):
                    return None
                return self._placement.fault(FaultKind.RELATIONSHIP_BREAK, start, length, "", REST)
        stop = begin + self._minutes(self._strengths.break_minutes)
        calm = np.isin(self._life.state[begin:stop], (State.LEISURE, State.WORK, State.MEAL))
        if not calm.all() or not self._awake(begin, stop):
            return None
        return self._placement.fault(
            FaultKind.RELATIONSHIP_BREAK, begin, stop - begin, "", EXERTION
        )

    def _absence(self, begin: int) -> Fault | None:
        stop = begin + self._minutes(self._strengths.absence_minutes)
        grid = self._life.grid
        if stop > len(grid) or self._life.state[begin] != State.WORK:
            return None
        local = grid.local_date(begin)
        nine = self._placement.minute_at(local, 9.0)
        end = max(self._placement.minute_at(local, 17.0), nine + stop - begin)
        if local.weekday() >= SATURDAY or begin < nine or stop > end:
            return None
        if not self._awake(begin, stop):
            return None
        return self._placement.fault(
            FaultKind.UNUSUAL_ABSENCE_AT_WORK, begin, stop - begin, "", 1.0
        )

    def _night(self, begin: int) -> Fault | None:
        stop = begin + self._minutes(self._strengths.night_minutes)
        three = self._placement.minute_at(self._life.grid.local_date(begin), 3.0)
        if begin != on_window(three) or not self._placement.allows(begin, stop, (Device.PHONE,)):
            return None
        return self._placement.fault(FaultKind.USE_AT_3AM, begin, stop - begin, "", 0.7)
