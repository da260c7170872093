"""What every measure promises, whatever it is given: figures in range, or a clear error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.metrics.events import alarms_by_context, events
from anomaly_assets.evaluation.metrics.hits import hit_rate
from anomaly_assets.evaluation.metrics.nab import best_threshold, nab_score
from anomaly_assets.evaluation.metrics.ranking import ranking
from anomaly_assets.evaluation.metrics.vus import period, vus_pr
from anomaly_assets.evaluation.recordings import LabelledSegment

Measure = Callable[[np.ndarray, np.ndarray], dict[str, float]]

MEASURES: dict[str, Measure] = {
    "ranking": ranking,
    "vus": lambda labels, scores: {"vus_pr": vus_pr(labels, scores, 4)},
}
every_measure = pytest.mark.parametrize("measure", MEASURES)

#: Scores of any kind but infinite ones.
VALUES = st.one_of(
    st.just(np.nan),
    st.sampled_from([0.0, -0.0, 0.5, 1.0, 1e300, -1e300, 1e-300, 5e-324]),
    st.floats(-1e3, 1e3),
)


@dataclass(frozen=True)
class File:
    """A file of the benchmark."""

    name: str
    known: tuple[tuple[int, int], ...]


def scores_of(n: int) -> st.SearchStrategy[np.ndarray]:
    return arrays.arrays(np.float64, n, elements=VALUES)


@every_measure
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_rankings_are_shares_or_errors(measure: str, data: st.DataObject) -> None:
    """Labels of both kinds give figures in [0, 1] whatever the scores, unknown, constant, huge or
    tiny; labels of one kind, and none at all, are refused.
    """
    n = data.draw(st.integers(0, 40))
    labels = data.draw(arrays.arrays(np.bool_, n))
    scores = data.draw(scores_of(n))
    if labels.all() or not labels.any():
        with pytest.raises(EvaluationError, match="both kinds"):
            MEASURES[measure](labels, scores)
        return
    figures = MEASURES[measure](labels, scores).values()
    assert all(0.0 <= figure <= 1.0 + 1e-12 for figure in figures)


@every_measure
@pytest.mark.parametrize(
    ("labels", "scores"),
    [
        (np.array([True, False]), np.zeros(3)),
        (np.array([[True, False]]), np.zeros((1, 2))),
        (np.array(True), np.array(0.5)),  # noqa: FBT003 - NumPy takes it by position
        (np.array([True, False]), np.array([0.1, np.inf])),
        (np.array([True, False]), np.array([-np.inf, 0.1])),
    ],
)
def test_rankings_refuse_what_does_not_fit(
    measure: str, labels: np.ndarray, scores: np.ndarray
) -> None:
    """Other shapes and infinite scores are errors."""
    with pytest.raises(EvaluationError, match=r"shape|infinite"):
        MEASURES[measure](labels, scores)


@settings(max_examples=80, deadline=None)
@given(
    values=arrays.arrays(np.float64, st.integers(0, 60), elements=VALUES),
    repeats=st.integers(1, 12),
)
def test_any_series_has_a_period(values: np.ndarray, repeats: int) -> None:
    """It is a whole number from 6 to 303, or 125, whatever the values."""
    assert 6 <= period(np.tile(values, repeats)) <= 303


@pytest.mark.parametrize("exponent", [-600, -40, 40, 600, 1000])
def test_the_unit_makes_no_difference_to_a_period(exponent: int) -> None:
    """Squares of the values need not be finite, nor different from 0."""
    values = np.sin(np.arange(1000) * 2 * np.pi / 50)
    assert period(np.ldexp(values, exponent)) == period(values) == 50


@pytest.mark.parametrize("values", [np.array(1.0), np.zeros((50, 2))])
def test_a_period_is_of_one_stream(values: np.ndarray) -> None:
    """Values of no or of two axes are refused."""
    with pytest.raises(EvaluationError, match=r"expected \(n,\)"):
        period(values)


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_events_of_any_scores(data: st.DataObject) -> None:
    """Shares lie in [0, 1] and counts are at least 0, also where events lie outside of the scores
    or there is no score at all; what cannot be said is left out.
    """
    n = data.draw(st.integers(0, 60))
    scores, inside = data.draw(scores_of(n)), data.draw(arrays.arrays(np.bool_, n))
    bounds = st.tuples(st.integers(0, 80), st.integers(0, 80))
    segments = data.draw(st.lists(bounds.map(lambda pair: (min(pair), max(pair)))))
    found = events(segments, scores, 288) | alarms_by_context(inside, scores, 288)
    for name, figure in found.items():
        assert 0.0 <= figure < np.inf, name
        if "share" in name or "recall" in name:
            assert figure <= 1.0, name
    assert ("event_recall" in found) == bool(segments)
    assert ("alarms_a_day" in found) == (n > 0)


@pytest.mark.parametrize("shape", [(3,), (6,), (1,), (5, 1)])
def test_contexts_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    """One is needed for each window; nothing is broadcast."""
    with pytest.raises(EvaluationError, match="shape"):
        alarms_by_context(np.ones(shape, dtype=np.bool_), np.full(5, 0.9), 288)


def test_scores_of_two_axes_have_no_events() -> None:
    """They are refused."""
    with pytest.raises(EvaluationError, match="scores"):
        events([(0, 5)], np.zeros((9, 2)), 288)


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_hit_rates_are_shares(data: st.DataObject) -> None:
    """Whatever the evidence, the rate lies in [0, 1], and at 150 % is at least that at 100 %."""
    n = data.draw(st.integers(1, 20))
    evidence = data.draw(arrays.arrays(np.float64, (n, 3), elements=VALUES))
    start = data.draw(st.integers(0, n - 1))
    blamed = data.draw(st.sets(st.sampled_from("abc"), min_size=1))
    segment = LabelledSegment(start, start + data.draw(st.integers(1, 30)), tuple(blamed), "")
    rate, wider = (hit_rate([segment], evidence, "abc", percent) for percent in (100, 150))
    assert rate is not None
    assert wider is not None
    assert 0.0 <= rate <= wider <= 1.0


def test_hit_rates_refuse_what_cannot_be_ranked() -> None:
    """Infinite evidence, one axis, no window and less than all that are to blame are errors."""
    segments = [LabelledSegment(0, 2, ("a",), "")]
    infinite = np.zeros((3, 2))
    infinite[1, 1] = np.inf
    with pytest.raises(EvaluationError, match="row 1 has infinite evidence"):
        hit_rate(segments, infinite, "ab")
    with pytest.raises(EvaluationError, match="evidence has shape"):
        hit_rate(segments, np.zeros(3), "ab")
    with pytest.raises(EvaluationError, match="no window"):
        hit_rate(segments, np.zeros((0, 2)), "ab")
    with pytest.raises(EvaluationError, match="100 or more"):
        hit_rate(segments, np.zeros((3, 2)), "ab", 50)
    assert hit_rate([], np.zeros((0, 2)), "ab") is None


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_nab_scores_are_finite_and_none_beats_the_best(data: st.DataObject) -> None:
    """Of any scores, a file without rows or windows among them, no threshold is better than the one
    that is called best, and the best is never worse than silence.
    """
    n = data.draw(st.integers(1, 60))
    first = data.draw(st.integers(0, n - 1))
    windows = ((first, data.draw(st.integers(first, n - 1))),)
    files = [File("windows", windows), File("none", ()), File("empty", ())]
    scores = [data.draw(scores_of(n)), data.draw(scores_of(5)), np.zeros(0)]
    best = best_threshold(files, scores)
    assert 0.0 <= best.score <= 100.0 + 1e-9
    at = nab_score(files, scores, data.draw(st.floats(-1e3, 1e3)))
    assert at <= best.score + 1e-9
    assert np.isfinite(at)


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        (np.array([0.0] * 7 + [np.inf] * 3), "row 7 has an infinite score"),
        (np.array([-np.inf] + [0.0] * 9), "row 0 has an infinite score"),
        (np.zeros((10, 2)), "shape"),
        (np.zeros(0), "outside"),
        (np.zeros(5), "outside"),
    ],
)
def test_nab_refuses_what_does_not_fit(scores: np.ndarray, reason: str) -> None:
    """Infinite scores, two axes, and too few rows for the windows are errors naming the file."""
    files = [File("one", ((4, 6),))]
    with pytest.raises(EvaluationError, match=f"one.*{reason}"):
        nab_score(files, [scores], 0.5)
    with pytest.raises(EvaluationError, match=f"one.*{reason}"):
        best_threshold(files, [scores])
