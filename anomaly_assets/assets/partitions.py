"""The 5-minute partitions that every asset of the pipeline shares."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
from dagster._utils.warnings import BetaWarning

from anomaly_assets.settings import settings
from anomaly_assets.streams.windows import WindowRange, window_of

if TYPE_CHECKING:
    from anomaly_assets.settings import Settings

KEY_FORMAT = "%Y-%m-%d-%H:%M"
SCHEDULE = "*/5 * * * *"
#: Dagster recommends no more partitions an asset; 347 days of 5-minute windows.
MOST_PARTITIONS = 100_000


def first_partition(settings: Settings, now: datetime) -> datetime:
    """Return the start of the first partition Dagster knows.

    The default rolls, a month at a time, so that an asset never outgrows `MOST_PARTITIONS`; older
    history stays in the tables.
    """
    if settings.window_start is not None:
        return window_of(settings.window_start)
    oldest = now - timedelta(days=settings.rolling_days)
    return oldest.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def window_partitions(settings: Settings, now: datetime) -> dg.TimeWindowPartitionsDefinition:
    """Return the partitions of a deployment as of `now`."""
    end = settings.window_end
    return dg.TimeWindowPartitionsDefinition(
        start=first_partition(settings, now).strftime(KEY_FORMAT),
        end=None if end is None else window_of(end).strftime(KEY_FORMAT),
        cron_schedule=SCHEDULE,
        fmt=KEY_FORMAT,
        timezone="UTC",
    )


WINDOWS = window_partitions(settings(), datetime.now(tz=UTC))
#: The one edge with an offset: a model asset on its own previous partition.
PREVIOUS_WINDOW = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)
# The parameter is beta in Dagster 1.13, which is pinned; a line for each process is too many.
warnings.filterwarnings("ignore", message=".*nonexistent_upstream.*", category=BetaWarning)
#: Of coarser partitions on the windows they hold; the first hour and day may begin before the first
#: window.
WITHIN = dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)
HOURS = dg.HourlyPartitionsDefinition(
    start_date=first_partition(settings(), datetime.now(tz=UTC)).replace(minute=0),
    end_date=settings().window_end,
    timezone="UTC",
)
DAYS = dg.DailyPartitionsDefinition(
    start_date=first_partition(settings(), datetime.now(tz=UTC)).replace(hour=0, minute=0),
    end_date=settings().window_end,
    timezone="UTC",
)


def windows_of(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> WindowRange:
    """Return the range of windows a run was asked for."""
    return WindowRange.between(*context.partition_time_window)


def key_of(window: datetime) -> str:
    """Return the partition key of the window that starts at `window`."""
    return window_of(window).strftime(KEY_FORMAT)


def window_of_key(key: str) -> datetime:
    """Return the start of the window a partition key names."""
    return datetime.strptime(key, KEY_FORMAT).replace(tzinfo=UTC)
