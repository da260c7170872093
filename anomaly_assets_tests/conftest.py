"""Fixtures shared by all tests: a real PostgreSQL, and the environment Dagster should have."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from anomaly_assets.storage import migrate
from anomaly_assets.storage.database import Database, ensure_database
from anomaly_assets.storage.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly_assets_tests.monitoring.seeded import Seeded

os.environ["DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS"] = "1"
os.environ["DAGSTER_EVENT_BATCH_SIZE"] = "1000"
os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
os.environ["DO_NOT_TRACK"] = "1"

_TEMPLATE = "template_anomaly_assets"
_numbers = itertools.count()
#: Linux's file system in memory, and what all that a test process keeps there has room in.
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - each process has a folder of its own there
_ROOM_BYTES = 4_000_000_000
#: Fixtures that take seconds to make: whoever uses one runs in the same test process.
_SHARED = ("seeded", "pages", "module_database")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With ``--dist loadgroup``, have each expensive fixture made by one process only."""
    for item in items:
        names = getattr(item, "fixturenames", ())
        shared = next((name for name in _SHARED if name in names), None)
        if shared is None or item.get_closest_marker("xdist_group"):
            continue
        group = item.location[0] if shared == "module_database" else shared
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """URL of an embedded PostgreSQL of this test process, without durability, for speed."""
    # Not pytest's own temporary folder: that one is closed to the user the server runs as under
    # root.
    folder = Path(tempfile.mkdtemp(prefix="anomaly-assets-tests-", dir=_memory()))
    unsafe = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
    server = EmbeddedServer(folder, settings=unsafe)
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _memory() -> Path | None:
    """Return a folder in memory, if it has room: there a copy takes a twentieth of the time."""
    if not _SHARED_MEMORY.is_dir() or not os.access(_SHARED_MEMORY, os.W_OK):
        return None
    free = shutil.disk_usage(_SHARED_MEMORY).free
    return _SHARED_MEMORY if free > _ROOM_BYTES else None


@pytest.fixture(scope="session")
def template(server_url: str) -> str:
    """Name of a migrated database without rows, to be copied."""
    migrate.upgrade(ensure_database(server_url, _TEMPLATE))
    return _TEMPLATE


@pytest.fixture
def empty_database_url(server_url: str) -> Iterator[str]:
    """URL of a fresh database without any table."""
    yield from _fresh(server_url, "template1")


@pytest.fixture
def database_url(server_url: str, template: str) -> Iterator[str]:
    """URL of a fresh, migrated database."""
    yield from _fresh(server_url, template)


@pytest.fixture
def database(database_url: str) -> Database:
    """Return a fresh, migrated database."""
    return Database(database_url)


@pytest.fixture(scope="module")
def module_database(server_url: str, template: str) -> Iterator[Database]:
    """Share one migrated database between the tests of a module."""
    for url in _fresh(server_url, template):
        yield Database(url)


def _fresh(server_url: str, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(
            # Copied as files: a third of the time of PostgreSQL's default, which logs every page.
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
    yield ensure_database(server_url, name)
    with psycopg.connect(server_url, autocommit=True) as connection:
        for doomed in (name, f"{name}_dagster"):
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(doomed))
            )


@pytest.fixture(scope="session")
def seeded(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    """Return a deployment with data and runs up to now, which no test changes."""
    # Imports Dagster, which most tests do without.
    from anomaly_assets_tests.monitoring.seeded import seed  # noqa: PLC0415

    database = Database(ensure_database(server_url, "seeded"))
    migrate.upgrade(database)
    with pytest.MonkeyPatch.context() as patch:
        return seed(database, tmp_path_factory.mktemp("seeded"), patch)
