"""A year of readings of one simulated person, put into the journal."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import numpy as np

from anomaly_assets.evaluation.simulator import simulate
from anomaly_assets.storage.database import Database
from anomaly_assets.storage.entities import ensure_entity
from anomaly_assets.storage.journal import append_readings
from anomaly_assets.streams.aggregation import Readings
from anomaly_assets.streams.loading import load_catalogue

START = datetime(2025, 1, 1, tzinfo=UTC)
PERSON = "person-1"
#: Rows an append takes at once, as the import of files does.
AT_ONCE = 100_000


def load(url: str, days: int) -> tuple[int, float]:
    """Simulate and append; return the number of readings and the seconds appending took."""
    frame = simulate(1, [PERSON], start=START, days=days).readings
    catalogue = load_catalogue("default")
    stream = frame["stream_id"].astype(str).map(catalogue.index).to_numpy(np.int64)
    microseconds = frame["timestamp"].dt.as_unit("us").astype("int64").to_numpy()
    value = frame["value"].to_numpy()
    with Database(url).connect() as connection:
        ensure_entity(connection, PERSON)
        began = time.perf_counter()
        for first in range(0, len(value), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            append_readings(
                connection,
                PERSON,
                Readings(stream[part], microseconds[part], value[part]),
                catalogue,
                source="benchmark",
                late_horizon=timedelta(hours=24),
            )
        return len(value), time.perf_counter() - began
