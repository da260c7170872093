"""A deployment with a Dagster instance of its own, and what Dagster has recorded of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import numpy as np

from anomaly_assets.evaluation.simulator import simulate
from anomaly_assets.settings import settings
from anomaly_assets.storage import journal
from anomaly_assets.storage.entities import ensure_entity
from anomaly_assets.streams.aggregation import Readings
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import window_of

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Database

HOURS = 6


class Live:
    """A deployment whose person has been reporting for six hours, up to this minute."""

    def __init__(self, database: Database, instance: dg.DagsterInstance) -> None:
        from anomaly_assets.definitions import defs  # noqa: PLC0415 - reads the test's settings

        self.database = database
        self.instance = instance
        self.job = defs.resolve_job_def("process_windows")
        self.defs = defs
        self.now = datetime.now(tz=UTC)
        self.start = window_of(self.now) - timedelta(hours=HOURS)
        self._readings = self._simulated()

    def ingest(self, since: datetime, until: datetime) -> journal.AppendReport:
        """Put the readings of a time into the journal."""
        seconds = self._readings.microseconds / 1e6
        kept = (seconds >= since.timestamp()) & (seconds < until.timestamp())
        catalogue = load_catalogue("default")
        with self.database.connect() as connection:
            ensure_entity(connection, "ann")
            return journal.append_readings(
                connection,
                "ann",
                Readings(
                    self._readings.stream[kept],
                    self._readings.microseconds[kept],
                    self._readings.value[kept],
                ),
                catalogue,
                source="test",
                late_horizon=settings().late_horizon,
            )

    def evaluate(self, sensor: dg.SensorDefinition) -> dg.RunRequest | str:
        """Return what a sensor asks for, or why it asks for nothing."""
        with dg.build_sensor_context(
            instance=self.instance, repository_def=self.defs.get_repository_def()
        ) as context:
            result = sensor.evaluate_tick(context)
        if result.run_requests:
            (request,) = result.run_requests
            return request
        return result.skip_message or ""

    def run(self, request: dg.RunRequest) -> bool:
        """Run what a sensor asked for."""
        result = self.job.execute_in_process(
            instance=self.instance, tags=dict(request.tags), raise_on_error=False
        )
        return result.success

    def _simulated(self) -> Readings:
        frame = simulate(5, ["ann"], start=self.start, days=1).readings
        catalogue = load_catalogue("default")
        return Readings(
            frame["stream_id"].astype(str).map(catalogue.index).to_numpy(np.int64),
            frame["timestamp"].dt.as_unit("us").astype("int64").to_numpy(),
            frame["value"].to_numpy(),
        )


def recorded(live: Live, asset: str) -> list[str]:
    """Return the partitions Dagster has recorded for an asset, in order."""
    return sorted(live.instance.get_materialized_partitions(dg.AssetKey(asset)))
