"""The faults of the demonstration: a dozen, placed where each can be told from normal life."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import permutations

from anomaly_assets.errors import InputError
from anomaly_assets.evaluation.simulator.clock import MinuteGrid
from anomaly_assets.evaluation.simulator.faults import Fault, FaultKind
from anomaly_assets.evaluation.simulator.gaps import MissingPattern
from anomaly_assets.evaluation.simulator.lives import SATURDAY, Life
from anomaly_assets.evaluation.simulator.placement import (
    EXERTION,
    REST,
    Placement,
    on_window,
)
from anomaly_assets.evaluation.simulator.randomness import generator
from anomaly_assets.evaluation.simulator.sensors import Device
from anomaly_assets.evaluation.simulator.simulation import (
    DEFAULT_DAYS,
    DEFAULT_ENTITIES,
    DEFAULT_START,
    DEFAULT_TIME_ZONE,
)

#: Size of spikes and level shifts.
SIGMAS = 8.0


@dataclass(frozen=True)
class _Idea:
    """A fault before it has a day; strengths of spikes and shifts are relative."""

    kind: FaultKind
    target: str
    strength: float
    hour: float
    minutes: int


#: What happens to the first, second, third person; further people begin again.
_IDEAS: tuple[tuple[_Idea, ...], ...] = (
    (
        _Idea(FaultKind.RELATIONSHIP_BREAK, "", REST, 18.0, 50),
        _Idea(FaultKind.UNUSUAL_ABSENCE_AT_WORK, "", 1.0, 10.5, 240),
        _Idea(FaultKind.SPIKE, "skin_temperature", 1.0, 15.0, 5),
        _Idea(FaultKind.LEVEL_SHIFT, "ambient_temperature", 1.0, 13.5, 300),
    ),
    (
        _Idea(FaultKind.GROUP_OUTAGE, "biometric", 1.0, 14.0, 90),
        _Idea(FaultKind.USE_AT_3AM, "", 0.7, 3.0, 40),
        _Idea(FaultKind.FLAT_LINE, "audio_level", 1.0, 14.0, 120),
        _Idea(FaultKind.RELATIONSHIP_BREAK, "", EXERTION, 20.75, 45),
    ),
    (
        _Idea(FaultKind.LEVEL_SHIFT, "barometric_pressure", 1.0, 10.5, 300),
        _Idea(FaultKind.SPIKE, "battery_temperature", 1.0, 15.0, 5),
        _Idea(FaultKind.UNUSUAL_ABSENCE_AT_WORK, "", 1.0, 11.0, 240),
        _Idea(FaultKind.GROUP_OUTAGE, "environment", 1.0, 16.0, 60),
    ),
)


def demo_faults(  # noqa: PLR0913 - the arguments of the simulation it is for
    seed: int = 0,
    entities: Sequence[str] = DEFAULT_ENTITIES,
    start: datetime = DEFAULT_START,
    days: int = DEFAULT_DAYS,
    *,
    time_zone: str = DEFAULT_TIME_ZONE,
    missing: MissingPattern | None = None,
    first_day: int = 7,
    sigmas: float = SIGMAS,
) -> tuple[Fault, ...]:
    """Choose faults for a simulation with the same arguments.

    Three people get four faults each, seven kinds in all; more people begin again with the first
    one's. They are spread evenly over the days from `first_day` on, a day and more apart where
    there are enough.

    Parameters
    ----------
    seed, entities, start, days, time_zone, missing
        As for :func:`~anomaly_assets.evaluation.simulator.simulation.simulate`.
    first_day
        Days left free of faults at the start, for the system to learn.
    sigmas
        Size of spikes and level shifts, in standard deviations of the stream's short-term change.

    Returns
    -------
    tuple of Fault
        By entity and time. Fewer than four a person if there are fewer days, or no day suits.

    Raises
    ------
    InputError
        If no day is left after `first_day`.
    """
    grid = MinuteGrid.of(start, days, time_zone)
    free = grid.dates[1 + first_day : 1 + days]
    if not free:
        msg = f"{days} days leave none for faults; simulate at least {first_day + 1}"
        raise InputError(msg)
    faults: list[Fault] = []
    for number, entity in enumerate(entities):
        ideas = _IDEAS[number % len(_IDEAS)]
        count = min(len(ideas), len(free))
        chosen = [free[i * (len(free) - 1) // max(count - 1, 1)] for i in range(count)]
        placement = Placement.of(Life.of(seed, entity, grid), missing, first_day)
        place = _Place(placement, sigmas)
        faults += place.best(ideas, chosen)
    return tuple(faults)


class _Place:
    """Finds days on which faults stand out from one person's normal life."""

    def __init__(self, placement: Placement, sigmas: float) -> None:
        self._placement = placement
        self._sigmas = sigmas
        life = placement.life
        self._rng = generator(life.seed, life.entity, "demo_faults")

    def best(self, ideas: tuple[_Idea, ...], days: list[date]) -> list[Fault]:
        """Return the assignment of `ideas` to `days` that suits most."""
        shift = {idea: 5 * int(self._rng.integers(0, 7)) for idea in ideas}
        suits = {
            (idea, day): self._fault(idea, day, shift[idea])
            # The day after will do too: faults are then still a day apart.
            or self._fault(idea, day + timedelta(days=1), shift[idea])
            for idea in ideas
            for day in days
        }
        orders = list(permutations(ideas, len(days)))
        # Shuffled, so that different seeds do not all begin with the same kind.
        self._rng.shuffle(orders)
        best = max(
            orders,
            key=lambda order: sum(
                suits[pair] is not None for pair in zip(order, days, strict=True)
            ),
        )
        placed = [suits[pair] for pair in zip(best, days, strict=True)]
        return [fault for fault in placed if fault is not None]

    def _fault(self, idea: _Idea, day: date, shift: int) -> Fault | None:
        """Return the fault on `day`, or None where it would not stand out there."""
        begin = self._placement.minute_at(day, idea.hour)
        length = idea.minutes
        if idea.kind is FaultKind.RELATIONSHIP_BREAK and idea.strength == REST:
            session = self._placement.sport_on(day)
            if session is None:
                return None
            begin, length = session
        elif idea.kind is not FaultKind.USE_AT_3AM:
            begin += shift
        if idea.kind is FaultKind.UNUSUAL_ABSENCE_AT_WORK and day.weekday() >= SATURDAY:
            return None
        begin = on_window(begin)
        if not self._placement.allows(begin, begin + length, _needs(idea)):
            return None
        strength = idea.strength
        if idea.kind in {FaultKind.SPIKE, FaultKind.LEVEL_SHIFT}:
            strength *= self._sigmas
        return self._placement.fault(idea.kind, begin, length, idea.target, strength)


def _needs(idea: _Idea) -> tuple[Device, ...]:
    """Return the devices that must be on for the fault to show."""
    if idea.kind is FaultKind.USE_AT_3AM:
        return (Device.PHONE,)
    return (Device.WATCH, Device.PHONE)
