"""``anomaly-assets import``: what phones and trackers export, and folders, into the journal."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from anomaly_assets.cli.common import JsonOption, console, open_deployment, print_json
from anomaly_assets.cli.data import ingest_with_progress
from anomaly_assets.errors import IngestionError, InputError
from anomaly_assets.ingestion.exports.apple_health import convert_apple_health
from anomaly_assets.ingestion.exports.fitbit import convert_fitbit
from anomaly_assets.ingestion.ingest import IngestOptions, IngestReport
from anomaly_assets.ingestion.times import is_zone
from anomaly_assets.live.sources.folder import FileOutcome, WatchedFolder
from anomaly_assets.storage.entities import require_entity_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly_assets.ingestion.exports.conversion import Conversion
    from anomaly_assets.pipeline.deployment import Deployment

    Convert = Callable[[Path, Callable[[Conversion], None]], Conversion]

Entity = Annotated[str, typer.Option("--entity", help="Whose readings these are.")]
Zone = Annotated[str, typer.Option(help="IANA zone of times that name none.")]
CatalogueName = Annotated[
    str | None, typer.Option("--catalogue", help="Shipped name or path; default: the deployment's.")
]
Again = Annotated[bool, typer.Option("--again", help="Take in what was taken in already.")]
_LONGEST_LIST = 15


def register(app: typer.Typer) -> None:
    """Add the commands."""
    importing = typer.Typer(
        no_args_is_help=True, help="Take in exports of phones and trackers, and watched folders."
    )
    importing.command("apple-health")(apple_health)
    importing.command()(fitbit)
    importing.command()(folder)
    app.add_typer(importing, name="import")


def apple_health(  # noqa: PLR0913, PLR0917 - one option for each thing that exports leave unsaid
    file: Annotated[Path, typer.Argument(help="export.zip, export.xml, or the unpacked folder.")],
    entity: Entity,
    zone: Zone = "UTC",
    catalogue: CatalogueName = None,
    mapped: Annotated[
        list[str] | None,
        typer.Option("--map", help="TYPE=STREAM: a further type of record; may be repeated."),
    ] = None,
    again: Again = False,
    *,
    as_json: JsonOption = False,
) -> None:
    """Take in an export of Apple Health; a killed import is resumed by running it again."""
    also = _pairs(mapped or ())

    def convert(target: Path, progress: Callable[[Conversion], None]) -> Conversion:
        return convert_apple_health(file, target, zone=zone, also=also, progress=progress)

    _import_export(file, convert, entity, zone, catalogue, again=again, as_json=as_json)


def fitbit(  # noqa: PLR0913 - as above
    path: Annotated[Path, typer.Argument(help="The archive of Google Takeout, or its folder.")],
    entity: Entity,
    zone: Zone = "UTC",
    catalogue: CatalogueName = None,
    again: Again = False,
    *,
    as_json: JsonOption = False,
) -> None:
    """Take in an export of Fitbit; a killed import is resumed by running it again."""

    def convert(target: Path, progress: Callable[[Conversion], None]) -> Conversion:
        return convert_fitbit(path, target, zone=zone, progress=progress)

    _import_export(path, convert, entity, zone, catalogue, again=again, as_json=as_json)


def folder(  # noqa: PLR0913, PLR0917 - as above
    path: Annotated[Path, typer.Argument(help="Folder of CSV (also .gz) or Parquet files.")],
    entity: Annotated[
        str | None, typer.Option("--entity", help="Whose readings; needed unless the files say.")
    ] = None,
    zone: Zone = "UTC",
    catalogue: CatalogueName = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between looks.")] = 5.0,
    *,
    as_json: JsonOption = False,
) -> None:
    """Take in the files of a folder, each content once; with --watch, those to come as well."""
    deployment = open_deployment()
    watched = WatchedFolder(
        deployment,
        path,
        entity_id=entity,
        catalogue=catalogue,
        options=_options(deployment, zone, again=False),
    )
    if not watch:
        outcomes = watched.scan(wait=False)
        if as_json:
            print_json([_document(outcome) for outcome in outcomes])
        else:
            for outcome in outcomes:
                _tell(outcome)
        failed = [outcome for outcome in outcomes if outcome.error is not None]
        if failed:
            msg = f"{len(failed)} of {len(outcomes)} files were not taken in: {failed[0].error}"
            raise IngestionError(msg)
        return
    if as_json:
        msg = "--watch never ends, so that there is no one document to print; leave out --json"
        raise InputError(msg)
    console.print(f"watching {escape(str(path))}; Ctrl-C ends")
    try:
        asyncio.run(watched.run(every_seconds=every, tell=_tell))
    except KeyboardInterrupt:
        console.print("stopped; what was not finished goes on the next time")


def _import_export(  # noqa: PLR0913 - hands the options on
    path: Path,
    convert: Convert,
    entity_id: str,
    zone: str,
    catalogue: str | None,
    *,
    again: bool,
    as_json: bool,
) -> None:
    require_entity_id(entity_id)
    if not is_zone(zone):
        msg = f"unknown time zone {zone!r}; give an IANA name such as Europe/Berlin"
        raise InputError(msg)
    deployment = open_deployment()
    with tempfile.TemporaryDirectory(prefix="anomaly-assets-import-") as scratch:
        # The name is what the journal records as the source.
        target = Path(scratch) / f"{path.resolve().name}.parquet"
        conversion = _convert_with_progress(target, convert, quiet=as_json)
        report = ingest_with_progress(
            deployment,
            [target],
            entity_id=entity_id,
            catalogue=catalogue,
            options=_options(deployment, zone, again=again),
            quiet=as_json,
        )
    if as_json:
        print_json({"export": _plain(conversion), "journal": _journal(report)})
    else:
        _summarise(conversion, report)


def _convert_with_progress(target: Path, convert: Convert, *, quiet: bool) -> Conversion:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        task = bar.add_task("reading the export", total=None)

        def tell(conversion: Conversion) -> None:
            bar.update(
                task,
                total=conversion.total_bytes or None,
                completed=conversion.done_bytes,
                description=f"{conversion.records:,} records",
            )

        return convert(target, tell)


def _options(deployment: Deployment, zone: str, *, again: bool) -> IngestOptions:
    return IngestOptions(
        zone=zone,
        future_tolerance=deployment.settings.future_tolerance,
        late_horizon=deployment.settings.late_horizon,
        again=again,
    )


def _summarise(conversion: Conversion, report: IngestReport) -> None:
    console.print(
        f"{conversion.records:,} records became {conversion.readings:,} readings: "
        f"{report.accepted:,} accepted ({report.late:,} late, {report.too_late:,} too late for a "
        f"replay), {report.duplicate:,} duplicate, {report.rejected.total():,} rejected"
    )
    rejected = {f"rejected, {reason}": count for reason, count in report.rejected.items()}
    for title, counts in (
        ("taken in", conversion.mapped),
        ("left out", {**conversion.skipped, **rejected}),
        ("no stream is made of", conversion.unmapped),
    ):
        _list(title, counts)
    for name, reason in list(conversion.unreadable.items())[:_LONGEST_LIST]:
        console.print(f"  unreadable: {escape(name)}: {escape(reason)}")


def _list(title: str, counts: dict[str, int]) -> None:
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    for name, count in ordered[:_LONGEST_LIST]:
        console.print(f"  {title}: {escape(name)}: {count:,}", soft_wrap=True)
    if len(ordered) > _LONGEST_LIST:
        console.print(f"  {title}: {len(ordered) - _LONGEST_LIST} further kinds (see --json)")


def _tell(outcome: FileOutcome) -> None:
    name = escape(outcome.path.name)
    if outcome.report is None:
        console.print(f"{name}: [bold red]not taken in[/]: {escape(outcome.error or '')}")
        return
    report = outcome.report
    console.print(
        f"{name}: {report.accepted:,} accepted, {report.duplicate:,} duplicate, "
        f"{report.rejected.total():,} rejected"
    )


def _document(outcome: FileOutcome) -> dict[str, Any]:
    report = None if outcome.report is None else _journal(outcome.report)
    return {"file": outcome.path.name, "journal": report, "error": outcome.error}


def _journal(report: IngestReport) -> dict[str, Any]:
    return {**asdict(report), "rejected": dict(report.rejected)}


def _plain(conversion: Conversion) -> dict[str, Any]:
    fields = ("records", "readings", "mapped", "unmapped", "skipped", "unreadable")
    document = {name: getattr(conversion, name) for name in fields}
    return {name: dict(one) if isinstance(one, dict) else one for name, one in document.items()}


def _pairs(texts: list[str] | tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        kind, mark, stream = text.partition("=")
        if not mark or not kind or not stream:
            msg = f"--map {text!r} is not TYPE=STREAM; write HKQuantityTypeIdentifier...=my_stream"
            raise InputError(msg)
        pairs[kind] = stream
    return pairs
