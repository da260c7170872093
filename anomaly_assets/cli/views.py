"""``status``, ``anomalies`` and ``explain``: what the system knows."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from anomaly_assets.cli.common import JsonOption, console, moment, open_deployment, print_json
from anomaly_assets.detection.explanation.explain import Mode
from anomaly_assets.detection.explanation.record import Explanation
from anomaly_assets.errors import AnomalyAssetsError, InputError
from anomaly_assets.pipeline.completeness import complete_until
from anomaly_assets.pipeline.explain import explain_window
from anomaly_assets.pipeline.figures import check_path, save
from anomaly_assets.storage.queries import entity_statuses, explanation_record, top_anomalies

if TYPE_CHECKING:
    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.queries import Anomaly

EntityOption = Annotated[str | None, typer.Option("--entity", help="Only this entity.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(status)
    app.command()(anomalies)
    app.command()(explain)


def status(*, as_json: JsonOption = False) -> None:
    """How far each entity has been processed, and how it is doing."""
    deployment = open_deployment()
    with deployment.database.connect() as connection:
        statuses = entity_statuses(connection, threshold=deployment.settings.explanation_threshold)
    complete = complete_until(deployment, datetime.now(tz=UTC))
    deployment.entities()
    if as_json:
        print_json(
            {
                "complete_until": complete,
                "entities": [asdict(entity) for entity in statuses],
                "failures": deployment.failures,
            }
        )
        return
    if not statuses:
        console.print("no entity yet; ingest readings first: anomaly-assets ingest FILES")
        return
    table = Table(title="entities")
    for column in ("entity", "readings until", "processed until", "score", "confidence"):
        table.add_column(column)
    for column in ("anomalous, last day", "coverage", "rejected", "late windows", "too late"):
        table.add_column(column, justify="right")
    for entity in statuses:
        table.add_row(
            escape(entity.entity_id),
            _time(entity.last_reading_at),
            _time(entity.processed_until),
            _share(entity.latest_score),
            _share(entity.latest_confidence),
            str(entity.anomalous_last_day),
            "" if entity.coverage_last_day is None else f"{entity.coverage_last_day:.0%}",
            str(entity.rejected),
            str(entity.late_windows),
            str(entity.late_beyond_horizon),
        )
    console.print(table)
    for entity_id, why in deployment.failures.items():
        console.print(f"[bold red]{escape(entity_id)}:[/] {escape(why)}")


def anomalies(  # noqa: PLR0913 - the filters
    entity: EntityOption = None,
    since: Annotated[str | None, typer.Option("--from", help="A date or time (UTC).")] = None,
    until: Annotated[str | None, typer.Option("--to", help="A date or time (UTC).")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    min_score: Annotated[float, typer.Option(min=0.0, max=1.0)] = 0.7,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the episodes with the highest final scores, each with its one-sentence explanation."""
    deployment = open_deployment()
    with deployment.database.connect() as connection:
        found = top_anomalies(
            connection,
            entity_id=_known(deployment, entity),
            since=moment(since),
            until=moment(until),
            min_score=min_score,
            limit=limit,
        )
    if as_json:
        print_json([asdict(anomaly) for anomaly in found])
        return
    if not found:
        console.print(f"no window scores above {min_score:g}")
        return
    table = Table(title=f"the {len(found)} episodes with the highest scores above {min_score:g}")
    for column in ("entity", "episode (UTC)", "highest", "why"):
        table.add_column(column)
    for anomaly in found:
        table.add_row(
            escape(anomaly.entity_id),
            _span(anomaly),
            f"{anomaly.score:.3f}",
            escape(_why(anomaly)),
        )
    console.print(table)
    first = found[0]
    which = (
        f"--entity {escape(first.entity_id)} --at {first.window:%Y-%m-%dT%H:%M}"
        if first.anomaly_id is None
        else first.anomaly_id
    )
    console.print(f"more: anomaly-assets explain {which}", soft_wrap=True)


def _why(anomaly: Anomaly) -> str:
    summary = anomaly.summary or ""
    if anomaly.suppressed_by is None:
        return summary
    return f"{summary} (no alert: rule '{anomaly.suppressed_by}')".strip()


def explain(  # noqa: PLR0913 - which anomaly, and how it is shown
    anomaly_id: Annotated[str | None, typer.Argument(help="Identifier of an anomaly.")] = None,
    entity: EntityOption = None,
    at: Annotated[str | None, typer.Option(help="Any time in the window (UTC).")] = None,
    mode: Annotated[Mode, typer.Option(help="For a window named by --at.")] = Mode.THOROUGH,
    plot: Annotated[
        Path | None, typer.Option(help="Draw it into this file: .png, .svg or .pdf.")
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Explain an anomaly by its identifier, or any processed window by entity and time."""
    if plot is not None:
        check_path(plot)
    deployment = open_deployment()
    if anomaly_id is not None:
        with deployment.database.connect() as connection:
            record = explanation_record(connection, anomaly_id)
        if record is None:
            msg = f"no explanation has the identifier {anomaly_id!r}; see anomaly-assets anomalies"
            raise AnomalyAssetsError(msg)
        explanation = Explanation.from_dict(record)
    else:
        when = moment(at)
        if entity is None or when is None:
            msg = "name an anomaly by its identifier, or a window by --entity and --at"
            raise InputError(msg)
        explanation = explain_window(deployment, deployment.entity(entity), when, mode=mode)
    if plot is not None:
        save(deployment, deployment.entity(explanation.entity_id), explanation, plot)
    if as_json:
        print_json(explanation.to_dict())
    else:
        console.print(escape(explanation.as_text()), highlight=False)


def _span(anomaly: Anomaly) -> str:
    start, end = anomaly.episode_start.astimezone(UTC), anomaly.episode_end.astimezone(UTC)
    until = f"{end:%H:%M}" if end.date() == start.date() else _time(end)
    return f"{_time(start)} to {until}{', ongoing' if anomaly.ongoing else ''}"


def _known(deployment: Deployment, entity: str | None) -> str | None:
    return None if entity is None else deployment.entity(entity).entity_id


def _time(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"
