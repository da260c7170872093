"""Going back: states and scores agree afterwards, nothing is lost, and a kill leaves no trace."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from anomaly_assets.errors import InputError, StateError
from anomaly_assets.pipeline import models
from anomaly_assets.pipeline.degradation import watch_entity
from anomaly_assets.pipeline.retraining import retrain
from anomaly_assets.pipeline.rollback import resume_pending
from anomaly_assets.pipeline.upkeep import prune_snapshots, prune_superseded
from anomaly_assets_tests.pipeline.course_support import at, process, scores, watched
from anomaly_assets_tests.pipeline.people import execute, query
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.database import Database


@pytest.fixture
def deployment(database: Database, tmp_path: Path) -> Deployment:
    """Return somebody scored for four of five days, whose models are retrained on two."""
    made = watched(database, tmp_path)
    short = made.settings.model_copy(update={"retrain_days": 2})
    made = replace(made, settings=short)
    process(made, 0, 4)
    return made


def force(deployment: Deployment, component: str = "tier1_models") -> int:
    """Retrain as a whole whatever comes of it; returns the new version."""
    done = retrain(deployment, "ann", who="Ann", why="to see", component=component, force=True)
    assert done.version is not None
    return done.version


def newest(deployment: Deployment, component: str) -> models.ModelVersion:
    """Return the newest version of the present course."""
    found = models.list_versions(deployment, "ann", component)
    return next(one for one in found if not one.archived)


def test_versions_say_what_they_are_of(deployment: Deployment) -> None:
    """A version tells who made it, when, and of how many windows and values."""
    found = newest(deployment, "tier1_models")
    ((windows, values),) = query(
        deployment.database,
        "SELECT count(DISTINCT timestamp), count(value) FROM time_series_data WHERE timestamp < %s",
        found.as_of,
    )
    assert (found.as_of, found.learnt_from, found.created_by) == (at(4), at(0), "test")
    assert (found.learnt_windows, found.learnt_values) == (windows, values)
    assert (len(found.sha256), found.size > 1000, found.pinned_at) == (64, True, None)


def test_a_retrained_model_scores_on_from_there(deployment: Deployment) -> None:
    """Windows before a retraining keep their scores; after it, they are the retrained model's."""
    before = scores(deployment.database)
    version = force(deployment)
    process(deployment, 4, 5)
    after = scores(deployment.database)
    assert {key: after[key] for key in before} == before
    assert newest(deployment, "tier1_models").base_action is not None
    ((when,),) = query(
        deployment.database,
        "SELECT DISTINCT last_retrain_time FROM stream_health WHERE timestamp >= %s",
        at(4),
    )
    assert when == at(4)
    kept = next(one for one in models.list_versions(deployment) if one.version == version)
    assert kept.pin_reason == "base of retraining 1"


@pytest.mark.parametrize("component", models.COMPONENTS)
def test_a_replay_takes_the_recorded_step_again(deployment: Deployment, component: str) -> None:
    """Replayed from before a retraining, even without any snapshot, all rows are the same."""
    process(deployment, 4, 4.5)
    plain = scores(deployment.database)
    models.rollback(deployment, "ann", to=at(4), who="test", why="back to the fourth day")
    assert scores(deployment.database) == plain
    execute(deployment.database, "DELETE FROM model_snapshots WHERE as_of > %s", at(4))
    force(deployment, component)
    process(deployment, 4, 5)
    retrained = scores(deployment.database)
    assert any(retrained[key] != plain[key] for key in plain)
    process(deployment, 3.5, 5)
    assert scores(deployment.database) == retrained
    execute(deployment.database, "DELETE FROM model_snapshots")
    process(deployment, 4.5, 5)
    process(deployment, 3, 5)
    assert scores(deployment.database) == retrained


def test_rollback_takes_a_retraining_back(deployment: Deployment) -> None:
    """Set back to before a retraining, scores are as if it had never been, and say what changed."""
    process(deployment, 4, 5)
    never = scores(deployment.database)
    models.rollback(deployment, "ann", to=at(4), who="test", why="prepare")
    execute(deployment.database, "DELETE FROM model_snapshots WHERE as_of > %s", at(4))
    earlier = newest(deployment, "tier1_models").version
    force(deployment)
    process(deployment, 4, 5)
    retrained = scores(deployment.database)

    report = models.rollback(deployment, "ann", to=earlier, who="Bob", why="worse")

    assert scores(deployment.database) == never
    assert report.withdrawn == (2,)
    assert report.windows == 288
    changed = {key for key in never if key[0] == "score" and never[key] != retrained[key]}
    assert report.rows_changed == len(changed) > 0
    assert report.max_difference is not None
    assert report.max_difference > 0.0
    kept = query(
        deployment.database,
        "SELECT timestamp, stream_id, method, anomaly_score, confidence, expected, deviation "
        "FROM superseded_results WHERE action_id = %s",
        report.action_id,
    )
    assert {("score", *row[:3]): row[3:] for row in kept} == {
        key: retrained[key] for key in changed
    }
    action = models.actions(deployment, "ann")[0]
    assert (action.kind, action.who, action.why, action.outcome) == (
        "rollback",
        "Bob",
        "worse",
        "done",
    )
    assert action.details["rows_changed"] == report.rows_changed


def test_rollback_forward_has_a_withdrawn_retraining_stand_again(deployment: Deployment) -> None:
    """A version beside the present course can be gone back to: with it comes its retraining."""
    earlier = newest(deployment, "tier1_models").version
    version = force(deployment)
    process(deployment, 4, 5)
    retrained = scores(deployment.database)
    models.rollback(deployment, "ann", to=earlier, who="test", why="back")
    assert scores(deployment.database) != retrained

    models.rollback(deployment, "ann", to=version, who="test", why="and forth")

    assert scores(deployment.database) == retrained
    process(deployment, 3.5, 5)
    assert scores(deployment.database) == retrained


_CHILD = """
import os, signal, sys
from pathlib import Path
import anomaly_assets.pipeline.rollback as rollback
from anomaly_assets.storage.database import Database
from anomaly_assets_tests.pipeline.course_support import at
from anomaly_assets_tests.pipeline.support import deployment_of
stage, commits = int(sys.argv[3]), 0
advance = rollback.advance
def dying(*arguments):
    global commits
    for commit in advance(*arguments):
        if commits == stage:
            os.kill(os.getpid(), signal.SIGKILL)
        commits += 1
        yield commit
rollback.advance = dying
rollback.rollback(deployment_of(Database(sys.argv[1]), Path(sys.argv[2])), "ann", to=at(3.5),
                  who="child", why="to be killed")
"""


@pytest.mark.parametrize("stage", [0, 2, 5])
def test_a_killed_rollback_is_resumed(deployment: Deployment, tmp_path: Path, stage: int) -> None:
    """Killed within the replay, the rest is marked, and completed by the next upkeep."""
    force(deployment)
    process(deployment, 4, 5)
    arguments = [deployment.database.url, str(tmp_path), str(stage)]
    killed = subprocess.run([sys.executable, "-c", _CHILD, *arguments], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert models.actions(deployment, "ann")[0].outcome == "pending"
    assert len(query(deployment.database, "SELECT * FROM late_windows")) == 1

    (report,) = resume_pending(deployment)

    assert (report.failed, report.withdrawn) == ("", (1,))
    assert models.actions(deployment, "ann")[0].outcome == "done"
    assert query(deployment.database, "SELECT * FROM late_windows") == []
    resumed = scores(deployment.database)
    process(deployment, 0, 5)
    assert scores(deployment.database) == resumed
    assert resume_pending(deployment) == []


def test_a_killed_rollback_is_finished_by_an_ordinary_replay_too(
    deployment: Deployment, tmp_path: Path
) -> None:
    """Between kill and upkeep a run from the mark on leaves the same rows."""
    force(deployment)
    process(deployment, 4, 5)
    arguments = [deployment.database.url, str(tmp_path), "1"]
    subprocess.run([sys.executable, "-c", _CHILD, *arguments], check=False)
    process(deployment, 3, 5)
    replayed = scores(deployment.database)
    resume_pending(deployment_of(deployment.database, tmp_path))
    assert scores(deployment.database) == replayed


@pytest.mark.parametrize(
    ("to", "reason"), [(99999, "no version 99999"), (at(40), "has results from")]
)
def test_there_is_no_going_back_to_what_never_was(
    deployment: Deployment, to: int, reason: str
) -> None:
    """An unknown version, or a time without results, is refused and nothing is changed."""
    before = scores(deployment.database)
    with pytest.raises(InputError, match=reason):
        models.rollback(deployment, "ann", to=to, who="test", why="?")
    assert scores(deployment.database) == before
    assert models.actions(deployment) == []


def test_pinned_versions_stay(deployment: Deployment) -> None:
    """Neither retention nor a replay over it takes a pinned version away; unpinned, it goes."""
    version = models.list_versions(deployment, "ann", "gap_patterns")[-1]
    models.pin(deployment, version.version, who="Ann", why="for the paper")
    models.pin(deployment, version.version, who="Bob", why="again")
    few = {"keep_hourly_snapshots": 1, "keep_daily_snapshots": 1, "keep_monthly_snapshots": 1}
    pruning = replace(deployment, settings=deployment.settings.model_copy(update=few))
    assert prune_snapshots(pruning) > 0
    execute(
        deployment.database,
        "UPDATE time_series_data SET value = value + 1 WHERE timestamp = %s AND value IS NOT NULL",
        at(0.25),
    )
    process(deployment, 0, 2)
    found = {one.version: one for one in models.list_versions(deployment, "ann", "gap_patterns")}
    kept = found[version.version]
    assert (kept.sha256, kept.pinned_by, kept.pin_reason) == (
        version.sha256,
        "Ann",
        "for the paper",
    )
    assert [one.kind for one in models.actions(deployment)] == ["pin"]
    models.unpin(deployment, version.version, who="Ann", why="published")
    prune_snapshots(pruning)
    execute(deployment.database, "UPDATE model_archive SET archived_at = now() - interval '1 year'")
    prune_superseded(pruning)
    left = {one.version for one in models.list_versions(deployment, "ann", "gap_patterns")}
    assert version.version not in left


def test_diff_is_in_readable_figures(deployment: Deployment) -> None:
    """Two versions differ by figures of streams, as they are shown; a version not from itself."""
    new, *_, old = models.list_versions(deployment, "ann", "tier1_models")
    found = models.diff(deployment, old.version, new.version)
    by_name = {(one.stream_id, one.figure): one for one in found}
    _, shown = models.show(deployment, new.version)
    assert by_name["calm", "level"].after == shown["calm"]["level"]
    readings = by_name["wild", "readings"]
    assert readings.before is not None
    assert readings.after is not None
    assert readings.after > readings.before
    assert models.diff(deployment, new.version, new.version) == []
    gaps = newest(deployment, "gap_patterns")
    with pytest.raises(InputError, match="same component"):
        models.diff(deployment, new.version, gaps.version)


def test_verify_names_what_is_wrong_and_what_to_do(deployment: Deployment) -> None:
    """A damaged version is named with reason and advice; the others are sound."""
    assert not [one for one in models.verify(deployment) if one.reason]
    damaged = newest(deployment, "tier1_models").version
    execute(
        deployment.database,
        "UPDATE model_snapshots SET blob = set_byte(blob, 50, get_byte(blob, 50) # 4) "
        "WHERE version = %s",
        damaged,
    )
    (refused,) = [one for one in models.verify(deployment) if one.reason]
    assert (refused.version, refused.reason) == (damaged, "digest")
    assert "replay" in refused.advice


def test_a_refused_snapshot_is_on_record(deployment: Deployment) -> None:
    """What a run had to pass over is written down once, with what it went back to."""
    execute(
        deployment.database,
        "UPDATE model_snapshots SET signature = 'none' WHERE as_of = %s "
        "AND component = 'gap_patterns'",
        at(4),
    )
    process(deployment, 4, 4.5)
    process(deployment, 4, 4.5)
    (action,) = models.actions(deployment, "ann")
    assert (action.kind, action.component, action.as_of) == ("fallback", "gap_patterns", at(3))
    assert "signature" in action.why


def test_a_base_cannot_be_unpinned_while_states_go_back_to_it(deployment: Deployment) -> None:
    """Only what can be made again may go: a restored base cannot."""
    version = newest(deployment, "tier1_models").version
    models.pin(deployment, version, who="test", why="base")
    execute(
        deployment.database,
        "INSERT INTO model_actions (entity_id, component, kind, as_of, who, why, outcome, "
        "details, version_after, finished_at) VALUES ('ann', 'tier1_models', 'restore', %s, "
        "'test', 'test', 'done', '{}', %s, now())",
        at(4),
        version,
    )
    with pytest.raises(StateError, match="roll back to before it"):
        models.unpin(deployment, version, who="test", why="?")


def spoil(deployment: Deployment) -> None:
    """Have the newest retraining of tier 1 learn from the last two windows of its span only."""
    since = int(at(4).timestamp()) - 2 * 300
    execute(
        deployment.database,
        "UPDATE model_actions SET recipe = jsonb_set(recipe, '{since}', to_jsonb(%s)) "
        "WHERE kind = 'retrain'",
        since,
    )
    execute(deployment.database, "DELETE FROM model_snapshots WHERE as_of >= %s", at(4))


def test_a_change_for_the_worse_is_taken_back(deployment: Deployment) -> None:
    """A model that degrades right after a retraining gives way to the one before, on record."""
    force(deployment)
    spoil(deployment)
    process(deployment, 4, 4.25)
    tight = {"degraded_factor": 1.001, "retrain_margin": 0.001}
    strict = replace(deployment, settings=deployment.settings.model_copy(update=tight))

    found = {one.component: one for one in watch_entity(strict, "ann", who="watch")}

    degradation = found["tier1_models"]
    assert degradation.rolled_back is not None
    assert degradation.rolled_back.withdrawn == (1,)
    action = models.actions(deployment, "ann")[0]
    assert (action.kind, action.who, action.outcome) == ("rollback", "watch", "done")
    assert "degraded after action 1" in action.why
    taken_back = scores(deployment.database)
    process(deployment, 3, 4.25)
    assert scores(deployment.database) == taken_back


def test_a_changed_world_is_no_reason_to_go_back(deployment: Deployment) -> None:
    """Where the model before the change does no better, it is said, and nothing is changed."""
    force(deployment)
    execute(
        deployment.database,
        "UPDATE time_series_data SET value = value + 25 * sin(extract(epoch FROM timestamp)) "
        "WHERE timestamp >= %s AND stream_id = 'calm'",
        at(4),
    )
    process(deployment, 4, 4.5)
    tight = {"degraded_share": 0.01}
    strict = replace(deployment, settings=deployment.settings.model_copy(update=tight))
    found = {one.component: one for one in watch_entity(strict, "ann", who="watch")}
    assert "tier1_models" in found
    assert found["tier1_models"].rolled_back is None
    assert "does no better" in found["tier1_models"].suspect
    assert [one.kind for one in models.actions(deployment)] == ["retrain"]


def test_an_ordinary_week_is_no_degradation(deployment: Deployment) -> None:
    """A model that does as it did is left alone."""
    process(deployment, 4, 5)
    assert watch_entity(deployment, "ann", who="watch") == []
