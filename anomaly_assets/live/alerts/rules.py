"""What raises an alert: pure functions of the alerts known so far and of one observation.

A rule that holds in one window after another is one alert, not many: windows in which the same
was noticed join a *span*, and only a new span is a new alert. Spans stand in the alerts themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from anomaly_assets.detection.explanation.episodes import MAX_QUIET_WINDOWS
from anomaly_assets.live.alerts.alert import (
    DEPLOYMENT,
    REMEMBERED_WINDOWS,
    Account,
    Alert,
    Rule,
    StreamFact,
    rank,
    window_time,
)
from anomaly_assets.live.alerts.withdrawals import LATE_READINGS, reopened, without
from anomaly_assets.storage.alerts import AlertSeverity, AlertStatus
from anomaly_assets.streams.windows import WINDOW_SECONDS, WINDOWS_PER_HOUR, window_of

if TYPE_CHECKING:
    from anomaly_assets.live.alerts.book import Book
    from anomaly_assets.settings import Settings

#: Windows without a finding that end a span: as many as end an episode of explanations, and an
#: hour where a figure goes to and fro around its limit.
_QUIET: Final = {
    Rule.EPISODE: MAX_QUIET_WINDOWS,
    Rule.ANOMALY_RATE: WINDOWS_PER_HOUR,
    Rule.AVAILABILITY: WINDOWS_PER_HOUR,
    Rule.SLOW_BATCH: WINDOWS_PER_HOUR,
}

_EXPLANATION_WAIT: Final = timedelta(seconds=5)


@dataclass(frozen=True)
class Thresholds:
    """Where the rules draw the line.

    Parameters
    ----------
    anomaly_rate
        Share of an hour's windows, in [0, 1]; more anomalous ones raise an alert.
    available
        Share of an entity's streams, in [0, 1]; fewer with a value raise one.
    batch_seconds
        A batch that takes longer raises one.
    critical_score
        An episode with a window above this final score is critical.
    critical_available
        Fewer streams than this share are critical.
    explanation_wait
        How long an episode's alert waits for its explanation.
    readings_wait
        How long an alert of too few streams waits while readings may still arrive.
    """

    anomaly_rate: float = 0.10
    available: float = 0.70
    batch_seconds: float = 10.0
    critical_score: float = 0.95
    critical_available: float = 0.30
    explanation_wait: timedelta = _EXPLANATION_WAIT
    readings_wait: timedelta = timedelta(minutes=10)

    @classmethod
    def of(cls, settings: Settings) -> Thresholds:
        """Return what the settings say."""
        return cls(
            anomaly_rate=settings.alert_anomaly_rate,
            available=settings.alert_streams_available,
            batch_seconds=settings.alert_batch_seconds,
            # Gathered explanations follow later than those made at once.
            explanation_wait=settings.live_explanation_interval + _EXPLANATION_WAIT,
            readings_wait=settings.allowed_lateness,
        )


@dataclass(frozen=True)
class Observation:
    """What alerts need to know of one window of one entity.

    Parameters
    ----------
    entity_id, time_zone
        Whose window, and the IANA zone of its clock times.
    window_start
        Seconds since the epoch.
    is_anomaly, score
        Whether the window is anomalous, and its final score; None where unknown.
    available
        Share of the streams with a value, in [0, 1]; None where unknown.
    provisional
        Whether readings may still arrive for it.
    account
        What is to be told of an anomaly: the explanation, or the streams that stand out.
    explained
        Whether `account` is the explanation.
    missing
        Streams without a value, as far as they are to be told.
    why_not
        Why there is nothing to be told where an earlier result of the window had something.
    """

    entity_id: str
    time_zone: str
    window_start: int
    is_anomaly: bool
    score: float | None
    available: float | None
    provisional: bool = False
    account: Account | None = None
    explained: bool = False
    missing: tuple[StreamFact, ...] = ()
    why_not: str = LATE_READINGS


@dataclass(frozen=True)
class _Finding:
    """That a rule holds in a window."""

    rule: Rule
    entity_id: str
    time_zone: str
    window: int
    severity: AlertSeverity
    account: Account
    ready: bool = True
    grouped: bool = False
    wait: timedelta = timedelta(0)


def observe(book: Book, seen: Observation, thresholds: Thresholds, now: datetime) -> list[Alert]:
    """Return the alerts that a window raises or changes; the book stays as it is.

    Seeing the same window again changes nothing, unless it comes with an explanation now.
    """
    changed: list[Alert] = []
    if seen.is_anomaly:
        changed += _noted(book, changed, _episode(seen, thresholds), now)
    else:
        changed += _taken_back(book, Rule.EPISODE, seen, now)
        if changed:
            changed += _rates_taken_back(book, changed, seen, thresholds, now)
    hours = _anomalous_hour(book, changed, seen.entity_id, seen.window_start)
    count = sum(map(len, hours))
    if _too_many(hours, thresholds):
        finding = _rate(seen, count, grouped=len(hours) == 1)
        changed += _noted(book, changed, finding, now)
    if seen.available is None:
        return changed
    if seen.available < thresholds.available:
        finding = _availability(seen, seen.available, thresholds)
        changed += _noted(book, changed, finding, now)
    else:
        changed += _taken_back(book, Rule.AVAILABILITY, seen, now)
    return changed


def observe_batch(book: Book, seconds: float, thresholds: Thresholds, now: datetime) -> list[Alert]:
    """Return the alerts that the time a batch took raises or changes."""
    if seconds <= thresholds.batch_seconds:
        return []
    finding = _Finding(
        Rule.SLOW_BATCH,
        DEPLOYMENT,
        "UTC",
        int(window_of(now).timestamp()),
        AlertSeverity.WARNING,
        Account(
            f"A batch took {seconds:.1f} s, more than {thresholds.batch_seconds:g} s: results come "
            "late.",
            action="Look at the load of the machine and of the database.",
        ),
    )
    return _noted(book, [], finding, now)


def _episode(seen: Observation, thresholds: Thresholds) -> _Finding:
    score = seen.score
    critical = score is not None and score > thresholds.critical_score
    told = "unknown" if score is None else f"{score:.2f}"
    return _Finding(
        Rule.EPISODE,
        seen.entity_id,
        seen.time_zone,
        seen.window_start,
        AlertSeverity.CRITICAL if critical else AlertSeverity.WARNING,
        seen.account or Account(f"Anomalous, score {told}; no explanation was ready in time."),
        ready=seen.explained,
        wait=thresholds.explanation_wait,
    )


def _rate(seen: Observation, count: int, *, grouped: bool) -> _Finding:
    return _Finding(
        Rule.ANOMALY_RATE,
        seen.entity_id,
        seen.time_zone,
        seen.window_start,
        AlertSeverity.WARNING,
        Account(
            f"{count} of the {WINDOWS_PER_HOUR} windows of the last hour are anomalous "
            f"({count / WINDOWS_PER_HOUR:.0%}).",
            () if seen.account is None else seen.account.streams,
            action="Look whether something has changed for good, or a sensor misbehaves.",
        ),
        grouped=grouped,
    )


def _availability(seen: Observation, available: float, thresholds: Thresholds) -> _Finding:
    critical = available < thresholds.critical_available
    return _Finding(
        Rule.AVAILABILITY,
        seen.entity_id,
        seen.time_zone,
        seen.window_start,
        AlertSeverity.CRITICAL if critical else AlertSeverity.WARNING,
        Account(
            f"Only {available:.0%} of the streams are available, fewer than "
            f"{thresholds.available:.0%}.",
            seen.missing,
            action="Look whether the devices are on, charged and connected.",
        ),
        ready=not seen.provisional,
        wait=thresholds.readings_wait,
    )


def _newest(book: Book, changed: list[Alert], entity_id: str, rule: Rule) -> list[Alert]:
    """Return the alerts of a rule about an entity as they stand after some changes."""
    newest = {alert.key: alert for alert in book.of(entity_id, rule)}
    newest |= {
        alert.key: alert for alert in changed if alert.entity_id == entity_id and alert.rule is rule
    }
    return [alert for alert in newest.values() if not alert.notice]


def _anomalous_hour(
    book: Book, changed: list[Alert], entity_id: str, window: int
) -> list[set[int]]:
    """Return the anomalous windows of the hour that ends with a window, by episode."""
    since = window - (WINDOWS_PER_HOUR - 1) * WINDOW_SECONDS
    hours = (
        {one for one in alert.windows if since <= one <= window}
        for alert in _newest(book, changed, entity_id, Rule.EPISODE)
    )
    return [windows for windows in hours if windows]


def _too_many(hours: list[set[int]], thresholds: Thresholds) -> bool:
    return sum(map(len, hours)) > thresholds.anomaly_rate * WINDOWS_PER_HOUR


def _noted(book: Book, changed: list[Alert], finding: _Finding, now: datetime) -> list[Alert]:
    """Join a finding to the span it belongs to, or begin one."""
    reach = (_QUIET[finding.rule] + 1) * WINDOW_SECONDS
    near = [
        alert
        for alert in _newest(book, changed, finding.entity_id, finding.rule)
        if alert.first - reach <= finding.window <= alert.last + reach
    ]
    spans = [alert for alert in near if not alert.withdrawn]
    # What one episode's alert tells does not cover a second episode: that is an alert of its own.
    told = [alert for alert in spans if alert.status is not AlertStatus.GROUPED]
    for alert in told or (spans if finding.grouped else []):
        joined = _joined(alert, finding, now)
        return [] if joined == alert else [joined]
    for alert in near:
        if alert.withdrawn and (stands_again := reopened(book, alert, finding.window)):
            return stands_again
    return [_begun(book, finding, now)]


def _begun(book: Book, finding: _Finding, now: datetime) -> Alert:
    new = Alert(
        finding.rule,
        finding.entity_id,
        start=finding.window,
        first=finding.window,
        last=finding.window,
        windows=(finding.window,),
        severity=finding.severity,
        time_zone=finding.time_zone,
        account=finding.account,
        explained=finding.ready,
        raised_at=now,
        due_at=now if finding.ready else now + finding.wait,
        status=AlertStatus.GROUPED if finding.grouped else AlertStatus.PENDING,
    )
    while book.find(new.key) is not None:
        new = replace(new, again=new.again + 1)
    return new


def _joined(alert: Alert, finding: _Finding, now: datetime) -> Alert:
    window = finding.window
    windows = tuple(sorted({*alert.windows, window})[-REMEMBERED_WINDOWS:])
    joined = replace(
        alert, first=min(alert.first, window), last=max(alert.last, window), windows=windows
    )
    if alert.status not in {AlertStatus.PENDING, AlertStatus.HELD}:
        return joined
    joined = replace(joined, severity=max(alert.severity, finding.severity, key=rank))
    if not finding.ready:
        return joined
    return replace(joined, account=finding.account, explained=True, due_at=min(alert.due_at, now))


def _taken_back(book: Book, rule: Rule, seen: Observation, now: datetime) -> list[Alert]:
    """Return what changes since the rule does not hold in this window, where it once did."""
    # Nobody's judgement makes a stream available.
    why = LATE_READINGS if rule is Rule.AVAILABILITY else seen.why_not
    return [
        changed
        for alert in book.of(seen.entity_id, rule)
        for changed in without(alert, {seen.window_start}, now, why)
    ]


def _rates_taken_back(
    book: Book, changed: list[Alert], seen: Observation, thresholds: Thresholds, now: datetime
) -> list[Alert]:
    """Return what changes of the rates that a revised window was counted for."""
    hour = range(
        seen.window_start, seen.window_start + WINDOWS_PER_HOUR * WINDOW_SECONDS, WINDOW_SECONDS
    )
    gone = {
        window
        for window in hour
        if not _too_many(_anomalous_hour(book, changed, seen.entity_id, window), thresholds)
    }
    rates = _newest(book, changed, seen.entity_id, Rule.ANOMALY_RATE)
    return [one for alert in rates for one in without(alert, gone, now, seen.why_not)]


def age(alert: Alert, now: datetime) -> timedelta:
    """Return how long ago the last window of an alert ended."""
    return now - window_time(alert.last) - timedelta(seconds=WINDOW_SECONDS)
