"""What the commands share: the deployment they work on, and how they print."""

from __future__ import annotations

import getpass
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from anomaly_assets.errors import InputError
from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets.settings import settings
from anomaly_assets.storage.connect import connect_database
from anomaly_assets.storage.migrate import upgrade

if TYPE_CHECKING:
    from collections.abc import Mapping

console = Console()
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]
ByOption = Annotated[
    str | None, typer.Option("--by", help="Who decides; default: the user of the system.")
]


def open_deployment() -> Deployment:
    """Return the deployment of the settings, its database brought up to date."""
    database = connect_database(settings())
    upgrade(database.url)
    return Deployment(settings(), database, run_id="cli")


def print_json(document: Mapping[str, Any] | list[Any]) -> None:
    """Print a document that programs read."""
    typer.echo(json.dumps(document, default=_plain, indent=2, allow_nan=False))


def moment(text: str | None) -> datetime | None:
    """Read a date or time given on the command line; without a zone it is UTC.

    Raises
    ------
    InputError
        If it is neither.
    """
    if text is None:
        return None
    try:
        value = datetime.fromisoformat(text)
    except ValueError as error:
        msg = f"{text!r} is no date or time; write for example 2026-01-31 or 2026-01-31T08:00"
        raise InputError(msg) from error
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def who(by: str | None) -> str:
    """Return who decides: whoever is named, or the user of the system.

    Raises
    ------
    InputError
        If nobody is named and the system does not know its user.
    """
    try:
        return by if by is not None else getpass.getuser()
    except (OSError, KeyError) as error:
        msg = "the system does not say who you are; name yourself with --by"
        raise InputError(msg) from error


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
