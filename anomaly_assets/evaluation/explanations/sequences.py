"""How often a simulated course of events is recognised, from minutes to its name.

Ten streams are simulated by the minute for an hour and a half: noise with a memory, in the last
half hour one of six courses with jittered onsets and other heights each time, steps that fail to
show, and stray events of other courses. What follows is what explanations do: baseline, excursions
by hysteresis, sequence, matching. The difficulty is set so that Levenshtein distance between lists
of event names, the plain way, recognises about 0.76 / 0.65 / 0.54 of the courses with 0 / 25 / 50 %
of the streams missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from anomaly_assets.detection.explanation.events import (
    EventNames,
    EventSequence,
    find_excursions,
    robust_baseline,
    sequence_of,
)
from anomaly_assets.detection.explanation.exemplars import Exemplar, ExemplarMemory
from anomaly_assets.detection.explanation.matching import SequenceMatcher
from anomaly_assets.errors import EvaluationError
from anomaly_assets.streams.catalogue import Catalogue, SequenceTemplate
from anomaly_assets.streams.windows import BoolArray, FloatArray

#: Shares of the streams that are missing, by the name of the figure.
MISSING = {"0": 0.0, "25": 0.25, "50": 0.5}
#: Courses drawn for each seed and share.
COURSES = 300
#: Minutes before anything happens, and minutes in which it does.
CALM, SPAN = 60, 30
#: Minutes before the span that are not trusted to be calm.
SUSPECT = 10
#: Probability that a step of a course happens, and deviation of its onset in minutes.
SHOWS, JITTER = 0.92, 2.0
#: Minute of the span in which a course begins, and deviation of a person's habits, in minutes.
FIRST, HABIT = 8.0, 3.0
#: Median height of an event in scales, and the deviation of its logarithm.
HEIGHT, SPREAD = 7.0, 0.45
#: Mean number of stray events in the span.
STRAY = 1.5
#: Dependence of a minute's noise on the minute before.
MEMORY = 0.5

#: Events of each stream: a rise, a fall.
_STREAMS = {
    "accel": ("accel_increase", "accel_decrease"),
    "gps": ("gps_movement", None),
    "heart": ("heart_rate_spike", None),
    "screen": ("screen_on", "screen_off"),
    "speech": ("speech_increase", None),
    "breathing": ("breathing_increase", None),
    "temperature": ("temperature_increase", None),
    "light": ("light_increase", None),
    "audio": ("audio_increase", None),
    "app": ("app_increase", None),
}
#: Steps (event, minute, weight) and forbidden events; several share events and differ in order or
#: delay only.
_COURSES: dict[str, tuple[tuple[tuple[str, float, float], ...], tuple[str, ...]]] = {
    "exercise": (
        (
            ("accel_increase", 0, 1.0),
            ("gps_movement", 2, 1.0),
            ("heart_rate_spike", 4, 1.5),
            ("screen_off", 1, 0.5),
        ),
        (),
    ),
    "stress": (
        (
            ("speech_increase", 0, 0.75),
            ("heart_rate_spike", 3, 1.5),
            ("breathing_increase", 4, 1.0),
        ),
        ("accel_increase", "gps_movement"),
    ),
    "medical": (
        (
            ("heart_rate_spike", 0, 1.5),
            ("accel_decrease", 2, 1.0),
            ("breathing_increase", 3, 0.75),
            ("temperature_increase", 8, 1.0),
        ),
        ("gps_movement",),
    ),
    "commute": (
        (
            ("gps_movement", 0, 1.5),
            ("accel_increase", 2, 0.75),
            ("light_increase", 3, 0.75),
            ("audio_increase", 4, 0.75),
        ),
        ("heart_rate_spike",),
    ),
    "phone_in_the_night": (
        (("screen_on", 0, 1.5), ("light_increase", 1, 1.0), ("app_increase", 3, 1.0)),
        ("gps_movement",),
    ),
    "fall": (
        (
            ("accel_increase", 0, 1.5),
            ("accel_decrease", 3, 1.0),
            ("heart_rate_spike", 5, 1.0),
            ("audio_increase", 1, 0.5),
        ),
        ("gps_movement",),
    ),
}


def _catalogue() -> Catalogue:
    return Catalogue.model_validate(
        {
            "name": "courses",
            "groups": [{"id": "motion"}, {"id": "other"}],
            "streams": [
                {
                    "id": stream,
                    "type": "continuous_noisy",
                    "group": "motion" if stream in {"accel", "gps"} else "other",
                    "increase_event": rise,
                    "decrease_event": fall,
                }
                for stream, (rise, fall) in _STREAMS.items()
            ],
            "templates": [
                {
                    "name": name,
                    "title": name.replace("_", " ").capitalize(),
                    "steps": [
                        {"event": event, "offset_minutes": minute, "weight": weight}
                        for event, minute, weight in steps
                    ],
                    "forbidden": forbidden,
                    "recommended_action": f"Ask whether {name.replace('_', ' ')} explains it.",
                }
                for name, (steps, forbidden) in _COURSES.items()
            ],
        }
    )


#: Ten streams and six courses.
CATALOGUE = _catalogue()
TEMPLATES: tuple[SequenceTemplate, ...] = CATALOGUE.templates
_NAMES = EventNames.of(CATALOGUE)
_N_STREAMS = len(CATALOGUE.streams)
#: Stream and direction of every event.
EVENTS: dict[str, tuple[int, float]] = {
    event: (position, sign)
    for position, events in enumerate(_STREAMS.values())
    for event, sign in zip(events, (1.0, -1.0), strict=True)
    if event is not None
}


@dataclass(frozen=True)
class Course:
    """One simulated course: its class, a position in :data:`TEMPLATES`, and what was seen of it."""

    label: int
    sequence: EventSequence


@dataclass(frozen=True)
class Habits:
    """How the courses of one person go: for each class, the event and minute of every step."""

    steps: tuple[tuple[tuple[str, float], ...], ...]

    @classmethod
    def usual(cls) -> Habits:
        """Courses as the templates have them."""
        return cls(tuple(tuple((s.event, s.offset_minutes) for s in t.steps) for t in TEMPLATES))

    @classmethod
    def of_a_person(cls, rng: np.random.Generator) -> Habits:
        """Courses that depart from the templates always in the same way.

        Steps come up to some minutes earlier or later, one of them never comes, and an event that
        the template does not know always does.
        """
        events = list(EVENTS)
        courses = []
        for template in TEMPLATES:
            steps = [(s.event, s.offset_minutes + rng.normal(0.0, HABIT)) for s in template.steps]
            del steps[int(rng.integers(len(steps)))]
            steps.append((str(rng.choice(events)), rng.uniform(0.0, 10.0)))
            courses.append(tuple(steps))
        return cls(tuple(courses))


def simulate_courses(
    n: int, missing: float, rng: np.random.Generator, *, habits: Habits | None = None
) -> list[Course]:
    """Simulate courses of events and detect their events.

    Parameters
    ----------
    n
        Number of courses.
    missing
        Share of the streams that are missing from each, in [0, 1].
    rng
        Where chance comes from.
    habits
        How the courses go, by default as the templates have them.

    Raises
    ------
    EvaluationError
        If the share is none.
    """
    steps = (habits or Habits.usual()).steps
    if not 0.0 <= missing <= 1.0:
        msg = f"a share of {missing} of the streams cannot be missing; give 0 to 1"
        raise EvaluationError(msg)
    found = []
    for _ in range(n):
        label = int(rng.integers(len(TEMPLATES)))
        unit, level = 10.0 ** rng.uniform(-2.0, 3.0, _N_STREAMS), rng.normal(0.0, 20.0, _N_STREAMS)
        minutes = unit * (_minutes(steps[label], rng) + level)
        minutes[:, rng.permutation(_N_STREAMS)[: round(missing * _N_STREAMS)]] = np.nan
        found.append(Course(label, detect_sequence(minutes, unit * level, unit)))
    return found


def _minutes(steps: tuple[tuple[str, float], ...], rng: np.random.Generator) -> FloatArray:
    """One-minute values of one course, in scales around the level."""
    n_minutes = CALM + SPAN
    values = rng.standard_normal((n_minutes, _N_STREAMS)) * np.sqrt(1.0 - MEMORY**2)
    for minute in range(1, n_minutes):
        values[minute] += MEMORY * values[minute - 1]
    happening = [
        (event, FIRST + offset + rng.normal(0.0, JITTER))
        for event, offset in steps
        if rng.random() < SHOWS
    ]
    strays = rng.choice(list(EVENTS), rng.poisson(STRAY))
    happening += [(str(event), rng.uniform(0.0, SPAN)) for event in strays]
    for event, onset in happening:
        stream, sign = EVENTS[event]
        values[:, stream] += sign * _pulse(CALM + onset, rng)
    return values


def _pulse(onset: float, rng: np.random.Generator) -> FloatArray:
    """Rise within one to three minutes, stay for four to twelve, fall."""
    height = HEIGHT * np.exp(SPREAD * rng.standard_normal())
    rise, stay = rng.uniform(1.0, 3.0), rng.uniform(4.0, 12.0)
    since = np.arange(CALM + SPAN) + 0.5 - onset
    pulse: FloatArray = height * np.clip(np.minimum(since, rise + stay + rise - since) / rise, 0, 1)
    return pulse


def detect_sequence(minutes: FloatArray, level: FloatArray, scale: FloatArray) -> EventSequence:
    """Detect the events of the last half hour, as explanations do.

    Parameters
    ----------
    minutes
        One-minute values of the ten streams, shape ``(90, 10)``; NaN where missing.
    level, scale
        What tier 1 knows of each stream, shape ``(10,)``.
    """
    level, scale = robust_baseline(minutes, CALM - SUSPECT, level, scale)
    hold = np.full(_N_STREAMS, 5, dtype=np.int64)
    excursions = find_excursions(minutes, level, scale, _NAMES, hold)
    observed: BoolArray = np.isfinite(minutes[CALM:]).any(axis=0) & (scale > 0.0)
    return sequence_of(excursions, observed, _NAMES, (CALM, CALM + SPAN))


def accuracy(decide: Callable[[EventSequence], int], courses: list[Course]) -> float:
    """Share of the courses whose class `decide` names."""
    return sum(decide(course.sequence) == course.label for course in courses) / len(courses)


def decide_by(matcher: SequenceMatcher) -> Callable[[EventSequence], int]:
    """Decide for the best match of a matcher."""
    labels = {template.name: label for label, template in enumerate(TEMPLATES)}
    return lambda sequence: labels[matcher.match(sequence)[0].template.name]


def measure_sequences(
    seeds: Iterable[int], *, labelled: int = 0, personal: bool = False
) -> dict[str, float]:
    """Measure how many courses are recognised.

    Parameters
    ----------
    seeds
        Each gives :data:`COURSES` courses for every share of missing streams.
    labelled
        Courses that were labelled before, with the same share of the streams missing; none of them
        is among those that are counted.
    personal
        Whether each seed is a person with habits of their own, see :meth:`Habits.of_a_person`.

    Returns
    -------
    dict
        Accuracy by the percentage of missing streams, ``"0"``, ``"25"`` and ``"50"``.

    Raises
    ------
    EvaluationError
        If there are no seeds, or the number of labelled courses is negative.
    """
    wanted = tuple(seeds)
    if not wanted or labelled < 0:
        msg = f"{len(wanted)} seeds, {labelled} labelled courses: give at least 1 and at least 0"
        raise EvaluationError(msg)
    found = {}
    for number, (name, missing) in enumerate(MISSING.items()):
        rights = []
        for seed in wanted:
            rng = np.random.default_rng([seed, number])
            habits = Habits.of_a_person(rng) if personal else Habits.usual()
            courses = simulate_courses(COURSES, missing, rng, habits=habits)
            memory = learn(simulate_courses(labelled, missing, rng, habits=habits))
            rights.append(accuracy(decide_by(SequenceMatcher(TEMPLATES, memory)), courses))
        found[name] = float(np.mean(rights))
    return found


def learn(courses: Iterable[Course]) -> ExemplarMemory:
    """Remember courses as if somebody had labelled them; those without any event teach nothing."""
    return ExemplarMemory(
        Exemplar.of(
            course.sequence,
            name=TEMPLATES[course.label].name,
            title=TEMPLATES[course.label].title,
            recommended_action=TEMPLATES[course.label].recommended_action,
        )
        for course in courses
        if course.sequence.events
    )
