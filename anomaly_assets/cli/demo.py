"""``anomaly-assets demo``: simulated people with known faults, through the whole pipeline."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from anomaly_assets.cli.common import console
from anomaly_assets.evaluation.found import Rules, summary
from anomaly_assets.evaluation.simulator import Simulation, demo_faults, simulate
from anomaly_assets.settings import settings
from anomaly_assets.storage.connect import embedded_server

if TYPE_CHECKING:
    from anomaly_assets.automation.runs import RunOutcome
    from anomaly_assets.pipeline.deployment import Deployment

FOLDER = Path(".demo")
SEED = 11


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo() -> None:
    """Simulate 14 days of 3 people with a dozen faults, process them, and say what was found."""
    started = time.perf_counter()
    simulation = simulate(SEED, faults=demo_faults(SEED))
    readings = simulation.readings
    first, last = readings["timestamp"].min(), readings["timestamp"].max()
    # Old enough to be history wherever the demo is run, and no window more than there are readings.
    os.environ |= {
        "ANOMALY_ASSETS_HOME": str(FOLDER),
        "ANOMALY_ASSETS_WINDOW_START": first.floor("D").isoformat(),
        "ANOMALY_ASSETS_WINDOW_END": (last.ceil("D")).isoformat(),
    }
    os.environ.pop("DATABASE_URL", None)
    settings.cache_clear()
    console.print(
        f"simulated {len(readings):,} readings of {readings['entity_id'].nunique()} people, "
        f"{(last - first).days + 1} days, {len(simulation.labels)} faults"
    )
    deployment, outcome, windows = _process(simulation)
    if not outcome.succeeded:
        console.print(f"[bold red]the run failed:[/] {outcome.error}")
        raise typer.Exit(1)
    found = _found(deployment, simulation)
    found["windows"] = windows
    found["seconds"] = round(time.perf_counter() - started, 1)
    FOLDER.joinpath("summary.json").write_text(json.dumps(found, indent=2, allow_nan=False) + "\n")
    learnt = first + timedelta(days=Rules().learning_days)
    _print(found, _best_explanations(deployment, learnt))
    embedded_server(settings()).stop()


def _process(simulation: Simulation) -> tuple[Deployment, RunOutcome, int]:
    # Imported once the settings are the demo's: the definitions read them when they are loaded.
    from anomaly_assets.automation.instance import open_instance, prepare  # noqa: PLC0415
    from anomaly_assets.automation.runs import run_windows  # noqa: PLC0415
    from anomaly_assets.cli.common import open_deployment  # noqa: PLC0415
    from anomaly_assets.cli.data import ingest_with_progress  # noqa: PLC0415
    from anomaly_assets.definitions import defs  # noqa: PLC0415
    from anomaly_assets.pipeline.replay import range_of_readings  # noqa: PLC0415
    from anomaly_assets.streams.windows import WindowRange  # noqa: PLC0415

    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / "readings.parquet"
    simulation.readings.to_parquet(path, index=False)
    deployment = open_deployment()
    report = ingest_with_progress(deployment, [path], entity_id=None, catalogue="default")
    console.print(
        f"ingested: {report.accepted:,} accepted, {report.duplicate:,} duplicate, "
        f"{report.late:,} late, {sum(report.rejected.values()):,} rejected"
    )
    known = range_of_readings(deployment)
    if known is None:
        msg = "nothing was ingested"
        raise typer.Exit(1) from RuntimeError(msg)
    windows = WindowRange.between(*known)
    with open_instance(prepare(deployment.settings, deployment.database)) as instance:
        started = time.perf_counter()
        with console.status(f"{len(windows)} windows of 3 people through a Dagster run ..."):
            outcome = run_windows(defs.resolve_job_def("process_windows"), instance, windows)
        console.print(
            f"processed {len(windows):,} windows in {time.perf_counter() - started:.0f} s"
        )
    return deployment, outcome, len(windows)


def _found(deployment: Deployment, simulation: Simulation) -> dict[str, Any]:
    from anomaly_assets.storage.queries import final_scores  # noqa: PLC0415

    with deployment.database.connect() as connection:
        scores = {
            entity.entity_id: final_scores(connection, entity.entity_id)
            for entity in deployment.entities()
        }
    return summary(scores, simulation.labels)


def _best_explanations(deployment: Deployment, since: datetime) -> list[tuple[str, str, str]]:
    """Return entity, episode and sentence of the highest scores, one a person, once learnt."""
    from anomaly_assets.storage.queries import top_anomalies  # noqa: PLC0415

    with deployment.database.connect() as connection:
        tops = [
            top_anomalies(connection, entity_id=entity.entity_id, since=since, limit=1)
            for entity in deployment.entities()
        ]
    best = sorted((top[0] for top in tops if top), key=lambda row: -row.score)
    return [
        (
            row.entity_id,
            f"{row.episode_start:%Y-%m-%d %H:%M} to {row.episode_end:%Y-%m-%d %H:%M} UTC",
            row.summary or "",
        )
        for row in best
    ]


def _print(found: dict[str, Any], explanations: list[tuple[str, str, str]]) -> None:
    table = Table(title=f"{found['found']} of {found['faults']} faults found")
    for column in ("entity", "fault", "start (UTC)", "found", "delay"):
        table.add_column(column)
    for fault in found["details"]:
        delay = fault["delay_minutes"]
        table.add_row(
            fault["entity"],
            fault["kind"],
            f"{datetime.fromisoformat(fault['start']):%d %b %H:%M}",
            "[green]yes[/]" if fault["found"] else "[red]no[/]",
            "" if delay is None else f"{delay:.0f} min",
        )
    console.print(table)
    console.print(f"false alarms a day and entity: {found['false_alarms_per_day']:.2f}")
    for entity, at, sentence in explanations:
        console.print(f"\n[bold]{entity}[/], {at}: {sentence}")
    console.print(
        f"\n{found['seconds']:.0f} s in all; figures in {FOLDER / 'summary.json'}\n"
        f"Look around: ANOMALY_ASSETS_HOME={FOLDER} ANOMALY_ASSETS_WINDOW_START=2026-01-05T00:00Z "
        "ANOMALY_ASSETS_WINDOW_END=2026-01-19T00:00Z make dev, then http://127.0.0.1:3000\n"
        f"or: ANOMALY_ASSETS_HOME={FOLDER} .venv/bin/python -m anomaly_assets anomalies"
    )
