"""Five-minute windows: their grid, and blocks of consecutive windows of one entity."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from anomaly_assets.errors import InputError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: Length of a window in seconds. Windows start at multiples of it since the epoch (UTC).
WINDOW_SECONDS = 300
WINDOWS_PER_HOUR = 3600 // WINDOW_SECONDS
WINDOWS_PER_DAY = 24 * WINDOWS_PER_HOUR


def window_of(moment: datetime) -> datetime:
    """Return the start of the window that holds `moment`.

    Parameters
    ----------
    moment
        Any aware datetime.

    Raises
    ------
    InputError
        If `moment` has no time zone.

    Examples
    --------
    >>> from datetime import datetime, timezone
    >>> window_of(datetime(2026, 1, 5, 8, 3, 20, tzinfo=timezone.utc)).isoformat()
    '2026-01-05T08:00:00+00:00'
    """
    if moment.tzinfo is None:
        msg = f"{moment!r} has no time zone; windows are named in UTC, so give an aware datetime"
        raise InputError(msg)
    seconds = int(moment.timestamp() // WINDOW_SECONDS) * WINDOW_SECONDS
    return datetime.fromtimestamp(seconds, tz=UTC)


@dataclass(frozen=True)
class WindowRange:
    """A half-open range ``[start, end)`` of consecutive windows, both on the window grid.

    Parameters
    ----------
    start, end
        Seconds since the epoch (UTC), multiples of :data:`WINDOW_SECONDS`.
    """

    start: int
    end: int

    def __post_init__(self) -> None:
        """Refuse bounds off the grid or in the wrong order."""
        if self.start % WINDOW_SECONDS or self.end % WINDOW_SECONDS:
            msg = (
                f"window range {self.start}..{self.end} is not on the {WINDOW_SECONDS}-second grid"
            )
            raise InputError(msg)
        if self.end < self.start:
            msg = f"window range ends ({self.end}) before it starts ({self.start})"
            raise InputError(msg)

    @classmethod
    def between(cls, start: datetime, end: datetime) -> WindowRange:
        """Return the windows from the one holding `start` up to, not including, `end`'s."""
        return cls(int(window_of(start).timestamp()), int(window_of(end).timestamp()))

    @property
    def start_time(self) -> datetime:
        """Start of the first window, UTC."""
        return datetime.fromtimestamp(self.start, tz=UTC)

    @property
    def end_time(self) -> datetime:
        """End of the last window, UTC."""
        return datetime.fromtimestamp(self.end, tz=UTC)

    def __len__(self) -> int:
        """Return the number of windows."""
        return (self.end - self.start) // WINDOW_SECONDS

    def starts(self) -> IntArray:
        """Return every window start in epoch seconds, shape ``(n_windows,)``."""
        return np.arange(self.start, self.end, WINDOW_SECONDS, dtype=np.int64)

    def parts(self, most: int) -> list[WindowRange]:
        """Cut the range into consecutive ones of at most `most` windows, in order."""
        step = most * WINDOW_SECONDS
        return [
            WindowRange(start, min(start + step, self.end))
            for start in range(self.start, self.end, step)
        ]

    def capped(self, most: int) -> WindowRange:
        """Return the first `most` windows of the range, or all of it when it has fewer."""
        return WindowRange(self.start, min(self.end, self.start + most * WINDOW_SECONDS))


def day_blocks(windows: WindowRange) -> list[WindowRange]:
    """Cut a range at UTC midnights, in order.

    The cuts do not depend on where the range begins, so the same window falls into the same day
    whichever range it is asked for in.
    """
    day = WINDOWS_PER_DAY * WINDOW_SECONDS
    cuts = [windows.start, *range((windows.start // day + 1) * day, windows.end, day), windows.end]
    return [WindowRange(*bounds) for bounds in pairwise(cuts) if bounds[0] < bounds[1]]


@dataclass(frozen=True)
class WindowBlock:
    """The aggregated values of consecutive windows of one entity.

    Parameters
    ----------
    entity_id
        Whose windows these are.
    time_zone
        IANA zone of the entity; hour, weekday and contexts are taken in it.
    windows
        Consecutive windows.
    values
        Shape ``(n_windows, n_streams)``, streams in catalogue order; NaN where missing.
    local
        Local time of every window where it is not that of `windows` in `time_zone`: of a recording
        played at another speed, a row a window although its rows are a minute or half an hour
        apart. Unless given, it follows from the windows.

    Raises
    ------
    InputError
        If a shape does not fit or a value is infinite.
    """

    entity_id: str
    time_zone: str
    windows: WindowRange
    values: FloatArray
    local: Calendar | None = None

    def __post_init__(self) -> None:
        """Refuse values that no detector may see."""
        if self.values.ndim != 2 or self.values.shape[0] != len(self.windows):
            msg = (
                f"entity {self.entity_id!r}: values have shape {self.values.shape}, "
                f"expected ({len(self.windows)}, n_streams)"
            )
            raise InputError(msg)
        if np.isinf(self.values).any():
            msg = f"entity {self.entity_id!r}: infinite values; give NaN where a stream is missing"
            raise InputError(msg)
        if self.local is not None:
            self._check_local(self.local)

    def _check_local(self, local: Calendar) -> None:
        expected = (len(self.windows),)
        if local.hour.shape != expected or local.weekday.shape != expected:
            msg = (
                f"entity {self.entity_id!r}: local time has {local.hour.shape} hours and "
                f"{local.weekday.shape} weekdays, expected {expected} of each"
            )
            raise InputError(msg)

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.windows)

    @cached_property
    def available(self) -> BoolArray:
        """Whether each stream was observed, shape ``(n_windows, n_streams)``."""
        return np.isfinite(self.values)

    @cached_property
    def calendar(self) -> Calendar:
        """Local time of every window."""
        if self.local is not None:
            return self.local
        return Calendar.of(self.windows, self.time_zone)

    def part(self, start: int, stop: int) -> WindowBlock:
        """Return windows number `start` to `stop` (exclusive) as a block of their own."""
        windows = WindowRange(
            self.windows.start + start * WINDOW_SECONDS,
            self.windows.start + stop * WINDOW_SECONDS,
        )
        local = None if self.local is None else self.local.part(start, stop)
        return WindowBlock(self.entity_id, self.time_zone, windows, self.values[start:stop], local)


@dataclass(frozen=True)
class Calendar:
    """Local wall-clock time of windows.

    Parameters
    ----------
    hour
        Hour of the day with fraction, in [0, 24), shape ``(n_windows,)``.
    weekday
        0 (Monday) to 6 (Sunday), shape ``(n_windows,)``.
    """

    hour: FloatArray
    weekday: IntArray

    @classmethod
    def of(cls, windows: WindowRange, time_zone: str) -> Calendar:
        """Compute local hour and weekday of each window in `time_zone`."""
        zone = ZoneInfo(time_zone)
        local = [datetime.fromtimestamp(second, tz=zone) for second in windows.starts().tolist()]
        return cls(
            hour=np.array([at.hour + at.minute / 60.0 for at in local], dtype=np.float64),
            weekday=np.array([at.weekday() for at in local], dtype=np.int64),
        )

    def part(self, start: int, stop: int) -> Calendar:
        """Return the local time of windows number `start` to `stop` (exclusive)."""
        return Calendar(self.hour[start:stop], self.weekday[start:stop])
