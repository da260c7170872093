"""A small deployment with simulated readings, and the fingerprint of all its rows."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets.pipeline.whole import process
from anomaly_assets.settings import Settings
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.storage.database import Database

#: Every table that holds results, with the columns that do not tell when they were written.
RESULTS = {
    "time_series_data": "*",
    "anomaly_scores": "*",
    "stream_health": "*",
    "gap_patterns": "*",
    "causal_explanations": "entity_id, timestamp, anomaly_id, episode_end, windows, peak_score, "
    "ongoing, summary, mode, trigger, "
    "primary_cause, confidence, causal_attribution, temporal_sequence, evidence, "
    "alternative_explanations, recommended_action, record",
}


def deployment_of(database: Database, home: Path) -> Deployment:
    """Return a deployment whose settings do not depend on the machine."""
    settings = Settings(_env_file=None, home=home, database_url=database.url)
    return Deployment(settings, database, run_id="test")


def fingerprint(database: Database) -> dict[str, tuple[int, str]]:
    """Return number of rows and digest of every table of results, floats to the last bit."""
    found = {}
    with database.connect() as connection:
        for table, columns in RESULTS.items():
            query = f"SELECT {columns} FROM {table} ORDER BY 1, 2, 3, 4"  # noqa: S608 - constants
            digest = hashlib.sha256()
            rows = 0
            with connection.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT") as copy:
                for row in copy.rows():
                    digest.update(repr(row).encode())
                    rows += 1
            found[table] = (rows, digest.hexdigest())
    return found


def process_in_parts(deployment: Deployment, windows: WindowRange, size: int) -> None:
    """Process a range in consecutive parts of `size` windows."""
    step = size * WINDOW_SECONDS
    for start in range(windows.start, windows.end, step):
        for _ in process(deployment, WindowRange(start, min(start + step, windows.end))):
            pass
    assert not deployment.failures
