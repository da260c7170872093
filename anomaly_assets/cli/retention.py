"""``anomaly-assets retention``: old readings aggregated by the hour and dropped."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anomaly_assets.cli.common import JsonOption, console, open_deployment, print_json
from anomaly_assets.pipeline.retention import plan_retention, retain_readings

if TYPE_CHECKING:
    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.retention import Outlook, Piece


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(retention)


def retention(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    *,
    as_json: JsonOption = False,
) -> None:
    """Aggregate readings past retention by the hour and drop them; scores stay."""
    deployment = open_deployment()
    if dry_run:
        _tell_plan(deployment, as_json=as_json)
        return
    with nullcontext() if as_json else console.status("aggregating old readings ..."):
        report = retain_readings(deployment, datetime.now(tz=UTC))
    if as_json:
        print_json(
            {
                "server": report.server,
                "before": report.before,
                "dropped": [
                    {**_piece(one.piece), "readings": one.readings, "hourly_values": one.hours}
                    for one in report.dropped
                ],
                "waiting": [_outlook(one) for one in report.waiting],
            }
        )
        return
    for one in report.dropped:
        console.print(
            f"{_span(one.piece)}: {one.readings:,} readings became {one.hours:,} hourly values, "
            "verified, and were dropped"
        )
    _tell_waiting(report.waiting)
    if not report.dropped and not report.waiting:
        console.print(_nothing(deployment))


def _tell_plan(deployment: Deployment, *, as_json: bool) -> None:
    plan = plan_retention(deployment, datetime.now(tz=UTC))
    if as_json:
        print_json({"pieces": [_outlook(one) for one in plan]})
        return
    for one in plan:
        if not one.waiting:
            console.print(f"{_span(one.piece)}: {one.readings:,} readings would go")
    _tell_waiting(tuple(one for one in plan if one.waiting))
    if not plan:
        console.print(_nothing(deployment))


def _tell_waiting(waiting: tuple[Outlook, ...]) -> None:
    for one in waiting:
        console.print(
            f"[yellow]{_span(one.piece)}: {one.readings:,} readings are kept:[/] {one.reason}"
        )


def _nothing(deployment: Deployment) -> str:
    months = deployment.settings.raw_months
    if months == 0:
        return "readings are kept for ever (ANOMALY_ASSETS_RAW_MONTHS=0)"
    return f"no whole month of readings is older than {months} months"


def _span(piece: Piece) -> str:
    return f"{piece.start:%Y-%m-%d} to {piece.end:%Y-%m-%d}"


def _piece(piece: Piece) -> dict[str, Any]:
    return {"name": piece.name, "start": piece.start, "end": piece.end}


def _outlook(outlook: Outlook) -> dict[str, Any]:
    return {
        **_piece(outlook.piece),
        "readings": outlook.readings,
        "waiting": list(outlook.waiting),
        "reason": outlook.reason or None,
    }
