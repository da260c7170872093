"""Back up the databases of a deployment into one file, and bring them back."""

from __future__ import annotations

import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql

from anomaly_assets.errors import StorageError
from anomaly_assets.storage import archive, migrate
from anomaly_assets.storage.archive import ROLES, Dump, Manifest, dump_file
from anomaly_assets.storage.database import Database, ensure_database
from anomaly_assets.storage.postgres_tools import find_program, run_program

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from anomaly_assets.storage.database import Connection

_SCRATCH: Final = "_restoring"
_ASIDE: Final = "_before_restore"
_PATIENCE_SECONDS: Final = 30.0
_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^(pg_|_?timescaledb)'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e'
                  AND d.classid = 'pg_class'::regclass)
ORDER BY 1, 2
"""
_SESSIONS = """
SELECT coalesce(nullif(application_name, ''), 'unnamed'), count(*) FROM pg_stat_activity
WHERE datname = %s AND pid <> pg_backend_pid() AND backend_type = 'client backend' GROUP BY 1
"""


@dataclass(frozen=True)
class Facts:
    """What a backup says of the deployment besides its rows.

    Parameters
    ----------
    version, dagster_version
        Of the code and of Dagster.
    key_fingerprint
        Fingerprint of the signing key.
    """

    version: str
    dagster_version: str
    key_fingerprint: str


def back_up(databases: Mapping[str, Database], url: str, facts: Facts, work: Path) -> Manifest:
    """Write a backup of the databases, each as of one moment, while everything goes on.

    Parameters
    ----------
    databases
        By role, see :data:`ROLES`. One that is not on the server is left out.
    url
        Path, or address of fsspec, of the file to make.
    facts
        What to note of the deployment.
    work
        Folder with room for the dumps while they are made.

    Raises
    ------
    StorageError
        If a program of PostgreSQL is missing or fails, or the file is there already or cannot be
        written. There is no half-written backup.
    """
    dumps: dict[str, Dump] = {}
    revision = migrate.current(databases["anomaly_assets"])
    if revision is None:
        msg = f"{databases['anomaly_assets']!r} has no tables of ours: there is nothing to back up"
        raise StorageError(msg)
    with _folder(work) as folder, databases["anomaly_assets"].connect() as connection:
        server = connection.info.server_version // 10_000
        for role in ROLES:
            if role in databases and _exists(connection, databases[role].name):
                dumps[role] = _dump(databases[role], folder / dump_file(role))
        manifest = Manifest(
            archive.FORMAT,
            datetime.now(tz=UTC).isoformat(timespec="seconds"),
            facts.version,
            revision,
            facts.dagster_version,
            server,
            facts.key_fingerprint,
            dumps,
        )
        archive.put(archive.pack(manifest, folder), url)
    return manifest


def verify(url: str, work: Path) -> Manifest:
    """Fetch a backup and make sure that it is whole, without changing anything."""
    with _folder(work) as folder:
        return _fetch(url, folder)


def restore(
    databases: Mapping[str, Database], url: str, work: Path, *, force: bool = False
) -> Manifest:
    """Bring the databases back to what a backup holds.

    Everything is restored beside what is there and counted; only then the databases change
    places, so that a restore that fails has changed nothing.

    Parameters
    ----------
    databases
        By role, see :data:`ROLES`; they need not exist.
    url
        Path, or address of fsspec, of the backup.
    work
        Folder with room for the dumps.
    force
        Replace databases that have rows, too. What they hold is lost.

    Raises
    ------
    StorageError
        If the backup is damaged or of a newer version, a database has rows and `force` is not
        given, somebody is connected, or restoring fails.
    """
    with _folder(work) as folder:
        manifest = _fetch(url, folder)
        if manifest.revision not in migrate.revisions():
            msg = (
                f"{archive.shown(url)} was made by anomaly-assets {manifest.version} at revision "
                f"{manifest.revision}, which this version does not know; restore it with that one"
            )
            raise StorageError(msg)
        targets = {role: databases[role] for role in ROLES if role in manifest.databases}
        for database in targets.values():
            _require_free(database, force=force)
        restored: list[Database] = []
        try:
            for role, database in targets.items():
                dump = manifest.databases[role]
                restored.append(_beside(database, _SCRATCH))
                _load(database, dump, folder / dump_file(role))
            for database in targets.values():
                _swap(database)
        finally:
            for scratch in restored:
                _drop(scratch)
    return manifest


def _fetch(url: str, folder: Path) -> Manifest:
    file = folder / "fetched.tar"
    archive.get(url, file)
    manifest = archive.unpack(file, folder, archive.shown(url))
    file.unlink()
    return manifest


@contextmanager
def _folder(work: Path) -> Iterator[Path]:
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="backup-", dir=work) as folder:
        yield Path(folder)


def _dump(database: Database, file: Path) -> Dump:
    with database.connect() as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        (snapshot,) = connection.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
        program = find_program("pg_dump", connection.info.server_version // 10_000)
        arguments = ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}"]
        run_program(program, database, [*arguments, f"--file={file}"])
        return Dump(
            database.name,
            file.stat().st_size,
            archive.digest_of(file),
            _timescaledb(connection),
            _rows(connection),
        )


def _rows(connection: Connection) -> dict[str, int]:
    counts = {}
    for schema, table in connection.execute(_TABLES).fetchall():
        query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))
        (counts[f"{schema}.{table}"],) = connection.execute(query).fetchone() or (0,)
    return counts


def _timescaledb(connection: Connection) -> str | None:
    row = connection.execute(
        "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"
    ).fetchone()
    return None if row is None else str(row[0])


def _exists(connection: Connection, name: str) -> bool:
    row = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
    return row is not None


def _beside(database: Database, suffix: str) -> Database:
    return Database(database.sibling_url(f"{database.name}{suffix}"))


def _maintenance(database: Database) -> Database:
    """Return the server's own database: one that is renamed must not be connected to."""
    return Database(database.sibling_url("postgres"))


def _require_free(database: Database, *, force: bool) -> None:
    with _maintenance(database).connect() as connection:
        if not _exists(connection, database.name):
            return
        sessions = connection.execute(_SESSIONS, (database.name,)).fetchall()
    if sessions:
        who = ", ".join(f"{name} ({number})" for name, number in sessions)
        msg = f"database {database.name} is in use: stop the services first; connected: {who}"
        raise StorageError(msg)
    with database.connect() as connection:
        # Bookkeeping of Dagster and of the migrations is in every fresh database.
        rows = {
            table: number
            for table, number in _rows(connection).items()
            if number and table.removeprefix("public.") not in _BOOKKEEPING
        }
    if rows and not force:
        listed = ", ".join(f"{table} {number}" for table, number in list(rows.items())[:5])
        msg = (
            f"database {database.name} is not empty ({listed}); --force replaces it, and what it "
            "holds is lost"
        )
        raise StorageError(msg)


_BOOKKEEPING: Final = frozenset(
    {"alembic_version", "daemon_heartbeats", "instance_info", "kvs", "secondary_indexes"}
)


def _load(database: Database, dump: Dump, file: Path) -> None:
    scratch = _beside(database, _SCRATCH)
    _drop(scratch)
    ensure_database(_maintenance(database).url, scratch.name)
    with scratch.connect() as connection:
        program = find_program("pg_restore", connection.info.server_version // 10_000)
        _before_timescaledb(connection, dump)
    run_program(program, scratch, ["--no-owner", "--no-privileges", "--exit-on-error", str(file)])
    with scratch.connect() as connection:
        if dump.timescaledb is not None:
            connection.execute("SELECT timescaledb_post_restore()")
        found = _rows(connection)
        connection.execute("ANALYZE")
    if found != dump.rows:
        names = {*found, *dump.rows}
        wrong = ", ".join(sorted(n for n in names if found.get(n) != dump.rows.get(n)))
        msg = f"the restored {dump.name} differs from the backup in {wrong}; it is not used"
        raise StorageError(msg)


def _before_timescaledb(connection: Connection, dump: Dump) -> None:
    if dump.timescaledb is None:
        return
    try:
        connection.execute(
            sql.SQL("CREATE EXTENSION IF NOT EXISTS timescaledb VERSION {}").format(
                sql.Literal(dump.timescaledb)
            )
        )
    except psycopg.Error as error:
        msg = (
            f"the backup needs TimescaleDB {dump.timescaledb}, and the server does not have it: "
            f"{str(error).strip()}; restore with that version, then update the extension"
        )
        raise StorageError(msg) from error
    if _timescaledb(connection) != dump.timescaledb:
        msg = (
            f"the backup needs TimescaleDB {dump.timescaledb}, the server makes databases with "
            f"{_timescaledb(connection)}; restore with the former, then update the extension"
        )
        raise StorageError(msg)
    connection.execute("SELECT timescaledb_pre_restore()")


def _swap(database: Database) -> None:
    scratch, aside = _beside(database, _SCRATCH), _beside(database, _ASIDE)
    _drop(aside)
    with _maintenance(database).connect() as connection:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            # Whoever came in the meantime, and the workers of TimescaleDB.
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN (%s, %s)",
                (scratch.name, database.name),
            )
            try:
                _rename(connection, database.name, aside.name, scratch.name)
                break
            except psycopg.Error as error:
                used = isinstance(error, psycopg.errors.ObjectInUse)
                if not used or time.monotonic() > deadline:
                    msg = (
                        f"database {database.name} cannot change places: {str(error).strip()}; it "
                        "is as it was: stop what uses it, and restore again"
                    )
                    raise StorageError(msg) from error
    _drop(aside)


def _rename(connection: Connection, name: str, aside: str, scratch: str) -> None:
    """Put one database in another's place; both names change, or none."""
    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
    with connection.transaction():
        if _exists(connection, name):
            connection.execute(rename.format(sql.Identifier(name), sql.Identifier(aside)))
        connection.execute(rename.format(sql.Identifier(scratch), sql.Identifier(name)))


def _drop(database: Database) -> None:
    with suppress(psycopg.OperationalError), _maintenance(database).connect() as connection:
        connection.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database.name))
        )
