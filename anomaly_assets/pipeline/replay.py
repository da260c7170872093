"""How far the pipeline has come, and taking late readings in after all."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from anomaly_assets.pipeline.stateless import DORMANT_AFTER
from anomaly_assets.storage import journal
from anomaly_assets.streams.windows import WindowRange, window_of

if TYPE_CHECKING:
    from anomaly_assets.pipeline.deployment import Deployment


def range_of_readings(deployment: Deployment) -> tuple[datetime, datetime] | None:
    """Return first window and end of the last window that any reading falls into."""
    with deployment.database.connect() as connection:
        row = connection.execute(
            "SELECT min(first_window), max(last_reading_at) FROM entities"
        ).fetchone()
    if row is None or row[0] is None or row[1] is None:
        return None
    return row[0], window_of(row[1]) + timedelta(minutes=5)


def stretches_with_readings(deployment: Deployment, windows: WindowRange) -> list[WindowRange]:
    """Return the parts of a range in which some entity reports or is not yet dormant, in order.

    Between them there is nothing to process: months lie between the recordings of some people.
    """
    with deployment.database.connect() as connection:
        rows = connection.execute(
            "SELECT date_trunc('day', event_time) AS day FROM readings "
            "WHERE event_time >= %(start)s AND event_time < %(end)s AND NOT late UNION "
            # Readings that retention has dropped: their windows are stored.
            "SELECT date_trunc('day', hour) FROM readings_hourly "
            "WHERE hour >= %(start)s AND hour < %(end)s AND late < readings ORDER BY day",
            {"start": windows.start_time - DORMANT_AFTER, "end": windows.end_time},
        ).fetchall()
    stretches: list[WindowRange] = []
    for (day,) in rows:
        until = day + timedelta(days=1) + DORMANT_AFTER
        start = max(int(day.timestamp()), windows.start)
        end = min(int(until.timestamp()), windows.end)
        if stretches and start <= stretches[-1].end:
            stretches[-1] = WindowRange(stretches[-1].start, max(end, stretches[-1].end))
        elif start < end:
            stretches.append(WindowRange(start, end))
    return stretches


def last_window(deployment: Deployment) -> datetime | None:
    """Return the end of the last window taken into the aggregate, of any entity."""
    with deployment.database.connect() as connection:
        row = connection.execute("SELECT max(aggregated_until) FROM entities").fetchone()
    return None if row is None else row[0]


def accept_late(deployment: Deployment, start: datetime) -> int:
    """Take readings from `start` on that came beyond the horizon into the aggregate after all.

    Returns
    -------
    int
        How many there were. The windows from `start` on have to be processed again.
    """
    with deployment.database.connect() as connection:
        return sum(
            journal.reopen(connection, entity.entity_id, start) for entity in deployment.entities()
        )
