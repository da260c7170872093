"""An alert: what was noticed, of whom, since when, and how far it has got on its way to people."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from anomaly_assets.storage.alerts import AlertRow, AlertSeverity, AlertStatus
from anomaly_assets.streams.windows import WINDOW_SECONDS

if TYPE_CHECKING:
    from anomaly_assets.detection.explanation.record import Explanation
    from anomaly_assets.storage.alerts import SnoozeRow

#: ``entity_id`` of an alert about the deployment as a whole.
DEPLOYMENT = ""
#: Streams that an alert tells of; the page it links to has all.
STREAMS_TOLD = 5
#: How many of its windows an alert remembers: an hour, which is what the rate is taken over.
REMEMBERED_WINDOWS = 3600 // WINDOW_SECONDS


class Rule(StrEnum):
    """What an alert is raised by."""

    EPISODE = "episode"
    ANOMALY_RATE = "anomaly_rate"
    AVAILABILITY = "availability"
    SLOW_BATCH = "slow_batch"


class Hold(StrEnum):
    """Why an alert is held back."""

    RATE_LIMIT = "rate_limit"
    QUIET_HOURS = "quiet_hours"
    SNOOZED = "snoozed"
    OLD = "old"
    UNDELIVERED = "undelivered"


@dataclass(frozen=True, slots=True)
class StreamFact:
    """What one stream did: its value and what was expected of it, None where unknown."""

    name: str
    unit: str
    actual: float | None
    expected: float | None

    @property
    def line(self) -> str:
        """The fact as a line of text.

        Examples
        --------
        >>> StreamFact("Heart rate", "bpm", 141.0, 72.34).line
        'Heart rate: 141 bpm, expected 72.34 bpm'
        """
        unit = f" {self.unit}" if self.unit else ""
        actual = "missing" if self.actual is None else f"{self.actual:.4g}{unit}"
        expected = "" if self.expected is None else f", expected {self.expected:.4g}{unit}"
        return f"{self.name}: {actual}{expected}"


@dataclass(frozen=True, slots=True)
class Account:
    """What an alert tells people.

    Parameters
    ----------
    sentence
        What happened, in one sentence.
    streams
        The streams it is about.
    anomaly_id
        Identifier of the explanation; None where there is none.
    action
        What to do; empty where nothing is known.
    """

    sentence: str
    streams: tuple[StreamFact, ...] = ()
    anomaly_id: str | None = None
    action: str = ""

    @classmethod
    def of(cls, explanation: Explanation) -> Account:
        """Tell an explanation, the streams of its cause first."""
        causes = explanation.cause_streams
        streams = sorted(explanation.evidence.streams, key=lambda one: one.stream not in causes)
        return cls(
            explanation.summary,
            tuple(
                StreamFact(one.name, one.unit, one.actual, one.expected)
                for one in streams[:STREAMS_TOLD]
            ),
            explanation.anomaly_id,
            explanation.recommended_action,
        )


@dataclass(frozen=True)
class Alert:
    """One thing that people are to be told, once.

    Parameters
    ----------
    rule, entity_id
        What was noticed, and of whom; :data:`DEPLOYMENT` stands for all.
    start
        Window it was noticed in first, seconds since the epoch; with rule and entity its identity.
    first, last
        First and last window in which the same was noticed, so far.
    windows
        The latest of these windows, in order, at most :data:`REMEMBERED_WINDOWS`.
    severity
        How much it matters.
    time_zone
        IANA zone of the entity, for quiet hours and clock times.
    account
        What it tells.
    explained
        Whether `account` is the explanation, or stands in for it.
    raised_at, due_at
        When it was raised, and from when on it may be sent.
    status, hold, held_at
        How far it has got; while held, why and since when.
    message_id, sent_at
        The message it is told in, and when that has arrived.
    failures
        Why messages that told it did not arrive, the latest last.
    withdrawn
        Whether nobody needs to be told any more, since its windows have been revised.
    withdrawn_for
        Why they have: late readings, or what people have judged; empty while it stands.
    again
        How many alerts of the same rule, entity and start there were before it.
    notice
        Whether it says that the alert of the same rule, entity and start is withdrawn.
    """

    rule: Rule
    entity_id: str
    start: int
    first: int
    last: int
    windows: tuple[int, ...]
    severity: AlertSeverity
    time_zone: str
    account: Account
    explained: bool
    raised_at: datetime
    due_at: datetime
    status: AlertStatus = AlertStatus.PENDING
    hold: Hold | None = None
    held_at: datetime | None = None
    message_id: str | None = None
    sent_at: datetime | None = None
    failures: tuple[str, ...] = ()
    withdrawn: bool = False
    withdrawn_for: str = ""
    again: int = 0
    notice: bool = False

    @property
    def key(self) -> str:
        """What tells it from every other alert, across restarts."""
        start = f"{self.start}.{self.again}" if self.again else f"{self.start}"
        key = f"{self.rule}/{start}/{self.entity_id}"
        return f"withdrawn/{key}" if self.notice else key

    @property
    def notice_key(self) -> str:
        """Identity of the notice that it is withdrawn."""
        return replace(self, notice=True).key

    @property
    def is_open(self) -> bool:
        """Whether somebody still has to be told."""
        return self.status in {AlertStatus.PENDING, AlertStatus.HELD, AlertStatus.SENDING}

    def row(self) -> AlertRow:
        """Return it as it is stored; see :meth:`of_row`."""
        anomaly_id = self.account.anomaly_id
        return AlertRow(
            self.key,
            self.entity_id,
            self.rule,
            self.severity,
            self.status,
            first_seen=window_time(self.first),
            last_seen=window_time(self.last),
            summary=self.account.sentence,
            details=self._details(),
            anomaly_id=None if anomaly_id is None else UUID(anomaly_id),
            message_id=self.message_id,
            sent_at=self.sent_at,
        )

    def _details(self) -> dict[str, Any]:
        return {
            "start": self.start,
            "windows": list(self.windows),
            "time_zone": self.time_zone,
            "streams": [asdict(fact) for fact in self.account.streams],
            "action": self.account.action,
            "explained": self.explained,
            "raised_at": self.raised_at.isoformat(),
            "due_at": self.due_at.isoformat(),
            "hold": None if self.hold is None else str(self.hold),
            "held_at": None if self.held_at is None else self.held_at.isoformat(),
            "failures": list(self.failures),
            "withdrawn": self.withdrawn,
            "withdrawn_for": self.withdrawn_for,
            "again": self.again,
            "notice": self.notice,
        }

    @classmethod
    def of_row(cls, row: AlertRow) -> Self:
        """Build an alert from what is stored of it."""
        details = row.details
        held_at = details["held_at"]
        return cls(
            rule=Rule(row.rule),
            entity_id=row.entity_id,
            start=details["start"],
            first=int(row.first_seen.timestamp()),
            last=int(row.last_seen.timestamp()),
            windows=tuple(details["windows"]),
            severity=row.severity,
            time_zone=details["time_zone"],
            account=Account(
                row.summary,
                tuple(StreamFact(**fact) for fact in details["streams"]),
                None if row.anomaly_id is None else str(row.anomaly_id),
                details["action"],
            ),
            explained=details["explained"],
            raised_at=datetime.fromisoformat(details["raised_at"]),
            due_at=datetime.fromisoformat(details["due_at"]),
            status=row.status,
            hold=None if details["hold"] is None else Hold(details["hold"]),
            held_at=None if held_at is None else datetime.fromisoformat(held_at),
            message_id=row.message_id,
            sent_at=row.sent_at,
            failures=tuple(details["failures"]),
            withdrawn=details["withdrawn"],
            # Those that an earlier version has stored do not say.
            withdrawn_for=details.get("withdrawn_for", ""),
            again=details["again"],
            notice=details["notice"],
        )


@dataclass(frozen=True)
class Message:
    """What people get: one alert, or several in a digest.

    Parameters
    ----------
    message_id
        The same however often it has to be tried, also after a restart.
    alerts
        At least one, the most severe first.
    digest
        Whether it tells what was held back.
    """

    message_id: str
    alerts: tuple[Alert, ...] = field(repr=False)
    digest: bool

    @property
    def severity(self) -> AlertSeverity:
        """The highest among its alerts."""
        return max((alert.severity for alert in self.alerts), key=rank)


def window_time(start: int) -> datetime:
    """Return a window's start as a moment in UTC."""
    return datetime.fromtimestamp(start, tz=UTC)


def rank(severity: AlertSeverity) -> int:
    """Return the place of a severity among all: larger matters more."""
    return list(AlertSeverity).index(severity)


def covers(snooze: SnoozeRow, alert: Alert, now: datetime) -> bool:
    """Whether a snooze keeps an alert from being sent now."""
    return (
        snooze.starts_at <= now < snooze.ends_at
        and snooze.entity_id in {None, alert.entity_id}
        and snooze.rule in {None, alert.rule}
    )
