"""The templates of the shipped catalogues: each is recognised when it happens."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_assets.detection.explanation.events import (
    STATES,
    SUMMARIES,
    EventNames,
    find_excursions,
    robust_baseline,
    sequence_of,
)
from anomaly_assets.detection.explanation.matching import SequenceMatch, SequenceMatcher
from anomaly_assets.streams.catalogue import Catalogue, SequenceTemplate
from anomaly_assets.streams.loading import load_catalogue

CALM, SPAN = 60, 30
CASES = [
    (load_catalogue(name), template)
    for name in ("default", "extrasensory", "fitbit1")
    for template in load_catalogue(name).templates
]


def played(
    catalogue: Catalogue, template: SequenceTemplate, seed: int = 0
) -> tuple[SequenceMatch, ...]:
    """Let the steps of a template happen, minute by minute, and match what is seen of them."""
    names = EventNames.of(catalogue)
    rng = np.random.default_rng(seed)
    n_streams = len(catalogue.streams)
    minutes = rng.normal(0.0, 0.8, (CALM + SPAN, n_streams))
    timed = [step for step in template.steps if step.event not in STATES]
    happening = [(s.event, s.offset_minutes) for s in timed if s.event not in SUMMARIES]
    if not happening:
        # Only summaries: three streams of different groups fall off at once.
        first = [int(np.flatnonzero(catalogue.group_of_stream == g)[0]) for g in (0, 1)]
        happening = [(names.decrease[i], 0.0) for i in (*first, n_streams - 1)]
    for event, offset in happening:
        rising = event in names.increase
        stream = (names.increase if rising else names.decrease).index(event)
        minutes[CALM + 8 + int(offset) :, stream] += 9.0 if rising else -9.0
    zeros, ones = np.zeros(n_streams), np.ones(n_streams)
    level, scale = robust_baseline(minutes, CALM - 10, zeros, ones)
    hold = np.full(n_streams, 5)
    excursions = find_excursions(minutes, level, scale, names, hold)
    seen = np.ones(n_streams, dtype=bool)
    sequence = sequence_of(excursions, seen, names, (CALM, CALM + SPAN))
    return SequenceMatcher(catalogue.templates).match(sequence)


@pytest.mark.parametrize(
    ("catalogue", "template"), CASES, ids=[f"{c.name}-{t.name}" for c, t in CASES]
)
def test_every_template_is_the_best_match_of_its_own_course(
    catalogue: Catalogue, template: SequenceTemplate
) -> None:
    """What happens as the template says, on every stream at once, is called by its name."""
    best = played(catalogue, template)[0]
    assert best.template.name == template.name
    assert best.similarity > 0.8


def test_templates_cover_what_is_no_anomaly_of_the_person() -> None:
    """Besides exercise, stress and medical events: the device, its charge, journeys, faults."""
    names = {template.name for template in load_catalogue("default").templates}
    assert {"exercise", "stress", "medical"} <= names
    assert {"device_off", "watch_off", "charging", "travel", "sensor_fault"} <= names


@pytest.mark.parametrize(
    ("catalogue", "template"), CASES, ids=[f"{c.name}-{t.name}" for c, t in CASES]
)
def test_every_template_says_what_to_do(catalogue: Catalogue, template: SequenceTemplate) -> None:
    """An action is a sentence of its own, not an empty phrase."""
    assert catalogue.templates
    assert template.recommended_action.endswith(".")
    assert len(template.recommended_action.split()) >= 6
