"""Retention of a deployment's raw readings, on whichever kind of server it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from anomaly_assets.storage import retention, timescale

if TYPE_CHECKING:
    from datetime import datetime

    from anomaly_assets.pipeline.deployment import Deployment


@dataclass(frozen=True)
class RetentionReport:
    """What became of old readings.

    Parameters
    ----------
    server
        ``native``, ``apache`` or ``timescale``.
    before
        Readings before this are old; None: they are kept for ever.
    dropped
        What has been aggregated by the hour and dropped, the oldest first.
    waiting
        What is old but has to stay for now, and why.
    policies_changed
        Whether the server's own jobs were set up anew (TimescaleDB, licensed for them).
    """

    server: str
    before: datetime | None
    dropped: tuple[retention.Dropped, ...] = ()
    waiting: tuple[retention.Outlook, ...] = ()
    policies_changed: bool = False

    @property
    def readings(self) -> int:
        """How many readings were dropped."""
        return sum(one.readings for one in self.dropped)


def plan_retention(deployment: Deployment, now: datetime) -> list[retention.Outlook]:
    """Return the old pieces of the journal and what would become of each, changing nothing."""
    before = _before(deployment, now)
    if before is None:
        return []
    with deployment.database.connect() as connection:
        capabilities = timescale.detect(connection)
        pieces = retention.old_pieces(connection, capabilities, before)
        return [retention.look_at(connection, piece) for piece in pieces]


def retain_readings(deployment: Deployment, now: datetime) -> RetentionReport:
    """Aggregate old readings by the hour and drop them, a month (or chunk) a transaction.

    It may be killed at any time and run again; several at once wait for each other.

    Parameters
    ----------
    deployment
        Whose `raw_months` says what is old. Where `window_end` lies in the past, months are
        counted from there: recordings of old do not age.
    now
        The time, aware.

    Raises
    ------
    StorageError
        If hourly values do not stand for every reading; that piece is as it was.
    """
    raw_months = deployment.settings.raw_months
    before = _before(deployment, now)
    dropped: list[retention.Dropped] = []
    waiting: list[retention.Outlook] = []
    with deployment.database.connect() as connection:
        capabilities = timescale.detect(connection)
        changed = timescale.apply_policies(connection, capabilities, raw_months)
        pieces = [] if before is None else retention.old_pieces(connection, capabilities, before)
        for piece in pieces:
            gone = retention.aggregate_and_drop(connection, capabilities, piece)
            outlook = retention.look_at(connection, piece) if gone is None else None
            if gone is not None and gone.readings:
                dropped.append(gone)
            elif outlook is not None and outlook.waiting:
                waiting.append(outlook)
    return RetentionReport(capabilities.kind, before, tuple(dropped), tuple(waiting), changed)


def _before(deployment: Deployment, now: datetime) -> datetime | None:
    end = deployment.settings.window_end
    return retention.boundary(now if end is None else min(now, end), deployment.settings.raw_months)
