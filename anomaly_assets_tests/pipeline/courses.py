"""Somebody whose anomalies go one way: three streams rise, minutes apart; but one goes another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from anomaly_assets.storage import journal
from anomaly_assets.storage.entities import ensure_entity
from anomaly_assets.streams.aggregation import Readings
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WindowRange
from anomaly_assets_tests.pipeline.people import run
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.database import Database

START = datetime(2026, 3, 2, tzinfo=UTC)
MINUTES = 24 * 60
WINDOWS = WindowRange.between(START, START + timedelta(minutes=MINUTES))
#: When the first stream rises, minutes after the start.
ONSETS = (12 * 60 + 1, 16 * 60 + 1, 20 * 60 + 1)
#: Minutes by which each stream rises after the first one.
DELAYS = (0, 2, 3)
LASTS = 20
#: When another course begins, in which two other streams and then the pulse rise.
OTHER_ONSET = 18 * 60 + 1
OTHER_STREAMS = (3, 4, 2)
#: Each time it is more than the last time: what has been seen once is less of an anomaly.
HEIGHTS = (20.0, 80.0, 320.0)
CATALOGUE = """\
name: bath
groups: [{id: room}, {id: body}]
streams:
  - {id: humidity, type: continuous_noisy, group: room, increase_event: humidity_up}
  - {id: warmth, type: continuous_noisy, group: room, increase_event: warmth_up}
  - {id: pulse, type: continuous_noisy, group: body, increase_event: pulse_up}
  - {id: sound, type: continuous_noisy, group: room}
  - {id: light, type: continuous_noisy, group: room, increase_event: light_up}
templates:
  - name: lamp
    title: Lamp switched on
    steps:
      - {event: light_up}
      - {event: pulse_up, offset_minutes: 3}
    recommended_action: Switch the lamp off again.
"""


def write_catalogue(folder: Path) -> Path:
    """Write the catalogue file, and return its path."""
    path = folder / "bath.yaml"
    path.write_text(CATALOGUE)
    return path


def store_readings(database: Database, entity_id: str, catalogue: Path) -> None:
    """Put a day of readings into the journal, one a minute of every stream."""
    loaded = load_catalogue(catalogue)
    n_streams = len(loaded.streams)
    values = np.random.default_rng(5).normal(50.0, 1.0, (MINUTES, n_streams))
    for onset, height in zip(ONSETS, HEIGHTS, strict=True):
        for stream, delay in enumerate(DELAYS):
            values[onset + delay : onset + LASTS, stream] += height
    for stream, delay in zip(OTHER_STREAMS, DELAYS, strict=True):
        values[OTHER_ONSET + delay : OTHER_ONSET + LASTS, stream] += HEIGHTS[2]
    microseconds = (int(START.timestamp()) + 60 * np.arange(MINUTES)) * 1_000_000
    readings = Readings(
        np.tile(np.arange(n_streams), MINUTES), np.repeat(microseconds, n_streams), values.ravel()
    )
    with database.connect() as connection:
        ensure_entity(connection, entity_id, catalogue=str(catalogue))
        journal.append_readings(
            connection,
            entity_id,
            readings,
            loaded,
            source="test",
            late_horizon=timedelta(hours=24),
        )


def process_day(database: Database, home: Path) -> Deployment:
    """Process the day of somebody called ann, and return the deployment."""
    store_readings(database, "ann", write_catalogue(home))
    deployment = deployment_of(database, home)
    run(deployment, WINDOWS)
    assert not deployment.failures
    return deployment


def at(minute: int) -> datetime:
    """Return the time so many minutes after the start."""
    return START + timedelta(minutes=minute)
