"""Alarm windows become episodes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.episodes import group_episodes
from anomaly_assets.streams.windows import WINDOW_SECONDS

_SCORES = st.lists(
    st.one_of(st.just(float("nan")), st.floats(min_value=0.0, max_value=1.0)), max_size=120
)


def _starts(n: int) -> np.ndarray:
    return 1_767_571_200 + WINDOW_SECONDS * np.arange(n, dtype=np.int64)


def _windows(text: str) -> np.ndarray:
    """Alarm where there is an ``x``, unknown where there is a ``?``."""
    return np.array([{"x": 0.9, "?": np.nan}.get(letter, 0.1) for letter in text])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("....", []),
        ("????", []),
        (".xx.", [2]),
        ("x...x", [2]),
        ("x....x", [1, 1]),
        ("x?.?x", [2]),
        ("x...x...x", [3]),
    ],
)
def test_up_to_three_quiet_windows_do_not_end_an_episode(text: str, expected: list[int]) -> None:
    """Alarms with at most three quiet or unknown windows between them are one episode."""
    scores = _windows(text)
    assert [e.windows for e in group_episodes("ann", _starts(len(scores)), scores)] == expected


def test_an_episode_spans_its_alarm_windows_and_keeps_their_peak() -> None:
    """Start and end are those of the alarm windows; the peak is the highest score."""
    scores = np.array([0.1, 0.75, 0.2, 0.95, 0.1])
    starts = _starts(5)
    (episode,) = group_episodes("ann", starts, scores)
    assert episode.start.timestamp() == starts[1]
    assert episode.end.timestamp() == starts[3] + WINDOW_SECONDS
    assert episode.peak == 0.95
    assert episode.entity == "ann"


def test_windows_that_were_never_scored_count_as_quiet() -> None:
    """A hole in the windows is measured in time, not in rows."""
    starts = _starts(10)[[0, 4, 9]]
    assert [e.windows for e in group_episodes("ann", starts, np.full(3, 0.9))] == [2, 1]


def test_a_score_at_the_threshold_is_no_alarm() -> None:
    """Only scores above the threshold are alarms."""
    assert group_episodes("ann", _starts(1), np.array([0.7]), threshold=0.7) == []


def test_scores_that_do_not_fit_are_refused() -> None:
    """Different lengths and unsorted starts are errors that name the entity."""
    with pytest.raises(EvaluationError, match="'ann'"):
        group_episodes("ann", _starts(3), np.zeros(2))
    with pytest.raises(EvaluationError, match="row 1"):
        group_episodes("ann", _starts(3)[::-1], np.zeros(3))


@given(_SCORES, st.integers(min_value=0, max_value=6))
def test_episodes_partition_the_alarm_windows(values: list[float], max_quiet: int) -> None:
    """Every alarm window is in exactly one episode, in order, and episodes lie far apart."""
    scores = np.array(values, dtype=np.float64)
    episodes = group_episodes("ann", _starts(scores.size), scores, max_quiet=max_quiet)
    assert sum(e.windows for e in episodes) == int((scores > 0.7).sum())
    assert all(0.7 < e.peak <= 1.0 for e in episodes)
    for before, after in pairwise(episodes):
        quiet = (after.start - before.end).total_seconds() / WINDOW_SECONDS
        assert quiet > max_quiet


@given(_SCORES)
def test_more_patience_never_makes_more_episodes(values: list[float]) -> None:
    """Allowing longer gaps merges episodes and never splits one."""
    scores = np.array(values, dtype=np.float64)
    counts = [
        len(group_episodes("ann", _starts(scores.size), scores, max_quiet=quiet))
        for quiet in range(5)
    ]
    assert counts == sorted(counts, reverse=True)
