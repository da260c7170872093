"""The minutes of a simulation, in UTC and on the person's wall clock."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd

from anomaly_assets.errors import InputError
from anomaly_assets.streams.windows import WINDOW_SECONDS, FloatArray, IntArray, WindowRange

MINUTES_PER_DAY = 1440


@dataclass(frozen=True)
class MinuteGrid:
    """Consecutive minutes, with local time.

    Parameters
    ----------
    start
        First minute, epoch seconds, on the window grid.
    days
        Length in days of 24 hours.
    time_zone
        IANA zone of the person.
    moves
        Local dates from which life goes by the clock of another zone, in order, with that zone.
    """

    start: int
    days: int
    time_zone: str
    moves: tuple[tuple[date, str], ...] = ()

    @classmethod
    def of(cls, start: datetime, days: int, time_zone: str) -> MinuteGrid:
        """Build the grid that begins at `start`.

        Raises
        ------
        InputError
            If `start` has no time zone or is off the window grid, if `days` is not positive, or if
            there is no such zone.
        """
        if start.tzinfo is None:
            msg = f"simulation start {start!r} has no time zone; give an aware datetime"
            raise InputError(msg)
        seconds = int(start.timestamp())
        if seconds % WINDOW_SECONDS:
            msg = f"simulation start {start!r} is not a multiple of {WINDOW_SECONDS} seconds"
            raise InputError(msg)
        if days < 1:
            msg = f"days is {days}; simulate at least one day"
            raise InputError(msg)
        check_zone(time_zone)
        return cls(seconds, days, time_zone)

    def __len__(self) -> int:
        """Return the number of minutes."""
        return self.days * MINUTES_PER_DAY

    @property
    def windows(self) -> WindowRange:
        """The windows that hold these minutes."""
        return WindowRange(self.start, self.start + 60 * len(self))

    @cached_property
    def seconds(self) -> IntArray:
        """Epoch seconds of every minute, shape ``(n_minutes,)``."""
        return self.start + 60 * np.arange(len(self), dtype=np.int64)

    @cached_property
    def _local(self) -> pd.DatetimeIndex:
        return self._in_zone(self.time_zone)

    def _in_zone(self, time_zone: str) -> pd.DatetimeIndex:
        return pd.to_datetime(self.seconds, unit="s", utc=True).tz_convert(time_zone)

    @cached_property
    def hour(self) -> FloatArray:
        """Local hour with fraction, in [0, 24), shape ``(n_minutes,)``."""
        hour = np.asarray(self._local.hour + self._local.minute / 60.0, dtype=np.float64)
        for day, time_zone in self.moves:
            local = self._in_zone(time_zone)
            there = self.seconds >= self.second_of(day, 0.0)
            hour[there] = np.asarray(local.hour + local.minute / 60.0, dtype=np.float64)[there]
        return hour

    @cached_property
    def dates(self) -> list[date]:
        """Every local date touched, and one more on either side so that nights are whole."""
        first = self._local[0].date() - timedelta(days=1)
        last = self._local[-1].date() + timedelta(days=1)
        return [first + timedelta(days=i) for i in range((last - first).days + 1)]

    def local_date(self, minute: int) -> date:
        """Return the local date of minute number `minute`, which may lie outside of the grid."""
        second = self.start + 60 * minute
        zone = self.time_zone
        for day, time_zone in self.moves:
            zone = time_zone if second >= self.second_of(day, 0.0) else zone
        return self.moment(minute).astimezone(ZoneInfo(zone)).date()

    def zone_on(self, day: date) -> str:
        """Return the zone by whose clock `day` is lived."""
        return next((zone for first, zone in reversed(self.moves) if day >= first), self.time_zone)

    def moving(self, moves: tuple[tuple[date, str], ...]) -> MinuteGrid:
        """Return the same minutes, lived by another clock from each of the dates on.

        Raises
        ------
        InputError
            If there is no such zone.
        """
        for _, time_zone in moves:
            check_zone(time_zone)
        return replace(self, moves=tuple(sorted(moves)))

    def second_of(self, day: date, minute: float) -> int:
        """Return the epoch second of local wall-clock `minute` (may exceed a day) of `day`."""
        midnight = datetime.combine(day, time(), tzinfo=ZoneInfo(self.zone_on(day)))
        # Adding to an aware datetime moves its wall clock, which is what is meant.
        return int((midnight + timedelta(minutes=round(minute))).timestamp())

    def minute_of(self, moment: datetime) -> int:
        """Return the position of `moment` on this grid, which may lie outside of it."""
        return (int(moment.timestamp()) - self.start) // 60

    def moment(self, minute: int) -> datetime:
        """Return minute number `minute` as an aware datetime in UTC."""
        return datetime.fromtimestamp(self.start + 60 * minute, tz=UTC)


def check_zone(time_zone: str) -> None:
    """Refuse the name of a zone that does not exist.

    Raises
    ------
    InputError
        If there is no zone of that name.
    """
    try:
        ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        msg = f"there is no time zone {time_zone!r}; give an IANA name such as Europe/Berlin"
        raise InputError(msg) from error
