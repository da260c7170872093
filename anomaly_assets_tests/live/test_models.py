"""Episodes that go on are the episodes that are found afterwards."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from anomaly_assets.detection.explanation.episodes import joined
from anomaly_assets.live.models import RunningEpisode
from anomaly_assets.streams.windows import WINDOW_SECONDS


@given(st.sets(st.integers(0, 40), min_size=1))
def test_each_window_belongs_to_the_episode_that_dagster_joins(windows: set[int]) -> None:
    """Window by window the start is known that the whole is given later."""
    starts = np.array(sorted(windows)) * WINDOW_SECONDS
    expected = [starts[part][0] for part in joined(starts) for _ in starts[part]]
    episode = RunningEpisode(int(starts[0]), int(starts[0]))
    found = []
    for start in starts.tolist():
        episode = episode.followed_by(start)
        found.append(episode.start)
    assert found == expected
