"""From readings in the long format to the windows of one entity."""

from __future__ import annotations

import numpy as np
import pandas as pd

from anomaly_assets.streams.aggregation import (
    MICROSECONDS,
    Readings,
    ReadingTimes,
    aggregate,
)
from anomaly_assets.streams.catalogue import Catalogue
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowBlock, WindowRange

_WINDOW = WINDOW_SECONDS * MICROSECONDS


def block_of(entity: str, table: pd.DataFrame, catalogue: Catalogue, zone: str) -> WindowBlock:
    """Aggregate readings into the windows from the first reading to the last.

    Values outside of a stream's valid range do not count, as if they had been rejected.

    Parameters
    ----------
    entity
        Whose readings.
    table
        ``timestamp`` (UTC), ``stream_id`` (all in the catalogue) and ``value`` (finite); not empty.
    catalogue
        How each stream is aggregated.
    zone
        IANA zone of the entity.
    """
    position = {name: number for number, name in enumerate(catalogue.stream_ids)}
    stream = table["stream_id"].map(position).to_numpy(dtype=np.int64)
    microseconds = table["timestamp"].dt.as_unit("us").astype(np.int64).to_numpy()
    value = table["value"].to_numpy(dtype=np.float64)
    ranges = [one.valid_range or (-np.inf, np.inf) for one in catalogue.streams]
    low, high = np.array(ranges, dtype=np.float64)[stream].T
    valid = (value >= low) & (value <= high)
    windows = WindowRange(
        int(microseconds.min() // _WINDOW) * WINDOW_SECONDS,
        int(microseconds.max() // _WINDOW + 1) * WINDOW_SECONDS,
    )
    return aggregate(
        Readings(stream[valid], microseconds[valid], value[valid]),
        windows,
        catalogue,
        rejected=ReadingTimes(stream[~valid], microseconds[~valid]),
    ).block(entity, zone)


def windows_between(block: WindowBlock, start: pd.Timestamp, end: pd.Timestamp) -> tuple[int, int]:
    """Return the windows of a block that a time span touches, half-open; a moment touches one."""
    first = int(start.timestamp() // WINDOW_SECONDS) - block.windows.start // WINDOW_SECONDS
    last = -int(-end.timestamp() // WINDOW_SECONDS) - block.windows.start // WINDOW_SECONDS
    last = max(last, first + 1)
    return min(max(first, 0), len(block)), min(max(last, 0), len(block))
