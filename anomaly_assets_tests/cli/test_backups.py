"""``backup``, ``restore`` and ``migrate`` as an operator uses them: everything lost, and back."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from anomaly_assets.settings import settings
from anomaly_assets.storage import migrate
from anomaly_assets.storage.database import Database
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange
from anomaly_assets_tests.cli.test_commands import call, deployed, refused
from anomaly_assets_tests.pipeline.people import WINDOWS, execute, load_people, query, run
from anomaly_assets_tests.pipeline.support import deployment_of, fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BEFORE = WindowRange(WINDOWS.start, WINDOWS.end - WINDOW_SECONDS)
NEXT = WindowRange(BEFORE.end, WINDOWS.end)


@pytest.fixture
def deployment(database: Database, tmp_path: Path) -> Iterator[Database]:
    """Return the database of a deployment of the settings, Dagster's own beside it."""
    home = tmp_path / "home"
    home.mkdir()
    with deployed(database, home):
        assert call("migrate").code == 0
        yield database


def destroy(database: Database) -> None:
    """Remove both databases, as if the disk had been lost."""
    with Database(database.sibling_url("postgres")).connect() as connection:
        for name in (database.name, f"{database.name}_dagster"):
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_everything_destroyed_and_restored(deployment: Database, tmp_path: Path) -> None:
    """Rows are identical, the signing key is recognised, and the next window scores the same."""
    load_people(deployment, ["ann"])
    run(deployment_of(deployment, settings().home), BEFORE)
    file = tmp_path / "kept" / "backup.tar"
    said = call("backup", "--to", file, "--json").document
    before = fingerprint(deployment)
    readings = query(deployment, "SELECT count(*), sum(value) FROM readings")
    run(deployment_of(deployment, settings().home), NEXT)
    expected = fingerprint(deployment)
    assert expected != before

    destroy(deployment)
    shutil.rmtree(settings().home / "dagster")
    restored = call("restore", "--from", file, "--json")
    assert restored.code == 0, restored.err
    assert restored.document["key_is_the_same"] is True
    assert restored.document["databases"] == said["databases"]
    assert fingerprint(deployment) == before
    assert query(deployment, "SELECT count(*), sum(value) FROM readings") == readings
    migrate.check(deployment)
    assert call("migrate", "--check").code == 0

    load_people(deployment, ["ann"])
    run(deployment_of(deployment, settings().home), NEXT)
    assert fingerprint(deployment) == expected


def test_a_folder_gets_a_file_named_by_the_time(deployment: Database, tmp_path: Path) -> None:
    """The last sign decides; what is printed says what is not in the file."""
    del deployment
    said = call("backup", "--to", f"{tmp_path}/kept/").out
    (file,) = (tmp_path / "kept").iterdir()
    assert file.name.startswith("anomaly-assets-20")
    assert file.stat().st_mode & 0o777 == 0o600
    assert str(file) in said
    assert "not in it: the signing key" in said


def test_another_key_is_noticed(deployment: Database, tmp_path: Path) -> None:
    """Models will be rebuilt then, and that is said; the key itself is not in the file."""
    del deployment
    file = tmp_path / "backup.tar"
    call("backup", "--to", file)
    key = (settings().home / "signing.key").read_bytes().strip()
    assert key not in file.read_bytes()
    (settings().home / "signing.key").write_text("another-key-of-enough-characters")
    said = call("restore", "--from", file, "--check")
    assert "whole, nothing changed" in said.out
    assert "the signing key here is not that of the backup" in said.out


def test_rows_are_kept_unless_forced(deployment: Database, tmp_path: Path) -> None:
    """Without --force a line says why not; with it what came after the backup is gone."""
    file = tmp_path / "backup.tar"
    call("backup", "--to", file)
    execute(deployment, "INSERT INTO entities (entity_id) VALUES ('bob')")
    assert "not empty" in refused("restore", "--from", file)
    assert call("restore", "--from", file, "--force").code == 0
    assert query(deployment, "SELECT count(*) FROM entities") == [(0,)]
    assert "there is no file" in refused("restore", "--from", tmp_path / "none.tar")


class TestMigrate:
    """``migrate``: up, down when told twice, and looking only."""

    def test_up_is_the_default_and_may_be_repeated(self, deployment: Database) -> None:
        """It says where the schema is; --check agrees."""
        del deployment
        assert f"is at revision {migrate.head()}" in call("migrate").out
        assert call("migrate", "--check", "--json").document == {
            "revision": migrate.head(),
            "was": migrate.head(),
            "needed": migrate.head(),
        }

    def test_down_has_to_be_confirmed(self, deployment: Database) -> None:
        """Nothing happens without --yes where nobody can be asked; and --check then refuses."""
        earlier = migrate.revisions()[-2]
        assert "add --yes" in refused("migrate", "--to", earlier)
        assert migrate.current(deployment) == migrate.head()
        assert f"to {earlier}" in call("migrate", "--to", earlier, "--yes").out
        assert migrate.current(deployment) == earlier
        assert "run: anomaly-assets migrate" in refused("migrate", "--check")
        assert call("migrate").code == 0
        migrate.check(deployment)

    def test_an_unknown_revision_is_answered_with_the_known(self, deployment: Database) -> None:
        """A slip of the fingers changes nothing."""
        del deployment
        assert "known are 0001" in refused("migrate", "--to", "1")
        assert "leave out --to" in refused("migrate", "--to", "0001", "--check")

    def test_a_newer_schema_is_refused(self, deployment: Database) -> None:
        """Every command says so in a line, and what to do."""
        execute(deployment, "UPDATE alembic_version SET version_num = '9999'")
        for command in (("migrate",), ("migrate", "--check"), ("status",)):
            assert "a newer version has migrated it" in refused(*command)
