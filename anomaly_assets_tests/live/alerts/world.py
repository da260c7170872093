"""A deployment in miniature: windows come in, alerts are decided on, messages arrive or not."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from anomaly_assets.live.alerts.alert import Account, Alert, Message
from anomaly_assets.live.alerts.book import Book
from anomaly_assets.live.alerts.policy import Policy, decide, delivered, undelivered
from anomaly_assets.live.alerts.rules import Observation, Thresholds, observe, observe_batch
from anomaly_assets.live.alerts.withdrawals import LATE_READINGS
from anomaly_assets.storage.alerts import SnoozeRow
from anomaly_assets.streams.windows import WINDOW_SECONDS, window_of

#: A Monday at noon.
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def restored(alerts: list[Alert]) -> list[Alert]:
    """Return alerts as they come back from their table."""
    rows = [alert.row() for alert in alerts]
    texts = [json.dumps(row.details) for row in rows]
    return [
        Alert.of_row(replace(row, details=json.loads(text)))
        for row, text in zip(rows, texts, strict=True)
    ]


def snooze(until: datetime, entity_id: str | None = None, rule: str | None = None) -> SnoozeRow:
    """Return somebody's wish not to be told, from long ago on."""
    return SnoozeRow(1, entity_id, rule, NOON - timedelta(days=9), until, "ann", None, NOON)


@dataclass
class World:
    """A clock, the alerts, and a log of what has arrived when."""

    policy: Policy = field(default_factory=Policy)
    thresholds: Thresholds = field(default_factory=Thresholds)
    now: datetime = NOON
    book: Book = field(default_factory=Book)
    snoozes: list[SnoozeRow] = field(default_factory=list)
    decided: list[Message] = field(default_factory=list)
    travelling: list[Message] = field(default_factory=list)
    arrived: list[tuple[datetime, Message]] = field(default_factory=list)

    def see(  # noqa: PLR0913 - what a window can be like
        self,
        entity: str = "ann",
        *,
        anomalous: bool = True,
        score: float = 0.8,
        available: float = 1.0,
        explained: bool = True,
        provisional: bool = False,
        windows_ago: int = 0,
        zone: str = "UTC",
        why_not: str = LATE_READINGS,
    ) -> list[Alert]:
        """Take in the window that holds the present moment, or an earlier one."""
        start = int(window_of(self.now).timestamp()) - windows_ago * WINDOW_SECONDS
        seen = Observation(
            entity,
            zone,
            start,
            anomalous,
            score,
            available,
            provisional,
            Account(f"{entity} did something odd.") if explained else None,
            explained,
            why_not=why_not,
        )
        changed = observe(self.book, seen, self.thresholds, self.now)
        self.book.apply(changed)
        return changed

    def batch(self, seconds: float) -> None:
        """Take in how long a batch took."""
        self.book.apply(observe_batch(self.book, seconds, self.thresholds, self.now))

    def pass_time(self, **span: float) -> None:
        """Let the clock go on."""
        self.now += timedelta(**span)

    def decide(self) -> list[Message]:
        """Decide now; the messages are on their way from then on."""
        decision = decide(self.book, self.snoozes, self.policy, self.now)
        self.book.apply(decision.changed)
        self.decided += decision.messages
        self.travelling += decision.messages
        return list(decision.messages)

    def arrive(self) -> None:
        """Let everything arrive that is on its way."""
        for message in self.travelling:
            self.arrived.append((self.now, message))
            self.book.apply(delivered(self._current(message), self.now))
        self.travelling = []

    def give_up(self) -> None:
        """Let everything be lost that is on its way."""
        for message in self.travelling:
            self.book.apply(undelivered(self._current(message), self.now))
        self.travelling = []

    def _current(self, message: Message) -> Message:
        alerts = (self.book.find(alert.key) or alert for alert in message.alerts)
        return Message(message.message_id, tuple(alerts), message.digest)

    def restart(self) -> None:
        """Forget everything that is not stored."""
        self.book = Book(restored(list(self.book)))
        self.travelling = self.book.on_the_way()

    def tell(self) -> list[Message]:
        """Decide, and let it arrive at once."""
        messages = self.decide()
        self.arrive()
        return messages
