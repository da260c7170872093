"""Simulated courses of events: how many are recognised, and what labels add."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.explanations import sequences
from anomaly_assets_tests.detection.explanation import simulation


def test_courses_are_recognised_as_often_as_is_asked() -> None:
    """Six classes from minutes to their name, with 0, 25 and 50 % of the streams missing."""
    found = sequences.measure_sequences(range(3))
    assert found["0"] >= 0.86
    assert found["25"] >= 0.77
    assert found["50"] >= 0.65


def test_the_courses_are_as_hard_as_they_are_meant_to_be() -> None:
    """Levenshtein distance between names, the plain way, recognises far fewer."""
    courses = sequences.simulate_courses(300, 0.0, np.random.default_rng(1))
    assert 0.6 <= sequences.accuracy(simulation.levenshtein_decision, courses) <= 0.82


def test_labels_help_where_courses_depart_from_the_templates() -> None:
    """Sixty labelled courses of persons with habits are worth more than ten points."""
    plain = sequences.measure_sequences([0], personal=True)
    labelled = sequences.measure_sequences([0], labelled=60, personal=True)
    assert labelled["0"] >= plain["0"] + 0.08
    assert labelled["25"] >= plain["25"] + 0.05


def test_the_same_seeds_give_the_same_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the seeds decides."""
    monkeypatch.setattr(sequences, "COURSES", 40)
    assert sequences.measure_sequences([7], labelled=6) == sequences.measure_sequences(
        [7], labelled=6
    )


def test_unusable_requests_are_refused() -> None:
    """Messages say what to give."""
    with pytest.raises(EvaluationError, match="0 seeds"):
        sequences.measure_sequences([])
    with pytest.raises(EvaluationError, match="-1 labelled"):
        sequences.measure_sequences([1], labelled=-1)
    with pytest.raises(EvaluationError, match=r"a share of 1\.5"):
        sequences.simulate_courses(1, 1.5, np.random.default_rng(0))
