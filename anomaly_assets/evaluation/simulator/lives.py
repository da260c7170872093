"""How simulated people live: habits, days, and the hidden causes behind every stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import IntEnum
from functools import cached_property
from itertools import pairwise

import numpy as np

from anomaly_assets.evaluation.simulator.clock import MinuteGrid
from anomaly_assets.evaluation.simulator.randomness import autoregressive, generator
from anomaly_assets.streams.windows import FloatArray, IntArray

SATURDAY = 5


@dataclass(frozen=True)
class Travel:
    """Someone goes to live by the clock of another zone; the devices go on counting in UTC.

    Parameters
    ----------
    entity
        Who.
    day
        First local date there.
    time_zone
        IANA zone.
    """

    entity: str
    day: date
    time_zone: str


class State(IntEnum):
    """What a person is doing."""

    SLEEP = 0
    LEISURE = 1
    COMMUTE = 2
    WORK = 3
    MEAL = 4
    SPORT = 5


@dataclass(frozen=True)
class Habits:
    """What distinguishes one person from another; minutes count from local midnight.

    Parameters
    ----------
    wake, bed
        Usual minute of waking and of going to bed on work days.
    commute
        Minutes each way.
    sport_days
        Weekdays of the training after work, and one day of the week-end.
    phone_use
        Factor on everything done with the phone.
    resting_heart_rate
        Beats a minute, lying awake.
    watch_charge_phase, phone_off_phase
        Which night of the recurring cycle the watch charges, or the phone is switched off.
    """

    wake: float
    bed: float
    commute: float
    sport_days: tuple[int, ...]
    phone_use: float
    resting_heart_rate: float
    watch_charge_phase: int
    phone_off_phase: int

    @classmethod
    def of(cls, seed: int, entity: str) -> Habits:
        """Draw the habits of `entity`."""
        rng = generator(seed, entity, "habits")
        first = int(rng.integers(0, 2))
        watch = int(rng.integers(0, 2))
        return cls(
            wake=float(rng.normal(400.0, 15.0)),
            bed=float(rng.normal(1370.0, 12.0)),
            commute=float(rng.uniform(25.0, 40.0)),
            sport_days=(first, first + 2, int(rng.integers(SATURDAY, SATURDAY + 2))),
            phone_use=float(rng.uniform(0.9, 1.2)),
            resting_heart_rate=float(rng.normal(62.0, 3.0)),
            watch_charge_phase=watch,
            phone_off_phase=1 - watch,
        )


@dataclass(frozen=True)
class Session:
    """One uninterrupted stay in a state, minutes on the grid, half-open."""

    state: State
    start: int
    stop: int


@dataclass(frozen=True)
class Life:
    """One person over the whole simulation.

    Parameters
    ----------
    entity
        Who.
    seed
        Seed of the simulation.
    grid
        Its minutes.
    habits
        The person's habits.
    state
        :class:`State` of every minute, shape ``(n_minutes,)``.
    wakings, bedtimes
        Minute on the grid of each waking and bedtime, one for each date of ``grid.dates``; may lie
        outside the grid.
    """

    entity: str
    seed: int
    grid: MinuteGrid
    habits: Habits
    state: IntArray
    wakings: IntArray
    bedtimes: IntArray

    @classmethod
    def of(cls, seed: int, entity: str, grid: MinuteGrid) -> Life:
        """Live through the minutes of `grid`."""
        habits = Habits.of(seed, entity)
        rng = generator(seed, entity, "schedule")
        seconds, states = [], []
        wakings, bedtimes = [], []
        for day in grid.dates:
            plan = _plan_of(day, habits, rng)
            # A late day pushes what follows; nothing is done before what precedes it.
            begins = np.maximum.accumulate([minute for minute, _ in plan]).tolist()
            seconds += [grid.second_of(day, minute) for minute in begins]
            states += [state for _, state in plan]
            wakings.append(grid.second_of(day, plan[0][0]))
            bedtimes.append(grid.second_of(day, plan[-1][0]))
        # Travelling east shortens a night: what would begin before its end begins with it.
        seconds = np.maximum.accumulate(seconds).tolist()
        position = np.searchsorted(np.array(seconds), grid.seconds, side="right") - 1
        state = np.where(position < 0, State.SLEEP, np.array(states)[np.maximum(position, 0)])
        return cls(
            entity,
            seed,
            grid,
            habits,
            state.astype(np.int64),
            (np.array(wakings) - grid.start) // 60,
            (np.array(bedtimes) - grid.start) // 60,
        )

    @classmethod
    def travelling(
        cls, seed: int, entity: str, grid: MinuteGrid, travels: Sequence[Travel]
    ) -> Life:
        """Live through the minutes of `grid`, with those of `travels` that are the entity's."""
        moves = tuple(
            (travel.day, travel.time_zone) for travel in travels if travel.entity == entity
        )
        return cls.of(seed, entity, grid.moving(moves))

    def is_in(self, *states: State) -> FloatArray:
        """Return 1.0 in the minutes spent in any of `states`, else 0.0."""
        return np.isin(self.state, states).astype(np.float64)

    @cached_property
    def sessions(self) -> list[Session]:
        """Every stay that lies wholly on the grid, in order."""
        edges = np.flatnonzero(np.diff(self.state)) + 1
        return [
            Session(State(int(self.state[start])), start, stop)
            for start, stop in pairwise(edges.tolist())
        ]


def _plan_of(day: date, habits: Habits, rng: np.random.Generator) -> list[tuple[float, State]]:
    """Plan one local day as (minute it begins, state), from waking to bedtime."""
    late = rng.normal(0.0, 1.0, 10).clip(-2.0, 2.0)
    if day.weekday() >= SATURDAY:
        return _weekend_plan(day, habits, late)
    leave = habits.wake + 60.0 + 6.0 * late[1]
    arrive = leave + habits.commute + 3.0 * late[2]
    lunch = 740.0 + 8.0 * late[3]
    finish = 1015.0 + 8.0 * late[4]
    home = finish + habits.commute + 3.0 * late[5]
    plan = [
        (habits.wake + 10.0 * late[0], State.LEISURE),
        (habits.wake + 30.0 + 10.0 * late[0], State.MEAL),
        (leave, State.COMMUTE),
        (arrive, State.WORK),
        (lunch, State.MEAL),
        (lunch + 35.0 + 4.0 * late[6], State.WORK),
        (finish, State.COMMUTE),
        (home, State.LEISURE),
    ]
    if day.weekday() in habits.sport_days:
        begin = home + 25.0 + 5.0 * late[7]
        plan += [(begin, State.SPORT), (begin + 50.0 + 4.0 * late[8], State.LEISURE)]
    dinner = 1175.0 + 8.0 * late[6]
    return [
        *plan,
        (dinner, State.MEAL),
        (dinner + 40.0, State.LEISURE),
        (habits.bed + 10.0 * late[9], State.SLEEP),
    ]


def _weekend_plan(day: date, habits: Habits, late: FloatArray) -> list[tuple[float, State]]:
    outing = 630.0 + 12.0 * late[1]
    lunch = 775.0 + 12.0 * late[3]
    dinner = 1165.0 + 12.0 * late[6]
    plan = [
        (habits.wake + 40.0 + 12.0 * late[0], State.LEISURE),
        (habits.wake + 80.0 + 12.0 * late[0], State.MEAL),
        (habits.wake + 110.0 + 12.0 * late[0], State.LEISURE),
        (outing, State.COMMUTE),
        (outing + 25.0, State.LEISURE),
        (lunch - 30.0, State.COMMUTE),
        (lunch, State.MEAL),
        (lunch + 45.0, State.LEISURE),
    ]
    if day.weekday() in habits.sport_days:
        begin = 930.0 + 12.0 * late[7]
        plan += [(begin, State.SPORT), (begin + 55.0 + 4.0 * late[8], State.LEISURE)]
    return [
        *plan,
        (dinner, State.MEAL),
        (dinner + 45.0, State.LEISURE),
        (habits.bed + 30.0 + 12.0 * late[9], State.SLEEP),
    ]


#: Typical (effort, minutes between screen sessions, notifications a minute, share of time spent
#: talking, sound level in dB, light in log10 lux) of each state, in the order of :class:`State`.
_OF_STATE = np.array(
    [
        [0.02, np.inf, 0.002, 0.0, 33.0, 0.3],
        [0.16, 7.0, 0.055, 0.20, 50.0, 2.15],
        [0.32, 7.0, 0.050, 0.10, 60.0, 2.50],
        [0.13, 6.5, 0.065, 0.25, 52.0, 2.50],
        [0.15, 10.0, 0.045, 0.35, 56.0, 2.30],
        [0.65, 18.0, 0.045, 0.05, 58.0, 2.75],
    ]
)
_EFFORT, _SCREEN_GAP, _NOTIFICATIONS, _TALK, _SOUND, _LIGHT = range(6)


def _smooth(values: FloatArray, minutes: int) -> FloatArray:
    """Trailing moving average, so that changes of state take time."""
    padded = np.concatenate([np.full(minutes - 1, values[0]), values])
    return np.convolve(padded, np.full(minutes, 1.0 / minutes), mode="valid")


def _bouts(
    rng: np.random.Generator, rate: FloatArray, mean_minutes: float, longest: int
) -> FloatArray:
    """Draw bouts that begin at `rate` a minute; 1.0 inside a bout, else 0.0."""
    begins = np.flatnonzero(rng.random(rate.size) < rate)
    lengths = rng.geometric(1.0 / mean_minutes, rate.size)[begins].clip(1, longest)
    steps = np.zeros(rate.size + longest + 1)
    np.add.at(steps, begins, 1.0)
    np.add.at(steps, begins + lengths, -1.0)
    return (np.cumsum(steps)[: rate.size] > 0.0).astype(np.float64)


def hidden_causes(life: Life) -> dict[str, FloatArray]:
    """Draw everything that drives the streams but is not itself a stream.

    Parameters
    ----------
    life
        The person's days.

    Returns
    -------
    dict
        Arrays of shape ``(n_minutes,)``: ``effort`` (0 rest to 1 exhausting), ``asleep``,
        ``travel`` (m/s), ``outdoors``, ``daylight`` (0 to 1), ``screen_use`` (share of the minute
        with the screen on), ``notifying`` (a minute), ``talking``, ``media``, ``calling``,
        ``charging``, ``sound`` (dB), ``light`` (log10 lux), ``posture_x``, ``posture_y``,
        ``posture_z`` (share of gravity), ``arousal`` (unit variance), ``weather`` (hPa from the
        mean), ``indoor_climate`` (degrees from the mean), ``resting_heart_rate`` (beats a minute).
    """
    rng = generator(life.seed, life.entity, "causes")
    n = len(life.grid)
    typical = _OF_STATE[life.state]
    asleep = _smooth(life.is_in(State.SLEEP), 25)
    awake = 1.0 - life.is_in(State.SLEEP)
    walking = _bouts(rng, 0.035 * awake + 0.008 * (1.0 - awake), 3.5, 10)
    swing = np.exp(0.22 * autoregressive(rng, n, 9.0))
    effort = _smooth(typical[:, _EFFORT], 12) * swing
    effort += _smooth(walking, 2) * np.where(awake > 0.0, 0.17, 0.28) * np.sqrt(swing)
    use = life.habits.phone_use
    sessions = _bouts(rng, use / typical[:, _SCREEN_GAP], 2.6, 20)
    calling = _bouts(rng, 0.0035 * use * awake, 4.0, 25)
    talking = np.maximum(_bouts(rng, typical[:, _TALK] / 5.0, 5.0, 40), calling)
    causes = {
        "effort": np.clip(effort, 0.005, 1.0),
        "asleep": asleep,
        "travel": _travel(life, rng),
        "outdoors": _smooth(
            np.maximum(life.is_in(State.SPORT), 0.6 * life.is_in(State.COMMUTE)), 5
        ),
        "daylight": _daylight(life.grid.hour),
        "screen_use": sessions * rng.uniform(0.35, 1.0, n),
        "notifying": _smooth(typical[:, _NOTIFICATIONS], 15) * use,
        "talking": talking * rng.uniform(0.4, 1.0, n),
        "media": _bouts(rng, 0.012 * use * life.is_in(State.LEISURE, State.COMMUTE), 18.0, 60),
        "calling": calling,
        "charging": _charging(life),
        "sound": _smooth(typical[:, _SOUND], 30) + 2.0 * autoregressive(rng, n, 25.0),
        "light": _smooth(typical[:, _LIGHT], 35) + 0.10 * autoregressive(rng, n, 30.0),
        "arousal": autoregressive(rng, n, 35.0),
        "weather": 5.0 * autoregressive(rng, n, 3000.0),
        "indoor_climate": 0.5 * autoregressive(rng, n, 400.0),
        "resting_heart_rate": np.full(n, life.habits.resting_heart_rate),
    }
    return causes | _posture(rng, n, awake)


def _travel(life: Life, rng: np.random.Generator) -> FloatArray:
    """Speed of vehicles on commutes and of running, with stops, in m/s."""
    n = len(life.grid)
    flow = np.clip(0.75 + 0.40 * autoregressive(rng, n, 4.0), 0.0, 1.6)
    pace = np.clip(1.0 + 0.15 * autoregressive(rng, n, 6.0), 0.5, 1.5)
    vehicle = 9.0 * _smooth(life.is_in(State.COMMUTE), 4) * flow
    return vehicle + 2.6 * _smooth(life.is_in(State.SPORT), 4) * pace


def _daylight(hour: FloatArray) -> FloatArray:
    return np.clip(np.sin((hour - 6.0) / 14.0 * np.pi), 0.0, 1.0)


def _charging(life: Life) -> FloatArray:
    """Charge from shortly before bed until waking, whatever the phone does."""
    charging = np.zeros(len(life.grid))
    for bed, wake in zip(life.bedtimes[:-1], life.wakings[1:], strict=True):
        charging[max(bed - 15, 0) : max(wake + 10, 0)] = 1.0
    return charging


def _posture(rng: np.random.Generator, n: int, awake: FloatArray) -> dict[str, FloatArray]:
    """Orientation of the wrist: it turns often by day, now and then by night, and always drifts."""
    turns = rng.random(n) < np.where(awake > 0.0, 0.12, 0.05)
    position = np.cumsum(turns)
    centres = rng.normal(0.0, 1.0, (n + 1, 3)) * 0.55 + np.array([0.1, -0.3, 0.8])
    vectors = centres[position]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return {f"posture_{axis}": vectors[:, i].copy() for i, axis in enumerate("xyz")}
