"""The command line, ``anomaly-assets``."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.markup import escape

from anomaly_assets.cli.loading import Commands
from anomaly_assets.errors import AnomalyAssetsError, SettingsError
from anomaly_assets.logs import configure
from anomaly_assets.settings import settings

app = typer.Typer(
    name="anomaly-assets",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def anomaly_assets() -> None:
    """Watch sensor streams, find anomalies, learn normal gaps, explain why."""


def main() -> None:
    """Run the command line; a known error is one clear line and exit code 1."""
    try:
        configure(settings().log_format, settings().log_level)
    except SettingsError:
        # The command says so itself, if it needs them.
        configure()
    try:
        app()
    except AnomalyAssetsError as error:
        # Escaped, or "[embedded]" in an instruction vanishes; not wrapped, so paths can be copied.
        Console(stderr=True).print(
            f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True
        )
        sys.exit(1)
