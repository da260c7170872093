"""Backups: signed, whole or none, and back from them to the same rows."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import fsspec  # type: ignore[import-untyped]
import pytest

from anomaly_assets.errors import InputError, SnapshotRefusedError, StorageError
from anomaly_assets.pipeline import backups, models
from anomaly_assets_tests.pipeline.course_support import at, process, scores, watched
from anomaly_assets_tests.pipeline.people import execute, query

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.database import Database


@pytest.fixture
def deployment(database: Database, tmp_path: Path) -> Deployment:
    """Return somebody scored for two days, with a label."""
    made = watched(database, tmp_path)
    process(made, 0, 2)
    execute(
        database,
        "INSERT INTO labels (entity_id, start_time, end_time, verdict, author) "
        "VALUES ('ann', %s, %s, 'expected', 'Ann')",
        at(1),
        at(1.1),
    )
    return made


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return an empty place for backups, of each kind."""
    if request.param == "file":
        yield (tmp_path / "places" / "backups").as_uri()
        return
    yield "memory://backups"
    files = fsspec.filesystem("memory")
    if files.exists("/backups"):
        files.rm("/backups", recursive=True)


def test_after_all_models_are_lost_a_backup_brings_them_back(
    deployment: Deployment, url: str
) -> None:
    """Restored, the models are those that were, labels are there, and scoring goes on alike."""
    process(deployment, 2, 3)
    undisturbed = scores(deployment.database)
    models.rollback(deployment, "ann", to=at(2), who="test", why="prepare")
    process(deployment, 0, 2)
    pinned = models.list_versions(deployment, "ann", "tier1_models")[-1]
    models.pin(deployment, pinned.version, who="Ann", why="the first")
    made = backups.backup(deployment, url=url, who="test")
    assert (made.entities, made.rows["labels"]) == (1, 1)
    assert made.snapshots == 4
    execute(deployment.database, "TRUNCATE model_snapshots, model_archive, model_pins, labels")

    report = backups.restore(deployment, url=url, who="test")

    assert (report.restored, report.refused, report.rows["labels"]) == (4, (), 1)
    assert scores(deployment.database) == undisturbed
    found = {one.sha256: one for one in models.list_versions(deployment, "ann", "tier1_models")}
    assert found[pinned.sha256].pin_reason == "the first"
    kinds = [one.kind for one in models.actions(deployment, "ann")]
    assert kinds.count("restore") == 3
    process(deployment, 1.5, 3)
    assert scores(deployment.database) == undisturbed


def test_restoring_twice_is_restoring_once(deployment: Deployment, url: str) -> None:
    """What is there already is left alone, labels and decisions too."""
    backups.backup(deployment, url=url, who="test")
    report = backups.restore(deployment, url=url, who="test")
    assert (report.restored, report.present, report.replayed) == (0, 3, ())
    assert set(report.rows.values()) == {0}
    assert models.actions(deployment) == []


def test_a_new_deployment_takes_over_somebody(
    deployment: Deployment, database: Database, url: str
) -> None:
    """Somebody whose every row is gone comes back with catalogue, models and labels."""
    before = models.list_versions(deployment)[0]
    backups.backup(deployment, url=url, who="test")
    tables = query(
        database,
        "SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' "
        "AND column_name = 'entity_id'",
    )
    for (table,) in tables:
        execute(database, f"DELETE FROM {table} WHERE entity_id = 'ann'")  # noqa: S608 - from the schema
    assert backups.restore(deployment, url=url, who="test").restored == 3
    assert deployment.entity("ann").catalogue.name == "pair"
    assert before.sha256 in {one.sha256 for one in models.list_versions(deployment)}


def test_a_backup_without_its_list_is_none(deployment: Deployment, url: str) -> None:
    """A kill before the list is written leaves the backup before it as the newest one."""
    first = backups.backup(deployment, url=url, who="test")
    second = backups.backup(deployment, url=url, who="test")
    place = backups.folder(deployment, url)
    assert place.names() == [second.name, first.name]
    files, root = fsspec.core.url_to_fs(url)
    files.rm(f"{root}/{second.name}/manifest.json")
    assert backups.folder(deployment, url).newest() == first.name
    assert backups.restore(deployment, url=url, who="test").name == first.name


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("flip", "digest"),
        ("truncate", "digest"),
        ("remove", "digest"),
        ("swap", "digest"),
    ],
)
def test_damaged_models_are_refused_and_the_others_restored(
    deployment: Deployment, url: str, damage: str, reason: str
) -> None:
    """Each file is verified by itself; what fails is left out, named, with what to do."""
    made = backups.backup(deployment, url=url, who="test")
    files, root = fsspec.core.url_to_fs(url)
    paths = sorted(files.glob(f"{root}/{made.name}/snapshots/*/*"))
    content = files.cat_file(paths[0])
    if damage == "remove":
        files.rm(paths[0])
    else:
        changed = {
            "flip": bytes([content[0] ^ 1]) + content[1:],
            "truncate": content[:-100],
            "swap": files.cat_file(paths[1]),
        }[damage]
        files.pipe_file(paths[0], changed)
    execute(deployment.database, "TRUNCATE model_snapshots")
    (refused,) = [one for one in backups.verify_backup(deployment, url) if one.reason]
    assert (refused.reason, refused.advice != "") == (reason, True)
    report = backups.restore(deployment, url=url, who="test")
    assert (report.restored, report.refused) == (2, (refused,))


@pytest.mark.parametrize("damage", ["unsigned", "edited", "no list", "another key"])
def test_a_list_that_cannot_be_trusted_changes_nothing(
    deployment: Deployment, url: str, damage: str
) -> None:
    """Whoever edits the list breaks its signature: nothing of the backup is used."""
    made = backups.backup(deployment, url=url, who="test")
    files, root = fsspec.core.url_to_fs(url)
    path = f"{root}/{made.name}/manifest.json"
    document = json.loads(files.cat_file(path))
    if damage == "unsigned":
        document["signature"] = ""
    elif damage == "edited":
        document["tables"][0]["rows"] += 1
    elif damage == "another key":
        (deployment.settings.home / "signing.key").write_text("b" * 64)
        vars(deployment).pop("key")
    files.pipe_file(path, b"no list" if damage == "no list" else json.dumps(document).encode())
    execute(deployment.database, "DELETE FROM labels")
    with pytest.raises(SnapshotRefusedError):
        backups.restore(deployment, url=url, who="test")
    assert query(deployment.database, "SELECT * FROM labels") == []
    assert models.actions(deployment) == []


def test_old_backups_are_deleted_but_never_the_newest(deployment: Deployment, url: str) -> None:
    """Retention goes by the time in the name, and leaves the newest complete one whatever it is."""
    first = backups.backup(deployment, url=url, who="test")
    second = backups.backup(deployment, url=url, who="test")
    place = backups.folder(deployment, url)
    now = at(0).replace(year=2100)
    assert place.prune(now - timedelta(days=30)) == [first.name]
    assert place.names() == [second.name]
    assert place.prune(now) == []


def test_only_what_was_asked_for_is_restored(deployment: Deployment, url: str) -> None:
    """Somebody the backup does not know is refused; somebody it knows comes alone."""
    backups.backup(deployment, url=url, who="test")
    with pytest.raises(InputError, match="nothing of 'bob'"):
        backups.restore(deployment, url=url, entity_id="bob", who="test")
    execute(deployment.database, "TRUNCATE model_snapshots")
    assert backups.restore(deployment, url=url, entity_id="ann", who="test").restored == 3


@pytest.mark.parametrize("address", ["nonsense://somewhere", "s3://key:secret@nowhere/backups"])
def test_an_address_that_cannot_be_used_is_said_without_its_secret(
    deployment: Deployment, address: str
) -> None:
    """The error names the setting and keeps the password."""
    with pytest.raises(StorageError, match="ANOMALY_ASSETS_BACKUP_URL") as caught:
        backups.backup(deployment, url=address, who="test")
    assert "secret" not in str(caught.value)


def test_decisions_come_back(deployment: Deployment, url: str) -> None:
    """A suggestion that was decided about stays so, also where it is open again."""
    execute(
        deployment.database,
        "INSERT INTO suggestions (entity_id, kind, subject, payload, support, first_seen, "
        "last_seen, status, decided_at, decided_by) "
        "VALUES ('ann', 'edge', 'calm -> wild', '{}', 0.9, %s, %s, 'rejected', %s, 'Ann')",
        at(1),
        at(1),
        at(1.5),
    )
    backups.backup(deployment, url=url, who="test")
    execute(
        deployment.database,
        "UPDATE suggestions SET status = 'open', decided_at = NULL, decided_by = NULL",
    )
    assert backups.restore(deployment, url=url, who="test").rows["suggestions"] == 1
    found = query(deployment.database, "SELECT status, decided_by FROM suggestions")
    assert found == [("rejected", "Ann")]
