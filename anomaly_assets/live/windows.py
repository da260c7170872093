"""The readings of one entity that windows still open, or just closed, are made of."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import numpy as np

from anomaly_assets.streams.aggregation import MICROSECONDS, Readings, ReadingTimes
from anomaly_assets.streams.windows import WINDOW_SECONDS, IntArray, WindowRange


@dataclass
class _Window:
    """Readings of one window: those in order, and what has arrived since, 20 bytes each."""

    ordered: Readings = field(default_factory=Readings.empty)
    stream: array[int] = field(default_factory=lambda: array("i"))
    microseconds: array[int] = field(default_factory=lambda: array("q"))
    value: array[float] = field(default_factory=lambda: array("d"))
    rejected: set[int] = field(default_factory=set)
    #: Whether some had to be dropped.
    overflowed: bool = False
    #: Whether it has been reduced to the extremes of its streams.
    compact: bool = False

    def __len__(self) -> int:
        """Return the number of readings held."""
        return len(self.ordered.stream) + len(self.stream)

    def readings(self) -> Readings:
        """Return them by stream and time; of several with one stream and time, the first."""
        if self.stream:
            self.hold(self.ordered.joined(self._arrived()))
        return self.ordered

    def hold(self, readings: Readings) -> None:
        """Hold exactly these, in the order in which they arrived."""
        stream, time, value = readings.stream, readings.microseconds, readings.value
        order = np.lexsort((time, stream))
        stream, time, value = stream[order], time[order], value[order]
        first = np.ones(len(order), dtype=np.bool_)
        first[1:] = (stream[1:] != stream[:-1]) | (time[1:] != time[:-1])
        self.ordered = Readings(stream[first], time[first], value[first])
        self.stream, self.microseconds, self.value = array("i"), array("q"), array("d")

    def _arrived(self) -> Readings:
        return Readings(
            np.array(self.stream, dtype=np.int64),
            np.array(self.microseconds, dtype=np.int64),
            np.array(self.value, dtype=np.float64),
        )


class ReadingBuffer:
    """Readings by window, bounded.

    It holds what the journal holds: of several readings with one stream and time the first stays.
    Windows that were closed for good are reduced to what tells a stuck sensor.

    Parameters
    ----------
    n_streams
        Streams of the catalogue.
    most
        Readings of a window held; beyond, the window is :meth:`overflowed`.
    """

    def __init__(self, n_streams: int, most: int) -> None:
        self._most = most
        self._windows: dict[int, _Window] = {}
        #: Time of each stream's newest reading in microseconds; -1 before the first.
        self.latest: IntArray = np.full(n_streams, -1, dtype=np.int64)

    def __len__(self) -> int:
        """Return the number of readings held."""
        return sum(map(len, self._windows.values()))

    def add(self, stream: int, microseconds: int, value: float) -> None:
        """Take a reading in."""
        window = self._window(_window_at(microseconds))
        self.latest[stream] = max(self.latest[stream], microseconds)
        if window.overflowed:
            return
        window.stream.append(stream)
        window.microseconds.append(microseconds)
        window.value.append(value)
        if len(window) > self._most:
            distinct = window.readings()
            # Half of the room must be left, or every further reading would sort them all.
            if len(distinct.stream) > self._most // 2:
                window.overflowed = True
                window.hold(Readings.empty())

    def fill(self, readings: Readings, rejected: ReadingTimes) -> None:
        """Take readings of the journal in."""
        for stream, at, value in zip(
            readings.stream.tolist(),
            readings.microseconds.tolist(),
            readings.value.tolist(),
            strict=True,
        ):
            self.add(stream, at, value)
        for stream, at in zip(
            rejected.stream.tolist(), rejected.microseconds.tolist(), strict=True
        ):
            self.reject(stream, at)

    def reject(self, stream: int, microseconds: int) -> None:
        """Note that a reading was refused: its stream did report something."""
        self._window(_window_at(microseconds)).rejected.add(stream)

    def readings(self, windows: WindowRange) -> Readings:
        """Return the readings of a range, each stream and time once."""
        held = self._held(windows)
        if not held:
            return Readings.empty()
        parts = [window.readings() for _, window in held]
        return Readings(
            np.concatenate([part.stream for part in parts]),
            np.concatenate([part.microseconds for part in parts]),
            np.concatenate([part.value for part in parts]),
        )

    def rejected(self, windows: WindowRange) -> ReadingTimes:
        """Return streams and windows of refused readings of a range."""
        found = [
            (stream, start * MICROSECONDS)
            for start, window in self._held(windows)
            for stream in sorted(window.rejected)
        ]
        pairs = np.array(found, dtype=np.int64).reshape(len(found), 2)
        return ReadingTimes(pairs[:, 0].copy(), pairs[:, 1].copy())

    def counts(self, since: int) -> dict[int, tuple[int, int] | None]:
        """Return the number of readings and of streams with refused ones, by window from `since`.

        None stands for a window of which some had to be dropped.
        """
        return {
            start: None
            if window.overflowed
            else (len(window.readings().stream), len(window.rejected))
            for start, window in self._windows.items()
            if start >= since
        }

    def lacking(
        self, readings: Readings, rejected: ReadingTimes
    ) -> list[tuple[int, int, float | None]]:
        """Return stream, microseconds and value (None: refused) of what it does not hold.

        Of windows of which some had to be dropped nothing is returned.
        """
        held: dict[int, set[tuple[int, int]]] = {}
        found: list[tuple[int, int, float | None]] = []
        for stream, at, value in zip(
            readings.stream.tolist(),
            readings.microseconds.tolist(),
            readings.value.tolist(),
            strict=True,
        ):
            start = _window_at(at)
            if start not in held:
                own = self._windows.get(start, _Window()).readings()
                held[start] = set(zip(own.stream.tolist(), own.microseconds.tolist(), strict=True))
            if (stream, at) not in held[start] and not self._dropped(start):
                found.append((stream, at, value))
        pairs = zip(rejected.stream.tolist(), rejected.microseconds.tolist(), strict=True)
        for stream, at in pairs:
            known = self._windows.get(_window_at(at), _Window()).rejected
            if stream not in known and not self._dropped(_window_at(at)):
                found.append((stream, at, None))
        return found

    def overflowed(self, windows: WindowRange) -> bool:
        """Whether readings of a range were dropped, so that only the journal has them all."""
        return any(window.overflowed for _, window in self._held(windows))

    def compact(self, before: int, *, keep: int) -> None:
        """Reduce windows before a time to their streams' extremes, and drop those before `keep`.

        A sensor is stuck or not by the extremes of its windows alone.
        """
        for start in [start for start in self._windows if start < before]:
            window = self._windows[start]
            if start < keep:
                del self._windows[start]
            elif not window.compact:
                window.hold(_extremes(window.readings()))
                window.compact = True

    def _dropped(self, start: int) -> bool:
        window = self._windows.get(start)
        return window is not None and window.overflowed

    def _window(self, start: int) -> _Window:
        found = self._windows.get(start)
        if found is None:
            found = self._windows[start] = _Window()
        return found

    def _held(self, windows: WindowRange) -> list[tuple[int, _Window]]:
        return sorted(
            (
                (start, window)
                for start, window in self._windows.items()
                if windows.start <= start < windows.end
            ),
            key=lambda pair: pair[0],
        )


def _window_at(microseconds: int) -> int:
    return microseconds // (WINDOW_SECONDS * MICROSECONDS) * WINDOW_SECONDS


def _extremes(readings: Readings) -> Readings:
    """Return one reading with the least and one with the greatest value of each stream."""
    order = np.lexsort((readings.value, readings.stream))
    stream = readings.stream[order]
    edge = np.ones(len(order), dtype=np.bool_)
    edge[1:-1] = (stream[1:-1] != stream[:-2]) | (stream[1:-1] != stream[2:])
    kept = order[edge]
    return Readings(readings.stream[kept], readings.microseconds[kept], readings.value[kept])
