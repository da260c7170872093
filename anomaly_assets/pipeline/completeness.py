"""When a window is complete, and which windows late readings have changed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from anomaly_assets.streams.windows import window_of

if TYPE_CHECKING:
    from anomaly_assets.pipeline.deployment import Deployment

#: A stream counts as reporting, and is waited for, when it reported within this time.
REPORTING = timedelta(hours=1)


def complete_until(deployment: Deployment, now: datetime) -> datetime | None:
    """Return the end of the last window that is complete for every entity.

    A window is complete when every reporting stream has a reading after its end, or when the
    allowed lateness has passed since.

    Returns
    -------
    datetime or None
        A window boundary no later than `now`; None while there is no entity with a reading.
    """
    current = window_of(now)
    given_up_on = window_of(now - deployment.settings.allowed_lateness)
    with deployment.database.connect() as connection:
        row = connection.execute(
            "SELECT count(*) FROM entities WHERE first_window IS NOT NULL"
        ).fetchone()
        if row is None or row[0] == 0:
            return None
        # The slowest of the streams that reported within the hour decides; those that stopped
        # reporting are waited for no longer than the allowed lateness.
        row = connection.execute(
            "SELECT min(latest) FROM (SELECT entity_id, stream_id, max(event_time) AS latest "
            "FROM readings WHERE event_time >= %s AND event_time < %s "
            "GROUP BY entity_id, stream_id) AS streams",
            (now - REPORTING, now + deployment.settings.future_tolerance),
        ).fetchone()
    slowest = current if row is None or row[0] is None else min(window_of(row[0]), current)
    end = max(slowest, given_up_on)
    last = deployment.settings.window_end
    return end if last is None else min(end, window_of(last))


def first_window(deployment: Deployment) -> datetime | None:
    """Return the first window of any entity; None before the first reading."""
    with deployment.database.connect() as connection:
        row = connection.execute("SELECT min(first_window) FROM entities").fetchone()
    return None if row is None else row[0]


def earliest_late_window(deployment: Deployment) -> datetime | None:
    """Return the first window that late readings within the horizon belong to."""
    with deployment.database.connect() as connection:
        row = connection.execute('SELECT min("window") FROM late_windows').fetchone()
    return None if row is None else row[0]
