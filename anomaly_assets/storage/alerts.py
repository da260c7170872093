"""Alerts and snoozes in their tables: what has been said is not said again after a restart."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from anomaly_assets.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anomaly_assets.storage.database import Connection

_ALERT: Final = (
    "alert_key, entity_id, rule, severity, status, first_seen, last_seen, summary, details, "
    "anomaly_id, message_id, sent_at"
)
_SNOOZE: Final = "snooze_id, entity_id, rule, starts_at, ends_at, author, note, created_at"


class AlertSeverity(StrEnum):
    """How much an alert matters, least first."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class AlertStatus(StrEnum):
    """How far an alert has got on its way to people."""

    PENDING = "pending"
    HELD = "held"
    SENDING = "sending"
    SENT = "sent"
    GROUPED = "grouped"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True)
class AlertRow:
    """An alert, as stored.

    Parameters
    ----------
    alert_key
        What it is about: the same key is the same alert, across restarts.
    entity_id
        Whom it concerns; empty: the deployment as a whole.
    rule
        What it was raised by.
    severity, status
        How much it matters, and how far it has got.
    first_seen, last_seen
        Start of the first and of the last window in which the same was noticed.
    summary
        What happened, in one sentence.
    details
        Whatever else is needed to go on with it, as JSON can hold it.
    anomaly_id
        The explanation it tells of; None: of none.
    message_id
        The message it is told in; None: in none yet.
    sent_at
        When that message arrived; None: it has not.
    """

    alert_key: str
    entity_id: str
    rule: str
    severity: AlertSeverity
    status: AlertStatus
    first_seen: datetime
    last_seen: datetime
    summary: str
    details: dict[str, Any]
    anomaly_id: UUID | None = None
    message_id: str | None = None
    sent_at: datetime | None = None

    def __post_init__(self) -> None:
        """Turn the database's texts into what they mean."""
        object.__setattr__(self, "severity", AlertSeverity(self.severity))
        object.__setattr__(self, "status", AlertStatus(self.status))


@dataclass(frozen=True)
class SnoozeRow:
    """A person's wish not to be told for a while.

    Parameters
    ----------
    snooze_id
        Its number.
    entity_id
        Whom it is about; empty: the deployment as a whole; None: anybody.
    rule
        Which alerts it is about; None: all.
    starts_at, ends_at
        From when, and until when.
    author
        Who wishes so.
    note
        Why; None: not told.
    created_at
        When it was made.
    """

    snooze_id: int
    entity_id: str | None
    rule: str | None
    starts_at: datetime
    ends_at: datetime
    author: str
    note: str | None
    created_at: datetime


def save_alerts(connection: Connection, alerts: Iterable[AlertRow]) -> int:
    """Store alerts as they are now, all or none; returns how many were not known before.

    Parameters
    ----------
    connection
        A connection to the database.
    alerts
        New ones, and known ones in whatever has changed; of several with one key the last counts.
    """
    new = 0
    # In one order, so that two writers wait for each other instead of for ever.
    latest = sorted({one.alert_key: one for one in alerts}.items())
    with connection.transaction():
        for _, one in latest:
            row = connection.execute(
                f"INSERT INTO alerts AS a ({_ALERT}) "  # noqa: S608 - our own constant
                "VALUES (%(alert_key)s, %(entity_id)s, %(rule)s, %(severity)s, %(status)s, "
                "%(first_seen)s, %(last_seen)s, %(summary)s, %(details)s, %(anomaly_id)s, "
                "%(message_id)s, %(sent_at)s) ON CONFLICT (alert_key) DO UPDATE SET "
                "entity_id = excluded.entity_id, rule = excluded.rule, "
                "severity = excluded.severity, status = excluded.status, "
                "first_seen = excluded.first_seen, last_seen = excluded.last_seen, "
                "summary = excluded.summary, details = excluded.details, "
                "anomaly_id = excluded.anomaly_id, message_id = excluded.message_id, "
                "sent_at = excluded.sent_at, updated_at = now() RETURNING xmax = 0",
                {
                    **vars(one),
                    "severity": str(one.severity),
                    "status": str(one.status),
                    "details": Jsonb(one.details),
                },
            ).fetchone()
            new += bool(row and row[0])
    return new


def find_alert(connection: Connection, alert_key: str) -> AlertRow | None:
    """Return one alert, or None."""
    with connection.cursor(row_factory=class_row(AlertRow)) as cursor:
        return cursor.execute(
            f"SELECT {_ALERT} FROM alerts WHERE alert_key = %s",  # noqa: S608 - our own constant
            (alert_key,),
        ).fetchone()


def open_and_recent_alerts(connection: Connection, since: datetime) -> list[AlertRow]:
    """Return what decisions after a restart rest on, by key.

    Parameters
    ----------
    connection
        A connection to the database.
    since
        Alerts that are done with are returned if they were stored, or speak of a window, from then
        on; those of which somebody still has to be told, always.
    """
    with connection.cursor(row_factory=class_row(AlertRow)) as cursor:
        return cursor.execute(
            f"SELECT {_ALERT} FROM alerts "  # noqa: S608 - our own constant
            "WHERE status IN ('pending', 'held', 'sending') OR updated_at >= %(since)s "
            "OR last_seen >= %(since)s ORDER BY alert_key",
            {"since": since},
        ).fetchall()


def list_alerts(
    connection: Connection,
    *,
    entity_id: str | None = None,
    status: AlertStatus | None = None,
    since: datetime | None = None,
    limit: int = 100,
) -> list[AlertRow]:
    """Return alerts, the newest first.

    Parameters
    ----------
    connection
        A connection to the database.
    entity_id
        Only those about this entity (empty: the deployment).
    status
        Only those that have got so far.
    since
        Only those that speak of a window from then on.
    limit
        At most so many.
    """
    with connection.cursor(row_factory=class_row(AlertRow)) as cursor:
        return cursor.execute(
            f"SELECT {_ALERT} FROM alerts "  # noqa: S608 - our own constant
            "WHERE (%(entity_id)s::text IS NULL OR entity_id = %(entity_id)s) "
            "AND (%(status)s::text IS NULL OR status = %(status)s) "
            "AND (%(since)s::timestamptz IS NULL OR last_seen >= %(since)s) "
            "ORDER BY last_seen DESC, alert_key LIMIT %(limit)s",
            {
                "entity_id": entity_id,
                "status": None if status is None else str(status),
                "since": since,
                "limit": limit,
            },
        ).fetchall()


def prune_alerts(connection: Connection, before: datetime) -> int:
    """Delete alerts that were done with before a moment, and snoozes that ended; how many alerts.

    An alert of which somebody still has to be told stays, however old it is.
    """
    connection.execute("DELETE FROM alert_snoozes WHERE ends_at < %s", (before,))
    return connection.execute(
        "DELETE FROM alerts WHERE status IN ('sent', 'grouped', 'withdrawn') "
        "AND updated_at < %(before)s AND last_seen < %(before)s",
        {"before": before},
    ).rowcount


def add_snooze(  # noqa: PLR0913 - the columns of a row
    connection: Connection,
    ends_at: datetime,
    author: str,
    *,
    entity_id: str | None = None,
    rule: str | None = None,
    starts_at: datetime | None = None,
    note: str | None = None,
) -> SnoozeRow:
    """Store a wish not to be told.

    Parameters
    ----------
    connection
        A connection to the database.
    ends_at
        Until when, with a time zone.
    author
        Who wishes so.
    entity_id, rule
        What it is about; None: anybody, all.
    starts_at
        From when; default: now.
    note
        Why.

    Raises
    ------
    InputError
        If it would end before it begins, or nobody is named.
    """
    if not author.strip() or not author.isprintable():
        msg = f"a snooze of {author!r}: name who does not want to be told"
        raise InputError(msg)
    with connection.cursor(row_factory=class_row(SnoozeRow)) as cursor:
        made = cursor.execute(
            "INSERT INTO alert_snoozes "  # noqa: S608 - our own constant
            "(entity_id, rule, starts_at, ends_at, author, note) "
            "SELECT %(entity_id)s, %(rule)s, starts_at, %(ends_at)s::timestamptz, %(author)s, "
            "%(note)s FROM (SELECT coalesce(%(starts_at)s::timestamptz, now()) AS starts_at) AS s "
            f"WHERE starts_at < %(ends_at)s::timestamptz RETURNING {_SNOOZE}",
            {
                "entity_id": entity_id,
                "rule": rule,
                "starts_at": starts_at,
                "ends_at": ends_at,
                "author": author.strip(),
                "note": note,
            },
        ).fetchone()
    if made is None:
        msg = f"a snooze until {ends_at.isoformat()} is over before it begins; give a later time"
        raise InputError(msg)
    return made


def list_snoozes(connection: Connection, *, at: datetime | None = None) -> list[SnoozeRow]:
    """Return the snoozes that hold at a moment (default: now) or begin later, by their end."""
    with connection.cursor(row_factory=class_row(SnoozeRow)) as cursor:
        return cursor.execute(
            f"SELECT {_SNOOZE} FROM alert_snoozes "  # noqa: S608 - our own constant
            "WHERE ends_at > coalesce(%s::timestamptz, now()) ORDER BY ends_at, snooze_id",
            (at,),
        ).fetchall()


def end_snooze(connection: Connection, snooze_id: int, *, at: datetime | None = None) -> SnoozeRow:
    """End a snooze at a moment (default: now); one that is over stays as it was.

    Raises
    ------
    InputError
        If there is none of that number.
    """
    with connection.cursor(row_factory=class_row(SnoozeRow)) as cursor:
        ended = cursor.execute(
            "UPDATE alert_snoozes SET ends_at = least(ends_at, "  # noqa: S608 - our own constant
            "greatest(starts_at, coalesce(%(at)s::timestamptz, now()))) "
            f"WHERE snooze_id = %(snooze_id)s RETURNING {_SNOOZE}",
            {"at": at, "snooze_id": snooze_id},
        ).fetchone()
    if ended is None:
        msg = f"no snooze has the number {snooze_id}; see anomaly-assets alerts list"
        raise InputError(msg)
    return ended
