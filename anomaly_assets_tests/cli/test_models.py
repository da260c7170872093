"""``models``, as a shell calls it, and the job that looks after them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from anomaly_assets.pipeline import models
from anomaly_assets.settings import settings
from anomaly_assets_tests.cli.test_commands import call, deployed, refused
from anomaly_assets_tests.pipeline.course_support import at, process, watched
from anomaly_assets_tests.pipeline.people import execute, query

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.database import Database


@pytest.fixture
def deployment(database: Database, tmp_path: Path) -> Iterator[Deployment]:
    """Return the settings' deployment with somebody scored for two days."""
    with deployed(database, tmp_path):
        made = watched(database, tmp_path)
        process(made, 0, 2)
        yield made


def newest(deployment: Deployment, component: str = "tier1_models") -> int:
    """Return the newest version of the present course."""
    found = models.list_versions(deployment, "ann", component)
    return next(one.version for one in found if not one.archived)


def test_list_and_show_say_what_there_is(deployment: Deployment) -> None:
    """The list has all versions of a component; one of them is shown with its streams."""
    listed = call("models", "list", "--entity", "ann", "--component", "tier1_models", "--json")
    assert [one["as_of"] for one in listed.document] == [f"{at(day).isoformat()}" for day in (2, 1)]
    number = newest(deployment)
    shown = call("models", "show", number, "--json").document
    assert shown["learnt_windows"] == 2 * 288
    assert set(shown["streams"]) == {"calm", "wild", "visits"}
    assert "calm" in call("models", "show", number).out
    assert str(number) in call("models", "list").out


def test_diff_prints_figures(deployment: Deployment) -> None:
    """Two versions differ in levels and readings."""
    new, old = models.list_versions(deployment, "ann", "tier1_models")[:2]
    found = call("models", "diff", old.version, new.version, "--json").document
    assert {"level", "readings"} <= {one["figure"] for one in found}
    assert "no figure" in call("models", "diff", new.version, new.version).out


def test_pin_and_unpin_go_on_record(deployment: Deployment) -> None:
    """Who pinned a version and why is shown with it."""
    number = newest(deployment, "gap_patterns")
    pinned = call("models", "pin", number, "--why", "keep", "--by", "Ann", "--json").document
    assert (pinned["pinned_by"], pinned["pin_reason"]) == ("Ann", "keep")
    assert "Ann" in call("models", "list").out
    assert call("models", "unpin", number, "--by", "Ann", "--json").document["pinned_by"] is None
    kinds = [one["kind"] for one in call("models", "actions", "--json").document]
    assert kinds[:2] == ["unpin", "pin"]
    assert "unpin" in call("models", "actions").out


def test_retrain_and_rollback_report_what_changed(deployment: Deployment) -> None:
    """A forced retraining is a version; rolling back to before it takes it back."""
    before = newest(deployment)
    done = call("models", "retrain", "ann", "--stream", "wild", "--force", "--json").document
    assert (done["outcome"], done["streams"]) == ("done", ["wild"])
    process(deployment, 2, 2.5)
    report = call("models", "rollback", "ann", "--to", before, "--why", "test", "--json").document
    assert report["withdrawn"] == [done["action_id"]]
    assert report["windows"] == 144
    assert report["failed"] == ""
    assert "replayed" in call("models", "rollback", "ann", "--to", before, "--why", "again").out
    assert "no version 99999" in refused(
        "models", "rollback", "ann", "--to", "99999", "--why", "test"
    )


def test_verify_exits_with_one_when_something_is_refused(deployment: Deployment) -> None:
    """Each refusal has its reason and advice; a sound database exits with 0."""
    assert call("models", "verify").code == 0
    number = newest(deployment)
    saved = query(
        deployment.database, "SELECT sha256 FROM model_snapshots WHERE version = %s", number
    )
    execute(
        deployment.database,
        "UPDATE model_snapshots SET sha256 = repeat('0', 64) WHERE version = %s",
        number,
    )
    outcome = call("models", "verify", "--json")
    assert outcome.code == 1
    (found,) = outcome.document["refused"]
    assert (found["version"], found["reason"]) == (number, "signature")
    assert "What to do" in call("models", "verify").out
    execute(
        deployment.database,
        "UPDATE model_snapshots SET sha256 = %s WHERE version = %s",
        saved[0][0],
        number,
    )


def test_backup_verify_and_restore(deployment: Deployment, tmp_path: Path) -> None:
    """A backup is made, verified and restored from the same address."""
    url = (tmp_path / "backups").as_uri()
    made = call("models", "backup", "--to", url, "--json").document
    assert made["snapshots"] >= 3
    assert call("models", "verify", "--from", url).code == 0
    again = call("models", "restore", "--from", url, "--json").document
    assert (again["restored"], again["refused"]) == (0, [])
    execute(deployment.database, "DELETE FROM model_snapshots WHERE component = 'gap_patterns'")
    assert "1 models restored" in call("models", "restore", "--from", url).out
    assert "no complete backup" in refused("models", "restore", "--from", tmp_path / "nothing")


def test_the_job_looks_after_models(deployment: Deployment) -> None:
    """What is pending is completed and everything is judged, as one Dagster run."""
    from anomaly_assets.assets.partitions import DAYS  # noqa: PLC0415 - reads the test's settings
    from anomaly_assets.definitions import defs  # noqa: PLC0415 - as above

    execute(
        deployment.database,
        "INSERT INTO model_actions (entity_id, kind, as_of, who, why, outcome, details) "
        "VALUES ('ann', 'rollback', %s, 'test', 'left', 'pending', %s)",
        at(1.5),
        f'{{"since": {int(at(1.5).timestamp())}, "withdrawn": []}}',
    )
    with dg.DagsterInstance.ephemeral() as instance:
        result = defs.resolve_job_def("look_after_models").execute_in_process(instance=instance)
        backed_up = defs.resolve_job_def("back_up_models").execute_in_process(
            instance=instance, partition_key=DAYS.get_first_partition_key()
        )
    assert result.success
    assert [one for one in models.actions(deployment) if one.outcome == "pending"] == []
    assert backed_up.success
    (check,) = backed_up.get_asset_check_evaluations()
    assert check.passed
    assert list((settings().home / "backups").iterdir())
