"""From the settings to an open database."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from anomaly_assets.storage.database import Database
from anomaly_assets.storage.embedded import EmbeddedServer

if TYPE_CHECKING:
    from anomaly_assets.settings import Settings


def embedded_server(settings: Settings) -> EmbeddedServer:
    """Return the embedded server of a deployment that names no database of its own."""
    return EmbeddedServer(settings.home / "postgres")


def connect_database(settings: Settings) -> Database:
    """Return the deployment's database: `DATABASE_URL`, or the embedded server, started if need be.

    Raises
    ------
    StorageError
        If neither can be had; the message says what to install or set.
    """
    if settings.database_url is not None:
        return Database(settings.database_url)
    return Database(embedded_server(settings).start())


def dagster_database(database: Database) -> Database:
    """Return Dagster's own database: `DAGSTER_POSTGRES_URL`, or the one beside the deployment's."""
    return Database(os.environ.get("DAGSTER_POSTGRES_URL") or database.dagster_url())
