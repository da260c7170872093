"""The Dagster instance of a deployment, started from anywhere with the same environment."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

import anomaly_assets
from anomaly_assets.errors import SettingsError
from anomaly_assets.settings import DAGSTER_ENVIRONMENT
from anomaly_assets.storage.database import ensure_database
from anomaly_assets.storage.migrate import upgrade

if TYPE_CHECKING:
    from anomaly_assets.settings import Settings
    from anomaly_assets.storage.database import Database


def prepare(settings: Settings, database: Database) -> dict[str, str]:
    """Bring database and Dagster home up to date, and return the environment Dagster needs.

    Parameters
    ----------
    settings
        The deployment's settings.
    database
        Its database; Dagster's own is created beside it.

    Returns
    -------
    dict
        Environment variables for every process that runs Dagster.
    """
    upgrade(database.url)
    ensure_database(database.url, f"{database.name}_dagster")
    home = (settings.home / "dagster").resolve()
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(dagster_yaml(), home / "dagster.yaml")
    return {
        **DAGSTER_ENVIRONMENT,
        "DAGSTER_HOME": str(home),
        "DAGSTER_POSTGRES_URL": database.dagster_url(),
        "DATABASE_URL": database.url,
        # Where the address came from a file: both at once would be refused.
        "DATABASE_URL_FILE": "",
        "ANOMALY_ASSETS_HOME": str(settings.home.resolve()),
    }


def open_instance(environment: dict[str, str]) -> dg.DagsterInstance:
    """Open the Dagster instance that `environment` describes, in this process."""
    os.environ.update(environment)
    return dg.DagsterInstance.get()


def upgrade_instance(environment: dict[str, str]) -> None:
    """Bring Dagster's own tables to the version of the installed Dagster."""
    with open_instance(environment) as instance:
        instance.upgrade()


def dagster_yaml() -> Path:
    """Return the configuration of Dagster's instance that comes with this version.

    Raises
    ------
    SettingsError
        If the installation is incomplete.
    """
    # Inside the package in an installed wheel, beside it in a checkout.
    package = Path(anomaly_assets.__file__).parent
    for candidate in (package / "dagster.yaml", package.parent / "dagster.yaml"):
        if candidate.exists():
            return candidate
    msg = f"no dagster.yaml in {package} or beside it; reinstall anomaly-assets"
    raise SettingsError(msg)
