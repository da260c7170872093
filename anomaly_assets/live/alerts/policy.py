"""Which alerts are sent now, which are held back, and when these come in a digest.

Everything here is a pure function of the alerts, the snoozes, the clock and the policy.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from anomaly_assets.errors import InputError
from anomaly_assets.live.alerts.alert import Alert, Hold, Message, covers, rank
from anomaly_assets.live.alerts.rules import age
from anomaly_assets.live.alerts.withdrawals import settled
from anomaly_assets.storage.alerts import AlertSeverity, AlertStatus, SnoozeRow

if TYPE_CHECKING:
    from anomaly_assets.live.alerts.book import Book
    from anomaly_assets.settings import Settings

#: Reasons for which messages did not arrive, kept with each alert.
_FAILURES_KEPT = 5
_MESSAGES = uuid.uuid5(uuid.NAMESPACE_URL, "anomaly-assets/message")


@dataclass(frozen=True)
class QuietHours:
    """A part of every day, on the entity's own clock; over midnight if it ends before it begins.

    Parameters
    ----------
    start, end
        Local times; `end` itself is not quiet any more.

    Examples
    --------
    >>> QuietHours(time(22), time(7)).hold(time(23, 30))
    True
    """

    start: time
    end: time

    def hold(self, clock: time) -> bool:
        """Whether a local time lies in them."""
        if self.start < self.end:
            return self.start <= clock < self.end
        return clock >= self.start or clock < self.end


@dataclass(frozen=True)
class Policy:
    """How much people want to be told.

    Parameters
    ----------
    per_hour
        Messages in any hour, digests among them; one of them is kept for a digest, so with 1 there
        are digests only.
    per_entity
        Messages in any hour that are about one entity alone.
    digest_after
        How long what the limits hold back is gathered before it comes in a digest.
    quiet_hours
        Part of the day, on the entity's clock, in which alerts below `passing` are held back.
    passing
        AlertSeverity from which on quiet hours do not matter.
    max_age
        What ended longer ago than this is told in a digest only.
    """

    per_hour: int = 12
    per_entity: int = 4
    digest_after: timedelta = timedelta(minutes=15)
    quiet_hours: QuietHours | None = None
    passing: AlertSeverity = AlertSeverity.CRITICAL
    max_age: timedelta = timedelta(hours=6)

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        """Return what the settings say."""
        return cls(
            per_hour=settings.alerts_per_hour,
            per_entity=settings.alerts_per_hour_per_entity,
            quiet_hours=None if settings.quiet_hours is None else QuietHours(*settings.quiet_hours),
            passing=AlertSeverity(settings.alert_quiet_passing),
        )

    def share(self, part: int, whole: int) -> Policy:
        """Return the policy of an instance that tells `part` of `whole` shards of the entities."""
        return self if part == whole else replace(self, per_hour=-(-self.per_hour * part // whole))

    def __post_init__(self) -> None:
        """Refuse limits that would never let anything out."""
        if self.per_hour < 1 or self.per_entity < 0:
            msg = (
                f"{self.per_hour} messages an hour, {self.per_entity} an entity: give at least 1 "
                "and at least 0"
            )
            raise InputError(msg)


@dataclass(frozen=True)
class Decision:
    """What to do now.

    Parameters
    ----------
    changed
        Alerts that stand otherwise from now on; store them before anything is sent.
    messages
        What to send.
    """

    changed: tuple[Alert, ...]
    messages: tuple[Message, ...]


def decide(book: Book, snoozes: Iterable[SnoozeRow], policy: Policy, now: datetime) -> Decision:
    """Decide what is sent now; the book stays as it is.

    What waits is sent if nothing speaks against it, or else held back; what is held back is never
    sent by itself later, but in a digest, once nothing but the limits holds it and it has waited
    for :attr:`Policy.digest_after`, or at once where a snooze or quiet hours have ended.
    """
    active = [snooze for snooze in snoozes if now < snooze.ends_at]
    total, of_entity = book.used(now), dict[str, int]()
    changed: dict[str, Alert] = {}
    messages: list[Message] = []
    for alert in book.open(AlertStatus.PENDING):
        if now < alert.due_at:
            continue
        used = of_entity.setdefault(alert.entity_id, book.used(now, alert.entity_id))
        hold = _wish(alert, active, policy, now)
        if hold is None and age(alert, now) > policy.max_age:
            hold = Hold.OLD
        if hold is None and (used >= policy.per_entity or total >= policy.per_hour - 1):
            hold = Hold.RATE_LIMIT
        if hold is not None:
            changed[alert.key] = replace(alert, status=AlertStatus.HELD, hold=hold, held_at=now)
            continue
        messages.append(_message([alert], now, digest=False))
        total += 1
        of_entity[alert.entity_id] = used + 1
    held = [*book.open(AlertStatus.HELD), *changed.values()]
    digest = _digest(held, active, policy, now)
    if digest and total < policy.per_hour:
        messages.append(_message(digest, now, digest=True))
    for message in messages:
        changed.update({alert.key: alert for alert in message.alerts})
    return Decision(tuple(changed.values()), tuple(messages))


def delivered(message: Message, now: datetime) -> list[Alert]:
    """Return the alerts of a message that has arrived, as they stand from now on.

    With those that were withdrawn while it was on its way come the notices that say so.
    """
    return [one for alert in message.alerts for one in settled(alert, now)]


def undelivered(message: Message, now: datetime) -> list[Alert]:
    """Return the alerts of a message that was given up: held back for the next digest.

    Of one that was withdrawn meanwhile nobody needs to be told.
    """
    return [
        replace(
            alert,
            status=AlertStatus.WITHDRAWN if alert.withdrawn else AlertStatus.HELD,
            hold=Hold.UNDELIVERED,
            held_at=now,
            message_id=None,
        )
        for alert in message.alerts
    ]


def failed_attempt(message: Message, why: str) -> list[Alert]:
    """Return the alerts of a message with one more reason why it has not arrived somewhere."""
    return [
        replace(alert, failures=(*alert.failures, why)[-_FAILURES_KEPT:])
        for alert in message.alerts
    ]


def _digest(
    held: list[Alert], snoozes: list[SnoozeRow], policy: Policy, now: datetime
) -> list[Alert]:
    """Return what a digest tells now; nothing where it is too early for one."""
    free = [alert for alert in held if _wish(alert, snoozes, policy, now) is None]
    asked = {Hold.QUIET_HOURS, Hold.SNOOZED}
    due = any(
        alert.hold in asked or alert.held_at is None or now - alert.held_at >= policy.digest_after
        for alert in free
    )
    return sorted(free, key=_order) if due else []


def _wish(alert: Alert, snoozes: list[SnoozeRow], policy: Policy, now: datetime) -> Hold | None:
    """Return the wish of people that keeps an alert back, if one does."""
    if any(covers(snooze, alert, now) for snooze in snoozes):
        return Hold.SNOOZED
    hours = policy.quiet_hours
    if hours is None or rank(alert.severity) >= rank(policy.passing):
        return None
    clock = now.astimezone(ZoneInfo(alert.time_zone)).time()
    return Hold.QUIET_HOURS if hours.hold(clock) else None


def _message(alerts: list[Alert], now: datetime, *, digest: bool) -> Message:
    name = uuid.uuid5(_MESSAGES, "\n".join([now.isoformat(), *(one.key for one in alerts)]))
    message_id = f"{'digest' if digest else 'alert'}-{name}"
    sending = tuple(
        replace(alert, status=AlertStatus.SENDING, message_id=message_id, sent_at=None)
        for alert in alerts
    )
    return Message(message_id, sending, digest)


def _order(alert: Alert) -> tuple[int, str, int]:
    return -rank(alert.severity), alert.entity_id, alert.start
