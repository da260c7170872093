"""``suggestions`` and ``patterns``: what the data suggest for the catalogue, for approval."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from anomaly_assets.cli.common import (
    ByOption,
    JsonOption,
    console,
    open_deployment,
    print_json,
    who,
)
from anomaly_assets.errors import InputError
from anomaly_assets.pipeline import approval
from anomaly_assets.pipeline.replay import last_window
from anomaly_assets.storage.identifiers import Decision, SuggestionKind
from anomaly_assets.storage.suggestions import list_suggestions

if TYPE_CHECKING:
    from anomaly_assets.storage.suggestions import Suggestion

Number = Annotated[int, typer.Argument(help="Number of the suggestion, as the list shows it.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    suggestions = typer.Typer(
        no_args_is_help=True, help="List, accept and reject what the data suggest."
    )
    suggestions.command("list")(list_)
    suggestions.command()(accept)
    suggestions.command()(reject)
    app.add_typer(suggestions, name="suggestions")
    patterns = typer.Typer(no_args_is_help=True, help="Courses of events in past anomalies.")
    patterns.command()(suggest)
    app.add_typer(patterns, name="patterns")


def list_(
    entity: Annotated[str | None, typer.Option("--entity", help="Only this entity.")] = None,
    kind: Annotated[SuggestionKind | None, typer.Option(help="Only this kind.")] = None,
    status: Annotated[Decision | None, typer.Option(help="How they stand.")] = Decision.OPEN,
    everything: Annotated[bool, typer.Option("--all", help="Those decided about too.")] = False,
    *,
    as_json: JsonOption = False,
) -> None:
    """List causal edges and courses of events that wait for a decision."""
    deployment = open_deployment()
    if entity is not None:
        deployment.entity(entity)
    with deployment.database.connect() as connection:
        found = list_suggestions(
            connection, entity_id=entity, kind=kind, status=None if everything else status
        )
    if as_json:
        print_json([asdict(one) for one in found])
        return
    if not found:
        console.print("no suggestion; the asset structure_suggestions searches every night")
        return
    table = Table(title="suggestions")
    for column in ("number", "entity", "kind", "suggestion", "support", "last seen", "status"):
        table.add_column(column, justify="right" if column in {"number", "support"} else "left")
    for one in found:
        table.add_row(
            str(one.suggestion_id),
            escape(one.entity_id),
            one.kind,
            escape(one.subject),
            f"{one.support:.2f}",
            f"{one.last_seen:%Y-%m-%d}",
            _standing(one),
        )
    console.print(table)
    console.print("to decide: anomaly-assets suggestions accept NUMBER, or reject NUMBER")


def accept(
    number: Number,
    by: ByOption = None,
    catalogue_file: Annotated[
        Path | None,
        typer.Option(
            help="Write to this file instead; the entity uses it from then on. Needed where its "
            "catalogue comes with the package."
        ),
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Write a suggestion into the catalogue file of its entity; twice is the same as once."""
    done = approval.accept(open_deployment(), number, who(by), catalogue_path=catalogue_file)
    if as_json:
        print_json(
            {
                **asdict(done.suggestion),
                "catalogue_file": str(done.path),
                "changed": done.changed,
                "entities": list(done.entities),
            }
        )
        return
    one = done.suggestion
    verb = "added to" if done.changed else "is already in"
    console.print(
        f"{escape(one.subject)} {verb} {escape(str(done.path))} (accepted by "
        f"{escape(str(one.decided_by))}); used by {escape(', '.join(done.entities))}",
        soft_wrap=True,
    )


def reject(number: Number, by: ByOption = None, *, as_json: JsonOption = False) -> None:
    """Turn a suggestion down; it is not shown again, however often the data show it."""
    one = approval.reject(open_deployment(), number, who(by))
    if as_json:
        print_json(asdict(one))
        return
    console.print(f"{escape(one.subject)} rejected by {escape(str(one.decided_by))}")


def suggest(
    entity: Annotated[str, typer.Option("--entity", help="Whose past anomalies.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Mine the anomalies of the last thirty processed days for courses of events, now."""
    # Mining and its data structures are needed by this command only.
    from anomaly_assets.pipeline.suggestions import mine_patterns  # noqa: PLC0415

    deployment = open_deployment()
    whose = deployment.entity(entity)
    end = last_window(deployment)
    if end is None:
        msg = "no window has been processed yet; run anomaly-assets backfill first"
        raise InputError(msg)
    found = mine_patterns(deployment, whose, end)
    with deployment.database.connect() as connection:
        stored = list_suggestions(connection, entity_id=entity, kind=SuggestionKind.PATTERN)
    subjects = {one.subject for one in found.patterns}
    mined = [one for one in stored if one.subject in subjects]
    if as_json:
        print_json({"entity": entity, "new": found.new, "patterns": [asdict(one) for one in mined]})
        return
    if not mined:
        console.print(f"no course of events is frequent enough in the anomalies of {entity}")
        return
    for one in mined:
        console.print(
            f"{one.suggestion_id}: {escape(one.subject)} (support {one.support:.2f}, "
            f"{_standing(one)})",
            soft_wrap=True,
        )
    console.print("to use one: anomaly-assets suggestions accept NUMBER")


def _standing(one: Suggestion) -> str:
    if one.decided_at is None:
        return str(one.status)
    return f"{one.status} by {one.decided_by} on {one.decided_at.astimezone(UTC):%Y-%m-%d}"
