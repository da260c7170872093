"""``backfill`` and ``replay``: windows through a real Dagster run."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from anomaly_assets.automation.instance import open_instance, prepare
from anomaly_assets.automation.runs import RunOutcome, run_windows
from anomaly_assets.cli.common import JsonOption, console, moment, open_deployment, print_json
from anomaly_assets.errors import AnomalyAssetsError
from anomaly_assets.pipeline.completeness import complete_until
from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets.pipeline.replay import accept_late, last_window, range_of_readings
from anomaly_assets.streams.windows import WindowRange

From = Annotated[str | None, typer.Option("--from", help="First window, a date or time (UTC).")]
To = Annotated[str | None, typer.Option("--to", help="End, exclusive, a date or time (UTC).")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(backfill)
    app.command()(replay)


def backfill(from_: From = None, to: To = None, *, as_json: JsonOption = False) -> None:
    """Process a range of windows as one Dagster run; by default all that have readings."""
    deployment = open_deployment()
    known = range_of_readings(deployment)
    if known is None:
        msg = "there are no readings to process yet; ingest some first: anomaly-assets ingest FILES"
        raise AnomalyAssetsError(msg)
    start, end = moment(from_) or known[0], moment(to) or known[1]
    complete = complete_until(deployment, datetime.now(tz=UTC))
    windows = WindowRange.between(start, min(end, complete) if complete else end)
    _run(deployment, windows, as_json=as_json)


def replay(
    from_: Annotated[str, typer.Option("--from", help="First window, a date or time (UTC).")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Process again from a window to the last processed one, with all late readings taken in."""
    deployment = open_deployment()
    start = moment(from_)
    end = last_window(deployment)
    if start is None or end is None or end <= start:
        msg = f"no window from {from_} on has been processed yet; use anomaly-assets backfill"
        raise AnomalyAssetsError(msg)
    accepted = accept_late(deployment, start)
    if accepted and not as_json:
        console.print(f"{accepted} late readings from beyond the horizon are taken in")
    _run(deployment, WindowRange.between(start, end), as_json=as_json)


def _run(deployment: Deployment, windows: WindowRange, *, as_json: bool) -> None:
    started = time.perf_counter()
    environment = prepare(deployment.settings, deployment.database)
    # The definitions read the settings when they are loaded, so not before the environment stands.
    with open_instance(environment) as instance:
        from anomaly_assets.definitions import defs  # noqa: PLC0415

        job = defs.resolve_job_def("process_windows")
        if as_json:
            outcome = run_windows(job, instance, windows)
        else:
            with console.status(
                f"{len(windows)} windows, {windows.start_time:%Y-%m-%d %H:%M} to "
                f"{windows.end_time:%Y-%m-%d %H:%M} UTC ..."
            ):
                outcome = run_windows(job, instance, windows)
    _report(outcome, windows, time.perf_counter() - started, as_json=as_json)


def _report(outcome: RunOutcome, windows: WindowRange, seconds: float, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "run_id": outcome.run_id,
                "succeeded": outcome.succeeded,
                "windows": len(windows),
                "start": windows.start_time,
                "end": windows.end_time,
                "seconds": round(seconds, 3),
                "failed_checks": list(outcome.failed_checks),
                "error": outcome.error,
            }
        )
    elif outcome.succeeded:
        console.print(
            f"run {outcome.run_id[:8]}: {len(windows)} windows in {seconds:.1f} s, all assets "
            "materialised"
        )
        for check in outcome.failed_checks:
            console.print(f"[yellow]check did not pass:[/] {check}")
    else:
        console.print(f"[bold red]run {outcome.run_id[:8]} failed:[/] {outcome.error}")
    if not outcome.succeeded:
        raise typer.Exit(1)
