"""How far the pipeline has come, and taking late readings in after all."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from anomaly_assets.storage import journal
from anomaly_assets.streams.windows import window_of

if TYPE_CHECKING:
    from anomaly_assets.pipeline.deployment import Deployment


def range_of_readings(deployment: Deployment) -> tuple[datetime, datetime] | None:
    """Return first window and end of the last window that any reading falls into."""
    with deployment.database.connect() as connection:
        row = connection.execute(
            "SELECT min(first_window), max(last_reading_at) FROM entities"
        ).fetchone()
    if row is None or row[0] is None or row[1] is None:
        return None
    return row[0], window_of(row[1]) + timedelta(minutes=5)


def last_window(deployment: Deployment) -> datetime | None:
    """Return the end of the last window taken into the aggregate, of any entity."""
    with deployment.database.connect() as connection:
        row = connection.execute("SELECT max(aggregated_until) FROM entities").fetchone()
    return None if row is None else row[0]


def accept_late(deployment: Deployment, start: datetime) -> int:
    """Take readings from `start` on that came beyond the horizon into the aggregate after all.

    Returns
    -------
    int
        How many there were. The windows from `start` on have to be processed again.
    """
    with deployment.database.connect() as connection:
        return sum(
            journal.reopen(connection, entity.entity_id, start) for entity in deployment.entities()
        )
