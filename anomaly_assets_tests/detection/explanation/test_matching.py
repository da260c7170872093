"""Alignment with templates: bounds, identity, missing streams, accuracy."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_assets.detection.explanation.events import STATES, Event, EventSequence
from anomaly_assets.detection.explanation.matching import SequenceMatch, SequenceMatcher
from anomaly_assets.streams.catalogue import SequenceTemplate
from anomaly_assets_tests.detection.explanation import simulation
from anomaly_assets_tests.detection.explanation.cases import CATALOGUE

MATCHER = SequenceMatcher(simulation.TEMPLATES)
LABELS = {template.name: i for i, template in enumerate(simulation.TEMPLATES)}
EVERYTHING = frozenset(simulation.EVENTS)

sequences = st.lists(
    st.tuples(st.sampled_from(simulation.EVENTS), st.integers(0, 30)), max_size=12
).map(lambda pairs: sequence(*pairs))
streams_missing = st.sets(st.integers(0, simulation.N_STREAMS - 1))


def sequence(*at: tuple[str, int], observable: frozenset[str] = EVERYTHING) -> EventSequence:
    events = [
        Event(name, minute, simulation.STREAM_OF.get(name, 0), 5.0, minute) for name, minute in at
    ]
    events.sort(key=lambda event: (event.minute, event.name))
    return EventSequence(events=tuple(events), observable=observable)


def match(template: str, observed: EventSequence) -> SequenceMatch:
    return next(m for m in MATCHER.match(observed) if m.template.name == template)


def of(template: SequenceTemplate, start: int = 3) -> EventSequence:
    return sequence(*((s.event, start + int(s.offset_minutes)) for s in template.steps))


@pytest.mark.parametrize("template", simulation.TEMPLATES, ids=lambda t: t.name)
@pytest.mark.parametrize("start", [0, 17])
def test_a_course_as_the_template_has_it_is_wholly_similar(
    template: SequenceTemplate, start: int
) -> None:
    """Identity is 1, wherever in time it lies, and no other template comes first."""
    best = MATCHER.match(of(template, start))[0]
    assert best.template == template
    assert best.similarity == pytest.approx(1.0)
    assert best.coverage == pytest.approx(1.0)
    assert len(best.matched) == len(template.steps)


@given(sequences, streams_missing)
def test_similarity_and_coverage_stay_in_bounds(observed: EventSequence, missing: set[int]) -> None:
    """Whatever is observed, both are shares."""
    observed = _without(observed, missing)
    for found in MATCHER.match(observed):
        assert 0.0 <= found.similarity <= 1.0
        assert 0.0 <= found.coverage <= 1.0


@given(sequences, streams_missing)
def test_what_cannot_be_observed_does_not_count_against_a_template(
    observed: EventSequence, missing: set[int]
) -> None:
    """A silent stream that is missing leaves the similarity as high, and covers less."""
    heard = {simulation.STREAM_OF[event.name] for event in observed.events}
    silent = _without(observed, missing - heard)
    for template in simulation.TEMPLATES:
        before, after = match(template.name, observed), match(template.name, silent)
        assert after.similarity >= before.similarity - 1e-12
        assert after.coverage <= before.coverage + 1e-12


@given(sequences)
def test_matching_is_deterministic_and_ordered(observed: EventSequence) -> None:
    """The same sequence gives the same matches, best first."""
    found = MATCHER.match(observed)
    assert found == MATCHER.match(observed)
    assert sorted((m.evidence for m in found), reverse=True) == [m.evidence for m in found]


@given(st.integers(0, 25))
def test_similarity_falls_with_distance_from_the_expected_lag(delay: int) -> None:
    """The later the heart follows beyond its offset, the less it is exercise."""

    def similarity(lag: int) -> float:
        run = (("accel_increase", 2), ("screen_off", 3), ("gps_movement", 4))
        return match("exercise", sequence(*run, ("heart_rate_spike", 6 + lag))).similarity

    assert similarity(delay + 1) <= similarity(delay) + 1e-12


def test_events_within_a_minute_have_no_order() -> None:
    """A tie turned round costs only its lag; beyond a minute the order counts."""
    template = SequenceTemplate.model_validate(
        {
            "name": "pair",
            "title": "Pair",
            "steps": [{"event": "a"}, {"event": "b", "offset_minutes": 1}],
            "recommended_action": "Nothing to do.",
        }
    )
    matcher = SequenceMatcher((template,))
    seen = frozenset({"a", "b"})
    tie = matcher.match(sequence(("b", 4), ("a", 5), observable=seen))[0]
    turned = matcher.match(sequence(("b", 3), ("a", 5), observable=seen))[0]
    assert len(tie.matched) == 2
    assert len(turned.matched) == 1
    assert tie.similarity > 0.9 > turned.similarity


def test_a_coarse_onset_widens_the_tie() -> None:
    """A stream with one reading in five minutes cannot tell the order within them."""
    coarse = of(simulation.TEMPLATES[0])
    late = tuple(
        replace(e, minute=e.minute + 4, resolution=5) if e.name == "accel_increase" else e
        for e in coarse.events
    )
    ordered = tuple(sorted(late, key=lambda event: event.minute))
    assert len(match("exercise", replace(coarse, events=ordered)).matched) == 4


def test_a_forbidden_event_counts_against_a_template() -> None:
    """Stress with movement is less stress."""
    stress = of(simulation.TEMPLATES[1])
    moved = sequence(*((e.name, e.minute) for e in stress.events), ("accel_increase", 4))
    found = match("stress", moved)
    assert found.forbidden == ("accel_increase",)
    assert found.similarity < match("stress", stress).similarity - 0.1


def test_calm_alone_is_no_course_of_events() -> None:
    """States without any event of the template's own give no similarity."""
    calm = EventSequence(states=STATES, observable=frozenset({"heart_rate_spike"}) | STATES)
    found = SequenceMatcher(CATALOGUE.templates).match(calm)
    assert [m.similarity for m in found] == [0.0, 0.0]


def test_no_events_and_no_templates_are_no_error() -> None:
    """Nothing observed matches nothing; without templates there are no matches."""
    assert all(m.similarity == 0.0 for m in MATCHER.match(EventSequence()))
    assert SequenceMatcher(()).match(sequence(("accel_increase", 1))) == ()


def decide(observed: EventSequence) -> int:
    """Name the class of the best match."""
    return LABELS[MATCHER.match(observed)[0].template.name]


@pytest.mark.parametrize(("missing", "at_least"), [(0.0, 0.85), (0.25, 0.77), (0.5, 0.64)])
def test_simulated_courses_are_told_apart(missing: float, at_least: float) -> None:
    """Alignment names the right one of six courses, far more often than Levenshtein distance."""
    courses = simulation.simulate(1000, missing, seed=11)
    plain = simulation.accuracy(simulation.levenshtein_decision, courses)
    accuracy = simulation.accuracy(decide, courses)
    assert accuracy >= at_least
    assert accuracy >= plain + 0.07


def _without(observed: EventSequence, missing: set[int]) -> EventSequence:
    return EventSequence(
        events=tuple(e for e in observed.events if e.stream not in missing),
        observable=frozenset(
            name for name in EVERYTHING if simulation.STREAM_OF[name] not in missing
        ),
    )
