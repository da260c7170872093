"""Explanations of episodes are the same whichever way their windows were processed."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anomaly_assets.detection.explanation.record import anomaly_id
from anomaly_assets.detection.results import EnsembleResults
from anomaly_assets.evaluation.simulator.simulation import DEFAULT_START
from anomaly_assets.pipeline.episodes import running_episode
from anomaly_assets.pipeline.explain import explain_window, explain_windows
from anomaly_assets.storage import results
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange
from anomaly_assets_tests.pipeline.people import execute, load_people, query, run
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anomaly_assets.storage.database import Database

#: Three hours around a midnight, at which blocks are cut.
START = DEFAULT_START + timedelta(hours=22, minutes=30)
WINDOWS = WindowRange.between(START, START + timedelta(hours=3))
N = len(WINDOWS)
QUIET, UNKNOWN = 0.1, float("nan")
SCORES = st.lists(
    st.sampled_from([QUIET, QUIET, QUIET, UNKNOWN, 0.71, 0.75, 0.9, 0.97]), min_size=N, max_size=N
)
CUTS = st.lists(st.integers(1, N - 1), max_size=8, unique=True).map(sorted)
ROWS = (
    "SELECT timestamp, anomaly_id::text, episode_end, windows, peak_score, ongoing, trigger, "
    "summary, confidence, record FROM causal_explanations ORDER BY timestamp"
)


class Story:
    """One person's windows, of which only the final scores are the test's."""

    def __init__(self, database: Database, home: Path) -> None:
        self._database = database
        self._home = home

    def forget(self) -> None:
        """Go back to windows without a final score and without an explanation."""
        execute(self._database, "TRUNCATE causal_explanations")
        execute(self._database, "DELETE FROM anomaly_scores WHERE method = 'ensemble'")

    def explain(self, scores: Sequence[float], first: int = 0) -> None:
        """Store final scores from a window on, and explain these windows."""
        part = some(first, first + len(scores))
        final = EnsembleResults(np.array(scores), np.full(len(scores), 0.5))
        with self._database.connect() as connection:
            results.write_ensemble(connection, "ann", part, final)
        deployment = deployment_of(self._database, self._home)
        for _ in explain_windows(deployment, deployment.entities(), part):
            pass
        assert not deployment.failures

    def told(self) -> list[tuple[Any, ...]]:
        """Return every stored explanation, to the last bit."""
        return query(self._database, ROWS)

    def running(self, at: int) -> tuple[int, int] | None:
        """Return the episode that an anomalous window at a time would belong to."""
        deployment = deployment_of(self._database, self._home)
        (entity,) = deployment.entities()
        threshold = deployment.settings.explanation_threshold
        with self._database.connect() as connection:
            return running_episode(connection, entity, at, threshold)

    def told_at_once(self, scores: Sequence[float]) -> list[tuple[Any, ...]]:
        """Return what one range over everything leaves."""
        self.forget()
        self.explain(scores)
        return self.told()


@pytest.fixture(scope="module")
def story(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Process a person once; no single stream of theirs is anomalous."""
    load_people(module_database, ["ann"], WINDOWS)
    home = tmp_path_factory.mktemp("home")
    run(deployment_of(module_database, home), WINDOWS)
    execute(
        module_database,
        "UPDATE anomaly_scores SET anomaly_score = least(anomaly_score, 0.6) "
        "WHERE method = 'river_individual'",
    )
    return Story(module_database, home)


def some(first: int, last: int) -> WindowRange:
    """Return the windows from `first` up to but not including `last`."""
    return WindowRange(
        WINDOWS.start + first * WINDOW_SECONDS, WINDOWS.start + last * WINDOW_SECONDS
    )


law = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@law
@given(scores=SCORES, cuts=CUTS)
def test_parts_leave_the_rows_of_the_whole(
    story: Story, scores: list[float], cuts: list[int]
) -> None:
    """However a range is cut, also within an episode, every stored row is the same."""
    expected = story.told_at_once(scores)
    story.forget()
    for first, last in zip([0, *cuts], [*cuts, N], strict=True):
        story.explain(scores[first:last], first)
    assert story.told() == expected


@law
@given(before=SCORES, after=SCORES, cuts=CUTS, first=st.integers(0, N - 1))
def test_a_replay_leaves_the_rows_of_the_scores_it_leaves(
    story: Story, before: list[float], after: list[float], cuts: list[int], first: int
) -> None:
    """Late readings change the scores from some window on: nothing of before is left behind."""
    changed = [*before[:first], *after[first:]]
    expected = story.told_at_once(changed)
    story.told_at_once(before)
    edges = [first, *[cut for cut in cuts if cut > first], N]
    for start, stop in pairwise(edges):
        story.explain(changed[start:stop], start)
    assert story.told() == expected


@law
@given(scores=SCORES, span=st.tuples(st.integers(0, N - 1), st.integers(1, N)))
def test_a_range_explained_again_changes_nothing(
    story: Story, scores: list[float], span: tuple[int, int]
) -> None:
    """A range in the middle, with windows before and after it, leaves every row as it was."""
    expected = story.told_at_once(scores)
    first, last = span[0], max(span[0] + 1, span[1])
    story.explain(scores[first:last], first)
    assert story.told() == expected


def test_an_episode_is_one_row_that_develops(story: Story) -> None:
    """Window by window the same identifier stays, grows, and is over after a quarter of an hour."""
    story.forget()
    story.explain([QUIET] * 3)
    seen = []
    for number, score in enumerate([0.75, QUIET, 0.9, QUIET, QUIET, QUIET, QUIET], start=3):
        story.explain([score], number)
        ((start, identifier, end, windows, peak, ongoing, *_),) = story.told()
        assert start == some(3, 4).start_time
        assert identifier == anomaly_id("ann", some(3, 4).start)
        seen.append(((end - start) // timedelta(minutes=5), windows, peak, ongoing))
    assert seen == [
        (1, 1, 0.75, True),
        (1, 1, 0.75, True),
        (3, 2, 0.9, True),
        (3, 2, 0.9, True),
        (3, 2, 0.9, True),
        (3, 2, 0.9, True),
        (3, 2, 0.9, False),
    ]


def test_the_record_tells_the_episode_and_its_telling_window(story: Story) -> None:
    """The record holds the extent; the window explained moves only where it gets clearly worse."""
    (row,) = story.told_at_once([QUIET] * 4 + [0.75, 0.76, 0.97, 0.972] + [QUIET] * (N - 8))
    record = row[-1]
    assert record["episode_start"] == some(4, 5).start_time.isoformat()
    assert record["episode_end"] == some(7, 8).end_time.isoformat()
    assert (record["windows"], record["peak_score"], record["ongoing"]) == (4, 0.972, False)
    assert record["window_start"] == some(6, 7).start_time.isoformat()


def test_an_episode_left_ongoing_is_ended_when_its_entity_comes_back(story: Story) -> None:
    """Windows that never came count as quiet once later ones are there."""
    story.forget()
    story.explain([QUIET, 0.9])
    assert [row[5] for row in story.told()] == [True]
    story.explain([QUIET], 20)
    assert [row[5] for row in story.told()] == [False]


def test_a_window_of_an_episode_is_explained_by_itself_on_demand(
    story: Story, module_database: Database, tmp_path: Path
) -> None:
    """Forced, any window has its own identifier and extent, and nothing stored changes."""
    expected = story.told_at_once([0.9] * 6 + [QUIET] * (N - 6))
    deployment = deployment_of(module_database, tmp_path)
    at = some(2, 3)
    explanation = explain_window(deployment, deployment.entity("ann"), at.start_time)
    assert explanation.anomaly_id == anomaly_id("ann", at.start)
    assert (explanation.episode_start, explanation.episode_end) == (at.start, at.end)
    assert (explanation.windows, explanation.ongoing) == (1, False)
    assert story.told() == expected


def test_an_episode_that_is_running_is_found_whole(story: Story) -> None:
    """From its first window, however long ago, while no more than three quiet ones followed."""
    anomalous = {4, 6, *range(10, 30, 2), 33}
    story.told_at_once([0.9 if number in anomalous else QUIET for number in range(N)])
    starts = WINDOWS.starts().tolist()
    assert story.running(starts[4]) is None
    assert story.running(starts[6]) == (starts[4], starts[4])
    assert story.running(starts[32]) == (starts[4], starts[28])
    assert story.running(starts[33]) is None
    assert story.running(starts[35]) == (starts[33], starts[33])


def test_an_episode_that_is_over_is_not_running(story: Story) -> None:
    """After a quarter of an hour without an anomalous window another one begins."""
    story.told_at_once([0.9 if number in {4, 5} else QUIET for number in range(N)])
    starts = WINDOWS.starts().tolist()
    assert story.running(starts[9]) == (starts[4], starts[5])
    assert story.running(starts[10]) is None
