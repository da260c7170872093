"""Fixtures of the automation's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from anomaly_assets.automation.instance import open_instance, prepare
from anomaly_assets.settings import settings
from anomaly_assets_tests.automation.support import Live

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anomaly_assets.storage.database import Database


@pytest.fixture
def live(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    """Return a deployment with a Dagster instance of its own on the test's PostgreSQL."""
    monkeypatch.setenv("DATABASE_URL", database.url)
    monkeypatch.setenv("ANOMALY_ASSETS_HOME", str(tmp_path))
    settings.cache_clear()
    environment = prepare(settings(), database)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with open_instance(environment) as instance:
        yield Live(database, instance)
    settings.cache_clear()
