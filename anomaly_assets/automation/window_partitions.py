"""Dagster's own methods on partitions, in arrays where the partitions are our windows.

Dagster 1.13 walks a cron schedule to list partitions, and asks of each partition key by itself
whether it is one: 15 and 240 microseconds each. With a year of windows materialised (105,120 in
each of ten assets) a page that lists them took five seconds, and the first page after the backfill
minutes, at the price of every other page. The methods below return the same, and leave any other
partitions to Dagster's. There is no setting or extension point for it: they are put in the place of
Dagster's when the event log is loaded, which every process of a deployment does.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import pandas as pd
from dagster import TimeWindow, TimeWindowPartitionsDefinition
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.definitions.partitions.subset import TimeWindowPartitionsSubset

from anomaly_assets.assets.partitions import KEY_FORMAT, SCHEDULE
from anomaly_assets.streams.windows import WINDOW_SECONDS, BoolArray, IntArray

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

#: Of a key with all its zeros; Dagster takes no other.
_KEY_LENGTH: Final = len("2026-01-05-00:00")

_list_all = TimeWindowPartitionsDefinition.get_partition_keys
_filter_valid = TimeWindowPartitionsDefinition.filter_valid_partition_keys
_with_keys = TimeWindowPartitionsSubset.with_partition_keys


def install() -> None:
    """Put the methods in the place of Dagster's; a second time changes nothing."""
    definition: Any = TimeWindowPartitionsDefinition
    definition.get_partition_keys = list_all
    definition.filter_valid_partition_keys = filter_valid
    subset: Any = TimeWindowPartitionsSubset
    subset.with_partition_keys = with_keys


def list_all(
    self: TimeWindowPartitionsDefinition,
    current_time: datetime | None = None,
    dynamic_partitions_store: Any = None,  # noqa: ANN401 - as Dagster's
) -> Sequence[str]:
    """Return the keys of all partitions there are at a time, in order."""
    if not _are_windows(self):
        return _list_all(self, current_time, dynamic_partitions_store)
    with partition_loading_context(current_time, dynamic_partitions_store):
        bounds = _bounds(self)
    if bounds is None:
        return []
    starts = np.arange(bounds[0], bounds[1] + 1, WINDOW_SECONDS).astype("datetime64[s]")
    return [f"{text[:10]}-{text[11:16]}" for text in np.datetime_as_string(starts, unit="m")]


def filter_valid(
    self: TimeWindowPartitionsDefinition, partition_keys: set[str]
) -> AbstractSet[str]:
    """Return those of the keys that are partitions' keys now."""
    if not _are_windows(self):
        return _filter_valid(self, partition_keys)
    keys = list(partition_keys)
    return {keys[row] for row in np.flatnonzero(_valid(self, _starts(keys)))}


def with_keys(
    self: TimeWindowPartitionsSubset,
    partition_keys: Iterable[str],
    validate: bool = True,  # noqa: FBT001, FBT002 - as Dagster's
) -> TimeWindowPartitionsSubset:
    """Return the subset with more partitions in it."""
    keys = list(partition_keys)
    if not keys or not _are_windows(self.partitions_def):
        return _with_keys(self, keys, validate)
    starts = _starts(keys)
    if not _valid(self.partitions_def, starts).all():
        # Dagster says which of them is wrong.
        return _with_keys(self, keys, validate)
    starts = np.unique(starts)
    breaks = np.flatnonzero(np.diff(starts) > WINDOW_SECONDS) + 1
    added = TimeWindowPartitionsSubset(
        self.partitions_def,
        len(starts),
        [
            TimeWindow(_moment(part[0]), _moment(part[-1] + WINDOW_SECONDS))
            for part in np.split(starts, breaks)
        ],
    )
    united = cast("TimeWindowPartitionsSubset", self | added).included_time_windows
    seconds = sum(window.end_timestamp - window.start_timestamp for window in united)
    return TimeWindowPartitionsSubset(self.partitions_def, int(seconds) // WINDOW_SECONDS, united)


def _are_windows(partitions: TimeWindowPartitionsDefinition) -> bool:
    return (
        (partitions.cron_schedule, partitions.fmt) == (SCHEDULE, KEY_FORMAT)
        and (partitions.timezone, partitions.end_offset) == ("UTC", 0)
        and not partitions.exclusions
    )


def _bounds(partitions: TimeWindowPartitionsDefinition) -> tuple[int, int] | None:
    """Return the seconds at which the first and the last partition begin."""
    first, last = partitions.get_first_partition_window(), partitions.get_last_partition_window()
    if first is None or last is None:
        return None
    return int(first.start.timestamp()), int(last.start.timestamp())


def _starts(keys: Sequence[str]) -> IntArray:
    """Return the seconds since 1970 that each key names, -1 where it names none."""
    whole = [key if len(key) == _KEY_LENGTH else None for key in keys]
    moments = pd.to_datetime(pd.Series(whole, dtype=object), format=KEY_FORMAT, errors="coerce")
    seconds = moments.to_numpy("datetime64[s]").astype(np.int64)
    return np.where(moments.isna(), -1, seconds)


def _valid(partitions: TimeWindowPartitionsDefinition, starts: IntArray) -> BoolArray:
    bounds = _bounds(partitions)
    if bounds is None:
        return np.zeros(len(starts), dtype=bool)
    within = (starts >= bounds[0]) & (starts <= bounds[1])
    return within & (starts % WINDOW_SECONDS == 0)


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(int(seconds), tz=UTC)
