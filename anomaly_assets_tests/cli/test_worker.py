"""``anomaly-assets worker`` where it cannot start: what is missing is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from anomaly_assets.cli import app
from anomaly_assets.errors import SettingsError
from anomaly_assets.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anomaly_assets.storage.database import Database


@pytest.fixture(autouse=True)
def deployed(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Point the settings to a database of the test."""
    monkeypatch.setenv("DATABASE_URL", database.url)
    monkeypatch.setenv("ANOMALY_ASSETS_HOME", str(tmp_path))
    settings.cache_clear()
    yield
    settings.cache_clear()


def test_without_celery_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    monkeypatch.setattr("anomaly_assets.cli.worker.find_spec", lambda _: None)
    result = CliRunner().invoke(app, ["worker"])
    assert isinstance(result.exception, SettingsError)
    assert "pip install anomaly-assets[celery]" in str(result.exception)


def test_without_a_broker_it_says_what_to_set() -> None:
    """The settings that name one are told before anything is started."""
    result = CliRunner().invoke(app, ["worker"])
    assert isinstance(result.exception, SettingsError)
    assert "ANOMALY_ASSETS_CELERY_BROKER_URL=redis://" in str(result.exception)
