"""Bring the database's schema to the version of this code, and back."""

from __future__ import annotations

from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from anomaly_assets.errors import StorageError
from anomaly_assets.storage.database import Database, DatabaseUnreachableError
from anomaly_assets.storage.tables import Base

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

_LOCK = 0x616E6F6D_6D696772
_SCRIPTS = Path(__file__).parent / "migrations"


def upgrade(database: Database | str, revision: str = "head") -> None:
    """Migrate up to `revision`; several processes may do so at once.

    Raises
    ------
    DatabaseUnreachableError
        If the server does not answer.
    StorageError
        If a newer version of the code has migrated the database.
    """
    with _locked(database) as (config, _):
        command.upgrade(config, revision)


def downgrade(database: Database | str, revision: str) -> None:
    """Migrate down to `revision`; ``base`` removes every table and all data.

    What later revisions have added is lost; everything else is kept.

    Raises
    ------
    StorageError
        If a newer version of the code has migrated the database.
    """
    with _locked(database) as (config, _):
        command.downgrade(config, revision)


def current(database: Database | str) -> str | None:
    """Return the schema's revision, or None of a database without our tables."""
    with _connection(database) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head() -> str:
    """Return the revision this code needs."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        msg = f"no migrations in {_SCRIPTS}: the installation is incomplete, install it again"
        raise StorageError(msg)
    return revision


def revisions() -> list[str]:
    """Return the revisions that this code knows, the first one first."""
    walked = ScriptDirectory.from_config(_config()).walk_revisions()
    return [script.revision for script in walked][::-1]


def check(database: Database | str) -> None:
    """Make sure that the database has the schema of this code.

    Raises
    ------
    StorageError
        If its revision is another one, or a table differs from its model; the message says how.
    """
    found, needed = current(database), head()
    _require_known(found)
    if found != needed:
        msg = (
            f"the database is at revision {found or 'none'}, this code needs {needed}; "
            "run: anomaly-assets migrate"
        )
        raise StorageError(msg)
    with _connection(database) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, Base.metadata)
    if differences:
        listed = "\n".join(f"  {difference}" for difference in differences)
        msg = f"the tables are not those of revision {needed}; somebody altered them:\n{listed}"
        raise StorageError(msg)


def _require_known(revision: str | None) -> None:
    if revision is not None and revision not in revisions():
        msg = (
            f"the database is at revision {revision}, and anomaly-assets {_version()} knows none "
            f"after {head()}: a newer version has migrated it. Install that version again; to go "
            f"back for good, let it run `anomaly-assets migrate --to {head()}` first, or restore "
            "a backup of before the upgrade"
        )
        raise StorageError(msg)


def _version() -> str:
    try:
        return version("anomaly-assets")
    except PackageNotFoundError:
        return "(not installed)"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _database(database: Database | str) -> Database:
    return Database(database) if isinstance(database, str) else database


@contextmanager
def _connection(database: Database | str) -> Iterator[Connection]:
    engine = create_engine(_database(database).sqlalchemy_url())
    try:
        with engine.connect() as connection:
            yield connection
    except OperationalError as error:
        msg = f"{_database(database)!r}: {error.orig}; is the server up, is DATABASE_URL right?"
        raise DatabaseUnreachableError(msg) from error
    finally:
        engine.dispose()


@contextmanager
def _locked(database: Database | str) -> Iterator[tuple[Config, Connection]]:
    config = _config()
    with _connection(database) as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
        connection.commit()
        try:
            _require_known(MigrationContext.configure(connection).get_current_revision())
            config.attributes["connection"] = connection
            yield config, connection
            connection.commit()
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
            connection.commit()
