"""Feedback takes alarms away, never adds one, and leaves every bit where it says nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_assets.detection.feedback.adjustment import Adjustment, Rule
from anomaly_assets.detection.feedback.decision import calls, decide, discounted
from anomaly_assets.detection.feedback.evidence import Evidence
from anomaly_assets.errors import InputError
from anomaly_assets_tests.detection.feedback.made import DAY, ENSEMBLE, MONDAY, STREAMS, evidence

FOREVER = 2**40
RULE = Rule("habit", ("noise+",), ("noise",), 0.99, FOREVER)


def random_evidence(seed: int, n: int = 200) -> Evidence:
    """Return windows of all kinds."""
    rng = np.random.default_rng(seed)
    score = rng.random((n, len(STREAMS))) ** 0.3
    score[rng.random(score.shape) < 0.2] = np.nan
    cross = rng.random(n) ** 0.5
    voices = rng.random((n, 5)) ** 0.5
    return evidence(score, MONDAY + np.arange(n) * 300, cross_stream=cross, voices=voices)


def decided(windows: Evidence, adjustment: Adjustment) -> tuple[np.ndarray, tuple[str | None, ...]]:
    """Return which windows are alarms, and what suppresses them."""
    made = decide(windows, adjustment, threshold=0.7, ensemble=ENSEMBLE)
    return made.alarm, made.suppressed_by


def test_nothing_to_apply_leaves_every_bit() -> None:
    """Scores and codes are those without feedback, and the alarms those above the limit."""
    windows = random_evidence(1)
    made = decide(windows, Adjustment(trust={"heart": 1.0}), threshold=0.7, ensemble=ENSEMBLE)
    assert made.score.tobytes() == windows.final.tobytes()
    assert np.array_equal(made.code, windows.codes(0.7))
    assert np.array_equal(made.alarm, windows.final > 0.7)
    assert set(made.suppressed_by) == {None}
    assert set(made.option) == {"A"}


@given(
    seed=st.integers(0, 50),
    threshold=st.none() | st.floats(0.7, 0.9),
    weight=st.floats(0.25, 1.0),
    voice=st.floats(0.25, 1.0),
    rules=st.sampled_from([(), (RULE,)]),
)
def test_no_score_rises_and_no_alarm_is_added(
    seed: int, threshold: float | None, weight: float, voice: float, rules: tuple[Rule, ...]
) -> None:
    """Whatever is in force, alarms are among those without it, and so are explained windows."""
    windows = random_evidence(seed)
    trust = {"heart": weight, "voice:gaps": voice}
    made = decide(windows, Adjustment(threshold, trust, rules), threshold=0.7, ensemble=ENSEMBLE)
    assert (made.score <= windows.final).all()
    assert not (made.alarm & ~(windows.final > 0.7)).any()
    assert not ((made.code != 0) & ~calls(windows, 0.7)).any()


def test_a_window_is_decided_alike_alone_and_among_others() -> None:
    """Decisions are made window by window, to the last bit."""
    windows = random_evidence(2)
    adjustment = Adjustment(0.75, {"noise": 0.4, "voice:levels": 0.5}, (RULE,))
    whole = decide(windows, adjustment, threshold=0.7, ensemble=ENSEMBLE)
    for row in range(0, len(windows), 17):
        alone = decide(windows.take(np.array([row])), adjustment, threshold=0.7, ensemble=ENSEMBLE)
        assert alone.score.tobytes() == whole.score[row : row + 1].tobytes()
        assert (alone.code[0], alone.suppressed_by[0]) == (
            whole.code[row],
            whole.suppressed_by[row],
        )


def test_a_weight_divides_the_p_value() -> None:
    """A stream that is trusted less raises fewer alarms; of the others every bit stays."""
    score = np.array([[0.1, 0.97, 0.1], [0.97, 0.1, 0.1]])
    windows = evidence(score, MONDAY + np.arange(2) * 300)
    individual, final = discounted(windows, {"noise": 0.25}, ENSEMBLE)
    assert final[0] < windows.final[0]
    assert final[1] == windows.final[1]
    assert individual[0, 1] == pytest.approx(1.0 - 0.03 * 0.25**-0.277)


def test_a_rule_passes_over_its_habit_alone() -> None:
    """Another stream that is odd at the same time speaks as ever, and so does something worse."""
    score = np.array([[0.1, 0.97, 0.1], [0.1, 0.97, 0.97], [0.1, 0.1, 0.97], [0.1, 0.9999, 0.1]])
    windows = evidence(score, MONDAY + np.arange(4) * 300)
    rule = replace(RULE, ceiling=float(windows.final[0]) + 0.01)
    alarm, suppressed = decided(windows, Adjustment(rules=(rule,)))
    assert suppressed == ("habit", None, None, None)
    assert alarm.tolist() == [False, True, True, True]


def test_a_rule_holds_in_its_time_and_until_it_expires() -> None:
    """Hours are local and may reach over midnight; days are work days or the week-end."""
    hours = [22.0, 23.5, 0.5, 3.0]
    starts = np.array([MONDAY + 4 * DAY + int(hour * 3600) for hour in hours])
    windows = evidence(np.tile([0.1, 0.97, 0.1], (4, 1)), starts)
    night = replace(RULE, from_minute=23 * 60, to_minute=60)
    assert decided(windows, Adjustment(rules=(night,)))[1] == (None, "habit", "habit", None)
    assert set(decided(windows, Adjustment(rules=(replace(RULE, days="weekend"),)))[1]) == {None}
    ends = replace(RULE, expires=int(starts[1]))
    assert decided(windows, Adjustment(rules=(ends,)))[1] == ("habit", None, "habit", "habit")


@pytest.mark.parametrize(
    "change", [{"anchors": ()}, {"covers": ()}, {"from_minute": 3}, {"ceiling": 2.0}, {"name": " "}]
)
def test_unusable_rules_are_refused(change: dict[str, object]) -> None:
    """A rule that could not act, or has half a time, is refused; others survive JSON."""
    with pytest.raises(InputError, match="suppression rule"):
        replace(RULE, **change)  # type: ignore[arg-type]
    assert Rule.from_dict(RULE.to_dict()) == RULE


def test_unusable_adjustments_are_refused() -> None:
    """A weight of nothing silences a stream for good: that is no weight."""
    with pytest.raises(InputError, match="weights"):
        Adjustment(trust={"heart": 0.0})
