"""Backups: whole or refused, restored beside what is there, never over it unasked."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING

import fsspec  # type: ignore[import-untyped]
import pytest

from anomaly_assets.errors import StorageError
from anomaly_assets.storage import archive, backup, migrate
from anomaly_assets.storage.backup import Facts
from anomaly_assets.storage.database import Database, ensure_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FACTS = Facts("1.2.3", "1.13.20", "0123456789abcdef")


@pytest.fixture
def databases(database: Database) -> Iterator[dict[str, Database]]:
    """Our database with a row, and one that stands for Dagster's, with 1,000."""
    other = Database(ensure_database(database.url, f"{database.name}_dagster"))
    with database.connect() as connection:
        connection.execute("INSERT INTO entities (entity_id) VALUES ('ann')")
    with other.connect() as connection:
        connection.execute(
            "CREATE TABLE runs AS SELECT n AS id, md5(n::text) AS body "
            "FROM generate_series(1, 1000) AS n"
        )
    both = {"anomaly_assets": database, "dagster": other}
    yield both
    for one in both.values():
        one.dispose()


def entities(database: Database) -> list[str]:
    """Return the identifiers of all entities."""
    with database.connect() as connection:
        return [row[0] for row in connection.execute("SELECT entity_id FROM entities ORDER BY 1")]


def names(database: Database) -> set[str]:
    """Return the databases of the server that belong to this one."""
    with database.connect() as connection:
        rows = connection.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (f"{database.name}_",)
        ).fetchall()
    return {row[0] for row in rows}


def test_both_databases_come_back(databases: dict[str, Database], tmp_path: Path) -> None:
    """Rows that came later are gone, those that were there are back; nothing else is left."""
    file = str(tmp_path / "b.tar")
    made = backup.back_up(databases, file, FACTS, tmp_path)
    ours = databases["anomaly_assets"]
    before = names(ours)
    with ours.connect() as connection:
        connection.execute("INSERT INTO entities (entity_id) VALUES ('bob')")
    with databases["dagster"].connect() as connection:
        connection.execute("DROP TABLE runs")
    restored = backup.restore(databases, file, tmp_path, force=True)
    assert restored == made
    assert entities(ours) == ["ann"]
    with databases["dagster"].connect() as connection:
        rows = connection.execute("SELECT count(*), bool_and(body = md5(id::text)) FROM runs")
        assert rows.fetchone() == (1000, True)
    migrate.check(ours)
    assert names(ours) == before
    assert [path.name for path in tmp_path.iterdir()] == ["b.tar"]


def test_it_is_one_moment(databases: dict[str, Database], tmp_path: Path) -> None:
    """The manifest counts the rows of the snapshot that was dumped, table by table."""
    made = backup.back_up(databases, str(tmp_path / "b.tar"), FACTS, tmp_path)
    assert made.databases["dagster"].rows == {"public.runs": 1000}
    assert made.databases["anomaly_assets"].rows["public.entities"] == 1
    assert list(made.databases) == ["dagster", "anomaly_assets"]
    assert (made.version, made.revision) == ("1.2.3", migrate.head())


def test_rows_are_not_replaced_unasked(databases: dict[str, Database], tmp_path: Path) -> None:
    """A database with rows is refused, by name and table; a migrated one without is taken."""
    file = str(tmp_path / "b.tar")
    backup.back_up(databases, file, FACTS, tmp_path)
    with pytest.raises(StorageError, match=r"not empty \(public.runs 1000\).*--force"):
        backup.restore(databases, file, tmp_path)
    for database, table in (
        (databases["dagster"], "runs"),
        (databases["anomaly_assets"], "entities"),
    ):
        with database.connect() as connection:
            connection.execute(f"DELETE FROM {table}")  # noqa: S608 - ours
    backup.restore(databases, file, tmp_path)
    assert entities(databases["anomaly_assets"]) == ["ann"]


def test_a_database_in_use_is_left_alone(databases: dict[str, Database], tmp_path: Path) -> None:
    """Who is connected is named, also with --force."""
    file = str(tmp_path / "b.tar")
    backup.back_up(databases, file, FACTS, tmp_path)
    with (
        databases["anomaly_assets"].connect(),
        pytest.raises(StorageError, match=r"in use: stop the services.*anomaly_assets \(1\)"),
    ):
        backup.restore(databases, file, tmp_path, force=True)


def test_a_backup_is_never_overwritten(databases: dict[str, Database], tmp_path: Path) -> None:
    """The second of one name is refused, the first stays."""
    file = tmp_path / "b.tar"
    backup.back_up(databases, str(file), FACTS, tmp_path)
    before = file.read_bytes()
    with pytest.raises(StorageError, match="never overwritten"):
        backup.back_up(databases, str(file), FACTS, tmp_path)
    assert file.read_bytes() == before


def test_other_places_are_taken(databases: dict[str, Database], tmp_path: Path) -> None:
    """An address of fsspec holds the same file, and no half of one."""
    address = "memory://backups/b.tar"
    backup.back_up(databases, address, FACTS, tmp_path)
    memory = fsspec.filesystem("memory")
    assert [path.rsplit("/", 1)[1] for path in memory.ls("/backups", detail=False)] == ["b.tar"]
    assert backup.verify(address, tmp_path).revision == migrate.head()
    memory.rm("/backups", recursive=True)
    with pytest.raises(StorageError, match="there is no file"):
        backup.verify(address, tmp_path)


def test_unusable_places_are_named_without_their_password(
    databases: dict[str, Database], tmp_path: Path
) -> None:
    """An unknown kind of place is an error of one line, in which no secret is."""
    with pytest.raises(StorageError, match="fsspec") as caught:
        backup.back_up(databases, "nowhere://ann:hush@host/b.tar", FACTS, tmp_path)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("at", [0.02, 0.5, 0.9])
def test_a_damaged_backup_is_refused(
    databases: dict[str, Database], tmp_path: Path, at: float
) -> None:
    """Wherever a byte has changed, nothing is touched."""
    file = tmp_path / "b.tar"
    backup.back_up(databases, str(file), FACTS, tmp_path)
    content = bytearray(file.read_bytes())
    # The tar's own end is padding, in which nothing is.
    content[int(at * (len(content) - 10_240))] ^= 0x40
    file.write_bytes(content)
    with pytest.raises(StorageError, match=r"damaged|whole backup|no backup|does not know"):
        backup.restore(databases, str(file), tmp_path, force=True)
    assert entities(databases["anomaly_assets"]) == ["ann"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6])
def test_a_cut_backup_is_refused(
    databases: dict[str, Database], tmp_path: Path, share: float
) -> None:
    """Half a file is none."""
    file = tmp_path / "b.tar"
    backup.back_up(databases, str(file), FACTS, tmp_path)
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(StorageError, match=r"b\.tar"):
        backup.restore(databases, str(file), tmp_path, force=True)
    assert entities(databases["anomaly_assets"]) == ["ann"]


def test_a_backup_of_a_newer_version_is_refused(
    databases: dict[str, Database], tmp_path: Path
) -> None:
    """A revision that is not known here, and a format that is not: who can read it is said."""
    file = tmp_path / "b.tar"
    backup.back_up(databases, str(file), FACTS, tmp_path)
    changes: list[tuple[dict[str, object], str]] = [
        ({"revision": "9999"}, "1.2.3"),
        ({"format": 2}, "has format 2"),
    ]
    for change, message in changes:
        changed = tmp_path / "changed.tar"
        changed.write_bytes(_with_manifest(file, change))
        with pytest.raises(StorageError, match=message):
            backup.restore(databases, str(changed), tmp_path, force=True)


def _with_manifest(file: Path, change: dict[str, object]) -> bytes:
    sink, changed = io.BytesIO(), b""
    with tarfile.open(file) as source, tarfile.open(fileobj=sink, mode="w") as target:
        for entry in source:
            content = source.extractfile(entry)
            assert content is not None
            data = content.read()
            if entry.name == "manifest.json":
                data = changed = json.dumps({**json.loads(data), **change}).encode()
            elif entry.name == "manifest.sha256":
                data = hashlib.sha256(changed).hexdigest().encode()
            entry.size = len(data)
            target.addfile(entry, io.BytesIO(data))
    return sink.getvalue()


def test_a_failed_restore_changes_nothing(
    databases: dict[str, Database], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came back differs from what was counted: it is not used, and removed."""
    file = str(tmp_path / "b.tar")
    backup.back_up(databases, file, FACTS, tmp_path)
    before = names(databases["anomaly_assets"])
    monkeypatch.setattr(backup, "_rows", lambda _: {})
    with pytest.raises(
        StorageError, match=r"differs from the backup in public\.runs; it is not used"
    ):
        backup.restore(databases, file, tmp_path, force=True)
    assert entities(databases["anomaly_assets"]) == ["ann"]
    assert names(databases["anomaly_assets"]) == before


def test_nothing_is_no_backup(empty_database_url: str, tmp_path: Path) -> None:
    """A database without our tables is not backed up as if it held something."""
    databases = {"anomaly_assets": Database(empty_database_url)}
    with pytest.raises(StorageError, match="nothing to back up"):
        backup.back_up(databases, str(tmp_path / "b.tar"), FACTS, tmp_path)


def test_addresses_are_shown_without_passwords() -> None:
    """What is printed and logged holds no user and no password."""
    assert archive.shown("sftp://ann:hush@host/b.tar") == "sftp://host/b.tar"
    assert archive.shown("/backups/a@b.tar") == "/backups/a@b.tar"
