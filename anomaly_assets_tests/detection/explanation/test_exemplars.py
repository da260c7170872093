"""Labelled courses of events: what is remembered, and what it changes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_assets.detection.explanation.events import Event, EventSequence
from anomaly_assets.detection.explanation.exemplars import (
    KEPT_PER_NAME,
    Exemplar,
    ExemplarMemory,
)
from anomaly_assets.detection.explanation.matching import SequenceMatch, SequenceMatcher
from anomaly_assets.errors import InputError
from anomaly_assets_tests.detection.explanation import simulation

ACTION = "Ask whether it was intended."
EVERYTHING = frozenset(simulation.EVENTS)


def exemplar(*events: tuple[str, float], name: str = "sauna", **changes: Any) -> Exemplar:
    return replace(Exemplar(name, name.capitalize(), events, ACTION), **changes)


def sequence(*at: tuple[str, int]) -> EventSequence:
    events = [Event(name, minute, simulation.STREAM_OF[name], 6.0, minute) for name, minute in at]
    return EventSequence(events=tuple(events), observable=EVERYTHING)


def match(name: str, observed: EventSequence, memory: ExemplarMemory | None) -> SequenceMatch:
    matches = SequenceMatcher(simulation.TEMPLATES, memory).match(observed)
    return next(m for m in matches if m.template.name == name)


SAUNA = (("temperature_increase", 0.0), ("heart_rate_spike", 10.0), ("screen_off", 1.0))

exemplars = st.builds(
    lambda name, events, count: exemplar(*events, name=name, count=count),
    st.sampled_from(["sauna", "stress", "fall"]),
    st.lists(
        st.tuples(st.sampled_from(simulation.EVENTS), st.floats(0.0, 60.0)), min_size=1, max_size=6
    ),
    st.integers(1, 5),
)


def test_a_labelled_sequence_becomes_an_exemplar() -> None:
    """Minutes count from the first event; states stand at 0; what comes too late is left out."""
    observed = replace(
        sequence(("temperature_increase", 12), ("heart_rate_spike", 20), ("screen_off", 90)),
        states=frozenset({"normal_state"}),
    )
    made = Exemplar.of(observed, name="sauna", title="Sauna", recommended_action=ACTION)
    assert made.events == (
        ("normal_state", 0.0),
        ("temperature_increase", 0.0),
        ("heart_rate_spike", 8.0),
    )


def test_nothing_happened_is_nothing_to_remember() -> None:
    """A sequence without events is refused."""
    with pytest.raises(InputError, match="nothing happened in the sequence labelled 'sauna'"):
        Exemplar.of(EventSequence(), name="sauna", title="Sauna", recommended_action=ACTION)


def test_a_name_of_the_labellers_own_is_recognised_again() -> None:
    """Three labelled courses are enough to call the fourth by its name."""
    memory = ExemplarMemory([exemplar(*SAUNA, count=3)])
    seen = sequence(("temperature_increase", 5), ("screen_off", 6), ("heart_rate_spike", 15))
    best = SequenceMatcher(simulation.TEMPLATES, memory).match(seen)[0]
    assert best.template.name == "sauna"
    assert best.template.recommended_action == ACTION
    assert best.similarity > 0.95


def test_what_holds_in_most_courses_is_not_what_a_label_is_recognised_by() -> None:
    """Calm before a sudden change of several streams alone is not the labelled course."""
    general = (("normal_state", 0.0), ("sudden_anomaly", 0.0), ("multiple_streams_affected", 2.0))
    memory = ExemplarMemory([exemplar(*SAUNA, *general)])
    seen = sequence(("accel_increase", 5), ("gps_movement", 6))
    summaries = (
        replace(seen.events[0], name="sudden_anomaly"),
        replace(seen.events[1], name="multiple_streams_affected"),
    )
    seen = replace(
        seen,
        events=(*seen.events, *summaries),
        states=frozenset({"normal_state"}),
        observable=EVERYTHING | {name for name, _ in general},
    )
    assert match("sauna", seen, memory).similarity < 0.2


def test_labels_add_to_the_template_of_their_name() -> None:
    """A course like labelled ones has more evidence; the similarity stays the template's."""
    seen = sequence(("speech_increase", 3), ("heart_rate_spike", 6), ("breathing_increase", 7))
    labelled = exemplar(
        ("speech_increase", 0.0),
        ("heart_rate_spike", 3.0),
        ("breathing_increase", 4.0),
        name="stress",
    )
    before = match("stress", seen, None)
    few = match("stress", seen, ExemplarMemory([labelled]))
    many = match("stress", seen, ExemplarMemory([replace(labelled, count=9)]))
    assert before.recalled == pytest.approx(0.0)
    assert before.evidence < few.evidence < many.evidence
    assert before.similarity == few.similarity == many.similarity


def test_an_empty_memory_changes_nothing() -> None:
    """Without labels a matcher is one of templates."""
    seen = sequence(("accel_increase", 3), ("gps_movement", 5))
    plain = SequenceMatcher(simulation.TEMPLATES).match(seen)
    assert SequenceMatcher(simulation.TEMPLATES, ExemplarMemory()).match(seen) == plain


@given(st.lists(exemplars, max_size=12))
def test_a_memory_survives_a_round_trip(learnt: list[Exemplar]) -> None:
    """As JSON and back it is the same."""
    memory = ExemplarMemory(learnt)
    again = ExemplarMemory.from_dict(json.loads(json.dumps(memory.to_dict())))
    assert again.exemplars == memory.exemplars


@given(st.lists(exemplars, max_size=12))
def test_recalling_never_speaks_against(learnt: list[Exemplar]) -> None:
    """Labels of other courses leave a template no less evidence than it has by itself."""
    seen = sequence(("accel_increase", 3), ("gps_movement", 5), ("heart_rate_spike", 9))
    found = SequenceMatcher(simulation.TEMPLATES, ExemplarMemory(learnt)).match(seen)
    assert all(one.recalled >= 0.0 and 0.0 <= one.similarity <= 1.0 for one in found)
    assert len(found) == len({*(t.name for t in simulation.TEMPLATES), *(e.name for e in learnt)})


def test_the_same_course_again_adds_to_the_count() -> None:
    """Within a minute it is the same; two minutes later it is another."""
    memory = ExemplarMemory([exemplar(*SAUNA)])
    memory.learn(exemplar(SAUNA[0], ("heart_rate_spike", 11.0), SAUNA[2]))
    assert [one.count for one in memory.exemplars] == [2]
    memory.learn(exemplar(SAUNA[0], ("heart_rate_spike", 12.5), SAUNA[2]))
    assert [one.count for one in memory.exemplars] == [2, 1]


def test_the_rarest_old_exemplars_are_forgotten_first() -> None:
    """A full name keeps what recurred and what is new."""
    memory = ExemplarMemory([exemplar(("screen_on", 0.0), count=2)])
    for offset in range(KEPT_PER_NAME):
        memory.learn(exemplar(("screen_on", 0.0), ("app_increase", 1.9 * offset)))
    assert len(memory.exemplars) == KEPT_PER_NAME
    assert memory.exemplars[0].count == 2
    assert memory.exemplars[1].events[1][1] == pytest.approx(1.9)
    assert memory.exemplars[-1].events[1][1] == pytest.approx(1.9 * (KEPT_PER_NAME - 1))


def test_a_name_can_be_forgotten() -> None:
    """A label that is undone takes its exemplars with it."""
    memory = ExemplarMemory([exemplar(*SAUNA), exemplar(*SAUNA, name="stress")])
    assert memory.forget("sauna") == 1
    assert [one.name for one in memory.exemplars] == ["stress"]
    assert memory.forget("sauna") == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Hot Sauna"}, "'Hot Sauna' is no name"),
        ({"events": ()}, "has no events"),
        ({"events": (("screen_on", 61.0),)}, "'screen_on' comes after 61.0 minutes"),
        ({"events": (("screen_on", float("nan")),)}, "comes after nan minutes"),
        ({"count": 0}, "has count 0"),
        ({"recommended_action": "?"}, "what to do about it"),
    ],
)
def test_unusable_exemplars_are_refused(changes: dict[str, Any], message: str) -> None:
    """Each message names the exemplar and what is wrong."""
    with pytest.raises(InputError, match=message):
        exemplar(*SAUNA, **changes)


@pytest.mark.parametrize(
    "plain", [{}, {"version": 1}, {"version": 2, "exemplars": []}, {"version": 1, "exemplars": [3]}]
)
def test_what_is_no_memory_is_refused(plain: dict[str, Any]) -> None:
    """Other versions and other data say that they are."""
    with pytest.raises(InputError, match="exemplars"):
        ExemplarMemory.from_dict(plain)
