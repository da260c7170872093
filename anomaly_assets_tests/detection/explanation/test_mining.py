"""Courses of events that recur: what is found among many sequences."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from anomaly_assets.detection.explanation.events import Event, EventSequence
from anomaly_assets.detection.explanation.matching import SequenceMatcher
from anomaly_assets.detection.explanation.mining import frequent_sequences
from anomaly_assets.errors import InputError
from anomaly_assets_tests.detection.explanation import simulation


def sequence(*at: tuple[str, int], start: int = 0) -> EventSequence:
    events = [Event(name, start + minute, 0, 6.0, start + minute) for name, minute in at]
    events.sort(key=lambda event: (event.minute, event.name))
    return EventSequence(events=tuple(events), observable=frozenset(simulation.EVENTS))


SAUNA = [
    sequence(("temperature_increase", 0), ("heart_rate_spike", 9 + n % 3), start=n)
    for n in range(6)
]
OTHERS = [sequence((simulation.EVENTS[n], 3)) for n in range(8)]

many = st.lists(
    st.lists(st.tuples(st.sampled_from(simulation.EVENTS), st.integers(0, 40)), max_size=5).map(
        lambda at: sequence(*at)
    ),
    max_size=15,
)


def test_what_recurs_is_found_with_its_delay() -> None:
    """Two events that come ten minutes apart, wherever in time, among sequences without them."""
    (pattern,) = frequent_sequences([*SAUNA, *OTHERS])
    assert pattern.events == ("temperature_increase", "heart_rate_spike")
    assert pattern.offsets == (0.0, 10.0)
    assert pattern.count == 6
    assert pattern.support == pytest.approx(6 / 14)
    assert pattern.lift > 1.5


def test_a_pattern_becomes_a_template_that_matches() -> None:
    """What was suggested can be put into the catalogue and recognises its own course."""
    (pattern,) = frequent_sequences([*SAUNA, *OTHERS])
    template = pattern.to_template(
        name="sauna", title="Sauna", recommended_action="Drink some water afterwards."
    )
    best = SequenceMatcher((*simulation.TEMPLATES, template)).match(SAUNA[1])[0]
    assert best.template == template
    assert best.similarity > 0.95
    with pytest.raises(ValidationError):
        pattern.to_template(name="Sauna!", title="Sauna", recommended_action="Drink some water.")


def test_events_of_one_minute_have_no_order() -> None:
    """Ties in either order are one pattern."""
    turned = [sequence(("screen_on", n % 2), ("app_increase", 1 - n % 2)) for n in range(8)]
    (pattern,) = frequent_sequences([*turned, *OTHERS])
    assert set(pattern.events) == {"screen_on", "app_increase"}
    assert pattern.count == 8


def test_only_the_longest_pattern_is_told() -> None:
    """Parts of a pattern with the same support are no news of their own."""
    three = [
        sequence(("screen_on", 0), ("light_increase", 4), ("app_increase", 9)) for _ in range(6)
    ]
    assert [pattern.events for pattern in frequent_sequences([*three, *OTHERS])] == [
        ("screen_on", "light_increase", "app_increase")
    ]


def test_known_courses_are_not_suggested_again() -> None:
    """What a template says already is left out."""
    run = [sequence(("accel_increase", 0), ("gps_movement", 2)) for _ in range(6)]
    assert frequent_sequences([*run, *OTHERS])
    assert frequent_sequences([*run, *OTHERS], known=simulation.TEMPLATES) == ()


def test_common_events_do_not_make_a_pattern() -> None:
    """Two events that are common, but come together no oftener than by chance, are none."""
    names = ("screen_on", "audio_increase")
    chance = [
        sequence(*((name, 5) for bit, name in enumerate(names) if n >> bit & 1)) for n in range(40)
    ]
    assert frequent_sequences(chance, min_support=0.1) == ()


def test_events_far_apart_are_no_course() -> None:
    """Beyond the given minutes one event does not follow the other."""
    far = [sequence(("screen_on", 0), ("app_increase", 20)) for _ in range(6)]
    assert frequent_sequences([*far, *OTHERS], within_minutes=15.0) == ()
    assert len(frequent_sequences([*far, *OTHERS], within_minutes=20.0)) == 1


@settings(max_examples=60, deadline=None)
@given(many, st.integers(0, 500), st.randoms(use_true_random=False))
def test_neither_time_nor_order_of_the_sequences_matters(
    sequences: list[EventSequence], later: int, random: object
) -> None:
    """Sequences at another time, in another order, have the same patterns within their bounds."""
    found = frequent_sequences(sequences)
    moved = [sequence(*((e.name, e.minute + later) for e in s.events)) for s in sequences]
    random.shuffle(moved)  # type: ignore[attr-defined]
    assert frequent_sequences(moved) == found
    for pattern in found:
        assert 3 <= pattern.count <= len(sequences)
        assert 0.0 < pattern.support <= 1.0
        assert 2 <= len(pattern.events) == len(set(pattern.events))
        assert pattern.offsets[0] == pytest.approx(0.0)
        assert list(pattern.offsets) == sorted(pattern.offsets)


def test_few_sequences_have_no_patterns() -> None:
    """Nothing, or less than three of a kind, recurs."""
    assert frequent_sequences([]) == ()
    assert frequent_sequences([EventSequence()] * 5) == ()
    assert frequent_sequences(SAUNA[:2]) == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_support": 0.0}, "min_support is 0.0"),
        ({"max_length": 1}, "max_length is 1"),
        ({"within_minutes": 90.0}, "within_minutes is 90.0"),
    ],
)
def test_unusable_settings_are_refused(settings: dict[str, float], message: str) -> None:
    """Messages say which setting, and its range."""
    with pytest.raises(InputError, match=message):
        frequent_sequences(SAUNA, **settings)  # type: ignore[arg-type]
