"""The meta-learner's asset on a real instance: says what it did and why, and what was stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from anomaly_assets.assets.meta_learner import describe_trainings
from anomaly_assets.detection.feedback.labelled import Effect
from anomaly_assets.detection.feedback.training import Validation
from anomaly_assets.pipeline import feedback, meta_learner
from anomaly_assets.pipeline.in_force import FeedbackHistory
from anomaly_assets.pipeline.meta_learner import Training, train_meta_learners
from anomaly_assets_tests.assets.test_causal_network import execute_job
from anomaly_assets_tests.pipeline.habits import START, WINDOWS, judge_everything, process_days
from anomaly_assets_tests.pipeline.people import execute, query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.database import Database

BETTER = Validation(0.5, 0.9, Effect(3, 1, 2, 2), 6, 2)
WORSE = Validation(0.9, 0.5, Effect(3, 1, 2, 1), 6, 2)


@pytest.fixture(scope="module")
def processed(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Share the processed days, judged."""
    deployment = process_days(module_database, tmp_path_factory.mktemp("home"))
    judge_everything(deployment)
    return deployment


@pytest.fixture
def days(processed: Deployment) -> Iterator[Deployment]:
    """Return the judged days, with few labels being enough."""
    settings = processed.settings
    object.__setattr__(processed, "settings", settings.model_copy(update={"meta_least_labels": 3}))
    yield processed
    object.__setattr__(processed, "settings", settings)
    execute(processed.database, "TRUNCATE feedback_versions, window_decisions")


def train(deployment: Deployment) -> Training:
    """Train the only meta-learner there is."""
    (one,) = train_meta_learners(deployment, deployment.entities())
    return one


def test_too_few_labels_are_said_on_the_page(processed: Deployment) -> None:
    """The run is a success, and nothing was stored."""
    metadata, _ = execute_job(processed, "train_meta_learner")
    assert (metadata["dagster/row_count"], metadata["judged_alarms"]) == (0, 8)
    assert "3 confirmed and 5 false alarms are judged; 20 of each" in metadata["meta_learners"]
    assert query(processed.database, "SELECT count(*) FROM feedback_versions") == [(0,)]


def test_it_takes_over_where_better_and_falls_back_where_worse(
    days: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in force opens again, bit by bit; once later labels speak against it, A stands."""
    pytest.importorskip("sktime")
    monkeypatch.setattr(Validation, "is_better", lambda *_: True)
    took = train(days)
    assert took.version is not None, took.why
    assert took.version.label_ids == [1, 6, 2, 3, 7, 4, 8, 5]
    assert "option B takes over" in took.why
    entity = days.entity("ann")
    with days.database.connect() as connection:
        history = FeedbackHistory.read(connection, entity, days.key)
        stranger = FeedbackHistory.read(connection, entity, b"another key of another deployment")
    now = history.at(WINDOWS.end)
    assert now is not None
    assert now.forest is not None
    assert history.at(WINDOWS.end - 300) is None
    assert stranger.at(WINDOWS.end) is None
    assert train(days).version is None
    monkeypatch.setattr(Validation, "is_better", lambda *_: False)
    monkeypatch.setattr(meta_learner, "_worse", lambda *_: "it lost one")
    back = train(days)
    assert back.version is not None
    assert back.why == "back to option A: it lost one"
    with days.database.connect() as connection:
        assert FeedbackHistory.read(connection, entity, days.key).at(WINDOWS.end) is None


def test_option_b_is_taken_back(days: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reverting its version lets option A speak again, at once."""
    pytest.importorskip("sktime")
    monkeypatch.setattr(Validation, "is_better", lambda *_: True)
    monkeypatch.setattr(meta_learner, "_from", lambda *_: START)
    version = train(days).version
    assert version is not None
    feedback.revert(days, version.feedback_id, "Ann")
    assert query(days.database, "SELECT count(*) FROM window_decisions") == [(0,)]
    assert [one.status for one in feedback.versions(days, "ann")] == ["reverted", "active"]


def test_a_missing_library_leaves_option_a(
    days: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the extra nothing fails: it is said, and nothing changes."""

    def missing(*_: object, **__: object) -> None:
        msg = "No module named 'sktime'"
        raise ImportError(msg)

    monkeypatch.setattr(meta_learner, "train", missing)
    one = train(days)
    assert (one.version, one.why) == (None, "option A stands: No module named 'sktime'")


def test_the_page_tells_both_options() -> None:
    """Average precision of each, and what was decided."""
    one = Training("meta:x", ("ann", "bob"), 4, 5, BETTER, None, "option B stays", 1.5)
    shown = {name: value.value for name, value in describe_trainings([one]).items()}
    assert "| ann, bob | 4 | 5 | 0.50 | 0.90 | option B stays |" in str(shown["meta_learners"])
    assert BETTER.is_better(0.05)
    assert not BETTER.is_better(0.5)
    assert not WORSE.is_better(0.0)
