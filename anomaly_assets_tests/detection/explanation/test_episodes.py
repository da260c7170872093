"""Anomalous windows become episodes, and each is explained by its most telling window."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_assets.detection.explanation.episodes import (
    MAX_QUIET_WINDOWS,
    episodes_of,
    joined,
    telling_window,
)
from anomaly_assets.detection.explanation.triggers import Trigger
from anomaly_assets.errors import InputError
from anomaly_assets.streams.windows import WINDOW_SECONDS

FINAL, SINGLE = Trigger.FINAL_SCORE.code, Trigger.SINGLE_STREAM.code
SCORE = st.one_of(st.just(float("nan")), st.floats(0.0, 1.0))


def codes(*of: int) -> np.ndarray:
    """Return trigger codes."""
    return np.array(of, dtype=np.int8)


@given(st.sets(st.integers(0, 200)))
def test_runs_cover_all_windows_and_are_as_long_as_they_can_be(numbers: set[int]) -> None:
    """No window is lost, no gap within a run is too long, none between runs too short."""
    starts = np.array(sorted(numbers), dtype=np.int64) * WINDOW_SECONDS
    runs = [starts[run] for run in joined(starts)]
    assert np.array_equal(np.concatenate([*runs, starts[:0]]), starts)
    most = (MAX_QUIET_WINDOWS + 1) * WINDOW_SECONDS
    assert all((np.diff(run) <= most).all() for run in runs)
    assert all(b[0] - a[-1] > most for a, b in pairwise(runs))


def test_an_episode_spans_its_anomalous_windows() -> None:
    """Extent, number, peak, and whether it goes on."""
    starts = np.array([2, 4, 9]) * WINDOW_SECONDS
    scores = np.array([0.8, 0.9, np.nan])
    first, second = episodes_of(
        starts, codes(FINAL, FINAL, SINGLE), scores, until=13 * WINDOW_SECONDS
    )
    assert (first.start, first.end) == (2 * WINDOW_SECONDS, 5 * WINDOW_SECONDS)
    assert (first.windows, first.peak_score, first.ongoing) == (2, 0.9, False)
    assert np.isnan(second.peak_score)
    assert second.ongoing
    assert not episodes_of(starts, codes(1, 1, 2), scores, until=14 * WINDOW_SECONDS)[1].ongoing


@pytest.mark.parametrize(
    ("of", "scores", "expected"),
    [
        ((FINAL, FINAL), (0.75, 0.80), 0),
        ((FINAL, FINAL), (0.75, 0.95), 1),
        ((SINGLE, FINAL), (0.69, 0.71), 1),
        ((FINAL, SINGLE), (0.71, 0.69), 0),
        ((SINGLE, SINGLE), (float("nan"), 0.2), 1),
        ((FINAL, FINAL, FINAL), (0.72, 0.93, 0.94), 1),
    ],
)
def test_the_onset_tells_unless_a_later_window_tells_clearly_more(
    of: tuple[int, ...], scores: tuple[float, ...], expected: int
) -> None:
    """A little higher is the same anomaly; clearly rarer, or anomalous as a whole, is news."""
    assert telling_window(codes(*of), np.array(scores)) == expected


@given(st.lists(st.tuples(st.sampled_from([FINAL, SINGLE]), SCORE), min_size=1, max_size=40))
def test_the_choice_never_looks_ahead(windows: list[tuple[int, float]]) -> None:
    """What is told of an episode so far only moves forward, to the window that just came."""
    of, scores = codes(*(code for code, _ in windows)), np.array([score for _, score in windows])
    told = [telling_window(of[:n], scores[:n]) for n in range(1, len(windows) + 1)]
    assert told[0] == 0
    assert all(
        now in {before, number} for number, (before, now) in enumerate(pairwise(told), start=1)
    )


def test_windows_that_do_not_belong_together_are_refused() -> None:
    """Shapes that differ, or starts out of order, are an error that says so."""
    with pytest.raises(InputError, match="in order"):
        episodes_of(np.array([300, 0]), codes(1, 1), np.array([0.8, 0.8]), until=600)
    with pytest.raises(InputError, match=r"\(1,\) starts"):
        episodes_of(np.array([300]), codes(1, 1), np.array([0.8]), until=600)
