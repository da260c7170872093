"""``anomaly-assets ingest``: files of readings into the journal."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from anomaly_assets.cli.common import JsonOption, console, moment, open_deployment, print_json
from anomaly_assets.ingestion.ingest import IngestOptions, IngestReport, ingest_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly_assets.pipeline.deployment import Deployment


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(ingest)


def ingest(  # noqa: PLR0913, PLR0917 - one option for each thing that files leave unsaid
    files: Annotated[list[Path], typer.Argument(help="CSV (also .gz) or Parquet, long or wide.")],
    entity: Annotated[
        str | None, typer.Option("--entity", help="Whose readings; needed unless the files say.")
    ] = None,
    catalogue: Annotated[
        str | None, typer.Option(help="Shipped name or path; default: the deployment's.")
    ] = None,
    zone: Annotated[str, typer.Option(help="IANA zone of times that name none.")] = "UTC",
    start: Annotated[
        str | None, typer.Option(help="Time of the first row, for files without times.")
    ] = None,
    step: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds between rows, with --start.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(help="Column that is no stream; may be repeated.")
    ] = None,
    again: Annotated[bool, typer.Option(help="Read files that were read already.")] = False,
    *,
    as_json: JsonOption = False,
) -> None:
    """Take files of readings into the journal; a killed run is resumed by running it again."""
    deployment = open_deployment()
    options = IngestOptions(
        zone=zone,
        start=moment(start),
        step=None if step is None else timedelta(seconds=step),
        ignore_columns=frozenset(ignore or ()),
        future_tolerance=deployment.settings.future_tolerance,
        late_horizon=deployment.settings.late_horizon,
        again=again,
    )
    report = ingest_with_progress(
        deployment, files, entity_id=entity, catalogue=catalogue, options=options, quiet=as_json
    )
    if as_json:
        print_json({**asdict(report), "rejected": dict(report.rejected)})
        return
    console.print(
        f"{report.rows:,} rows of {report.files} files in {report.seconds:.1f} s: "
        f"{report.accepted:,} readings accepted ({report.late:,} late, {report.too_late:,} too "
        f"late for a replay), {report.duplicate:,} duplicate, {report.rejected.total():,} rejected"
    )
    for reason, count in sorted(report.rejected.items()):
        console.print(f"  rejected, {reason}: {count:,} (see the table rejected_readings)")


def ingest_with_progress(  # noqa: PLR0913 - hands the options on
    deployment: Deployment,
    paths: Sequence[Path],
    *,
    entity_id: str | None,
    catalogue: str | None,
    options: IngestOptions | None = None,
    quiet: bool = False,
) -> IngestReport:
    """Ingest files under a progress bar, unless `quiet`."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        task = bar.add_task("reading ...", total=None)

        def tell(report: IngestReport) -> None:
            bar.update(
                task,
                description=f"{report.rows:,} rows, {report.accepted:,} accepted, "
                f"{report.rejected.total():,} rejected",
            )

        return ingest_files(
            deployment.database,
            paths,
            catalogue=deployment.catalogue(catalogue),
            catalogue_name=catalogue,
            entity_id=entity_id,
            options=options,
            progress=tell,
        )
