"""Addresses for every client, and connections that fail with a useful message."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from anomaly_assets.errors import SettingsError, StorageError
from anomaly_assets.storage.database import Database, connect_again, ensure_database

if TYPE_CHECKING:
    from pathlib import Path

SPACED = "postgresql://ann@/watch?host=%2Ftmp%2Fwith%20space"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_each_client_gets_its_driver(scheme: str) -> None:
    """Whatever scheme is given, libpq, SQLAlchemy and Dagster get theirs."""
    database = Database(f"{scheme}://ann:p%40ss@db.example:5433/watch")
    assert database.url == "postgresql://ann:p%40ss@db.example:5433/watch"
    assert database.sqlalchemy_url().startswith("postgresql+psycopg://ann:p%40ss@")
    assert database.dagster_url().startswith("postgresql+psycopg2://ann:p%40ss@")
    assert database.dagster_url().endswith("/watch_dagster")


def test_blank_in_a_socket_folder_survives() -> None:
    """SQLAlchemy and libpq understand the same folder."""
    database = Database(SPACED)
    assert "%20" in database.url
    assert make_url(database.dagster_url()).query["host"] == "/tmp/with space"  # noqa: S108
    assert psycopg.conninfo.conninfo_to_dict(database.url)["host"] == "/tmp/with space"  # noqa: S108


@pytest.mark.parametrize("url", ["sqlite:///x.db", "nonsense", "postgresql://ann@db.example"])
def test_other_urls_are_refused(url: str) -> None:
    """Only the URL of a PostgreSQL database is accepted."""
    with pytest.raises(SettingsError, match="DATABASE_URL"):
        Database(url)


def test_password_is_never_shown() -> None:
    """Neither the representation nor the error of a failed connection holds the password."""
    database = Database("postgresql://ann:secret@127.0.0.1:1/watch")
    assert "secret" not in repr(database)
    with pytest.raises(StorageError, match="DATABASE_URL") as caught, database.connect():
        pass
    assert "secret" not in str(caught.value)
    # The pipeline tells an unreachable server from other failures by this type.
    assert isinstance(caught.value, psycopg.OperationalError)


def test_database_is_made_once_by_several_processes(server_url: str) -> None:
    """Concurrent creation of one database succeeds for all."""
    with ThreadPoolExecutor(3) as pool:
        urls = list(pool.map(lambda _: ensure_database(server_url, "made twice"), range(3)))
    assert len(set(urls)) == 1
    with Database(urls[0]).connect() as connection:
        assert connection.execute("SELECT current_database()").fetchone() == ("made twice",)


def test_connections_are_in_utc_and_commit_at_once(database: Database) -> None:
    """Sessions speak UTC, and a statement outside of a transaction is durable."""
    with database.connect() as connection:
        assert connection.execute("SHOW TimeZone").fetchone() == ("UTC",)
        connection.execute("INSERT INTO entities (entity_id) VALUES ('e')")
    with database.connect() as connection, connect_again(connection) as second:
        assert second.execute("SELECT count(*) FROM entities").fetchone() == (1,)


def test_sqlalchemy_connects_with_psycopg_3(database: Database) -> None:
    """The engine works on the same address, socket folder included."""
    with database.engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    assert database.engine.driver == "psycopg"
    database.dispose()


def test_missing_file_of_a_socket_is_said_so(tmp_path: Path) -> None:
    """A stopped embedded server gives the same error as any other one."""
    with (
        pytest.raises(StorageError, match="is the server up"),
        Database(f"postgresql://ann@/watch?host={tmp_path}").connect(),
    ):
        pass
