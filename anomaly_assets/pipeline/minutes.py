"""Readings of the journal as one-minute values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from anomaly_assets.detection.explanation.events import MINUTES_PER_WINDOW, minute_means
from anomaly_assets.storage import journal

if TYPE_CHECKING:
    import psycopg

    from anomaly_assets.pipeline.deployment import Entity
    from anomaly_assets.streams.windows import FloatArray, WindowRange

    Connection = psycopg.Connection[Any]


def read_minutes(connection: Connection, entity: Entity, windows: WindowRange) -> FloatArray:
    """Return one-minute values of an entity's readings, shape ``(n_minutes, n_streams)``."""
    catalogue = entity.catalogue
    readings = journal.read_readings(connection, entity.entity_id, windows, catalogue).readings
    # The journal hands readings out in any order; sums must not depend on it.
    order = np.lexsort((readings.value, readings.microseconds, readings.stream))
    return minute_means(
        readings.stream[order],
        readings.microseconds[order],
        readings.value[order],
        windows.start,
        len(windows) * MINUTES_PER_WINDOW,
        len(catalogue.streams),
        aggregations=[stream.aggregation for stream in catalogue.streams],
    )
