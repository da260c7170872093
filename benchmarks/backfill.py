"""A month of 36 streams through Dagster, beside the same asset graph doing nothing.

Both run as one range run in this process, on one embedded PostgreSQL, in turn; each backfill has a
database of its own. The figure is the ratio, since most of the time is Dagster's own bookkeeping.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anomaly_assets.streams.windows import WindowRange
from benchmarks.output import publish

if TYPE_CHECKING:
    import dagster as dg

DAYS = 30
START = datetime(2026, 1, 5, tzinfo=UTC)
ROUNDS = 3

# The definitions read the settings when they are loaded.
os.environ["ANOMALY_ASSETS_WINDOW_START"] = START.isoformat()
os.environ["ANOMALY_ASSETS_WINDOW_END"] = (START + timedelta(days=DAYS)).isoformat()


def main() -> None:
    """Run both in turn and publish the medians."""
    from anomaly_assets.storage.embedded import EmbeddedServer  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="anomaly-assets-bench-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedServer(Path(folder) / "postgres")
        try:
            pairs = [measure(server.start(), Path(folder), number) for number in range(ROUNDS)]
        finally:
            server.stop()
    seconds, empty = (statistics.median(column) for column in zip(*pairs, strict=True))
    publish(
        f"{DAYS} days of one person through Dagster (medians of {ROUNDS} rounds)",
        {
            "windows": DAYS * 288,
            "streams": 36,
            "seconds": seconds,
            "empty_graph_seconds": empty,
            "ratio": statistics.median(full / nothing for full, nothing in pairs),
        },
    )


def measure(server_url: str, folder: Path, number: int) -> tuple[float, float]:
    """Return the wall time of the backfill and of the empty graph, each in fresh databases."""
    from anomaly_assets.definitions import defs  # noqa: PLC0415

    full = _run(defs, server_url, folder, f"full_{number}", readings=True)
    empty = _run(empty_definitions(), server_url, folder, f"empty_{number}", readings=False)
    return full, empty


def _run(
    defs: dg.Definitions, server_url: str, folder: Path, name: str, *, readings: bool
) -> float:
    from anomaly_assets.automation.instance import open_instance, prepare  # noqa: PLC0415
    from anomaly_assets.automation.runs import run_windows  # noqa: PLC0415
    from anomaly_assets.settings import settings  # noqa: PLC0415
    from anomaly_assets.storage.database import Database, ensure_database  # noqa: PLC0415

    database = Database(ensure_database(server_url, name))
    os.environ["DATABASE_URL"] = database.url
    os.environ["ANOMALY_ASSETS_HOME"] = str(folder / name)
    settings.cache_clear()
    environment = prepare(settings(), database)
    if readings:
        load_month(database)
    windows = WindowRange.between(START, START + timedelta(days=DAYS))
    with open_instance(environment) as instance:
        job = defs.resolve_job_def("process_windows")
        started = time.perf_counter()
        outcome = run_windows(job, instance, windows)
        seconds = time.perf_counter() - started
    if not outcome.succeeded:
        raise SystemExit(outcome.error)
    return seconds


def load_month(database: Any) -> None:  # noqa: ANN401 - imported once the environment stands
    """Put a month of one simulated person into the journal."""
    from anomaly_assets.evaluation.simulator import simulate  # noqa: PLC0415
    from anomaly_assets.storage.entities import ensure_entity  # noqa: PLC0415
    from anomaly_assets.storage.journal import append_readings  # noqa: PLC0415
    from anomaly_assets.streams.aggregation import Readings  # noqa: PLC0415
    from anomaly_assets.streams.loading import load_catalogue  # noqa: PLC0415

    frame = simulate(1, ["person-1"], start=START, days=DAYS).readings
    catalogue = load_catalogue("default")
    readings = Readings(
        frame["stream_id"].astype(str).map(catalogue.index).to_numpy(np.int64),
        frame["timestamp"].dt.as_unit("us").astype("int64").to_numpy(),
        frame["value"].to_numpy(),
    )
    with database.connect() as connection:
        ensure_entity(connection, "person-1")
        append_readings(
            connection,
            "person-1",
            readings,
            catalogue,
            source="benchmark",
            late_horizon=timedelta(hours=24),
        )


def empty_definitions() -> dg.Definitions:
    """Return the same graph of assets, partitions and policies, whose assets do nothing."""
    import dagster as dg  # noqa: PLC0415

    from anomaly_assets.automation.jobs import PIPELINE  # noqa: PLC0415
    from anomaly_assets.definitions import defs  # noqa: PLC0415

    graph = defs.resolve_asset_graph()
    wanted = PIPELINE.resolve(graph)
    copies = []
    for assets in {id(node.assets_def): node.assets_def for node in graph.asset_nodes}.values():
        if not assets.keys <= wanted:
            continue
        specs = [
            dg.AssetSpec(spec.key, deps=spec.deps, partitions_def=spec.partitions_def)
            for spec in assets.specs
        ]
        copies.append(_doing_nothing(assets.node_def.name, specs, assets.backfill_policy))
    job = dg.define_asset_job("process_windows", selection=dg.AssetSelection.all())
    return dg.Definitions(assets=copies, jobs=[job], executor=dg.in_process_executor)


def _doing_nothing(
    name: str, specs: list[dg.AssetSpec], policy: dg.BackfillPolicy | None
) -> dg.AssetsDefinition:
    import dagster as dg  # noqa: PLC0415

    @dg.multi_asset(name=name, specs=specs, backfill_policy=policy)
    def nothing() -> Any:  # noqa: ANN401 - Dagster reads the annotation
        for spec in specs:
            yield dg.MaterializeResult(asset_key=spec.key)

    return nothing


if __name__ == "__main__":
    main()
