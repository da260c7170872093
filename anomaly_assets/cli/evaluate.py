"""``anomaly-assets evaluate``: how good detection is, beside what a user would otherwise pick."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from anomaly_assets.cli.common import JsonOption, console
from anomaly_assets.evaluation.datasets import NAMES, load
from anomaly_assets.evaluation.evaluate import Figures, Report
from anomaly_assets.evaluation.evaluate import evaluate as run_evaluation

_WIDEST = 1000


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(evaluate)


def evaluate(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|DIR",
            help=f"{', '.join(NAMES)}, or a folder with readings.csv and labels.csv.",
        ),
    ],
    *,
    as_json: JsonOption = False,
    compare: Annotated[
        bool, typer.Option("--compare/--no-compare", help="Run the baselines as well.")
    ] = True,
    train_until: Annotated[
        str | None,
        typer.Option(help="Of a folder: windows before this time are only learnt from."),
    ] = None,
) -> None:
    """Score a labelled data set: train part learnt in order, then score before learning."""
    log = Console(stderr=True)
    series = load(name, train_until=train_until)
    report = run_evaluation(
        name,
        series,
        compare=compare,
        progress=lambda text: log.print(text, style="dim", highlight=False, markup=False),
    )
    if as_json:
        # One line: whoever reads it takes the last one.
        typer.echo(json.dumps(report.document(), allow_nan=False))
        return
    _print(report)


def _print(report: Report) -> None:
    rows = [*report.files.items(), ("mean", report.mean)]
    _show(_table(f"{report.dataset}, ours", "file", rows))
    if report.baselines:
        beside = [("ours", report.mean), *report.baselines.items()]
        _show(_table(f"{report.dataset}, means beside the baselines", "detector", beside))
    console.print(
        f"{report.seconds:,.1f} s, of which our detection {report.detection_seconds:,.1f}"
    )


def _needed(table: Table) -> int:
    wide = Console(width=_WIDEST)
    return Measurement.get(wide, wide.options, table).maximum


def _show(table: Table) -> None:
    """Print a table as wide as it is: figures cut off to fit a terminal would be worthless."""
    table.width = _needed(table)
    console.print(table, width=table.width, crop=False)


def _table(title: str, first: str, rows: list[tuple[str, Figures]]) -> Table:
    names = list(dict.fromkeys(name for _, figures in rows for name in figures))
    table = Table(first, *names, title=title)
    for name, figures in rows:
        cells = [f"{figures[key]:.3f}" if key in figures else "" for key in names]
        table.add_row(name, *cells)
    return table
