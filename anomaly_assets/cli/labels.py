"""``labels``: what people say of windows and episodes."""

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
from anomaly_assets.pipeline.labels import judge
from anomaly_assets.storage.identifiers import Verdict
from anomaly_assets.storage.labels import Opinion, list_labels, undo_label

if TYPE_CHECKING:
    from anomaly_assets.storage.labels import Label


def register(app: typer.Typer) -> None:
    """Add the commands."""
    labels = typer.Typer(no_args_is_help=True, help="Judge windows and episodes; take it back.")
    labels.command()(add)
    labels.command("list")(list_)
    labels.command()(undo)
    app.add_typer(labels, name="labels")


def add(  # noqa: PLR0913 - what is said, of whom, when
    entity: Annotated[str, typer.Argument(help="Whose windows.")],
    start: Annotated[str, typer.Argument(help="Any time in the first window (UTC).")],
    end: Annotated[
        str | None,
        typer.Argument(help="End, exclusive (UTC); default: that of the episode, or the window."),
    ] = None,
    *,
    verdict: Annotated[Verdict, typer.Option(help="What it was.")],
    cause: Annotated[
        str | None,
        typer.Option(help="Name of the cause: a template's, or one of your own, like sauna_visit."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of a cause of your own.")] = None,
    action: Annotated[str | None, typer.Option(help="What to do about it.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why you think so.")] = None,
    stream: Annotated[
        list[str] | None,
        typer.Option(help="A stream it is about; may be given again. Default: all of them."),
    ] = None,
    by: ByOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge windows; a confirmed anomaly with a cause is recognised when it comes again."""
    opinion = Opinion(
        verdict, who(by), cause, title, action, reason, tuple(stream) if stream else None
    )
    deployment = open_deployment()
    first = moment(start)
    if first is None:
        msg = f"{start!r}: say when it began"
        raise InputError(msg)
    label = judge(deployment, deployment.entity(entity), opinion, first, moment(end))
    if as_json:
        print_json(asdict(label))
        return
    console.print(
        f"label {label.label_id}: {escape(label.entity_id)}, {_span(label)} UTC, {_said(label)}",
        soft_wrap=True,
    )
    if label.events is not None:
        console.print("known from now on by: " + escape(_course(label)), soft_wrap=True)


def list_(
    entity: Annotated[str | None, typer.Option("--entity", help="Only this entity.")] = None,
    verdict: Annotated[Verdict | None, typer.Option(help="Only this verdict.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Those taken back too.")] = False,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the labels that stand."""
    deployment = open_deployment()
    if entity is not None:
        deployment.entity(entity)
    with deployment.database.connect() as connection:
        found = list_labels(connection, entity_id=entity, verdict=verdict, undone=everything)
    if as_json:
        print_json([asdict(label) for label in found])
        return
    if not found:
        console.print("no label; to judge an episode: anomaly-assets labels add ENTITY TIME")
        return
    table = Table(title="labels")
    table.add_column("number", justify="right")
    for column in ("entity", "windows (UTC)", "verdict", "reason", "by"):
        table.add_column(column)
    for label in found:
        table.add_row(
            str(label.label_id),
            escape(label.entity_id),
            _span(label),
            _said(label),
            escape(label.reason or ""),
            escape(_standing(label)),
        )
    console.print(table)
    console.print("to take one back: anomaly-assets labels undo NUMBER")


def undo(
    number: Annotated[int, typer.Argument(help="Number of the label, as the list shows it.")],
    by: ByOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Take a label back; it stays on record, with who took it back and when."""
    deployment = open_deployment()
    with deployment.database.connect() as connection:
        label = undo_label(connection, number, who(by))
    if as_json:
        print_json(asdict(label))
        return
    console.print(f"label {number} taken back by {escape(str(label.undone_by))}")


def _span(label: Label) -> str:
    start, end = label.start_time.astimezone(UTC), label.end_time.astimezone(UTC)
    until = f"{end:%H:%M}" if end.date() == start.date() else f"{end:%Y-%m-%d %H:%M}"
    return f"{start:%Y-%m-%d %H:%M} to {until}"


def _said(label: Label) -> str:
    verdict = label.verdict.replace("_", " ")
    return verdict if label.cause is None else f"{verdict}: {escape(label.title or label.cause)}"


def _course(label: Label) -> str:
    return ", ".join(f"{event} at {offset:g} min" for event, offset in label.events or ())


def _standing(label: Label) -> str:
    said = f"{label.author or 'unknown'}, {label.created_at.astimezone(UTC):%Y-%m-%d}"
    if label.undone_at is None:
        return said
    return f"{said}; taken back by {label.undone_by or 'unknown'}"
