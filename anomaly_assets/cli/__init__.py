"""The command line, ``anomaly-assets``."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.markup import escape

from anomaly_assets.cli import (
    alerts,
    data,
    demo,
    evaluate,
    feedback,
    importing,
    labels,
    runs,
    serve,
    suggestions,
    tokens,
    up,
    views,
    webhooks,
)
from anomaly_assets.errors import AnomalyAssetsError

app = typer.Typer(
    name="anomaly-assets",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Watch sensor streams, find anomalies, learn normal gaps, explain why.",
)
for module in (
    up,
    demo,
    data,
    importing,
    runs,
    views,
    labels,
    suggestions,
    feedback,
    serve,
    tokens,
    alerts,
    webhooks,
    evaluate,
):
    module.register(app)


def main() -> None:
    """Run the command line; a known error is one clear line and exit code 1."""
    try:
        app()
    except AnomalyAssetsError as error:
        # Escaped, or "[embedded]" in an instruction vanishes; not wrapped, so paths can be copied.
        Console(stderr=True).print(
            f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True
        )
        sys.exit(1)
