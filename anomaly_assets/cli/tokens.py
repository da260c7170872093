"""``tokens``: who may send readings and ask for results."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from anomaly_assets.cli.common import JsonOption, console, moment, open_deployment, print_json
from anomaly_assets.errors import InputError
from anomaly_assets.live.tokens import TokenBook
from anomaly_assets.storage.entities import find_entity

if TYPE_CHECKING:
    from anomaly_assets.storage.tokens import Token

_SPAN = re.compile(r"([0-9]{1,6})([hdw])", re.ASCII)
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    tokens = typer.Typer(
        no_args_is_help=True, help="Make, list and revoke the tokens of the live API."
    )
    tokens.command()(create)
    tokens.command("list")(list_)
    tokens.command()(revoke)
    app.add_typer(tokens, name="tokens")


def create(  # noqa: PLR0913 - one parameter an option
    name: Annotated[str, typer.Argument(help="What it is for, such as the device.")],
    entity: Annotated[
        str | None,
        typer.Option("--entity", help="Good for this entity alone; default: for every one."),
    ] = None,
    read: Annotated[
        bool | None, typer.Option("--read", help="Allows to ask for results.", show_default=False)
    ] = None,
    write: Annotated[
        bool | None, typer.Option("--write", help="Allows to send readings.", show_default=False)
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(help="After 90d, 12w or 36h, or at a date; default: never."),
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Make a token and print its secret, once; it allows both unless --read or --write is given."""
    deployment = open_deployment()
    both = not (read or write)
    secret, token = TokenBook(deployment.database).issue(
        name,
        entity_id=entity,
        read=both or bool(read),
        write=both or bool(write),
        expires=_expiry(expires, datetime.now(tz=UTC)),
    )
    with deployment.database.connect() as connection:
        known = entity is None or find_entity(connection, entity) is not None
    if as_json:
        print_json({**asdict(token), "entity_known": known, "secret": secret})
        return
    console.print(
        f"token {token.token_id}, {escape(name)}: {_allows(token)}, {_whom(token)}, "
        f"{_until(token)}",
        highlight=False,
        soft_wrap=True,
    )
    if not known:
        console.print(
            f"[yellow]note:[/] nothing is known of an entity {escape(repr(entity))} yet",
            highlight=False,
            soft_wrap=True,
        )
    console.print("its secret, which is shown only now:")
    # Plain and on its own line, so that it can be copied or cut out by a program.
    typer.echo(secret)


def list_(
    entity: Annotated[
        str | None, typer.Option("--entity", help="Only those made for this entity alone.")
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the tokens with what they allow; nobody can list their secrets."""
    now = datetime.now(tz=UTC)
    tokens = TokenBook(open_deployment().database).tokens(entity_id=entity)
    if as_json:
        print_json([{**asdict(token), "standing": _standing(token, now)} for token in tokens])
        return
    if not tokens:
        console.print("no token; make one with anomaly-assets tokens create NAME")
        return
    table = Table(title="tokens")
    for column in ("number", "name", "entity", "allows", "standing", "expires", "last used"):
        table.add_column(column, justify="right" if column == "number" else "left")
    for token in tokens:
        table.add_row(
            str(token.token_id),
            escape(token.name),
            "(all)" if token.entity_id is None else escape(token.entity_id),
            _allows(token),
            _standing(token, now),
            _minute(token.expires_at),
            _minute(token.last_used_at),
        )
    console.print(table)


def revoke(
    number: Annotated[int, typer.Argument(help="Number of the token, as the list shows it.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Make a token worthless for good; running servers notice within five seconds."""
    token = TokenBook(open_deployment().database).revoke(number)
    if as_json:
        print_json(asdict(token))
        return
    console.print(
        f"token {token.token_id}, {escape(token.name)}: revoked", highlight=False, soft_wrap=True
    )


def _expiry(text: str | None, now: datetime) -> datetime | None:
    span = None if text is None else _SPAN.fullmatch(text)
    if span is None:
        return moment(text)
    try:
        return now + timedelta(**{_UNITS[span[2]]: int(span[1])})
    except OverflowError as error:
        msg = f"--expires {text}: that is beyond the year 9999; leave it out for never"
        raise InputError(msg) from error


def _standing(token: Token, now: datetime) -> str:
    if token.revoked_at is not None:
        return "revoked"
    if token.expires_at is not None and token.expires_at <= now:
        return "expired"
    return "valid"


def _allows(token: Token) -> str:
    return " and ".join(
        word for word, may in (("read", token.may_read), ("write", token.may_write)) if may
    )


def _whom(token: Token) -> str:
    return "every entity" if token.entity_id is None else f"entity {escape(token.entity_id)}"


def _until(token: Token) -> str:
    return "never expires" if token.expires_at is None else f"until {_minute(token.expires_at)}"


def _minute(value: datetime | None) -> str:
    return "never" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M}"
