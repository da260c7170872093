"""``export`` and ``forget``: everything that is stored of an entity, handed over or deleted."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomaly_assets.cli.common import (
    ByOption,
    JsonOption,
    console,
    open_deployment,
    print_json,
    who,
)
from anomaly_assets.errors import InputError
from anomaly_assets.pipeline.privacy import count_stored, forget_entity
from anomaly_assets.storage import migrate
from anomaly_assets.storage.exporting import export_entity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anomaly_assets.pipeline.deployment import Deployment

Entity = Annotated[str, typer.Argument(help="Whom.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(export)
    app.command()(forget)


def export(
    entity: Entity,
    to: Annotated[Path, typer.Option(help="A new or empty folder, or a file that ends in .zip.")],
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    *,
    as_json: JsonOption = False,
) -> None:
    """Write everything that is stored of an entity to Parquet files, with a manifest."""
    deployment = open_deployment()
    about = {"code_version": version("anomaly-assets"), "schema_revision": migrate.head()}
    with deployment.database.connect() as connection:
        manifest = export_entity(connection, entity, to, about=about, force=force)
    if as_json:
        print_json({"to": str(to), **manifest})
        return
    for table in manifest["tables"]:
        if table["rows"]:
            console.print(f"{table['rows']:>12,}  {table['table']}")
    size = sum(table["bytes"] for table in manifest["tables"])
    console.print(f"written to {to}, {size / 1e6:,.1f} MB", highlight=False, soft_wrap=True)


def forget(
    entity: Entity,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    by: ByOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Delete an entity entirely: readings, scores, states, labels, tokens, everything."""
    decided_by = who(by)
    deployment = open_deployment()
    counts = count_stored(deployment, entity)
    if not yes:
        if as_json:
            msg = "--json asks no questions; give --yes as well, to delete the entity"
            raise InputError(msg)
        _confirm(entity, counts)
    forgotten = forget_entity(deployment, entity, by=decided_by)
    cached = asyncio.run(_forget_cached(deployment, entity))
    if as_json:
        print_json(
            {
                "entity_id": entity,
                "subject": forgotten.subject,
                "rows": forgotten.rows,
                "tables": dict(forgotten.counts),
                "cached": cached,
            }
        )
        return
    _show(forgotten.counts)
    console.print(
        f"{forgotten.rows:,} rows deleted; recorded as erasure of {forgotten.subject[:12]}..."
    )
    if cached is None:
        console.print(
            "[yellow]Redis did not answer:[/] the latest score may be there for a day yet; run "
            "this again when it does"
        )


def _confirm(entity: str, counts: Mapping[str, int]) -> None:
    _show(counts)
    typed = typer.prompt("This cannot be undone. Type the entity's name to delete all of it")
    if typed != entity:
        msg = f"{typed!r} is not {entity!r}; nothing was deleted"
        raise InputError(msg)


def _show(counts: Mapping[str, int]) -> None:
    for table, count in sorted(counts.items()):
        console.print(f"{count:>12,}  {table}")


async def _forget_cached(deployment: Deployment, entity_id: str) -> bool | None:
    """Delete what Redis holds; None if it does not answer, False if there was nothing."""
    url = deployment.settings.redis_url
    if url is None:
        return False
    # Of the extra `live`, which nothing else of this needs.
    from anomaly_assets.live.cache import ScoreCache  # noqa: PLC0415

    cache = ScoreCache(url.get_secret_value())
    try:
        deleted = await cache.forget(entity_id)
        return None if cache.figures.failures else deleted
    finally:
        await cache.close()
