"""Create what is missing in the database: Dagster's own database, its tables and ours.

Run once, before the services: several of them creating the same tables at once would collide.
"""

from __future__ import annotations

import os

from dagster import DagsterInstance

from anomaly_assets.storage.database import Database, ensure_database
from anomaly_assets.storage.migrate import upgrade


def main() -> None:
    """Prepare the databases of ``DATABASE_URL`` and ``DAGSTER_POSTGRES_URL``; safe to repeat."""
    url = os.environ["DATABASE_URL"]
    ensure_database(url, Database(os.environ["DAGSTER_POSTGRES_URL"]).name)
    upgrade(url)
    with DagsterInstance.get() as instance:
        instance.upgrade()


if __name__ == "__main__":
    main()
