"""Retraining is tried where it is due, and taken over only where it does better."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from anomaly_assets.detection.individual.detector import IndividualDetector
from anomaly_assets.errors import InputError, StateError
from anomaly_assets.pipeline import models
from anomaly_assets.pipeline.quality import Quality, is_better
from anomaly_assets.pipeline.retraining import retrain, retrain_due, streams_due
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowBlock, WindowRange
from anomaly_assets_tests.pipeline.course_support import at, process, watched
from anomaly_assets_tests.pipeline.people import execute

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.database import Database


@pytest.fixture
def deployment(database: Database, tmp_path: Path) -> Deployment:
    """Return somebody with windows of five days, not scored yet, retrained on two."""
    made = watched(database, tmp_path)
    return replace(made, settings=made.settings.model_copy(update={"retrain_days": 2}))


def silence(deployment: Deployment, stream: str, since: float, until: float) -> None:
    """Have a stream missing for a while."""
    execute(
        deployment.database,
        "UPDATE time_series_data SET value = NULL, is_missing = true, missing_reason = 'absent' "
        "WHERE stream_id = %s AND timestamp >= %s AND timestamp < %s",
        stream,
        at(since),
        at(until),
    )


def test_nothing_is_due_in_ordinary_days(deployment: Deployment) -> None:
    """Streams that are there and forecast well need no retraining."""
    process(deployment, 0, 2)
    assert streams_due(deployment, deployment.entity("ann")) == {}
    assert retrain_due(deployment, who="test") == []


def test_a_stream_is_due_once_it_is_back(deployment: Deployment) -> None:
    """While a stream is away there is nothing to learn; back from a long gap, it is tried once."""
    silence(deployment, "wild", 1.2, 1.9)
    process(deployment, 0, 1.8)
    assert streams_due(deployment, deployment.entity("ann")) == {}
    process(deployment, 1.8, 2.5)
    due = streams_due(deployment, deployment.entity("ann"))
    assert list(due) == ["wild"]
    assert "missing windows" in due["wild"]

    (done,) = retrain_due(deployment, who="daily")

    assert (done.streams, done.outcome, done.version) == (("wild",), "rejected", None)
    (action,) = models.actions(deployment, "ann")
    assert (action.kind, action.who, action.outcome) == ("retrain", "daily", "rejected")
    assert set(action.details) >= {"candidate", "current", "compared_windows"}
    assert retrain_due(deployment, who="daily") == []


def test_a_stream_that_is_forecast_badly_is_due(deployment: Deployment) -> None:
    """What the health table says of accuracy decides, below the limit of the catalogue."""
    process(deployment, 0, 2)
    execute(
        deployment.database,
        "UPDATE stream_health SET accuracy = 0.7, needs_retraining = true "
        "WHERE stream_id = 'calm' AND timestamp >= %s",
        at(1.9),
    )
    due = streams_due(deployment, deployment.entity("ann"))
    assert due == {"calm": "accuracy 0.70 of late, less than 0.80"}


def test_too_little_to_learn_from_is_said(deployment: Deployment) -> None:
    """With less than a day and a half of windows nothing is retrained."""
    with pytest.raises(InputError, match="no tier1_models yet"):
        retrain(deployment, "ann", who="test", why="test")
    process(deployment, 0, 1)
    with pytest.raises(InputError, match="288 windows"):
        retrain(deployment, "ann", who="test", why="test")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"streams": ["nobody"]}, InputError),
        ({"component": "gap_patterns", "streams": ["wild"]}, InputError),
        ({"component": "nothing"}, StateError),
    ],
)
def test_what_cannot_be_retrained_is_refused(
    deployment: Deployment, options: dict[str, object], error: type[Exception]
) -> None:
    """An unknown stream or component, or one stream of a tier that learns all together."""
    process(deployment, 0, 2)
    with pytest.raises(error):
        retrain(deployment, "ann", who="test", why="test", **options)  # type: ignore[arg-type]
    assert models.actions(deployment) == []


@pytest.mark.parametrize(
    ("candidate", "current", "better"),
    [
        (Quality(100, 0.01, 0.90), Quality(100, 0.01, 1.00), True),
        (Quality(100, 0.01, 0.96), Quality(100, 0.01, 1.00), False),
        (Quality(100, 0.10, 0.90), Quality(100, 0.01, 1.00), False),
        (Quality(100, 0.01, 1.04), Quality(100, 0.10, 1.00), True),
        (Quality(100, 0.01, 1.06), Quality(100, 0.10, 1.00), False),
        (Quality(100, 0.01, None), Quality(100, 0.10, None), True),
        (Quality(100, 0.01, None), Quality(100, 0.05, None), False),
        (Quality(100, 0.01, 0.5), Quality(100, 0.01, None), False),
        (Quality(0, None, None), Quality(100, 0.50, 1.0), False),
    ],
)
def test_better_is_better_by_the_margin(
    candidate: Quality, current: Quality, *, better: bool
) -> None:
    """Smaller errors at no more alarms, or fewer alarms at no larger errors, by the margin."""
    assert is_better(candidate, current, 0.05) is better


def test_adopting_streams_leaves_the_others_alone() -> None:
    """Adopted streams score on as in the detector they come from, the others as before."""
    catalogue = load_catalogue("default")
    n = len(catalogue.streams)
    rng = np.random.default_rng(3)
    values = rng.normal(size=(700, n)).cumsum(axis=0)
    values[rng.random(values.shape) < 0.1] = np.nan

    def block(start: int, stop: int) -> WindowBlock:
        windows = WindowRange(start * WINDOW_SECONDS, stop * WINDOW_SECONDS)
        return WindowBlock("ann", "UTC", windows, values[start:stop])

    old, untouched, fresh, alone = (IndividualDetector(catalogue) for _ in range(4))
    for detector in (old, untouched):
        detector.process(block(0, 600))
    for detector in (fresh, alone):
        detector.process(block(300, 600))
    chosen = np.arange(0, n, 3)
    old.adopt(fresh, chosen)
    mixed, before, new = (one.process(block(600, 700)) for one in (old, untouched, alone))
    others = np.setdiff1d(np.arange(n), chosen)
    assert mixed.score[:, others].tobytes() == before.score[:, others].tobytes()
    assert mixed.deviation[:, chosen].tobytes() == new.deviation[:, chosen].tobytes()
    assert mixed.expected[:, chosen].tobytes() == new.expected[:, chosen].tobytes()
    assert mixed.health.availability.tobytes() == before.health.availability.tobytes()
