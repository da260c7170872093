"""Simulated people with habits, and an oracle that knows what was what, but for some mistakes."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_assets.detection.feedback.adjustment import Adjustment, Rule
from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.feedback import (
    HELD_OUT_DAYS,
    Watched,
    habits_of,
    held_out,
    judged,
    learn,
    watch,
)
from anomaly_assets.evaluation.simulator.testbed import many_faults

DAYS = 45


@pytest.fixture(scope="module")
def watched() -> Watched:
    """Share a person watched for six weeks."""
    return watch(5, "person-1", DAYS)


def test_habits_recur_and_keep_away_from_faults() -> None:
    """The same seed gives the same habits, each often, none within two hours of a fault."""
    faults = many_faults(5, ["person-1"], days=DAYS)[::2]
    habits = habits_of(5, "person-1", DAYS, faults)
    assert habits == habits_of(5, "person-1", DAYS, faults)
    names = [habit.name for habit in habits]
    assert {name: names.count(name) > 8 for name in names} == dict.fromkeys(
        ("hair_dryer", "bike", "loose_sensor"), True
    )
    gaps = [abs((h.fault.start - f.start).total_seconds()) for h in habits for f in faults]
    assert min(gaps) > 2 * 3600


def test_alarms_are_known_by_what_they_are_due_to(watched: Watched) -> None:
    """Faults are confirmed; habits and chance are false alarms."""
    kinds = set(watched.causes)
    assert {"hair_dryer", "bike", "loose_sensor", "chance"} <= kinds
    assert watched.alarms.n_confirmed > 5
    for cause, confirmed in zip(watched.causes, watched.alarms.confirmed.tolist(), strict=True):
        assert confirmed == (cause not in {"hair_dryer", "bike", "loose_sensor", "chance"})


def test_the_oracle_errs_as_often_as_asked(watched: Watched) -> None:
    """The first alarms are judged, a share of them wrongly; too many cannot be."""
    right, wrong = judged(watched, 10), judged(watched, 10, wrong=0.2, seed=1)
    assert len(right) == 10
    assert int((right.confirmed != wrong.confirmed).sum()) == 2
    assert np.array_equal(right.confirmed, watched.alarms.confirmed[:10])
    with pytest.raises(EvaluationError, match="simulate longer"):
        judged(watched, len(watched.alarms))


def test_only_what_comes_after_the_labels_is_counted(watched: Watched) -> None:
    """Without feedback nothing changes; a rule for everything leaves nothing, and that shows."""
    known = judged(watched, 10)
    since = int(known.ends[-1])
    later = (watched.begins >= since) & (watched.begins < since + HELD_OUT_DAYS * 86400)
    none = held_out(watched, known, Adjustment())
    assert none.effect.false_before + none.effect.confirmed_before == int(later.sum())
    assert none.effect.false_removed == none.effect.confirmed_lost == 0
    assert learn(known).threshold is None
    silent = Adjustment(threshold=0.999)
    assert held_out(watched, known, silent).effect.confirmed_lost > 0
    rule = Rule("x", ("heart_rate+",), ("heart_rate", "voice:relationships"), 0.99, 2**40)
    some = held_out(watched, known, Adjustment(rules=(rule,)))
    assert some.rules == 1
    assert sum(now for _, now in some.by_cause.values()) == some.effect.false_after
