"""Which windows to process next: pure decisions, apart from Dagster and the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anomaly_assets.streams.windows import WindowRange

if TYPE_CHECKING:
    from datetime import datetime


def next_range(
    first_window: datetime | None,
    recorded_until: datetime | None,
    complete_until: datetime | None,
    first_partition: datetime,
) -> WindowRange | str:
    """Return the complete windows not yet recorded, or the reason why there are none.

    Parameters
    ----------
    first_window
        First window of any entity; None before the first reading.
    recorded_until
        End of the last recorded window; None before the first run.
    complete_until
        End of the last complete window; None when none is.
    first_partition
        Where Dagster's partitions begin; older windows stay in the tables.
    """
    if first_window is None or complete_until is None:
        return "no reading has arrived yet"
    start = max(first_window, first_partition)
    if recorded_until is not None:
        start = max(recorded_until, first_partition)
    if complete_until <= start:
        return f"window {start:%Y-%m-%d %H:%M} is not complete yet"
    return WindowRange.between(start, complete_until)


def late_range(
    earliest_late: datetime | None, recorded_until: datetime | None, first_partition: datetime
) -> WindowRange | str:
    """Return the windows to replay because of late readings, up to the last recorded one.

    Parameters
    ----------
    earliest_late
        First window that a late reading belongs to; None when no replay is due.
    recorded_until
        End of the last recorded window.
    first_partition
        Where Dagster's partitions begin.
    """
    if earliest_late is None:
        return "no late readings"
    start = max(earliest_late, first_partition)
    if recorded_until is None or recorded_until <= start:
        return "the windows of the late readings have not been processed yet"
    return WindowRange.between(start, recorded_until)
