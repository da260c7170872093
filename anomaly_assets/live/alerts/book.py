"""The alerts that decisions depend on: all open ones, and the recent rest.

Nothing else is remembered between two decisions, so whoever reads the same alerts back from the
database goes on as if nothing had happened.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from anomaly_assets.live.alerts.alert import Alert, Message, Rule, rank, window_time
from anomaly_assets.storage.alerts import AlertStatus

#: Alerts that are done with stay known this long, for late readings that concern them again. Far
#: more than an hour, which the limits look back.
KEPT: Final = timedelta(days=7)
#: The span that the limits are counted over.
HOUR: Final = timedelta(hours=1)


class Book:
    """Alerts by identity, with the indexes that rules and decisions need.

    Parameters
    ----------
    alerts
        Those to begin with, such as the database holds.
    """

    def __init__(self, alerts: Iterable[Alert] = ()) -> None:
        self._alerts: dict[str, Alert] = {}
        self._of: dict[tuple[str, Rule], dict[str, None]] = defaultdict(dict)
        self._open: dict[str, None] = {}
        self._told: dict[str, dict[str, None]] = defaultdict(dict)
        self.apply(alerts)

    def __len__(self) -> int:
        """Return the number of alerts it knows."""
        return len(self._alerts)

    def __iter__(self) -> Iterator[Alert]:
        """Return all alerts, in no particular order."""
        return iter(list(self._alerts.values()))

    def find(self, key: str) -> Alert | None:
        """Return the alert of an identity, if there is one."""
        return self._alerts.get(key)

    def apply(self, alerts: Iterable[Alert]) -> None:
        """Take in new alerts, and new versions of known ones."""
        for alert in alerts:
            key = alert.key
            self._untell(self._alerts.get(key))
            self._alerts[key] = alert
            if alert.message_id is not None:
                self._told[alert.message_id][key] = None
            self._of[alert.entity_id, alert.rule][key] = None
            if alert.is_open:
                self._open[key] = None
            else:
                self._open.pop(key, None)

    def of(self, entity_id: str, rule: Rule) -> list[Alert]:
        """Return the alerts of a rule about an entity."""
        return [self._alerts[key] for key in self._of.get((entity_id, rule), ())]

    def open(self, status: AlertStatus) -> list[Alert]:
        """Return the alerts of a status, which is one of the open ones; the most severe first."""
        found = [self._alerts[key] for key in self._open]
        return sorted((one for one in found if one.status is status), key=_order)

    def on_the_way(self) -> list[Message]:
        """Return the messages that have not arrived yet, such as a restart has cut short."""
        parts: dict[str, list[Alert]] = defaultdict(list)
        for alert in self.open(AlertStatus.SENDING):
            parts[str(alert.message_id)].append(alert)
        return [
            Message(message_id, tuple(alerts), digest=is_digest(message_id))
            for message_id, alerts in parts.items()
        ]

    def used(self, now: datetime, entity_id: str | None = None) -> int:
        """Count the messages of the last hour, those on their way among them.

        Parameters
        ----------
        now
            End of the hour.
        entity_id
            Count only those about this entity alone, which are no digests.
        """
        count = 0
        for message_id, keys in list(self._told.items()):
            told = [self._alerts[key] for key in keys]
            if all(one.sent_at is not None and one.sent_at <= now - HOUR for one in told):
                del self._told[message_id]
            elif entity_id is None:
                count += 1
            else:
                count += not is_digest(message_id) and told[0].entity_id == entity_id
        return count

    def forget(self, now: datetime) -> int:
        """Drop what is done with and long past; returns how many."""
        gone = [
            alert
            for alert in self._alerts.values()
            if not alert.is_open
            and max(alert.raised_at, alert.sent_at or alert.raised_at) < now - KEPT
            and window_time(alert.last) < now - KEPT
        ]
        for alert in gone:
            self._remove(alert)
        return len(gone)

    def drop(self, entity_id: str) -> None:
        """Let go of all alerts about an entity, open ones too."""
        for alert in [one for one in self._alerts.values() if one.entity_id == entity_id]:
            self._open.pop(alert.key, None)
            self._remove(alert)

    def _remove(self, alert: Alert) -> None:
        self._untell(self._alerts.pop(alert.key))
        of = self._of[alert.entity_id, alert.rule]
        del of[alert.key]
        if not of:
            del self._of[alert.entity_id, alert.rule]

    def _untell(self, alert: Alert | None) -> None:
        keys = None if alert is None else self._told.get(str(alert.message_id))
        if alert is None or keys is None:
            return
        keys.pop(alert.key, None)
        if not keys:
            del self._told[str(alert.message_id)]


def is_digest(message_id: str) -> bool:
    """Whether a message of this identifier is a digest."""
    return message_id.startswith("digest-")


def _order(alert: Alert) -> tuple[int, int, str]:
    return -rank(alert.severity), alert.start, alert.key
