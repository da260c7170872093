"""Ranking, blame and events."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.metrics.events import alarms_by_context, events
from anomaly_assets.evaluation.metrics.hits import hit_rate
from anomaly_assets.evaluation.metrics.ranking import ranking
from anomaly_assets.evaluation.recordings import LabelledSegment


def test_ranking_by_hand() -> None:
    """Two anomalies ranked first and third of five; NaN ranks last."""
    labels = np.array([True, False, True, False, False])
    figures = ranking(labels, np.array([0.9, 0.8, 0.7, 0.1, np.nan]))
    assert figures["roc"] == pytest.approx(5 / 6)
    assert figures["pr"] == pytest.approx((1 + 2 / 3) / 2)
    assert figures["best_f1"] == pytest.approx(0.8)


def test_without_scikit_learn_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The extra is named as pip takes it."""

    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(EvaluationError, match=r'pip install "anomaly-assets\[evaluate\]"'):
        ranking(np.array([True, False]), np.array([1.0, 0.0]))


def test_hit_rate_by_hand() -> None:
    """Of three streams to blame two are among the first three, all among the first four."""
    evidence = np.array([[5.0, 4.0, 3.0, 2.0, 1.0], [5.0, 4.0, 3.0, 2.0, np.nan]])
    segments = [LabelledSegment(0, 2, ("a", "b", "d"), ""), LabelledSegment(0, 2, (), "")]
    assert hit_rate(segments, evidence, "abcde", 100) == pytest.approx(2 / 3)
    assert hit_rate(segments, evidence, "abcde", 150) == 1.0
    assert hit_rate(segments[1:], evidence, "abcde") is None


def test_hit_rate_refuses_what_does_not_fit() -> None:
    """Unknown streams, empty segments and other columns are named."""
    evidence = np.zeros((3, 2))
    with pytest.raises(EvaluationError, match="unknown stream z"):
        hit_rate([LabelledSegment(0, 1, ("z",), "")], evidence, "ab")
    with pytest.raises(EvaluationError, match="no window"):
        hit_rate([LabelledSegment(5, 6, ("a",), "")], evidence, "ab")
    with pytest.raises(EvaluationError, match="evidence has shape"):
        hit_rate([], evidence, "abc")


def test_events_found_late_and_false() -> None:
    """One of two events found two windows late; of two episodes one is false, in half a day."""
    scores = np.full(144, 0.1)
    scores[[12, 13, 60]] = 0.9
    scores[100] = 0.7
    found = events([(10, 20), (100, 110)], scores, 288)
    assert found == {
        "event_recall": 0.5,
        "median_delay_windows": 2.0,
        "false_alarms_a_day": 2.0,
    }
    assert events([], np.full(288, np.nan), 288) == {"false_alarms_a_day": 0.0}


def test_alarms_inside_and_outside_of_contexts() -> None:
    """Windows without a score count nowhere."""
    inside = np.array([True, True, False, False, False])
    figures = alarms_by_context(inside, np.array([0.9, 0.1, 0.9, 0.1, np.nan]), 5)
    assert figures == {
        "alarm_share_inside": 0.5,
        "alarm_share_outside": 0.5,
        "alarms_a_day": 1.0,
    }
