"""Where there is something to process, and where nothing is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from anomaly_assets.pipeline.replay import stretches_with_readings
from anomaly_assets.storage.entities import ensure_entity
from anomaly_assets.storage.journal import append_readings
from anomaly_assets.streams.aggregation import Readings
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WindowRange
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.storage.database import Database

FIRST = datetime(2026, 1, 5, 12, tzinfo=UTC)
LATER = datetime(2026, 6, 1, 12, tzinfo=UTC)


def test_months_between_recordings_are_left_out(database: Database, tmp_path: Path) -> None:
    """A range over two recordings months apart is two stretches, each up to the dormant time."""
    catalogue = load_catalogue("default")
    with database.connect() as connection:
        for entity_id, moment in (("ann", FIRST), ("bob", LATER)):
            ensure_entity(connection, entity_id)
            reading = Readings(
                np.array([0]), np.array([int(moment.timestamp()) * 10**6]), np.array([1.0])
            )
            append_readings(
                connection,
                entity_id,
                reading,
                catalogue,
                source="test",
                late_horizon=timedelta(hours=24),
            )
    whole = WindowRange.between(FIRST, LATER + timedelta(hours=1))

    stretches = stretches_with_readings(deployment_of(database, tmp_path), whole)

    assert stretches == [
        WindowRange.between(FIRST, datetime(2026, 1, 13, tzinfo=UTC)),
        WindowRange.between(datetime(2026, 6, 1, tzinfo=UTC), LATER + timedelta(hours=1)),
    ]
