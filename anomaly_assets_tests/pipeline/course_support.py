"""Somebody with two noisy streams, one of which changes its ways: cheap to process for weeks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from anomaly_assets.pipeline.rollback import reprocess
from anomaly_assets.storage.entities import ensure_entity
from anomaly_assets.storage.partitions import ensure_partitions
from anomaly_assets.storage.results import write_windows
from anomaly_assets.streams.aggregation import MissingReason
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowBlock, WindowRange, day_blocks
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.database import Database

START = datetime(2026, 3, 2, tzinfo=UTC)
DAYS = 5
WINDOWS = WindowRange.between(START, START + timedelta(days=DAYS))
CATALOGUE = """\
name: pair
groups: [{id: body}]
streams:
  - {id: calm, type: continuous_smooth, group: body}
  - {id: wild, type: continuous_noisy, group: body}
  - {id: visits, type: discrete_events, group: body}
"""


def at(day: float) -> datetime:
    """Return a time, in days since the first window."""
    return START + timedelta(days=day)


def window(day: float) -> int:
    """Return a window, in days since the first one, as epoch seconds."""
    return int(at(day).timestamp()) // WINDOW_SECONDS * WINDOW_SECONDS


def watched(
    database: Database, folder: Path, entity_id: str = "ann", *, seed: int = 1
) -> Deployment:
    """Store five days of windows of somebody, and return the deployment; nothing is scored yet."""
    path = folder / "pair.yaml"
    path.write_text(CATALOGUE)
    n = len(WINDOWS)
    rng = np.random.default_rng(seed)
    calm = 60.0 + np.cumsum(rng.normal(size=n)) * 0.3
    wild = 20.0 + rng.normal(size=n)
    visits = rng.poisson(3.0, size=n).astype(np.float64)
    values = np.stack([calm, wild, visits], axis=1)
    values[rng.random(values.shape) < 0.05] = np.nan
    block = WindowBlock(entity_id, "UTC", WINDOWS, values)
    reasons = np.where(np.isnan(values), MissingReason.ABSENT, MissingReason.NONE).astype(np.int8)
    catalogue = load_catalogue(path)
    with database.connect() as connection:
        ensure_entity(connection, entity_id, catalogue=str(path))
        ensure_partitions(connection, WINDOWS.start_time, WINDOWS.end_time)
        connection.execute(
            "UPDATE entities SET first_window = %s, aggregated_until = %s, last_reading_at = %s "
            "WHERE entity_id = %s",
            (WINDOWS.start_time, WINDOWS.end_time, WINDOWS.end_time, entity_id),
        )
        write_windows(connection, block, reasons, catalogue)
    return deployment_of(database, folder)


def process(deployment: Deployment, since: float, until: float, entity_id: str = "ann") -> None:
    """Take stored windows from tier 1 to the explanations, day by day."""
    for block in day_blocks(WindowRange.between(at(since), at(until))):
        reprocess(deployment, deployment.reread(entity_id), block)
    assert not deployment.failures, deployment.failures


def scores(database: Database, entity_id: str = "ann") -> dict[tuple[object, ...], object]:
    """Return every score and health row of an entity by its key."""
    found: dict[tuple[object, ...], object] = {}
    with database.connect() as connection:
        for row in connection.execute(
            "SELECT timestamp, stream_id, method, anomaly_score, confidence, expected, deviation "
            "FROM anomaly_scores WHERE entity_id = %s",
            (entity_id,),
        ):
            found["score", *row[:3]] = row[3:]
        for row in connection.execute(
            "SELECT timestamp, stream_id, accuracy, needs_retraining, last_retrain_time "
            "FROM stream_health WHERE entity_id = %s",
            (entity_id,),
        ):
            found["health", *row[:2]] = row[2:]
    return found
