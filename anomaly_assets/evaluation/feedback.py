"""How much fewer false alarms people get for judging some: simulated people with habits.

A simulated person's false alarms are chance: no two are alike, and nothing can be learnt from them.
Real people have habits that look like faults to a detector, and a sensor that jumps now and then.
So these people get some, by the simulator's own means: an exercise bike (the heart races while the
body rests), a hair dryer on workday mornings, and a sensor that is loose. What happens to them is
the same as in a fault of that kind; only the oracle, who knows, says that it is none. Habits that
the models learn by themselves (a watch off for a bath, no reception in the cellar) raise no alarms
and would show nothing.

The faults are the test bed's, every other one, without spikes on the loose sensor: nobody could
tell those apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from anomaly_assets.detection.ensemble.health_aware import HealthAwareEnsemble
from anomaly_assets.detection.explanation.episodes import joined
from anomaly_assets.detection.explanation.triggers import FINAL_ABOVE
from anomaly_assets.detection.feedback.adjustment import Adjustment
from anomaly_assets.detection.feedback.evidence import Evidence
from anomaly_assets.detection.feedback.labelled import Deciding, Effect, Labelled
from anomaly_assets.detection.feedback.recalibration import Limits, recalibrate
from anomaly_assets.detection.feedback.series import recent_scores, scores_of
from anomaly_assets.detection.feedback.shapes import suggest_rules
from anomaly_assets.detection.system import DetectionState, detect
from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.simulator.faults import Fault, FaultKind, InjectedFault
from anomaly_assets.evaluation.simulator.lives import SATURDAY, Habits
from anomaly_assets.evaluation.simulator.randomness import generator
from anomaly_assets.evaluation.simulator.simulation import (
    DEFAULT_START,
    DEFAULT_TIME_ZONE,
    simulate,
)
from anomaly_assets.evaluation.simulator.testbed import many_faults, window_block
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WINDOW_SECONDS, WINDOWS_PER_DAY, BoolArray, IntArray

LEARNING_DAYS: Final = 7
HELD_OUT_DAYS: Final = 28
#: Alarms in the half hour after a fault belong to it.
AFTERWARDS: Final = 6
#: A habit this close to a fault is left out: what happens should be one thing.
_APART: Final = timedelta(hours=2)
_LOOSE: Final = ("humidity", "barometric_pressure", "ambient_temperature", "skin_temperature")
#: Share of the days on which the loose sensor jumps.
_JUMPS_ON: Final = 0.6
_FOREVER: Final = 2**40


@dataclass(frozen=True)
class Habit:
    """Something that a person does, or that happens to a device, again and again."""

    name: str
    fault: Fault


@dataclass(frozen=True)
class Watched:
    """One simulated person, every alarm that was raised after the first week, and the truth.

    Parameters
    ----------
    alarms
        The alarms; `confirmed` is what the oracle knows.
    begins
        Start of each alarm, epoch seconds.
    causes
        What each was: a kind of fault, a habit's name, or ``chance``.
    end
        End of the simulation, epoch seconds.
    """

    alarms: Labelled
    begins: IntArray
    causes: tuple[str, ...]
    end: int


def habits_of(seed: int, entity: str, days: int, faults: Sequence[Fault]) -> list[Habit]:
    """Return what recurs in a person's life, apart from faults.

    Parameters
    ----------
    seed, entity, days
        Of the simulation.
    faults
        What else happens.
    """
    rng = generator(seed, entity, "feedback_habits")
    zone = ZoneInfo(DEFAULT_TIME_ZONE)
    own = Habits.of(seed, entity)
    bike_days = [day for day in range(SATURDAY) if day not in own.sport_days][:3]
    loose = _LOOSE[int(rng.integers(len(_LOOSE)))]
    happens = {
        "hair_dryer": (FaultKind.SPIKE, 5, "audio_level", 10.0),
        "bike": (FaultKind.RELATIONSHIP_BREAK, 45, "", 0.72),
        "loose_sensor": (FaultKind.SPIKE, 5, loose, 12.0),
    }
    found: list[Habit] = []

    def add(name: str, day: int, minute: int) -> None:
        kind, length, target, much = happens[name]
        local = DEFAULT_START.astimezone(zone).replace(hour=0, minute=0) + timedelta(days=day)
        start = local.replace(hour=minute // 60, minute=minute % 60 // 5 * 5).astimezone(UTC)
        end = start + timedelta(minutes=length)
        if all(end + _APART < f.start or start > _end(f) + _APART for f in faults):
            found.append(Habit(name, Fault(entity, kind, start, length, target, much)))

    for day in range(LEARNING_DAYS, days - 1):
        weekday = day % 7
        jitter = [int(x) for x in rng.integers(0, 20, 2)]
        if weekday < SATURDAY:
            add("hair_dryer", day, 7 * 60 + 25 + jitter[0] // 2)
        if weekday in bike_days:
            add("bike", day, 19 * 60 + jitter[1])
        if rng.random() < _JUMPS_ON:
            add("loose_sensor", day, int(rng.integers(9 * 60, 21 * 60)))
    return found


def _end(fault: Fault) -> datetime:
    return fault.start + timedelta(minutes=fault.minutes)


def watch(seed: int, entity: str, days: int) -> Watched:
    """Simulate a person with faults and habits, and collect the alarms."""
    loose = {h.fault.target for h in habits_of(seed, entity, days, ()) if h.name == "loose_sensor"}
    faults = [
        fault
        for number, fault in enumerate(many_faults(seed, [entity], days=days))
        if number % 2 == 0 and fault.target not in loose
    ]
    habits = habits_of(seed, entity, days, faults)
    everything = sorted([*faults, *(h.fault for h in habits)], key=lambda fault: fault.start)
    simulation = simulate(seed, [entity], days=days, faults=everything)
    names = {(h.fault.start, h.fault.kind): h.name for h in habits}
    catalogue = load_catalogue("default")
    block = window_block(simulation, entity, catalogue)
    said = detect(DetectionState.fresh(catalogue), block)
    rows = np.flatnonzero(said.ensemble.score > FINAL_ABOVE)
    rows = rows[rows >= LEARNING_DAYS * WINDOWS_PER_DAY]
    scores = scores_of(said.individual, said.cross_stream)
    evidence = replace(
        Evidence.of(
            catalogue,
            block.windows,
            block.calendar,
            said.individual,
            said.cross_stream,
            said.gaps,
            said.ensemble,
        ).take(rows),
        recent=recent_scores(scores, rows, scores[:0]),
    )
    alarms = [rows[part] for part in joined(evidence.starts)]
    spans = [(*_span(label, block.windows.start), label) for label in simulation.labels]
    causes = tuple(_cause(alarm, spans, names) for alarm in alarms)
    kinds = {str(kind) for kind in FaultKind}
    labelled = Labelled(
        evidence,
        np.repeat(np.arange(len(alarms)), [len(alarm) for alarm in alarms]),
        np.array([cause in kinds for cause in causes], dtype=np.bool_),
        np.array([block.windows.start + (int(a[-1]) + 1) * WINDOW_SECONDS for a in alarms]),
        tuple(range(len(alarms))),
    )
    begins = np.array([block.windows.start + int(a[0]) * WINDOW_SECONDS for a in alarms])
    return Watched(labelled, begins, causes, block.windows.end)


def _span(label: InjectedFault, start: int) -> tuple[int, int]:
    """Return the windows, half-open, in which an alarm is due to something."""
    first = int(label.start.timestamp() - start) // WINDOW_SECONDS
    return first, -(-int(label.end.timestamp() - start) // WINDOW_SECONDS) + AFTERWARDS


def _cause(
    alarm: IntArray,
    spans: Sequence[tuple[int, int, InjectedFault]],
    names: dict[tuple[datetime, FaultKind], str],
) -> str:
    """Return what an alarm is due to; a fault before a habit."""
    met = [label for first, stop, label in spans if ((alarm >= first) & (alarm < stop)).any()]
    known = [names.get((label.start, label.kind), "") for label in met]
    for label, name in zip(met, known, strict=True):
        if not name:
            return str(label.kind)
    return known[0] if known else "chance"


@dataclass(frozen=True)
class HeldOut:
    """What feedback from the first alarms did to those of the four weeks after them.

    Parameters
    ----------
    effect
        Counts.
    rules, threshold, weights
        What was changed.
    by_cause
        False alarms before and after, by what they were due to.
    """

    effect: Effect
    rules: int
    threshold: float | None
    weights: int
    by_cause: dict[str, tuple[int, int]]


def judged(watched: Watched, n: int, *, wrong: float = 0.0, seed: int = 0) -> Labelled:
    """Return the first `n` alarms as the oracle judges them, some of them wrongly.

    Raises
    ------
    EvaluationError
        If there are not so many, or no four weeks after them.
    """
    alarms = watched.alarms
    if len(alarms) <= n or watched.end - int(alarms.ends[n - 1]) < HELD_OUT_DAYS * 86400:
        msg = f"{len(alarms)} alarms are too few to judge {n} and watch four weeks; simulate longer"
        raise EvaluationError(msg)
    first = alarms.take(np.arange(len(alarms)) < n)
    if not wrong:
        return first
    flipped = np.zeros(n, dtype=np.bool_)
    chosen = generator(seed, "oracle", "wrong_labels").permutation(n)[: round(wrong * n)]
    flipped[chosen] = True
    return replace(first, confirmed=first.confirmed ^ flipped)


def learn(labelled: Labelled) -> Adjustment:
    """Do what a person would who accepts every suggested rule that nothing contradicts."""
    how, limits = Deciding(HealthAwareEnsemble()), Limits()
    suggested = suggest_rules(labelled, Adjustment(), how, expires=_FOREVER)
    rules = tuple(one.rule for one in suggested if not one.contradicted_by)
    return recalibrate(labelled, Adjustment(rules=rules), limits, how)


def held_out(watched: Watched, after: Labelled, adjustment: Adjustment) -> HeldOut:
    """Measure what an adjustment does to the alarms of the four weeks after the judged ones."""
    since = int(after.ends[-1])
    chosen: BoolArray = (watched.begins >= since) & (watched.begins < since + HELD_OUT_DAYS * 86400)
    later = watched.alarms.take(chosen)
    how = Deciding(HealthAwareEnsemble())
    raised = how.raised(later, adjustment)
    causes = [watched.causes[number] for number in later.label_ids]
    by_cause: dict[str, tuple[int, int]] = {}
    for cause, confirmed, still in zip(
        causes, later.confirmed.tolist(), raised.tolist(), strict=True
    ):
        if not confirmed:
            before, now = by_cause.get(cause, (0, 0))
            by_cause[cause] = (before + 1, now + still)
    return HeldOut(
        how.effect(later, Adjustment(), adjustment),
        len(adjustment.rules),
        adjustment.threshold,
        len(adjustment.trust),
        by_cause,
    )
