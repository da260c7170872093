"""What people read: an alert, or a digest of several, as title and plain text."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import quote
from zoneinfo import ZoneInfo

from anomaly_assets.live.alerts.alert import DEPLOYMENT, Alert, Hold, Message, Rule
from anomaly_assets.streams.windows import WINDOW_SECONDS

if TYPE_CHECKING:
    from anomaly_assets.storage.alerts import AlertSeverity

#: Alerts that a digest tells one by one; it counts the others.
_TOLD: Final = 20
_TITLES: Final = {
    Rule.EPISODE: "anomaly",
    Rule.ANOMALY_RATE: "many anomalies",
    Rule.AVAILABILITY: "streams missing",
    Rule.SLOW_BATCH: "slow processing",
}
_WHY_HELD: Final = {
    Hold.RATE_LIMIT: "there were too many",
    Hold.QUIET_HOURS: "quiet hours",
    Hold.SNOOZED: "snoozed",
    Hold.OLD: "found late",
    Hold.UNDELIVERED: "could not be delivered before",
}


@dataclass(frozen=True)
class Text:
    """A message for people."""

    title: str
    body: str
    severity: AlertSeverity


@dataclass(frozen=True)
class Links:
    """Where a message leads.

    Parameters
    ----------
    base
        Address under which people reach the API, without a slash at the end; None where there is
        none, and a message then names the command that tells more.
    pages
        Whether pages for people are served there, below ``/ui``.

    Examples
    --------
    >>> Links("https://watch.example").explanation("5f2c")
    'https://watch.example/v1/explanations/5f2c'
    >>> Links("https://watch.example", pages=True).explanation("5f2c")
    'https://watch.example/ui/episode?anomaly=5f2c'
    """

    base: str | None = None
    pages: bool = False

    def of(self, alert: Alert) -> str:
        """Return what leads from an alert to everything that is known of it."""
        if alert.account.anomaly_id is not None:
            return self.explanation(alert.account.anomaly_id)
        if self.base is not None and self.pages:
            whose = quote(alert.entity_id, safe="")
            page = "" if alert.entity_id == DEPLOYMENT else f"entity?id={whose}"
            return f"{self.base}/ui/{page}"
        if alert.entity_id == DEPLOYMENT:
            return "anomaly-assets status" if self.base is None else f"{self.base}/v1/health"
        if self.base is None:
            return f"anomaly-assets anomalies --entity {alert.entity_id}"
        return f"{self.base}/v1/anomalies?entity_id={quote(alert.entity_id, safe='')}"

    def explanation(self, anomaly_id: str) -> str:
        """Return what leads to an explanation."""
        if self.base is None:
            return f"anomaly-assets explain {anomaly_id}"
        if self.pages:
            return f"{self.base}/ui/episode?anomaly={anomaly_id}"
        return f"{self.base}/v1/explanations/{anomaly_id}"


def render(message: Message, links: Links) -> Text:
    """Put a message into words."""
    if not message.digest:
        (alert,) = message.alerts
        return Text(_title(alert), _body(alert, links), message.severity)
    if len(message.alerts) == 1:
        (alert,) = message.alerts
        return Text(_title(alert), f"{_body(alert, links)}\n\n{_held(alert)}", message.severity)
    return Text(_digest_title(message), _digest_body(message, links), message.severity)


def _title(alert: Alert) -> str:
    what = f"withdrawn: {_TITLES[alert.rule]}" if alert.notice else _TITLES[alert.rule]
    return f"[{alert.severity}] {_who(alert)}: {what}, {_when(alert)}"


def _body(alert: Alert, links: Links) -> str:
    lines = [alert.account.sentence]
    if alert.account.streams:
        lines += ["", *(f"- {fact.line}" for fact in alert.account.streams)]
    if alert.account.action:
        lines += ["", f"Do: {alert.account.action}"]
    return "\n".join([*lines, "", f"More: {links.of(alert)}"])


def _digest_title(message: Message) -> str:
    entities = {alert.entity_id for alert in message.alerts}
    of = _who(message.alerts[0]) if len(entities) == 1 else f"{len(entities)} entities"
    return f"[{message.severity}] {len(message.alerts)} alerts of {of} that were held back"


def _digest_body(message: Message, links: Links) -> str:
    alerts = message.alerts
    why = Counter(_WHY_HELD[alert.hold] for alert in alerts if alert.hold is not None)
    lines = [f"Held back: {', '.join(f'{n} ({reason})' for reason, n in why.most_common())}.", ""]
    for alert in alerts[:_TOLD]:
        lines.append(f"- {_title(alert)}: {alert.account.sentence}")
        if alert.account.anomaly_id is not None:
            lines.append(f"  {links.of(alert)}")
    if rest := alerts[_TOLD:]:
        counts = Counter(f"{_who(alert)}: {_TITLES[alert.rule]}" for alert in rest)
        lines += ["", f"And {len(rest)} more:"]
        lines += [f"- {what}, {n}" for what, n in counts.most_common(_TOLD)]
        if len(counts) > _TOLD:
            lines.append(f"- {len(counts) - _TOLD} further ones")
    return "\n".join([*lines, "", "All of them: anomaly-assets alerts list"])


def _held(alert: Alert) -> str:
    return f"Held back: {_WHY_HELD[alert.hold or Hold.RATE_LIMIT]}."


def _who(alert: Alert) -> str:
    return alert.entity_id or "the deployment"


def _when(alert: Alert) -> str:
    zone = ZoneInfo(alert.time_zone)
    start = datetime.fromtimestamp(alert.first, tz=zone)
    if alert.first == alert.last:
        return f"{start:%Y-%m-%d %H:%M}"
    end = datetime.fromtimestamp(alert.last + WINDOW_SECONDS, tz=zone)
    until = f"{end:%H:%M}" if end.date() == start.date() else f"{end:%Y-%m-%d %H:%M}"
    return f"{start:%Y-%m-%d %H:%M} to {until}"
