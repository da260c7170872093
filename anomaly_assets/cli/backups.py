"""``backup`` and ``restore``: the whole database in one file, and back."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anomaly_assets.automation.instance import prepare, upgrade_instance
from anomaly_assets.cli.common import JsonOption, console, print_json
from anomaly_assets.settings import settings
from anomaly_assets.state.keys import fingerprint, signing_key
from anomaly_assets.storage import backup as backups
from anomaly_assets.storage.archive import shown
from anomaly_assets.storage.connect import connect_database
from anomaly_assets.storage.database import Database

if TYPE_CHECKING:
    from anomaly_assets.storage.archive import Manifest


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(backup)
    app.command()(restore)


def backup(
    to: Annotated[
        str,
        typer.Option(
            help="File to make: a path or an address of fsspec (s3://bucket/name.tar). One that "
            "ends with / is a folder, in which the file is named by the time."
        ),
    ],
    *,
    as_json: JsonOption = False,
) -> None:
    """Write our database and Dagster's into one file, each as of one moment, while all goes on.

    The signing key, settings and catalogue files are not in it: keep them elsewhere.
    """
    options = settings()
    if to.endswith("/"):
        to += f"anomaly-assets-{datetime.now(tz=UTC):%Y%m%dT%H%M%SZ}.tar"
    facts = backups.Facts(
        version("anomaly-assets"), version("dagster"), fingerprint(signing_key(options))
    )
    manifest = backups.back_up(_databases(), to, facts, options.home)
    if as_json:
        print_json({"file": shown(to), **_described(manifest)})
        return
    console.print(f"backup: {shown(to)}", markup=False, highlight=False, soft_wrap=True)
    _print(manifest)
    console.print(
        f"not in it: the signing key ({manifest.key_fingerprint}), settings, catalogue files",
        highlight=False,
        soft_wrap=True,
    )


def restore(
    source: Annotated[
        str, typer.Option("--from", help="The backup: a path or an address of fsspec.")
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Replace what is there; it is lost.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Verify the file and change nothing.")
    ] = False,
    *,
    as_json: JsonOption = False,
) -> None:
    """Bring both databases back to what a backup holds; the services must be stopped.

    A backup of an earlier version is migrated afterwards. Until everything is restored and counted,
    what is there stays as it is.
    """
    options = settings()
    if check:
        manifest = backups.verify(source, options.home)
    else:
        manifest = backups.restore(_databases(), source, options.home, force=force)
        upgrade_instance(prepare(options, connect_database(options)))
    same = fingerprint(signing_key(options)) == manifest.key_fingerprint
    if as_json:
        print_json({"file": shown(source), "key_is_the_same": same, **_described(manifest)})
        return
    what = "whole, nothing changed" if check else "restored"
    console.print(f"{what}: {shown(source)}", markup=False, highlight=False, soft_wrap=True)
    _print(manifest)
    if not same:
        console.print(
            f"[yellow]note:[/] the signing key here is not that of the backup "
            f"({manifest.key_fingerprint}): its model snapshots are refused and models rebuilt "
            "from the readings. Set the old key (ANOMALY_ASSETS_SIGNING_KEY_FILE) to keep them.",
            highlight=False,
            soft_wrap=True,
        )


def _databases() -> dict[str, Database]:
    ours = connect_database(settings())
    return {"anomaly_assets": ours, "dagster": Database(ours.dagster_url())}


def _described(manifest: Manifest) -> dict[str, Any]:
    return {name: value for name, value in asdict(manifest).items() if name != "format"}


def _print(manifest: Manifest) -> None:
    console.print(
        f"made {manifest.created_at} by anomaly-assets {manifest.version}, schema "
        f"{manifest.revision}, PostgreSQL {manifest.postgresql}",
        highlight=False,
        soft_wrap=True,
    )
    for role, dump in manifest.databases.items():
        console.print(
            f"  {role}: {sum(dump.rows.values())} rows in {len(dump.rows)} tables, "
            f"{dump.bytes} bytes",
            highlight=False,
            soft_wrap=True,
        )
