"""Tests of the score scale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from anomaly_assets.detection.scoring import (
    SMALLEST_P,
    cauchy_combination,
    p_of_score,
    score_of_p,
    student_t_p,
)


@given(st.floats(1e-40, 1.0))
def test_scores_and_p_values_are_inverse(p: float) -> None:
    """A score turns back into its p-value, as precisely as a score near 1 can hold it."""
    score = score_of_p(np.array([p]))
    assert 0.0 <= score[0] <= 1.0
    np.testing.assert_allclose(p_of_score(score), p, rtol=1e-4)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_smaller_p_values_score_no_lower(left: float, right: float) -> None:
    """The score falls as the p-value rises."""
    low, high = sorted((left, right))
    score = score_of_p(np.array([low, high]))
    assert score[0] >= score[1]


def test_the_named_points_of_the_scale() -> None:
    """P 0.0136 is 0.7, p 0.003 is 0.8, certainty stays below 1, and unknown stays unknown."""
    score = score_of_p(np.array([0.0136, 0.003, 0.0, 1.0, np.nan]))
    np.testing.assert_allclose(score[:2], [0.7, 0.8], atol=5e-3)
    assert 0.999 < score[2] < 1.0
    assert score[3] == 0.0
    assert np.isnan(score[4])


@pytest.mark.parametrize("freedom", [1, 2, 3, 4])
def test_the_tail_is_students(freedom: int) -> None:
    """The closed forms agree with SciPy far into the tail, for both signs."""
    t = np.array([-3000.0, -30.0, -2.0, 0.0, 1e-3, 0.7, 4.0, 100.0, 1000.0])
    p = student_t_p(t, np.full(len(t), freedom))
    np.testing.assert_allclose(p, 2.0 * stats.t.sf(np.abs(t), freedom), rtol=1e-6)


def test_degrees_of_freedom_may_differ_by_element() -> None:
    """Each statistic gets its own tail, above 4 that of 4, whatever stands beside it."""
    t = np.array([3.0, 3.0, 3.0, 3.0, 3.0])
    freedom = np.array([1, 2, 3, 4, 9])
    p = student_t_p(t, freedom)
    alone = [student_t_p(t[i : i + 1], freedom[i : i + 1])[0] for i in range(5)]
    assert p.tolist() == alone
    assert p[3] == p[4]
    assert (np.diff(p[:4]) < 0.0).all()


def test_extreme_statistics_give_the_smallest_p() -> None:
    """Statistics as large as values get neither overflow nor underflow."""
    p = student_t_p(np.array([1e100, -1e60]), np.array([4, 4]))
    assert p.tolist() == [SMALLEST_P, SMALLEST_P]


def test_one_certain_stream_survives_the_combination() -> None:
    """Among 30 ordinary p-values one of 1e-8 keeps the combination near 30 times it."""
    p = np.full(30, 0.5)
    p[3] = 1e-8
    assert cauchy_combination(p, np.ones(30)) == pytest.approx(30e-8, rel=0.01)


def test_missing_and_weightless_p_values_take_no_part() -> None:
    """NaN and weight 0 change nothing; with nothing left the result is unknown."""
    p = np.array([[0.01, np.nan, 1e-9], [np.nan, np.nan, 1e-9]])
    weights = np.array([1.0, 1.0, 0.0])
    combined = cauchy_combination(p, weights)
    assert combined[0] == pytest.approx(0.01)
    assert np.isnan(combined[1])


def test_one_perfectly_ordinary_stream_outvotes_nobody() -> None:
    """A p-value of 1 does not cancel a small one."""
    combined = cauchy_combination(np.array([1.0, 0.001]), np.ones(2))
    assert combined < 0.01
