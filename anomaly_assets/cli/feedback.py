"""``feedback``: what people's judgement changes, with its effect, and the way back."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC
from typing import TYPE_CHECKING, Annotated, Any

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
from anomaly_assets.detection.feedback.adjustment import Rule, source_in_words
from anomaly_assets.pipeline import feedback
from anomaly_assets.storage.feedback import find_version

if TYPE_CHECKING:
    from anomaly_assets.pipeline.feedback import Change, Standing
    from anomaly_assets.storage.feedback import FeedbackVersion

SinceOption = Annotated[
    str | None,
    typer.Option(help="First window it decides about (UTC); default: the next one."),
]
Number = Annotated[int, typer.Argument(help="Number of the suggestion, as the list shows it.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        no_args_is_help=True, help="Let labels change what raises an alarm, see how, take it back."
    )
    for name, command in (
        ("recalibrate", recalibrate),
        ("suggestions", suggestions),
        ("accept", accept),
        ("reject", reject),
        ("drop", drop),
        ("list", list_),
        ("show", show),
        ("revert", revert),
    ):
        group.command(name)(command)
    app.add_typer(group, name="feedback")


def recalibrate(
    entity: Annotated[str, typer.Argument(help="Whose labels.")],
    since: SinceOption = None,
    reason: Annotated[str | None, typer.Option(help="Why.")] = None,
    by: ByOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Choose threshold and weights of an entity anew from its labels, within the limits set."""
    change = feedback.recalibrate(
        open_deployment(), entity, who(by), since=moment(since), reason=reason
    )
    _tell(change, as_json=as_json)


def suggestions(
    entity: Annotated[str | None, typer.Option("--entity", help="Only this entity.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Those decided about too.")] = False,
    *,
    as_json: JsonOption = False,
) -> None:
    """Look for repeated false alarms of one shape, and list the rules they suggest."""
    found = feedback.suggestions(open_deployment(), entity, everything=everything)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    if not found:
        console.print(
            "no rule to suggest: at least 3 false alarms of one shape are needed; to judge one: "
            "anomaly-assets labels add ENTITY TIME --verdict false_alarm"
        )
        return
    table = Table(title="suggested suppression rules")
    for column in ("number", "entity", "what would raise no alert", "effect", "status"):
        table.add_column(column, justify="right" if column == "number" else "left")
    for one in found:
        told = one.effect["sentence"]
        if one.contradicted_by:
            numbers = ", ".join(map(str, one.contradicted_by))
            told += f"; contradicted by label {numbers}: look at it again"
        table.add_row(
            str(one.suggestion_id),
            escape(one.entity_id),
            escape(Rule.from_dict(one.rule).sentence),
            told,
            str(one.status),
        )
    console.print(table)
    console.print("to decide: anomaly-assets feedback accept NUMBER, or reject NUMBER")


def accept(
    number: Number, since: SinceOption = None, by: ByOption = None, *, as_json: JsonOption = False
) -> None:
    """Let a suggested rule suppress alerts until it expires; its windows stay visible."""
    change = feedback.accept(open_deployment(), number, who(by), since=moment(since))
    _tell(change, as_json=as_json)


def reject(number: Number, by: ByOption = None, *, as_json: JsonOption = False) -> None:
    """Turn a suggested rule down; it is not suggested again."""
    one = feedback.reject(open_deployment(), number, who(by))
    if as_json:
        print_json(asdict(one))
        return
    console.print(f"{escape(one.name)} rejected by {escape(str(one.decided_by))}")


def drop(
    entity: Annotated[str, typer.Argument(help="Whose rule.")],
    rule: Annotated[str, typer.Argument(help="Its name.")],
    since: SinceOption = None,
    by: ByOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Let a rule suppress nothing any more."""
    change = feedback.drop(open_deployment(), entity, rule, who(by), since=moment(since))
    _tell(change, as_json=as_json)


def list_(
    entity: Annotated[str | None, typer.Option("--entity", help="Only this entity.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List every version: what was changed, by whom, from when on, and how it stands."""
    found = feedback.versions(open_deployment(), entity)
    if as_json:
        print_json([_document(one.version, one.status) for one in found])
        return
    if not found:
        console.print("nothing has been changed; to begin: anomaly-assets feedback recalibrate")
        return
    table = Table(title="versions of the feedback")
    for column in ("number", "of", "what", "from (UTC)", "effect", "by", "status"):
        table.add_column(column, justify="right" if column == "number" else "left")
    for one in found:
        table.add_row(*_row(one))
    console.print(table)
    console.print("one of them in full: anomaly-assets feedback show NUMBER")


def show(
    number: Annotated[int, typer.Argument(help="Number of the version.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Show what a version changes, what it rests on and what it did to judged alarms."""
    deployment = open_deployment()
    with deployment.database.connect() as connection:
        version = find_version(connection, number)
    status = next(
        one.status
        for one in feedback.versions(deployment)
        if one.version.feedback_id == version.feedback_id
    )
    if as_json:
        print_json(_document(version, status))
        return
    console.print(
        f"version {number} ({status}): {_what(version)}, from "
        f"{version.from_time.astimezone(UTC):%Y-%m-%d %H:%M} UTC, by {escape(version.author)}",
        soft_wrap=True,
    )
    for line in _contents(version):
        console.print(escape(line), soft_wrap=True)


def revert(
    number: Annotated[int, typer.Argument(help="Number of the active version.")],
    since: Annotated[
        str | None,
        typer.Option(help="From when on it counts for nothing (UTC); default: as if never made."),
    ] = None,
    by: ByOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Go back to what was in force before a version."""
    change = feedback.revert(open_deployment(), number, who(by), since=moment(since))
    _tell(change, as_json=as_json)


def _tell(change: Change, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "version": None if change.version is None else _document(change.version, "active"),
                "effect": change.effect.to_dict(),
                "later": None if change.later is None else change.later.to_dict(),
                "why": change.why,
                "decided_again": change.decided_again,
            }
        )
        return
    if change.version is None:
        console.print(f"nothing changed: {change.why}", soft_wrap=True)
        return
    console.print(
        f"version {change.version.feedback_id}: {_what(change.version)}, from "
        f"{change.version.from_time.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        soft_wrap=True,
    )
    for line in _contents(change.version):
        console.print(escape(line), soft_wrap=True)
    if change.decided_again:
        console.print(f"{change.decided_again} stored windows were decided about again")
    console.print(f"to take it back: anomaly-assets feedback revert {change.version.feedback_id}")


def _contents(version: FeedbackVersion) -> list[str]:
    lines = []
    if version.threshold is not None:
        lines.append(f"  alarms above {version.threshold:.3f}")
    lines += [f"  weight {w:g} for {source_in_words(s)}" for s, w in sorted(version.trust.items())]
    for stored in version.rules:
        rule = Rule.from_dict(stored)
        lines.append(f"  no alert for {rule.sentence} (rule '{rule.name}')")
    lines += [
        f"  on {'the judged alarms' if name == 'labels' else 'later ones'}: {effect['sentence']}"
        for name, effect in version.effect.items()
        if isinstance(effect, dict)
    ]
    return lines


def _row(one: Standing) -> tuple[str, ...]:
    version = one.version
    effect = version.effect.get("labels") or version.effect.get("later_labels") or {}
    return (
        str(version.feedback_id),
        "meta-learner" if version.is_meta else escape(version.scope),
        _what(version),
        f"{version.from_time.astimezone(UTC):%Y-%m-%d %H:%M}",
        effect.get("sentence", ""),
        escape(version.author),
        one.status,
    )


def _what(version: FeedbackVersion) -> str:
    what = version.action.replace("_", " ")
    return what if version.reason is None else f"{what}: {escape(version.reason)}"


def _document(version: FeedbackVersion, status: str) -> dict[str, Any]:
    """Return a version as JSON holds it, without the bytes of a model."""
    document = {**asdict(version), "status": status, "has_model": version.model is not None}
    del document["model"], document["seal"]
    return document
