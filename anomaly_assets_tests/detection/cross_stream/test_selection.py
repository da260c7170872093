"""Which streams' values are looked at."""

from __future__ import annotations

import numpy as np

from anomaly_assets.detection.cross_stream.selection import (
    choose,
    choose_tracked,
    predictiveness,
    value_features,
)


def test_availability_and_time_leave_the_rest_of_the_budget_to_values() -> None:
    """Values get what is left of 40, never fewer than 8, never more than there are streams."""
    assert [value_features(n, 4, 40) for n in (1, 10, 20, 36, 500)] == [1, 10, 16, 8, 8]


def test_streams_tied_to_others_are_the_predictive_ones() -> None:
    """A stream's tie with itself does not count, and few joint windows count little."""
    correlation = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
    score = predictiveness(correlation, np.full((3, 3), 1e6), np.arange(3))
    assert score[0] == score[1] > 0.2
    assert score[2] == 0.0
    few = predictiveness(correlation, np.full((3, 3), 5.0), np.arange(3))
    assert few[0] < 0.2 * score[0]


def test_the_choice_is_stable() -> None:
    """A slightly better stream does not replace one in use; a much better one takes its place."""
    current = np.array([2, 0])
    assert choose(np.array([0.5, 0.55, 0.6]), current, 2).tolist() == [2, 0]
    assert choose(np.array([0.5, 0.9, 0.6]), current, 2).tolist() == [2, 1]
    assert choose(np.zeros(3), current, 2).tolist() == [2, 0]


def test_a_stream_never_seen_is_not_chosen_over_one_that_was() -> None:
    """Streams without any value give their place up as soon as others have one."""
    assert choose(np.array([-1.0, 0.0, 0.0]), np.array([0, 1]), 2).tolist() == [2, 1]


def test_every_stream_is_tracked_at_some_time() -> None:
    """With more streams than can be tracked the rest take turns, so that none stays unknown."""
    score = np.linspace(1.0, 0.0, 50)
    current, seen = np.arange(10), set()
    for number in range(40):
        current = choose_tracked(score, current, number)
        assert len(set(current.tolist())) == 10
        seen |= set(current.tolist())
    assert seen == set(range(50))
    assert {0, 1, 2, 3, 4, 5, 6, 7} <= set(current.tolist())
