"""Six courses of events, simulated: the yardstick for sequence matching.

Every course is drawn with jittered onsets, events that fail to show, stray events of other courses
and streams that are missing altogether. The difficulty is set by the plain baseline, Levenshtein
distance between lists of names, which names about 0.75 / 0.67 / 0.52 of the courses rightly with
0 / 25 / 50 % of the streams missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from anomaly_assets.detection.explanation.events import Event, EventSequence
from anomaly_assets.evaluation.explanations import sequences

#: Templates over ten streams; several share events and differ in order or delay only.
TEMPLATES = sequences.TEMPLATES

#: Which stream gives an event; the names of one stream go missing together.
STREAM_OF = {
    "accel_increase": 0,
    "accel_decrease": 0,
    "gps_movement": 1,
    "heart_rate_spike": 2,
    "screen_on": 3,
    "screen_off": 3,
    "speech_increase": 4,
    "breathing_increase": 5,
    "temperature_increase": 6,
    "light_increase": 7,
    "audio_increase": 8,
    "app_increase": 9,
}
N_STREAMS = 10
EVENTS = tuple(STREAM_OF)


@dataclass(frozen=True)
class Course:
    """One simulated course: its class (position in :data:`TEMPLATES`) and what was seen of it."""

    label: int
    sequence: EventSequence


def simulate(n: int, missing: float, seed: int) -> list[Course]:
    """Draw `n` courses with the given share of the streams missing."""
    rng = np.random.default_rng(seed)
    return [_draw(int(rng.integers(len(TEMPLATES))), missing, rng) for _ in range(n)]


def _draw(label: int, missing: float, rng: np.random.Generator) -> Course:
    absent = set(rng.permutation(N_STREAMS)[: round(missing * N_STREAMS)].tolist())
    events = [
        (step.event, 10.0 + step.offset_minutes + rng.normal(0.0, JITTER))
        for step in TEMPLATES[label].steps
        if rng.random() < SHOWS
    ]
    events += [
        (EVENTS[rng.integers(len(EVENTS))], rng.uniform(0.0, 30.0))
        for _ in range(rng.poisson(STRAY))
    ]
    seen = [
        Event(name, int(at), STREAM_OF[name], 5.0, int(at))
        for name, at in events
        if STREAM_OF[name] not in absent
    ]
    return Course(
        label,
        EventSequence(
            events=tuple(sorted(seen, key=lambda event: (event.minute, event.name))),
            observable=frozenset(n for n, stream in STREAM_OF.items() if stream not in absent),
        ),
    )


#: Probability that a step of the course shows at all.
SHOWS = 0.85
#: Standard deviation of an onset, minutes.
JITTER = 2.0
#: Mean number of stray events in the half hour.
STRAY = 2.0


def accuracy(decide: Callable[[EventSequence], int], courses: list[Course]) -> float:
    """Share of the courses whose class `decide` names."""
    return sum(decide(c.sequence) == c.label for c in courses) / len(courses)


def levenshtein_decision(sequence: EventSequence) -> int:
    """Name the template with the smallest normalised Levenshtein distance."""
    observed = [event.name for event in sequence.events]
    distances = []
    for template in TEMPLATES:
        steps = sorted(template.steps, key=lambda step: step.offset_minutes)
        expected = [step.event for step in steps]
        distances.append(_levenshtein(observed, expected) / max(len(observed), len(expected)))
    return distances.index(min(distances))


def _levenshtein(one: list[str], other: list[str]) -> int:
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, start=1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(other, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]
