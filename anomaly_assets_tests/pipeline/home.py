"""A week of somebody with a catalogue file of their own, six streams that drive one another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from anomaly_assets.storage.entities import ensure_entity
from anomaly_assets.storage.partitions import ensure_partitions
from anomaly_assets.storage.results import write_windows
from anomaly_assets.streams.aggregation import MissingReason
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WindowBlock, WindowRange
from anomaly_assets_tests.detection.explanation.network.linear_processes import linear_process

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.storage.database import Database

END = datetime(2026, 3, 9, tzinfo=UTC)
WEEK = WindowRange.between(END - timedelta(days=7), END)
PROCESS = linear_process(6, 6)
CATALOGUE = """\
# Watched at home: this comment stays.
name: home
groups: [{id: body}]
streams:
  - {id: s00, type: continuous_noisy, group: body, increase_event: first_up}
  - {id: s01, type: continuous_noisy, group: body, increase_event: second_up}
  - {id: s02, type: continuous_noisy, group: body, increase_event: third_up}
  - {id: s03, type: continuous_noisy, group: body}
  - {id: s04, type: continuous_noisy, group: body}
  - {id: s05, type: continuous_noisy, group: body}
"""


def write_home(folder: Path) -> Path:
    """Write the catalogue file, and return its path."""
    path = folder / "home.yaml"
    path.write_text(CATALOGUE)
    return path


def store_week(database: Database, entity_id: str, catalogue: Path) -> None:
    """Store a week of windows of an entity with the catalogue."""
    loaded = load_catalogue(catalogue)
    block = WindowBlock(entity_id, "UTC", WEEK, PROCESS.values)
    reason = np.full(PROCESS.values.shape, int(MissingReason.NONE), dtype=np.int8)
    with database.connect() as connection:
        ensure_entity(connection, entity_id, catalogue=str(catalogue))
        ensure_partitions(connection, WEEK.start_time, WEEK.end_time)
        connection.execute(
            "UPDATE entities SET first_window = %s, aggregated_until = %s WHERE entity_id = %s",
            (WEEK.start_time, WEEK.end_time, entity_id),
        )
        write_windows(connection, block, reason, loaded)
