"""``webhooks``: addresses that results are posted to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from anomaly_assets.cli.common import JsonOption, console, open_deployment, print_json
from anomaly_assets.errors import InputError
from anomaly_assets.live.webhooks import (
    DEFAULT_EVENTS,
    own_secret,
    register_webhook,
    try_webhook,
)
from anomaly_assets.storage.entities import find_entity
from anomaly_assets.storage.webhooks import (
    WebhookEvent,
    find_webhook,
    list_webhooks,
    remove_webhook,
    resume_webhook,
)

if TYPE_CHECKING:
    from anomaly_assets.storage.webhooks import Webhook

_NOTICED = "running servers notice within ten seconds"
Number = Annotated[int, typer.Argument(help="Number of the webhook, as the list shows it.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    webhooks = typer.Typer(
        no_args_is_help=True, help="Have results posted to addresses, and see how they fare."
    )
    webhooks.command()(add)
    webhooks.command("list")(list_)
    webhooks.command()(remove)
    webhooks.command()(resume)
    webhooks.command("test")(try_out)
    app.add_typer(webhooks, name="webhooks")


def add(
    url: Annotated[str, typer.Argument(help="https://host/path, which may hold a secret.")],
    entity: Annotated[
        str | None, typer.Option("--entity", help="Results of this entity alone; default: of all.")
    ] = None,
    event: Annotated[
        list[WebhookEvent] | None,
        typer.Option("--event", help="Of what, more than once if need be.", show_default=False),
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Post results to an address, and print the secret they are signed with, once.

    Without --event they are anomalies and explanations; window is every window.
    """
    deployment = open_deployment()
    made = asyncio.run(register_webhook(deployment, url, event or DEFAULT_EVENTS, entity_id=entity))
    common = deployment.settings.webhook_secret is not None
    secret = None if common else own_secret(deployment, made)
    with deployment.database.connect() as connection:
        known = entity is None or find_entity(connection, entity) is not None
    if as_json:
        print_json({**_document(made), "entity_known": known, "secret": secret})
        return
    _say(f"webhook {made.webhook_id}, {made.shown}: {_wants(made)}; {_NOTICED}")
    if not known:
        _say(f"note: nothing is known of an entity {entity!r} yet")
    if secret is None:
        _say("it is signed with ANOMALY_ASSETS_WEBHOOK_SECRET")
        return
    _say(
        "check each post: X-Anomaly-Signature is t=SECONDS,v1=HEX, where HEX is the HMAC-SHA256, "
        "keyed with the secret, of SECONDS, a full stop and the body as it came (docs/webhooks.md)"
    )
    _say("its secret, which is shown only now:")
    # Plain and on its own line, so that it can be copied or cut out by a program.
    typer.echo(secret)


def list_(
    entity: Annotated[
        str | None, typer.Option("--entity", help="Only those made for this entity alone.")
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the webhooks with how they fare; of an address only the host is shown."""
    with open_deployment().database.connect() as connection:
        found = list_webhooks(connection, entity_id=entity)
    if as_json:
        print_json([_document(one) for one in found])
        return
    if not found:
        _say("no webhook; make one with anomaly-assets webhooks add URL")
        return
    table = Table(title="webhooks")
    for column in ("number", "address", "entity", "told of", "standing", "last arrived"):
        table.add_column(column, justify="right" if column == "number" else "left")
    for one in found:
        last = one.last_success_at
        table.add_row(
            str(one.webhook_id),
            escape(one.shown),
            "(all)" if one.entity_id is None else escape(one.entity_id),
            ", ".join(sorted(one.events)),
            _standing(one),
            "never" if last is None else f"{last:%Y-%m-%d %H:%M}",
        )
    console.print(table)
    for one in found:
        if one.last_error is not None:
            _say(f"webhook {one.webhook_id}: {one.last_error}")


def remove(number: Number, *, as_json: JsonOption = False) -> None:
    """Post nothing more to an address, and forget it."""
    with open_deployment().database.connect() as connection:
        found = find_webhook(connection, number)
        if found is None or not remove_webhook(connection, number):
            raise _unknown(number)
    _tell(found, f"removed; {_NOTICED}", as_json=as_json)


def resume(number: Number, *, as_json: JsonOption = False) -> None:
    """Use a webhook again that was paused because too many posts did not arrive."""
    with open_deployment().database.connect() as connection:
        found = resume_webhook(connection, number)
    if found is None:
        raise _unknown(number)
    _tell(found, f"{_standing(found)}; {_NOTICED}", as_json=as_json)


def try_out(number: Number, *, as_json: JsonOption = False) -> None:
    """Post a signed event ``test`` once, and say whether it arrived; it stays as it stands."""
    deployment = open_deployment()
    with deployment.database.connect() as connection:
        found = find_webhook(connection, number)
    if found is None:
        raise _unknown(number)
    error = asyncio.run(try_webhook(deployment, found))
    if as_json:
        print_json({"webhook_id": number, "address": found.shown, "error": error})
    else:
        _say(f"webhook {number}, {found.shown}: {'arrived' if error is None else error}")
    if error is not None:
        raise typer.Exit(1)


def _unknown(number: int) -> InputError:
    msg = f"no webhook has the number {number}; see anomaly-assets webhooks list"
    return InputError(msg)


def _tell(webhook: Webhook, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json(_document(webhook))
    else:
        _say(f"webhook {webhook.webhook_id}, {webhook.shown}: {what}")


def _say(text: str) -> None:
    console.print(escape(text), highlight=False, soft_wrap=True)


def _wants(webhook: Webhook) -> str:
    whom = "every entity" if webhook.entity_id is None else f"entity {webhook.entity_id}"
    return f"{', '.join(sorted(webhook.events))} of {whom}"


def _standing(webhook: Webhook) -> str:
    if webhook.token_ended:
        return "its token has ended"
    if webhook.disabled_at is not None:
        return f"paused since {webhook.disabled_at:%Y-%m-%d %H:%M}"
    return "in use" if not webhook.failures else f"in use, {webhook.failures} failed"


def _document(webhook: Webhook) -> dict[str, Any]:
    document = dict(vars(webhook))
    del document["url"]
    return {
        **document,
        "address": webhook.shown,
        "events": sorted(webhook.events),
        "in_use": webhook.in_use,
    }
