"""``backfill`` and ``replay``: windows through a real Dagster run."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from anomaly_assets.automation.instance import open_instance, prepare
from anomaly_assets.cli.common import JsonOption, console, moment, open_deployment, print_json
from anomaly_assets.errors import AnomalyAssetsError, InputError
from anomaly_assets.pipeline.completeness import complete_until
from anomaly_assets.pipeline.dropped import require_readings
from anomaly_assets.pipeline.replay import (
    accept_late,
    last_window,
    range_of_readings,
    stretches_with_readings,
)
from anomaly_assets.settings import settings
from anomaly_assets.streams.windows import WINDOWS_PER_DAY, WindowRange, window_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly_assets.automation.runs import RunOutcome
    from anomaly_assets.pipeline.deployment import Deployment

#: A longer range is several runs, one after the other: planning one run over more partitions takes
#: Dagster longer than processing them (87,000: over six minutes before the first step).
MOST_WINDOWS = 31 * WINDOWS_PER_DAY
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
    end = min(end, complete) if complete else end
    if window_of(start) >= window_of(end):
        msg = (
            f"no window from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} can be processed; "
            f"there are readings from {known[0]:%Y-%m-%d %H:%M} to {known[1]:%Y-%m-%d %H:%M} UTC"
        )
        raise InputError(msg)
    _run(deployment, WindowRange.between(start, end), as_json=as_json)


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
    _require_known(start)
    require_readings(deployment, start)
    accepted = accept_late(deployment, start)
    if accepted and not as_json:
        console.print(f"{accepted} late readings from beyond the horizon are taken in")
    _run(deployment, WindowRange.between(start, end), as_json=as_json)


def _run(deployment: Deployment, windows: WindowRange, *, as_json: bool) -> None:
    started = time.perf_counter()
    _require_known(windows.start_time)
    environment = prepare(deployment.settings, deployment.database)
    # The definitions read the settings when they are loaded, so not before the environment stands.
    with open_instance(environment) as instance:
        from anomaly_assets.automation.runs import run_windows  # noqa: PLC0415
        from anomaly_assets.definitions import job_to_run  # noqa: PLC0415

        run = partial(run_windows, job_to_run(), instance)
        stretches = stretches_with_readings(deployment, windows) or [windows]
        parts = [part for stretch in stretches for part in stretch.parts(MOST_WINDOWS)]
        outcome = _run_parts(run, parts, quiet=as_json)
    if as_json:
        _print_outcome(outcome, windows, time.perf_counter() - started)
    if not outcome.succeeded:
        raise typer.Exit(1)


def _run_parts(
    run: Callable[[WindowRange], RunOutcome], parts: list[WindowRange], *, quiet: bool
) -> RunOutcome:
    """Run the parts of a range in order, up to a failure, and return the last outcome."""
    first, *rest = parts
    outcome = _run_part(run, first, quiet=quiet)
    for part in rest:
        if not outcome.succeeded:
            break
        outcome = _run_part(run, part, quiet=quiet)
    return outcome


def _run_part(
    run: Callable[[WindowRange], RunOutcome], windows: WindowRange, *, quiet: bool
) -> RunOutcome:
    if quiet:
        return run(windows)
    with console.status(
        f"{len(windows)} windows, {windows.start_time:%Y-%m-%d %H:%M} to "
        f"{windows.end_time:%Y-%m-%d %H:%M} UTC ..."
    ):
        outcome = run(windows)
    _tell(outcome, windows)
    return outcome


def _require_known(start: datetime) -> None:
    # Partitions read the settings when they are loaded: too early at the module's head, where
    # unusable settings would be a traceback and the demo's own would come too late.
    from anomaly_assets.assets.partitions import first_partition  # noqa: PLC0415

    first = first_partition(settings(), datetime.now(tz=UTC))
    if start < first:
        msg = (
            f"window {start:%Y-%m-%d %H:%M} lies before the first one that Dagster knows, "
            f"{first:%Y-%m-%d %H:%M} UTC; begin there with --from, or set "
            f"ANOMALY_ASSETS_WINDOW_START={start:%Y-%m-%dT%H:%M%z}"
        )
        raise InputError(msg)


def _print_outcome(outcome: RunOutcome, windows: WindowRange, seconds: float) -> None:
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


def _tell(outcome: RunOutcome, windows: WindowRange) -> None:
    if not outcome.succeeded:
        console.print(f"[bold red]run {outcome.run_id[:8]} failed:[/] {escape(outcome.error)}")
        return
    console.print(
        f"run {outcome.run_id[:8]}: {len(windows)} windows from "
        f"{windows.start_time:%Y-%m-%d %H:%M} on, all assets materialised"
    )
    for check in outcome.failed_checks:
        console.print(f"[yellow]check did not pass:[/] {check}")
