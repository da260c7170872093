"""A seeded deployment of its own for each test, to be broken."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from anomaly_assets.settings import Settings
from anomaly_assets.storage.database import Database, ensure_database
from anomaly_assets_tests.doctor.patient import Patient
from anomaly_assets_tests.live.sources.servers import Mosquitto, RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anomaly_assets_tests.monitoring.seeded import Seeded

_NAME = "patient"


@pytest.fixture
def patient(
    seeded: Seeded, server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Patient]:
    """Copy databases and home folder of the seeded deployment."""
    for suffix in ("", "_dagster"):
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                    sql.Identifier(_NAME + suffix), sql.Identifier(seeded.database.name + suffix)
                )
            )
    home = tmp_path / "home"
    shutil.copytree(seeded.settings.home, home)
    url = ensure_database(server_url, _NAME)
    for name in ("DAGSTER_POSTGRES_URL", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("ANOMALY_ASSETS_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    database = Database(url)
    lateness = seeded.settings.allowed_lateness
    settings = Settings(_env_file=None, home=home, database_url=url, allowed_lateness=lateness)
    alive = Patient(settings, database, Database(database.dagster_url()))
    # The seeded deployment is as old as the session of tests; a daemon's sign of life must not be.
    alive.dagster_sql("UPDATE daemon_heartbeats SET timestamp = now() AT TIME ZONE 'UTC'")
    yield alive
    with psycopg.connect(server_url, autocommit=True) as connection:
        for suffix in ("", "_dagster"):
            connection.execute(
                sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(_NAME + suffix))
            )


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Return a running Redis."""
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """Return a running broker."""
    (tmp_path / "mqtt").mkdir()
    server = Mosquitto(tmp_path / "mqtt")
    server.start()
    yield server
    server.kill()
