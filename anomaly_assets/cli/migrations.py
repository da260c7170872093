"""``migrate``: the schema of the database, up, down or merely looked at."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from anomaly_assets.automation.instance import prepare, upgrade_instance
from anomaly_assets.cli.common import JsonOption, console, print_json
from anomaly_assets.errors import InputError
from anomaly_assets.settings import settings
from anomaly_assets.storage import migrate as schema
from anomaly_assets.storage.connect import connect_database

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Database


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(migrate)


def migrate(
    to: Annotated[
        str | None,
        typer.Option(help="Revision to go to, up or down; default: the one this code needs."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Change nothing; exit with 1 unless the schema is right."),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Go down without asking; what is newer is lost.")
    ] = False,
    *,
    as_json: JsonOption = False,
) -> None:
    """Bring the database's tables, and Dagster's own, to the version of this code.

    Safe to repeat, and from several processes at once. A database that a newer version has migrated
    is refused.
    """
    database = connect_database(settings())
    if check:
        if to is not None:
            msg = "--check looks at the schema that this code needs; leave out --to"
            raise InputError(msg)
        schema.check(database)
        _say(database, schema.head(), as_json=as_json)
        return
    before = schema.current(database)
    if to is None:
        upgrade_instance(prepare(settings(), database))
    else:
        _go(database, before, to, yes=yes)
    _say(database, before, as_json=as_json)


def _go(database: Database, before: str | None, to: str, *, yes: bool) -> None:
    known = schema.revisions()
    if to not in known:
        msg = f"there is no revision {to!r}; known are {', '.join(known)}"
        raise InputError(msg)
    if before in known and known.index(before) > known.index(to):
        what = "tables and columns that came later are removed, with what is in them"
        if not yes and not sys.stdin.isatty():
            msg = f"going down from {before} to {to}: {what}; add --yes if that is meant"
            raise InputError(msg)
        if not yes:
            typer.confirm(f"Go down from {before} to {to}? All {what}.", abort=True)
        schema.downgrade(database, to)
    else:
        schema.upgrade(database, to)


def _say(database: Database, before: str | None, *, as_json: bool) -> None:
    after = schema.current(database)
    if as_json:
        print_json({"revision": after, "was": before, "needed": schema.head()})
    elif after == before:
        console.print(f"the schema is at revision {after}", highlight=False)
    else:
        console.print(f"the schema went from {before or 'nothing'} to {after}", highlight=False)
