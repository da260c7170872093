"""Explanations of whole windows: each kind of cause, and evidence full of holes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_assets.detection.explanation.causes import RECOMMENDED_ACTIONS, CauseKind
from anomaly_assets.detection.explanation.episodes import Episode
from anomaly_assets.detection.explanation.evidence import (
    CrossStreamRow,
    GapRow,
    IndividualRow,
    WindowEvidence,
)
from anomaly_assets.detection.explanation.explain import Explainer, Mode
from anomaly_assets.detection.explanation.record import Explanation, anomaly_id
from anomaly_assets.detection.explanation.triggers import Trigger
from anomaly_assets.errors import InputError
from anomaly_assets.streams.catalogue import Catalogue
from anomaly_assets_tests.detection.explanation.cases import (
    CATALOGUE,
    N_STREAMS,
    SCALE,
    USUAL,
    WINDOW,
    calm,
    calm_minutes,
    deviating,
    exercise,
    position,
    without,
)

FAST = Explainer(CATALOGUE)
THOROUGH = Explainer(CATALOGUE, mode=Mode.THOROUGH)
HEART = position("heart_rate")


def assert_sound(explanation: Explanation) -> None:
    """Check what holds for every record, whatever the evidence."""
    plain = json.loads(json.dumps(explanation.to_dict(), allow_nan=False))
    assert Explanation.from_dict(plain) == explanation
    attribution = explanation.causal_attribution
    assert sum(attribution.contributions.values()) + attribution.unexplained == pytest.approx(1.0)
    assert attribution.unexplained >= 0.0
    others = explanation.alternative_explanations
    total = explanation.primary_probability + sum(other.probability for other in others)
    assert total == pytest.approx(1.0)
    assert others[-1].cause == "other"
    assert 0.0 <= explanation.confidence <= 1.0
    assert len(explanation.recommended_action) > 8
    assert explanation.summary[0].isupper() or not explanation.summary[0].isalpha()
    assert explanation.summary.endswith(".")
    assert "nan" not in explanation.as_text().lower().split()


def gaps(group: int, score: float = 0.95, surprise: float = 3.0, **more: Any) -> GapRow:
    """Gap patterns in which one group is unusual."""
    group_score, surprises = np.full(4, 0.1), np.full(N_STREAMS, -0.1)
    group_score[group] = score
    surprises[CATALOGUE.group_of_stream == group] = surprise
    coordinated = np.zeros(4, dtype=bool)
    coordinated[group] = more.get("coordinated", False)
    return GapRow(score, group_score, coordinated, surprises)


def test_exercise_is_recognised_and_told_in_one_sentence() -> None:
    """The sentence names value, forecast, what came before, and the course of events it matches."""
    explanation = FAST.explain(exercise())
    assert explanation.cause_kind == CauseKind.SEQUENCE
    assert explanation.primary_cause == "Exercise"
    assert explanation.recommended_action == "Nothing: exercise explains it."
    assert explanation.summary.startswith(
        "At 10:35 heart rate was 148 bpm where 72 was expected, 3 minutes after accelerometer "
        "activity rose: this matches exercise ("
    )
    assert [entry.line for entry in explanation.temporal_sequence] == [
        "10:32 - accelerometer activity increased",
        "10:33 - GPS speed increased",
        "10:35 - heart rate increased",
    ]
    matched = explanation.evidence.matched_sequence
    assert matched is not None
    assert matched.similarity > 0.8
    assert matched.matched_events[-1] == "heart_rate_spike"
    assert explanation.confidence > 0.7
    assert_sound(explanation)


def test_a_heart_that_races_at_rest_is_stress() -> None:
    """Without movement the same spike matches another course of events."""
    minutes = calm_minutes()
    minutes[30:, HEART] = 120.0
    explanation = FAST.explain(deviating("heart_rate", by=16.0, minutes=minutes))
    assert explanation.primary_cause == "Stress without movement"
    assert explanation.recommended_action == "Suggest a break."
    assert_sound(explanation)


def test_minutes_after_the_window_are_not_looked_at() -> None:
    """What happens later cannot change an explanation."""
    evidence = exercise()
    assert evidence.minutes is not None
    later = np.concatenate((evidence.minutes, np.full((10, N_STREAMS), 500.0)))
    assert FAST.explain(replace(evidence, minutes=later)) == FAST.explain(evidence)


def test_a_missing_stream_leaves_its_steps_out() -> None:
    """Exercise without a position is recognised still, and says that it was not seen whole."""
    explanation = FAST.explain(without(exercise(), "gps_speed"))
    assert explanation.primary_cause == "Exercise"
    assert explanation.missing_streams == ("gps_speed",)
    matched = explanation.evidence.matched_sequence
    assert matched is not None
    assert matched.unobserved_events == ("gps_movement",)
    assert matched.coverage < 1.0


def test_a_spike_of_one_stream_says_that_it_was_alone() -> None:
    """One stream far from its forecast, and nothing around it."""
    explanation = FAST.explain(deviating("skin_temperature"))
    assert explanation.cause_kind == CauseKind.SPIKE
    assert explanation.summary == (
        "At 10:35 skin temperature was 34.6 where 33 was expected, and no other stream stood out."
    )
    assert list(explanation.causal_attribution.contributions) == ["skin_temperature"]
    assert explanation.evidence.streams[0].deviation == pytest.approx(8.0)


def test_a_level_shift_is_told_from_a_spike() -> None:
    """The same deviation that has lasted three windows is a new level, and says since when."""
    evidence = deviating("skin_temperature")
    assert evidence.history is not None
    history = evidence.history.copy()
    history[-2:, position("skin_temperature")] = 34.6
    explanation = FAST.explain(replace(evidence, history=history))
    assert explanation.cause_kind == CauseKind.LEVEL_SHIFT
    assert explanation.summary.startswith(
        "Skin temperature has been higher since 10:25: 34.6 after"
    )


def test_a_flat_line_is_a_stuck_sensor() -> None:
    """An odd score without a deviation, over values that never change."""
    evidence = deviating("heart_rate", by=0.0, minutes=None, minutes_start=None)
    assert evidence.history is not None
    history = evidence.history.copy()
    history[4:, HEART] = 72.0
    explanation = FAST.explain(replace(evidence, history=history))
    assert explanation.cause_kind == CauseKind.STUCK_SENSOR
    assert explanation.summary == (
        "Heart rate has not moved from 72 bpm for 45 min, which is unusual for it."
    )


def test_groups_that_fall_silent_together_hang_on_one_device() -> None:
    """Two groups of levels that stop in one window are one cause, not two that compete."""
    unusual = gaps(2, coordinated=True)
    unusual.group_score[0] = 0.95
    silent = ("accel_magnitude", "heart_rate", "skin_temperature")
    explanation = FAST.explain(without(calm(gaps=unusual), *silent))
    assert explanation.cause_kind == CauseKind.DEVICE_OFF
    assert explanation.cause_streams == silent
    assert explanation.primary_cause == "motion and biometric device off or not worn"


def test_noise_by_the_minute_is_no_medical_event() -> None:
    """Jumps of single minutes that no window shows are not several streams at once."""
    medical = {
        "name": "medical",
        "title": "Possible medical event",
        "steps": [
            {"event": "normal_state", "weight": 0.5},
            {"event": "sudden_anomaly", "offset_minutes": 5, "weight": 1.5},
            {"event": "multiple_streams_affected", "offset_minutes": 6, "weight": 1.5},
        ],
        "recommended_action": "Check on the person at once.",
    }
    catalogue = Catalogue.model_validate({**CATALOGUE.model_dump(), "templates": [medical]})
    minutes = calm_minutes()
    streams = ("accel_magnitude", "gps_speed", "skin_temperature", "heart_rate")
    for stream in streams:
        minutes[31, position(stream)] = USUAL[position(stream)] + 9.0 * SCALE[position(stream)]
    noise = Explainer(catalogue).explain(deviating("skin_temperature", minutes=minutes))
    assert noise.primary_cause == "spike of skin temperature"
    event = Explainer(catalogue).explain(deviating(*streams, minutes=minutes))
    assert event.primary_cause == "Possible medical event"
    assert noise.primary_probability > 0.5 < event.primary_probability


def test_a_stream_that_leaves_what_it_follows_is_a_broken_relationship() -> None:
    """In company of its relatives and with calm drivers; alone it would be a spike."""
    edges = [{"cause": "accel_magnitude", "effect": "heart_rate", "reason": "moving"}]
    plain = {**CATALOGUE.model_dump(), "templates": [], "causal_edges": edges}
    explainer = Explainer(Catalogue.model_validate(plain))
    explanation = explainer.explain(deviating("heart_rate", "skin_temperature"))
    assert explanation.cause_kind == CauseKind.RELATIONSHIP_BREAK
    assert explanation.cause_streams == ("heart_rate", "accel_magnitude")
    assert explanation.summary == (
        "At 10:35 heart rate was 96 bpm where 72 was expected, though accelerometer activity, "
        "which it follows, was as usual; skin temperature changed with it."
    )
    alone = explainer.explain(deviating("heart_rate"))
    assert (alone.cause_kind, alone.cause_streams) == (CauseKind.SPIKE, ("heart_rate",))
    moved = explainer.explain(deviating("heart_rate", "skin_temperature", "accel_magnitude"))
    assert moved.cause_kind != CauseKind.RELATIONSHIP_BREAK


def test_a_presence_is_unusual_still_when_it_has_lasted_for_a_while() -> None:
    """What the stream did before the episode counts, not the windows of the episode itself."""
    evidence = calm(gaps=gaps(3, 0.9), minutes=None, minutes_start=None)
    assert evidence.history is not None
    history = evidence.history.copy()
    history[:7, 4:] = np.nan
    explanation = FAST.explain(replace(evidence, history=history))
    assert explanation.cause_kind == CauseKind.UNUSUAL_PRESENCE


def test_an_episode_lends_the_record_its_identifier_and_extent() -> None:
    """Whichever of its windows is explained, the identifier is that of the first."""
    first = WINDOW - 600
    episode = Episode(first, WINDOW + 300, 3, 0.97, WINDOW, ongoing=True)
    explanation = FAST.explain(replace(exercise(), episode=episode))
    assert explanation.anomaly_id == anomaly_id("ada", first)
    assert (explanation.window_start, explanation.episode_start) == (WINDOW, first)
    assert "Episode 2026-01-05 10:25 to 10:40, still going on: 3 anom" in explanation.as_text()
    assert "Episode" not in FAST.explain(exercise()).as_text()
    assert_sound(explanation)


def test_a_device_that_falls_silent_is_off() -> None:
    """Streams of one group that stop together, between others that go on."""
    evidence = without(calm(gaps=gaps(2, coordinated=True)), "heart_rate", "skin_temperature")
    explanation = FAST.explain(evidence)
    assert explanation.cause_kind == CauseKind.DEVICE_OFF
    assert explanation.missing_streams == ("heart_rate", "skin_temperature")
    assert explanation.summary == (
        "Heart rate and skin temperature stopped together at 10:35 in work hours, when a gap "
        "of 5 min occurs in fewer than 0.1 % of cases."
    )
    assert set(explanation.causal_attribution.contributions) == {"heart_rate", "skin_temperature"}


def test_one_stream_of_a_group_that_stops_is_a_sensor() -> None:
    """The rest of its group goes on, so the device is not off."""
    explanation = FAST.explain(without(calm(gaps=gaps(2)), "skin_temperature"))
    assert explanation.cause_kind == CauseKind.STREAM_STOPPED
    assert explanation.summary == (
        "Skin temperature stopped at 10:35 while the other biometric streams went on."
    )


def test_an_unused_phone_in_work_hours_is_an_unusual_absence() -> None:
    """The length of the gap comes from stream health, beyond the history."""
    missing = np.zeros(N_STREAMS, dtype=np.int64)
    missing[[position("screen_on"), position("app_launches")]] = 12
    evidence = without(calm(gaps=gaps(3, 0.75)), "screen_on", "app_launches", history=True)
    assert evidence.individual is not None
    row = replace(evidence.individual, consecutive_missing=missing)
    explanation = FAST.explain(replace(evidence, individual=row))
    assert explanation.cause_kind == CauseKind.UNUSUAL_ABSENCE
    assert explanation.summary == (
        "No phone use since 09:40 in work hours, when a gap of 1 h occurs in fewer than 1 % of "
        "cases."
    )


def test_a_phone_in_use_at_night_is_an_unusual_presence() -> None:
    """Streams that are usually absent at that hour speak."""
    evidence = calm(
        gaps=gaps(3, 0.9), window_start=WINDOW - 7 * 3600, minutes=None, minutes_start=None
    )
    assert evidence.history is not None
    history = evidence.history.copy()
    history[:, 4:] = np.nan
    explanation = FAST.explain(replace(evidence, history=history))
    assert explanation.cause_kind == CauseKind.UNUSUAL_PRESENCE
    assert explanation.summary == (
        "Phone use at 03:35 in sleep hours (screen on and app launches), which occurs in fewer "
        "than 0.1 % of cases."
    )


def test_streams_that_do_not_fit_each_other_are_a_broken_relationship() -> None:
    """Tier 2 hears what no single stream shows."""
    row = CrossStreamRow(0.85, np.array([0.2, 0.1, 0.9, 0.1]), {"relationships": 0.9})
    explanation = FAST.explain(calm(cross_stream=row, score=0.8))
    assert explanation.cause_kind == CauseKind.RELATIONSHIP_BREAK
    assert "most of all those of biometric" in explanation.summary
    assert explanation.causal_attribution.unexplained == pytest.approx(1.0)


def test_many_streams_at_once_are_a_widespread_change() -> None:
    """Four streams change in a window without a known course of events."""
    four = ("gps_speed", "skin_temperature", "screen_on", "app_launches")
    explanation = FAST.explain(deviating(*four))
    assert explanation.cause_kind == CauseKind.WIDESPREAD_CHANGE
    assert explanation.summary.startswith("At 10:35 4 streams changed together: ")


def test_an_ordinary_window_that_is_forced_says_so() -> None:
    """Nothing stood out: the cause is unknown, and the confidence low."""
    explanation = FAST.explain(calm())
    assert explanation.cause_kind == CauseKind.UNKNOWN
    assert explanation.summary == "At 10:35 in work hours nothing stood out (score 0.20)."
    assert explanation.confidence <= 0.5
    assert_sound(explanation)


def test_a_window_without_any_value_says_that_nothing_came() -> None:
    """All streams missing is an explanation, not an error."""
    explanation = FAST.explain(without(calm(), *CATALOGUE.stream_ids))
    assert explanation.cause_kind == CauseKind.NOTHING_RECEIVED
    assert explanation.missing_streams == CATALOGUE.stream_ids
    assert explanation.summary == "Nothing has been received from any of the 6 streams since 10:35."
    assert_sound(explanation)


def test_nothing_but_values_degrades_and_says_what_was_absent() -> None:
    """The bare minimum of evidence gives a record that lists what was not there."""
    explanation = FAST.explain(
        WindowEvidence("ada", "Europe/Berlin", WINDOW, USUAL, Trigger.FORCED)
    )
    assert explanation.methods_used == ()
    assert [absent.split(":")[0] for absent in explanation.degraded] == [
        "stream scores",
        "sequence matching",
        "gap patterns",
        "cross-stream scores",
        "history",
    ]
    assert explanation.score is None
    assert_sound(explanation)


def test_nan_everywhere_is_survived() -> None:
    """Arrays that are there but hold nothing are as good as none."""
    nothing = np.full(N_STREAMS, np.nan)
    evidence = WindowEvidence(
        "ada", "UTC", WINDOW, nothing, Trigger.FORCED,
        history=np.full((12, N_STREAMS), np.nan),
        individual=IndividualRow(nothing, nothing, nothing),
        cross_stream=CrossStreamRow(math.nan, np.full(4, np.nan), {"relationships": math.nan}),
        gaps=GapRow(math.nan, np.full(4, np.nan), np.zeros(4, dtype=bool), nothing),
        minutes=np.full((60, N_STREAMS), np.nan),
        minutes_start=WINDOW - 55 * 60,
    )  # fmt: skip
    for explainer in (FAST, THOROUGH):
        assert_sound(explainer.explain(evidence))


def test_one_stream_is_enough() -> None:
    """A catalogue of one stream, without templates, is explained too."""
    one = Catalogue.model_validate(
        {
            "name": "one",
            "groups": [{"id": "g"}],
            "streams": [{"id": "load", "type": "continuous_noisy", "group": "g"}],
        }
    )
    row = IndividualRow(np.array([0.9]), np.array([1.0]), np.array([6.0]))
    for values in (np.array([5.0]), np.array([np.nan])):
        evidence = WindowEvidence("s", "UTC", WINDOW, values, Trigger.FORCED, individual=row)
        assert_sound(Explainer(one).explain(evidence))


def test_thorough_names_what_it_cannot_do() -> None:
    """Methods that have nothing to go by are listed, and more alternatives have room."""
    explanation = THOROUGH.explain(exercise())
    assert explanation.mode == "thorough"
    absent = {"causal network: none fitted", "lead-lag: no day before the window given"}
    assert absent <= set(explanation.degraded)
    assert len(FAST.explain(exercise()).alternative_explanations) <= 3
    assert_sound(explanation)


def test_few_streams_observed_cap_the_confidence() -> None:
    """With most streams missing no cause but an absence is sure."""
    evidence = without(exercise(), "skin_temperature", "screen_on", "app_launches", history=True)
    assert FAST.explain(evidence).confidence <= 0.6 < FAST.explain(exercise()).confidence


def test_the_clock_of_the_entity_is_used_across_the_change_to_summer_time() -> None:
    """29 March 2026, 01:00 UTC is 03:00 in Berlin."""
    evidence = calm(window_start=1_774_746_000, minutes=None, minutes_start=None)
    assert "At 03:00 in sleep hours" in FAST.explain(evidence).summary


def test_explaining_twice_gives_the_same_record_and_identifier() -> None:
    """No clock, no random numbers; mode and trigger do not change whose anomaly it is."""
    first, again = FAST.explain(exercise()), Explainer(CATALOGUE).explain(exercise())
    assert first == again
    assert THOROUGH.explain(exercise()).anomaly_id == first.anomaly_id
    assert FAST.explain(replace(exercise(), entity_id="bob")).anomaly_id != first.anomaly_id


def test_the_evidence_is_left_as_it_was() -> None:
    """Explaining changes none of the arrays it is given."""
    evidence, untouched = exercise(), exercise()
    FAST.explain(evidence)
    assert evidence.individual is not None
    assert untouched.individual is not None
    np.testing.assert_array_equal(evidence.values, untouched.values)
    np.testing.assert_array_equal(evidence.minutes, untouched.minutes)
    np.testing.assert_array_equal(evidence.individual.score, untouched.individual.score)


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0), st.sampled_from(list(Mode)))
def test_any_evidence_gives_a_sound_record(seed: int, missing: float, mode: Mode) -> None:
    """Whatever the mixture of values, scores and gaps, shares add up and JSON is safe."""
    rng = np.random.default_rng(seed)

    def holes(shape: int | tuple[int, ...], scale: float = 1.0) -> Any:
        array = scale * rng.random(shape)
        array[rng.random(shape) < missing] = np.nan
        return array

    n_minutes, earlier = int(rng.integers(0, 80)), int(rng.integers(0, 15))
    evidence = WindowEvidence(
        "ada", "Europe/Berlin", WINDOW, USUAL + SCALE * holes(N_STREAMS, 20.0), Trigger.FORCED,
        score=float(rng.random()),
        confidence=float(rng.random()),
        history=USUAL + SCALE * holes((earlier, N_STREAMS)),
        individual=IndividualRow(
            holes(N_STREAMS), USUAL + holes(N_STREAMS), 12.0 * (holes(N_STREAMS) - 0.5)
        ),
        cross_stream=CrossStreamRow(
            float(rng.random()), holes(4), {"relationships": float(rng.random())}
        ),
        gaps=GapRow(float(rng.random()), holes(4), rng.random(4) < 0.5, holes(N_STREAMS) - 0.5),
        minutes=USUAL + SCALE * rng.standard_t(2, (n_minutes, N_STREAMS)),
        minutes_start=WINDOW + 300 - 60 * n_minutes,
    )  # fmt: skip
    assert_sound(Explainer(CATALOGUE, mode=mode).explain(evidence))


@pytest.mark.parametrize(
    "changes",
    [
        {"values": np.zeros((2, N_STREAMS))},
        {"history": np.zeros((3, 2))},
        {"minutes": np.zeros((3, 2))},
        {"minutes_start": None},
        {"individual": IndividualRow(np.zeros(2), np.zeros(2), np.zeros(2))},
    ],
)
def test_evidence_of_other_shapes_is_refused(changes: dict[str, Any]) -> None:
    """Arrays that are not about the same streams are an error that names the entity."""
    with pytest.raises(InputError, match="ada"):
        calm(**changes)


def test_evidence_for_another_catalogue_is_refused() -> None:
    """The number of streams must be the catalogue's."""
    evidence = WindowEvidence("ada", "UTC", WINDOW, np.zeros(3), Trigger.FORCED)
    with pytest.raises(InputError, match="evidence of 3 streams"):
        FAST.explain(evidence)


def test_every_kind_of_cause_has_something_to_do_about_it() -> None:
    """Only a matched sequence brings its own action, from the catalogue."""
    assert set(RECOMMENDED_ACTIONS) == set(CauseKind) - {CauseKind.SEQUENCE}
    assert all(len(action) > 20 for action in RECOMMENDED_ACTIONS.values())


def test_text_for_a_terminal_holds_everything_a_person_asks() -> None:
    """Cause, action, alternatives, shares, timeline, streams and what was missing."""
    text = FAST.explain(without(exercise(), "screen_on")).as_text()
    for part in ("Cause:", "Do:", "Otherwise:", "Shares:", "10:32 - ", "Missing: screen_on"):
        assert part in text
    assert "heart rate: 148 bpm, expected 72 bpm (+25.0 scales)" in text


def test_a_record_that_is_none_is_refused() -> None:
    """Reading back something else is an error of ours, not a KeyError."""
    for plain in ({}, {**FAST.explain(calm()).to_dict(), "trigger": "whim"}):
        with pytest.raises(InputError, match="not an explanation record"):
            Explanation.from_dict(plain)
