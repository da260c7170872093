"""Simulated availability of a person's phone and watch, with known habits and known departures."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from anomaly_assets.streams.catalogue import Catalogue, Group, Stream, StreamType
from anomaly_assets.streams.windows import (
    WINDOW_SECONDS,
    BoolArray,
    Calendar,
    FloatArray,
    WindowBlock,
    WindowRange,
)

ZONE = "Europe/Berlin"

#: Streams of each group, and those of them that are zero-suppressed counts.
GROUPS = {
    "motion": ("accel_x", "accel_y", "accel_z", "steps"),
    "location": ("gps_speed", "gps_accuracy"),
    "interaction": ("app_launches", "screen_on", "keystrokes", "notifications"),
    "biometric": ("heart_rate", "skin_temperature", "eda"),
    "environment": ("light", "audio_level"),
    "device": ("battery",),
}
COUNTS = ("steps", "app_launches", "screen_on", "keystrokes", "notifications")
WATCH = ("motion", "biometric")


def _type_of(stream: str) -> StreamType:
    return StreamType.DISCRETE_EVENTS if stream in COUNTS else StreamType.CONTINUOUS_NOISY


def catalogue(zone: str = ZONE, copies: int = 1) -> Catalogue:
    """Return the catalogue of the simulated person, `copies` times as many streams of each kind."""
    streams = [
        Stream(
            id=f"{stream}{'' if copy == 0 else f'_{copy}'}",
            type=_type_of(stream),
            group=group,
            zero_suppressed=stream in COUNTS,
        )
        for copy in range(copies)
        for group, members in GROUPS.items()
        for stream in members
    ]
    return Catalogue(
        name="person",
        time_zone=zone,
        groups=tuple(Group(id=group) for group in GROUPS),
        streams=tuple(streams),
    )


@dataclass
class Person:
    """Habits of the simulated person; values are made by :meth:`block`.

    The phone is carried from about 7:15 to 22:45 (later at week-ends), used in bursts; the watch is
    taken off every night at about 22:00 and put on at about 7:30, both +-`watch_jitter` hours; GPS
    comes and goes, and every reading goes missing with probability `loss`.
    """

    seed: int
    days: int
    start: datetime = datetime(2026, 1, 5)  # noqa: DTZ001
    zone: str = ZONE
    loss: float = 0.01
    watch_jitter: float = 1.0
    copies: int = 1
    catalogue: Catalogue = field(init=False)

    def __post_init__(self) -> None:
        """Lay out the windows and draw the person's behaviour."""
        self.catalogue = catalogue(self.zone, self.copies)
        zone = ZoneInfo(self.zone)
        first = self.start.replace(tzinfo=zone)
        last = (self.start + timedelta(days=self.days)).replace(tzinfo=zone)
        self.windows = WindowRange.between(first, last)
        self.calendar = Calendar.of(self.windows, self.zone)
        self.rng = np.random.default_rng(self.seed)
        # Nights are counted from noon to noon, so that bed-time after midnight is the same night.
        starts = self.windows.starts() - WINDOW_SECONDS * 144
        noon = Calendar.of(WindowRange(int(starts[0]), int(starts[-1]) + WINDOW_SECONDS), self.zone)
        self.night = np.cumsum(np.r_[0, np.diff(noon.weekday) != 0])
        self.day = np.cumsum(np.r_[0, np.diff(self.calendar.weekday) != 0])
        self.values = self._behave()

    def at(self, day: int, hour: float) -> int:
        """Return the first window at or after local `hour` of day number `day`."""
        return int(np.flatnonzero((self.day == day) & (self.calendar.hour >= hour - 1e-9))[0])

    def columns(self, *names: str) -> list[int]:
        """Return the columns of streams, or of whole groups, by name."""
        return [
            i
            for i, stream in enumerate(self.catalogue.streams)
            if stream.group in names or stream.id in names
        ]

    def block(self) -> WindowBlock:
        """Return everything as one block."""
        return WindowBlock("person", self.zone, self.windows, self.values)

    def _behave(self) -> FloatArray:
        n, hour = len(self.windows), self.calendar.hour
        weekend = np.isin(self.calendar.weekday, (5, 6))
        shape = (n, len(self.catalogue.streams))
        values = 10.0 + self.rng.standard_normal(shape)
        n_nights = int(self.night[-1]) + 1
        jitter = self.rng.uniform(-1, 1, (4, n_nights + 1))
        clock = np.where(hour < 12.0, hour + 24.0, hour)
        evening = clock >= 12.0 + 6.0

        def asleep(off: float, on: float, scale: float, row: int) -> BoolArray:
            start = off + scale * jitter[row, self.night]
            end = 24.0 + on + scale * jitter[row + 1, self.night] + 1.0 * weekend
            away: BoolArray = evening & (clock >= start) & (clock < end)
            return away

        unused = asleep(22.75, 7.25, 0.5, 0)
        watch_off = asleep(22.0, 7.5, self.watch_jitter, 2)
        use = self._usage(unused)
        for i, stream in enumerate(self.catalogue.streams):
            if stream.zero_suppressed and stream.group == "interaction":
                rate = {"a": 1.5, "s": 3.0, "k": 4.0, "n": 1.0}[stream.id[0]]
                counts = self.rng.poisson(rate, n).astype(float)
                if stream.id.startswith("notif"):
                    counts = self.rng.poisson(np.where(unused, 0.02, 0.3), n).astype(float)
                    values[:, i] = counts
                else:
                    values[:, i] = np.where(use, counts, 0.0)
            elif stream.zero_suppressed:
                values[:, i] = self.rng.poisson(np.where(unused, 0.0, 2.0), n)
        values[watch_off[:, None] & self._is_watch()] = np.nan
        for i in self.columns("location"):
            values[self.rng.random(n) < 0.4, i] = np.nan
        values[self.rng.random(shape) < self.loss] = np.nan
        return values

    def _is_watch(self) -> BoolArray:
        return np.isin(np.arange(len(self.catalogue.streams)), self.columns(*WATCH))

    def _usage(self, unused: BoolArray) -> BoolArray:
        """Bursts of use: a two-state chain, busier in the evening than at work."""
        n, hour = len(self.windows), self.calendar.hour
        begin = np.where((hour >= 9) & (hour < 17), 0.22, 0.35)
        draw = self.rng.random(n)
        use = np.zeros(n, dtype=bool)
        for t in range(1, n):
            use[t] = not unused[t] and draw[t] < (0.6 if use[t - 1] else begin[t])
        return use
