"""``models``: versions of models, and everything that can be done to them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from anomaly_assets.cli.common import (
    ByOption,
    JsonOption,
    console,
    moment,
    open_deployment,
    print_json,
    who,
)
from anomaly_assets.errors import InputError
from anomaly_assets.pipeline import backups, models
from anomaly_assets.pipeline.retraining import retrain, streams_due

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from anomaly_assets.pipeline.models import ModelVersion, RollbackReport, Verdict

EntityOption = Annotated[str | None, typer.Option("--entity", help="Only this entity.")]
ComponentOption = Annotated[
    str | None, typer.Option("--component", help=f"One of {', '.join(models.COMPONENTS)}.")
]
Version = Annotated[int, typer.Argument(help="Number of the version, as the list shows it.")]
WhyOption = Annotated[str, typer.Option("--why", help="The reason; it goes on record.")]
Entity = Annotated[str, typer.Argument(help="Whose models.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Versions of models: look, compare, go back.")
    group.command("list")(list_)
    for command in (show, diff, pin, unpin, rollback, verify, actions, backup, restore):
        group.command()(command)
    group.command("retrain")(retrain_)
    app.add_typer(group, name="models")


def list_(
    entity: EntityOption = None, component: ComponentOption = None, *, as_json: JsonOption = False
) -> None:
    """List the versions of models, newest first."""
    deployment = open_deployment()
    if entity is not None:
        deployment.entity(entity)
    found = models.list_versions(deployment, entity, component)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    if not found:
        console.print("no model yet; anomaly-assets backfill makes the first ones")
        return
    table = Table(title="versions of models")
    for column in ("version", "entity", "component", "as of", "windows", "kB", "made by", "kept"):
        right = column in {"version", "windows", "kB"}
        table.add_column(column, justify="right" if right else "left")
    for one in found:
        table.add_row(
            str(one.version),
            escape(one.entity_id),
            one.component,
            _time(one.as_of),
            _or_unknown(one.learnt_windows),
            f"{one.size / 1000:.0f}",
            escape(one.created_by[:12]),
            _kept(one),
        )
    console.print(table)


def show(version: Version, *, as_json: JsonOption = False) -> None:
    """Show what a version is, and what it knows of each stream."""
    found, figures = models.show(open_deployment(), version)
    if as_json:
        print_json({**asdict(found), "streams": figures})
        return
    for name, value in asdict(found).items():
        console.print(f"{name.replace('_', ' ')}: {escape(_plain(value))}", soft_wrap=True)
    table = Table(title="what it knows of each stream")
    table.add_column("stream")
    names = list(next(iter(figures.values()), {}))
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for stream, known in figures.items():
        table.add_row(escape(stream), *(_figure(known[name]) for name in names))
    console.print(table)


def diff(
    before: Version,
    after: Annotated[int, typer.Argument(help="The version to compare it with.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Show in which figures of which streams two versions of one component differ."""
    found = models.diff(open_deployment(), before, after)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    if not found:
        console.print("no figure of any stream differs")
        return
    table = Table(title=f"from version {before} to version {after}")
    for column in ("stream", "figure", "before", "after"):
        table.add_column(column, justify="right" if column in {"before", "after"} else "left")
    for one in found:
        table.add_row(
            escape(one.stream_id),
            one.figure.replace("_", " "),
            _figure(one.before),
            _figure(one.after),
        )
    console.print(table)


def pin(
    version: Version, why: WhyOption, by: ByOption = None, *, as_json: JsonOption = False
) -> None:
    """Keep a version for good, whatever retention and replays do."""
    _print_version(models.pin(open_deployment(), version, who=who(by), why=why), as_json=as_json)


def unpin(
    version: Version,
    why: WhyOption = "no longer needed",
    by: ByOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Leave a version to retention again."""
    _print_version(models.unpin(open_deployment(), version, who=who(by), why=why), as_json=as_json)


def rollback(
    entity: Entity,
    to: Annotated[str, typer.Option("--to", help="A version's number, or a date or time (UTC).")],
    why: WhyOption,
    by: ByOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Set models back to a version or a time, and replay the results from there.

    The results there were are kept in superseded_results, where they differ.
    """
    target = int(to) if to.isdigit() else moment(to)
    if target is None:
        msg = "--to is empty; give a version's number or a time"
        raise InputError(msg)
    report = models.rollback(open_deployment(), entity, to=target, who=who(by), why=why)
    if as_json:
        print_json(asdict(report))
    else:
        _tell_replayed(report)
    if report.failed:
        raise typer.Exit(1)


def verify(
    entity: EntityOption = None,
    component: ComponentOption = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="Verify the newest backup there instead.")
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Open every version and say which are refused, why, and what to do; then exit with 1."""
    deployment = open_deployment()
    if from_ is None:
        found = models.verify(deployment, entity, component)
    else:
        verdicts = backups.verify_backup(deployment, from_, entity)
        found = [one for one in verdicts if component in {None, one.component}]
    refused = [one for one in found if one.reason]
    if as_json:
        print_json({"verified": len(found), "refused": [asdict(one) for one in refused]})
    else:
        _tell_refused(refused)
        console.print(f"{len(found) - len(refused)} of {len(found)} versions are sound")
    if refused:
        raise typer.Exit(1)


def actions(entity: EntityOption = None, *, as_json: JsonOption = False) -> None:
    """List what was done to models, by whom and why, newest first."""
    found = models.actions(open_deployment(), entity)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    if not found:
        console.print("nothing has been done to models")
        return
    table = Table(title="what was done to models")
    for column in ("number", "entity", "what", "component", "as of", "who", "outcome", "why"):
        table.add_column(column)
    for one in found:
        taken_back = "" if one.withdrawn_by is None else f", taken back by {one.withdrawn_by}"
        table.add_row(
            str(one.action_id),
            escape(one.entity_id),
            one.kind,
            one.component or "all",
            "" if one.as_of is None else _time(one.as_of),
            escape(one.who[:12]),
            f"{one.outcome}{taken_back}",
            escape(one.why),
        )
    console.print(table)


def backup(
    to: Annotated[
        str | None, typer.Option("--to", help="Any fsspec URL; default: the setting's.")
    ] = None,
    by: ByOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Write the newest and the pinned models, labels, networks and decisions to a backup."""
    report = backups.backup(open_deployment(), url=to, who=who(by))
    if as_json:
        print_json(asdict(report))
        return
    console.print(
        f"backup {report.name} at {escape(report.url)}: {report.snapshots} models of "
        f"{report.entities} entities, {report.size / 1e6:.1f} MB",
        soft_wrap=True,
    )
    console.print("the signing key is not part of it: keep it somewhere else")


def restore(
    from_: Annotated[str, typer.Option("--from", help="A backup, or a folder of backups.")],
    entity: EntityOption = None,
    by: ByOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Verify a backup (the newest there), put its models in place and replay from them."""
    report = backups.restore(open_deployment(), url=from_, entity_id=entity, who=who(by))
    if as_json:
        print_json(asdict(report))
    else:
        _tell_refused(report.refused)
        rows = ", ".join(f"{count} {name}" for name, count in report.rows.items())
        console.print(
            f"{report.restored} models restored, {report.present} were there already; "
            f"added: {rows.replace('_', ' ')}"
        )
        for one in report.replayed:
            _tell_replayed(one)
    if report.refused or any(one.failed for one in report.replayed):
        raise typer.Exit(1)


def retrain_(  # noqa: PLR0913, PLR0917 - one for each option
    entity: Entity,
    stream: Annotated[
        list[str] | None, typer.Option("--stream", help="Only this one; repeat for more.")
    ] = None,
    component: Annotated[
        str, typer.Option("--component", help=f"One of {', '.join(models.COMPONENTS)}.")
    ] = models.COMPONENTS[0],
    why: WhyOption = "asked for",
    force: Annotated[
        bool, typer.Option("--force", help="Take it over even if it does no better.")
    ] = False,
    by: ByOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Learn a model anew from recent windows, and take it over if it does better."""
    deployment = open_deployment()
    due = streams_due(deployment, deployment.entity(entity))
    done = retrain(
        deployment,
        entity,
        who=who(by),
        why=why,
        component=component,
        streams=stream or None,
        force=force,
    )
    if as_json:
        print_json({**asdict(done), "due": due})
        return
    console.print(f"{component} of {escape(entity)}: {done.said}", soft_wrap=True)
    if done.version is not None:
        console.print(f"it is version {done.version}, and holds from {_time(done.as_of)} on")


def _print_version(version: ModelVersion, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(version))
        return
    console.print(
        f"version {version.version}, {version.component} of {escape(version.entity_id)}: "
        f"{_kept(version) or 'left to retention'}"
    )


def _tell_replayed(report: RollbackReport) -> None:
    if report.failed:
        console.print(
            f"[bold red]the replay did not end:[/] {escape(report.failed)}; the hourly upkeep goes "
            "on with it",
            soft_wrap=True,
        )
        return
    largest = "none" if report.max_difference is None else f"{report.max_difference:.3f}"
    mean = "none" if report.mean_difference is None else f"{report.mean_difference:.4f}"
    console.print(
        f"{escape(report.entity_id)}: {report.windows} windows from {_time(report.since)} to "
        f"{_time(report.until)} replayed; {report.rows_changed} of {report.rows} rows changed "
        f"(difference of scores: mean {mean}, largest {largest}), {report.windows_crossing} "
        "windows passed 0.7",
        soft_wrap=True,
    )
    if report.withdrawn:
        console.print(f"taken back: action {', '.join(map(str, report.withdrawn))}")


def _tell_refused(refused: Sequence[Verdict]) -> None:
    for one in refused:
        console.print(
            f"[yellow]version {one.version} is refused:[/] {escape(one.refusal)}. What to do: "
            f"{escape(one.advice)}",
            soft_wrap=True,
        )


def _kept(version: ModelVersion) -> str:
    said = []
    if version.pinned_at is not None:
        said.append(f"pinned by {version.pinned_by}: {version.pin_reason}")
    if version.archived:
        said.append("archived")
    return escape("; ".join(said))


def _time(value: datetime) -> str:
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M}"


def _or_unknown(value: int | None) -> str:
    return "unknown" if value is None else str(value)


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _plain(value: object) -> str:
    return "unknown" if value is None else str(value)
