"""``metrics``, ``reader`` and ``doctor``: for whoever keeps a deployment running."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import psycopg
import typer
from rich.markup import escape

from anomaly_assets.cli.common import JsonOption, console, print_json
from anomaly_assets.errors import AnomalyAssetsError, InputError, SettingsError
from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets.settings import settings
from anomaly_assets.storage.connect import connect_database, dagster_database
from anomaly_assets.storage.reader import ROLE, make_reader

if TYPE_CHECKING:
    from anomaly_assets.doctor.finding import Finding

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(metrics)
    app.command()(reader)
    app.command()(doctor)


def metrics(
    textfile: Annotated[
        Path | None,
        typer.Option(help="Write it into this file (*.prom) of the node exporter instead."),
    ] = None,
    names: Annotated[bool, typer.Option(help="Also those of single entities and streams.")] = True,
) -> None:
    """Print the metrics of the deployment for Prometheus, where no live API serves them."""
    if find_spec("prometheus_client") is None:
        msg = "metrics need the extra `live`: pip install anomaly-assets[live]"
        raise SettingsError(msg)
    # Needed by no other command.
    from prometheus_client import generate_latest  # noqa: PLC0415

    from anomaly_assets.monitoring.collector import registries  # noqa: PLC0415

    deployment = Deployment(settings(), connect_database(settings()), run_id="cli")
    totals, named = registries(deployment)
    text = generate_latest(totals) + (generate_latest(named) if names else b"")
    if textfile is None:
        typer.echo(text.decode(), nl=False)
        return
    draft = textfile.with_name(f"{textfile.name}.{os.getpid()}")
    try:
        draft.write_bytes(text)
        # At once: the exporter reads whenever it likes.
        draft.replace(textfile)
    except OSError as error:
        draft.unlink(missing_ok=True)
        msg = (
            f"cannot write {textfile}: {error.strerror or error}; name a file in a folder of yours"
        )
        raise AnomalyAssetsError(msg) from error


def reader(
    password_file: Annotated[Path, typer.Option(help="File that holds its password.")],
    role: Annotated[str, typer.Option(help="Name of the role.")] = ROLE,
) -> None:
    """Make the database role that Grafana reads with, or renew its password and its rights."""
    try:
        password = password_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        msg = f"{password_file} cannot be read ({why}); write the password into it"
        raise InputError(msg) from None
    database = connect_database(settings())
    dagster = dagster_database(database)
    try:
        make_reader(database, dagster, password, role)
    except psycopg.errors.UndefinedTable as error:
        msg = f"not all tables are there yet ({error.diag.message_primary}); start `up` first"
        raise AnomalyAssetsError(msg) from error
    console.print(f"{escape(role)} may read {database.name} and {dagster.name}")


def doctor(*, as_json: JsonOption = False) -> None:
    """Check the installation, and say of each thing found what to do; exit code 1 on a problem."""
    from anomaly_assets.doctor.examine import examine  # noqa: PLC0415 - imports Dagster

    findings = examine()
    problems = sum(finding.state == "problem" for finding in findings)
    warnings = sum(finding.state == "warning" for finding in findings)
    if as_json:
        print_json(
            {
                "problems": problems,
                "warnings": warnings,
                "findings": [finding.as_dict() for finding in findings],
            }
        )
    else:
        for finding in findings:
            _show(finding)
        console.print(f"{len(findings)} checks: {problems} problems, {warnings} warnings")
    if problems:
        raise typer.Exit(1)


def _show(finding: Finding) -> None:
    colour = _COLOURS[finding.state]
    told = f"[{colour}]{finding.state:>7}[/]  {escape(finding.check)}: {escape(finding.found)}"
    console.print(told, highlight=False, soft_wrap=True)
    if finding.advice:
        console.print(f"         {escape(finding.advice)}", highlight=False, soft_wrap=True)
