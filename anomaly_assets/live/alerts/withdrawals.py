"""What becomes of an alert that turns out to be none: withdrawn, and said so if it was told."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from anomaly_assets.live.alerts.alert import Account, Alert, Rule
from anomaly_assets.storage.alerts import AlertSeverity, AlertStatus
from anomaly_assets.streams.windows import WINDOW_SECONDS

if TYPE_CHECKING:
    from anomaly_assets.live.alerts.book import Book

#: Rules whose withdrawal people are told of. The rate is that of episodes: theirs say it.
_TOLD: Final = frozenset({Rule.EPISODE, Rule.AVAILABILITY})
#: Why a window is no finding any more, where nothing else is known.
LATE_READINGS: Final = "late readings explain it"
_UNTOLD_YET: Final = frozenset({AlertStatus.PENDING, AlertStatus.HELD})


def without(
    alert: Alert, gone: Collection[int], now: datetime, why: str = LATE_READINGS
) -> list[Alert]:
    """Return what changes when windows of an alert are revised; nothing if it has none of them.

    `why` is what the notice says: why there is nothing to be told of them any more.
    While other windows are left it stands. Otherwise it is withdrawn: who was not told yet is told
    nothing; after it was sent a notice follows; while it is on its way the notice waits for it.
    """
    rest = tuple(window for window in alert.windows if window not in gone)
    if alert.withdrawn or rest == alert.windows:
        return []
    # Of a long span the older windows are remembered by their first alone.
    forgotten = alert.first < alert.windows[0]
    if rest or forgotten:
        last = rest[-1] if rest else alert.windows[0] - WINDOW_SECONDS
        first = alert.first if forgotten else rest[0]
        return [replace(alert, windows=rest, first=first, last=last)]
    if alert.status is AlertStatus.SENDING:
        return [replace(alert, windows=(), withdrawn=True, withdrawn_for=why)]
    done = replace(
        alert, windows=(), withdrawn=True, withdrawn_for=why, status=AlertStatus.WITHDRAWN
    )
    return [done, *notices(done, now)] if alert.status is AlertStatus.SENT else [done]


def settled(alert: Alert, now: datetime) -> list[Alert]:
    """Return an alert whose message has arrived; withdrawn meanwhile, the notice comes with it."""
    if not alert.withdrawn:
        return [replace(alert, status=AlertStatus.SENT, sent_at=now)]
    done = replace(alert, status=AlertStatus.WITHDRAWN, sent_at=now)
    return [done, *notices(alert, now)]


def notices(alert: Alert, now: datetime) -> list[Alert]:
    """Return the notice that an alert people have read is withdrawn; none for some rules."""
    if alert.rule not in _TOLD:
        return []
    notice = Alert(
        alert.rule,
        alert.entity_id,
        start=alert.start,
        first=alert.first,
        last=alert.last,
        windows=(),
        severity=AlertSeverity.INFO,
        time_zone=alert.time_zone,
        account=Account(
            f"Withdrawn: {alert.withdrawn_for or LATE_READINGS}. "
            f"It had said: {alert.account.sentence}"
        ),
        explained=True,
        raised_at=now,
        due_at=now,
        again=alert.again,
        notice=True,
    )
    return [notice]


def reopened(book: Book, alert: Alert, window: int) -> list[Alert]:
    """Return what changes when a withdrawn alert turns out to be right after all.

    That is possible as long as nobody has read that it is withdrawn: it stands again, and the
    notice does not go out. Returns nothing if it is too late for that.
    """
    again = replace(
        alert, withdrawn=False, withdrawn_for="", windows=(window,), first=window, last=window
    )
    if alert.status is AlertStatus.SENDING:
        return [again]
    notice = book.find(alert.notice_key)
    if notice is None or notice.status not in _UNTOLD_YET:
        return []
    return [
        replace(again, status=AlertStatus.SENT),
        replace(notice, status=AlertStatus.WITHDRAWN, withdrawn=True),
    ]
