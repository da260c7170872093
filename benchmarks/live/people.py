"""People who have been watched for a while, and what they send next."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from anomaly_assets.evaluation.simulator import Fault, FaultKind, simulate
from anomaly_assets.live.readings import LiveReading
from anomaly_assets.pipeline.whole import process
from anomaly_assets.storage import journal
from anomaly_assets.storage.entities import ensure_entity
from anomaly_assets.storage.partitions import ensure_partitions
from anomaly_assets.streams.aggregation import Readings
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WindowRange

if TYPE_CHECKING:
    import pandas as pd

    from anomaly_assets.pipeline.deployment import Deployment

_SEED = 7
#: One in so many people has a fault in the hour that follows.
_EVERY = 10


def names(count: int) -> list[str]:
    """Return the names of people."""
    return [f"person-{number:03d}" for number in range(count)]


def simulated(count: int, start: datetime, watched_until: datetime) -> pd.DataFrame:
    """Return two days of readings; some hearts race in the hour after `watched_until`."""
    faults = [
        Fault(name, FaultKind.SPIKE, watched_until + timedelta(minutes=7), 20, "heart_rate", 12.0)
        for name in names(count)[::_EVERY]
    ]
    return simulate(_SEED, names(count), start=start, days=2, faults=faults).readings


def watch(deployment: Deployment, frame: pd.DataFrame, windows: WindowRange) -> None:
    """Put the readings of windows into the journal, and process them."""
    catalogue = load_catalogue("default")
    before = frame[
        (frame["timestamp"] >= windows.start_time) & (frame["timestamp"] < windows.end_time)
    ]
    with deployment.database.connect() as connection:
        ensure_partitions(connection, windows.start_time, windows.end_time + timedelta(days=1))
        for name, own in before.groupby("entity_id", observed=True):
            ensure_entity(connection, str(name))
            readings = Readings(
                own["stream_id"].astype(str).map(catalogue.index).to_numpy(np.int64),
                own["timestamp"].dt.as_unit("us").astype("int64").to_numpy(),
                own["value"].to_numpy(),
            )
            journal.append_readings(
                connection,
                str(name),
                readings,
                catalogue,
                source="benchmark",
                late_horizon=timedelta(days=3),
            )
    for _ in process(deployment, windows):
        pass


def to_send(frame: pd.DataFrame, start: datetime, end: datetime) -> list[LiveReading]:
    """Return the readings of a span in the order of their times."""
    own = frame[(frame["timestamp"] >= start) & (frame["timestamp"] < end)]
    own = own.sort_values("timestamp", kind="stable")
    return [
        LiveReading(entity_id, stream_id, at, value)
        for entity_id, stream_id, at, value in zip(
            own["entity_id"].astype(str),
            own["stream_id"].astype(str),
            own["timestamp"].dt.to_pydatetime(),
            own["value"].tolist(),
            strict=True,
        )
    ]
