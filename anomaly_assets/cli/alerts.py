"""``alerts``: what people were told, are to be told, or do not want to hear for a while."""

from __future__ import annotations

import asyncio
import getpass
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from anomaly_assets.cli.common import JsonOption, console, moment, open_deployment, print_json
from anomaly_assets.errors import InputError
from anomaly_assets.live.alerts.alert import Alert, Rule
from anomaly_assets.live.alerts.delivery import Attempt, Deliverer
from anomaly_assets.live.alerts.text import Text
from anomaly_assets.settings import settings
from anomaly_assets.storage.alerts import (
    AlertSeverity,
    AlertStatus,
    add_snooze,
    end_snooze,
    list_alerts,
    list_snoozes,
)

if TYPE_CHECKING:
    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.alerts import SnoozeRow

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_LONGEST_SPAN = timedelta(days=3660)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    alerts = typer.Typer(no_args_is_help=True, help="Try, list and snooze alerts.")
    alerts.command("test")(try_out)
    alerts.command("list")(list_)
    alerts.command()(snooze)
    alerts.command()(unsnooze)
    app.add_typer(alerts, name="alerts")


def try_out(
    severity: Annotated[AlertSeverity, typer.Option(help="As which.")] = AlertSeverity.INFO,
    *,
    as_json: JsonOption = False,
) -> None:
    """Send a test message to every address, once; it says which has taken it."""
    urls = [url.get_secret_value() for url in settings().alert_targets()]
    if not urls:
        msg = (
            "no address to send alerts to; set ANOMALY_ASSETS_ALERT_URLS, for example to "
            '["ntfy://ntfy.sh/my-topic"]'
        )
        raise InputError(msg)
    text = Text(
        f"[{severity}] anomaly-assets: this is a test",
        "If you can read this, alerts arrive here. There is nothing to do.",
        severity,
    )
    attempts = asyncio.run(Deliverer(urls, delays=()).deliver(text))
    if as_json:
        print_json([{"address": a.address, "error": a.error} for a in attempts])
    else:
        for attempt in attempts:
            console.print(_told(attempt), soft_wrap=True)
    if any(attempt.error is not None for attempt in attempts):
        raise typer.Exit(1)


def list_(
    entity: Annotated[str | None, typer.Option("--entity", help="Only this entity.")] = None,
    status: Annotated[AlertStatus | None, typer.Option(help="Only those so far.")] = None,
    since: Annotated[str | None, typer.Option("--from", help="A date or time (UTC).")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    *,
    as_json: JsonOption = False,
) -> None:
    """List alerts, the newest first, with what kept them back, and the snoozes that hold."""
    deployment = open_deployment()
    if entity:
        deployment.entity(entity)
    with deployment.database.connect() as connection:
        rows = list_alerts(
            connection, entity_id=entity, status=status, since=moment(since), limit=limit
        )
        snoozes = list_snoozes(connection)
    alerts = [Alert.of_row(row) for row in rows]
    if as_json:
        print_json({"alerts": list(map(_document, alerts)), "snoozes": list(map(vars, snoozes))})
        return
    if alerts:
        console.print(_table(alerts))
        for alert in alerts:
            if alert.failures:
                console.print(f"{escape(alert.key)}: {escape(alert.failures[-1])}", soft_wrap=True)
    else:
        console.print("no alert")
    for one in snoozes:
        console.print(f"snooze {one.snooze_id}: {escape(_wish(one))}", soft_wrap=True)


def snooze(  # noqa: PLR0913 - what is snoozed
    span: Annotated[str, typer.Argument(help="How long: 30m, 8h, 2d, 1w.")],
    entity: Annotated[str | None, typer.Option("--entity", help="Only this entity.")] = None,
    rule: Annotated[Rule | None, typer.Option(help="Only this rule.")] = None,
    note: Annotated[str | None, typer.Option(help="Why.")] = None,
    by: Annotated[str | None, typer.Option("--by", help="Who; default: the user.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Hold alerts back for a while; what comes meanwhile is told in a digest afterwards."""
    until = datetime.now(tz=UTC) + duration(span)
    deployment = open_deployment()
    if entity is not None:
        deployment.entity(entity)
    with deployment.database.connect() as connection:
        made = add_snooze(connection, until, _who(by), entity_id=entity, rule=rule, note=note)
    _say(made, as_json=as_json, verb="made")


def unsnooze(
    number: Annotated[int, typer.Argument(help="Number of the snooze, as the list shows it.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """End a snooze now."""
    deployment: Deployment = open_deployment()
    with deployment.database.connect() as connection:
        ended = end_snooze(connection, number)
    _say(ended, as_json=as_json, verb="ended")


def duration(text: str) -> timedelta:
    """Read a span of time such as ``8h``.

    Raises
    ------
    InputError
        If it is none, takes no time, or is longer than ten years.

    Examples
    --------
    >>> duration("90m")
    datetime.timedelta(seconds=5400)
    """
    found = re.fullmatch(r"([0-9]{1,6})\s*([mhdw])", text.strip().lower())
    span = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else timedelta(0)
    if not timedelta(0) < span <= _LONGEST_SPAN:
        msg = f"{text!r} is no span of time; write for example 30m, 8h, 2d or 1w, up to ten years"
        raise InputError(msg)
    return span


def _table(alerts: list[Alert]) -> Table:
    table = Table(title="alerts")
    for column in ("entity", "rule", "windows (UTC)", "severity", "status", "what"):
        table.add_column(column)
    for alert in alerts:
        row = alert.row()
        standing = str(alert.status)
        if alert.status is AlertStatus.HELD:
            standing += f" ({str(alert.hold).replace('_', ' ')})"
        elif alert.sent_at is not None:
            standing += f" {alert.sent_at:%m-%d %H:%M}"
        table.add_row(
            escape(alert.entity_id or "all"),
            f"{alert.rule}, withdrawn" if alert.notice else alert.rule,
            f"{row.first_seen:%Y-%m-%d %H:%M} to {row.last_seen:%m-%d %H:%M}",
            alert.severity,
            standing,
            escape(alert.account.sentence),
        )
    return table


def _document(alert: Alert) -> dict[str, Any]:
    row = vars(alert.row())
    details = row.pop("details")
    return {**row, **{name: details[name] for name in ("streams", "action", "raised_at")}} | {
        "held_because": alert.hold if alert.status is AlertStatus.HELD else None,
        "failures": list(alert.failures),
        "withdrawn": alert.withdrawn,
        "notice": alert.notice,
    }


def _told(attempt: Attempt) -> str:
    went = "sent" if attempt.error is None else f"[bold red]failed:[/] {escape(attempt.error)}"
    return f"{escape(attempt.address)}: {went}"


def _say(one: SnoozeRow, *, as_json: bool, verb: str) -> None:
    if as_json:
        print_json(vars(one))
        return
    console.print(f"snooze {one.snooze_id} {verb}: {escape(_wish(one))}", soft_wrap=True)


def _wish(one: SnoozeRow) -> str:
    what = "all alerts" if one.rule is None else f"alerts of rule {one.rule}"
    of = "" if one.entity_id is None else f" of {one.entity_id or 'the deployment'}"
    note = "" if one.note is None else f" ({one.note})"
    until = one.ends_at.astimezone(UTC)
    return f"{what}{of} until {until:%Y-%m-%d %H:%M} UTC, by {one.author}{note}"


def _who(by: str | None) -> str:
    try:
        return by if by is not None else getpass.getuser()
    except (OSError, KeyError) as error:
        msg = "the system does not say who you are; name yourself with --by"
        raise InputError(msg) from error
