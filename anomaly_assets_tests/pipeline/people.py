"""A few simulated people in a database, and what the tables hold of them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from anomaly_assets.evaluation.simulator import simulate
from anomaly_assets.evaluation.simulator.simulation import DEFAULT_START
from anomaly_assets.pipeline.whole import process
from anomaly_assets.storage import journal
from anomaly_assets.storage.entities import ensure_entity
from anomaly_assets.streams.aggregation import Readings
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WindowRange

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.database import Database

#: Three hours of a morning, in which people get up and some streams are missing.
START = DEFAULT_START + timedelta(hours=5)
WINDOWS = WindowRange.between(START, START + timedelta(hours=3))


def load_people(database: Database, people: Sequence[str], windows: WindowRange = WINDOWS) -> None:
    """Put the readings of simulated people into the journal."""
    catalogue = load_catalogue("default")
    frame = simulate(3, people, start=windows.start_time, days=1).readings
    frame = frame[frame["timestamp"] < windows.end_time]
    for name, own in frame.groupby("entity_id", observed=True):
        append(
            database,
            str(name),
            Readings(
                own["stream_id"].astype(str).map(catalogue.index).to_numpy(np.int64),
                own["timestamp"].dt.as_unit("us").astype("int64").to_numpy(),
                own["value"].to_numpy(),
            ),
        )


def append(database: Database, entity_id: str, readings: Readings) -> None:
    """Put readings of an entity with the default catalogue into the journal."""
    with database.connect() as connection:
        ensure_entity(connection, entity_id)
        journal.append_readings(
            connection,
            entity_id,
            readings,
            load_catalogue("default"),
            source="test",
            late_horizon=timedelta(hours=24),
        )


def reading(stream_id: str, at: datetime, value: float = 1.0) -> Readings:
    """Return a single reading."""
    return Readings(
        np.array([load_catalogue("default").index(stream_id)]),
        np.array([round(at.timestamp() * 1e6)]),
        np.array([value]),
    )


def run(deployment: Deployment, windows: WindowRange = WINDOWS) -> None:
    """Take windows through the whole pipeline, whatever becomes of them."""
    for _ in process(deployment, windows):
        pass


def query(database: Database, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Return the rows of a query."""
    with database.connect() as connection:
        return connection.execute(statement, parameters).fetchall()


def execute(database: Database, statement: str, *parameters: object) -> int:
    """Change rows, and return how many."""
    with database.connect() as connection:
        return connection.execute(statement, parameters).rowcount
