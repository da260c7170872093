"""From readings at native resolution to one value for each window and stream.

Everything here is exact and free of order: the same readings give the same values to the last bit,
in whatever order they are handed over, whether a range is asked at once or window by window.

- A reading at time t belongs to the window that starts at the last multiple of 300 s up to t.
- Several readings of one stream at the very same time count once, with the greatest value.
- Readings are summed in order of time; ``last`` is the one with the greatest time.
- A stream has no value in a window where it has no reading, or where it is stuck: its readings of
  this window and of the ``stuck_after - 1`` before all have one single value, each of these windows
  being observed.
- A zero-suppressed stream without a reading is 0 if one of its witnesses has a reading in the
  window, unless a reading of its own was late or rejected: one that exists may be anything but 0.
- A sum beyond the range of float64 is held at its limit, so that every value is finite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

import numpy as np
import numpy.typing as npt

from anomaly_assets.errors import InputError
from anomaly_assets.streams.catalogue import Aggregation, Catalogue
from anomaly_assets.streams.windows import (
    WINDOW_SECONDS,
    BoolArray,
    FloatArray,
    IntArray,
    WindowBlock,
    WindowRange,
)

MICROSECONDS = 1_000_000
_WINDOW_MICROSECONDS = WINDOW_SECONDS * MICROSECONDS

ReasonArray = npt.NDArray[np.int8]


class MissingReason(IntEnum):
    """Why a stream has no value in a window; the code kept in arrays."""

    NONE = 0
    ABSENT = 1
    LATE = 2
    STUCK = 3
    OFF = 4
    REJECTED = 5

    @property
    def label(self) -> str | None:
        """The name stored in ``missing_reason``, such as ``absent``; None for ``NONE``."""
        return None if self is MissingReason.NONE else self.name.lower()


@dataclass(frozen=True)
class ReadingTimes:
    """Streams and event times of readings whose values do not count.

    Parameters
    ----------
    stream
        Position of each reading's stream in the catalogue, int64, shape ``(n,)``.
    microseconds
        Event time since the epoch (UTC) in microseconds, int64, shape ``(n,)``.

    Raises
    ------
    InputError
        If the arrays are no integers of one and the same length.
    """

    stream: IntArray
    microseconds: IntArray

    def __post_init__(self) -> None:
        """Refuse arrays that do not belong together."""
        for name, array in (("stream", self.stream), ("microseconds", self.microseconds)):
            if array.dtype != np.int64 or array.shape != (len(self.stream),):
                msg = (
                    f"{name} is {array.dtype} of shape {array.shape}; "
                    f"expected int64 of shape ({len(self.stream)},)"
                )
                raise InputError(msg)


@dataclass(frozen=True)
class Readings(ReadingTimes):
    """Readings of one entity, in any order.

    Parameters
    ----------
    stream
        Position of each reading's stream in the catalogue, int64, shape ``(n,)``.
    microseconds
        Event time since the epoch (UTC) in microseconds, int64, shape ``(n,)``. Whole numbers, so
        that a reading on the edge between two windows belongs to the later one without fail.
    value
        In the stream's unit, float64, shape ``(n,)``.

    Raises
    ------
    InputError
        If the arrays do not belong together.
    """

    value: FloatArray

    def __post_init__(self) -> None:
        """Refuse arrays that do not belong together."""
        super().__post_init__()
        if self.value.dtype != np.float64 or self.value.shape != self.stream.shape:
            msg = (
                f"value is {self.value.dtype} of shape {self.value.shape}; "
                f"expected float64 of shape {self.stream.shape}"
            )
            raise InputError(msg)

    @classmethod
    def at_seconds(cls, stream: IntArray, seconds: FloatArray, value: FloatArray) -> Self:
        """Build readings from event times in epoch seconds, to the nearest microsecond.

        Raises
        ------
        InputError
            If a time is not finite, or the arrays do not belong together.
        """
        if not np.isfinite(seconds).all():
            msg = "an event time is not finite; reject such readings before they are aggregated"
            raise InputError(msg)
        whole = np.floor(seconds)
        # Multiplying the whole time would lose the microseconds of present-day dates.
        fraction = np.rint((seconds - whole) * MICROSECONDS)
        microseconds = whole.astype(np.int64) * MICROSECONDS + fraction.astype(np.int64)
        return cls(stream, microseconds, value)

    @classmethod
    def of(cls, stream: Sequence[int], microseconds: Sequence[int], value: Sequence[float]) -> Self:
        """Build readings from plain sequences of equal length."""
        return cls(
            np.array(stream, dtype=np.int64),
            np.array(microseconds, dtype=np.int64),
            np.array(value, dtype=np.float64),
        )

    @classmethod
    def empty(cls) -> Self:
        """Return no readings."""
        return cls.of((), (), ())

    def joined(self, others: Self) -> Self:
        """Return these readings followed by others."""
        return type(self)(
            np.concatenate([self.stream, others.stream]),
            np.concatenate([self.microseconds, others.microseconds]),
            np.concatenate([self.value, others.value]),
        )

    def since(self, microseconds: int) -> Self:
        """Return the readings from an event time on, that time included."""
        kept = self.microseconds >= microseconds
        return type(self)(self.stream[kept], self.microseconds[kept], self.value[kept])


@dataclass(frozen=True)
class Aggregated:
    """One value for each window and stream.

    Parameters
    ----------
    windows
        The windows asked for.
    values
        Shape ``(n_windows, n_streams)``, streams in catalogue order; finite, or NaN where missing.
    reason
        Codes of :class:`MissingReason`, int8, same shape; ``NONE`` exactly where there is a value.
    """

    windows: WindowRange
    values: FloatArray
    reason: ReasonArray

    def block(self, entity_id: str, time_zone: str) -> WindowBlock:
        """Return the values as the block that detectors take."""
        return WindowBlock(entity_id, time_zone, self.windows, self.values)


def lookback_windows(catalogue: Catalogue) -> int:
    """Return how many windows before a range :func:`aggregate` needs the readings of.

    A sensor is stuck only after some windows of one unchanged value, so the first window of a range
    cannot be judged without those before it.
    """
    return max((s.stuck_after - 1 for s in catalogue.streams if s.stuck_after), default=0)


def aggregate(
    readings: Readings,
    windows: WindowRange,
    catalogue: Catalogue,
    *,
    late: ReadingTimes | None = None,
    rejected: ReadingTimes | None = None,
) -> Aggregated:
    """Aggregate readings into one value for each window and stream, by the rules of this module.

    Parameters
    ----------
    readings
        Accepted readings of one entity, from :func:`lookback_windows` before the range to its end.
        Readings outside are left aside.
    windows
        The windows to compute.
    catalogue
        How each stream is aggregated.
    late, rejected
        Readings that are not among `readings` because they came too late, or were refused.

    Returns
    -------
    Aggregated
        Values, and why they are missing. Where several reasons hold, it is the first of ``stuck``,
        ``rejected``, ``late``, ``off`` (no stream has a value in the window) and ``absent``.

    Raises
    ------
    InputError
        If a value is not finite, or a stream is none of the catalogue's.
    """
    lookback = lookback_windows(catalogue)
    first = windows.start - lookback * WINDOW_SECONDS
    seen = _ordered(readings, WindowRange(first, windows.end), catalogue)
    cells = _cells(seen, len(windows) + lookback, catalogue)

    shape = (len(windows), len(catalogue.streams))
    kept = cells.window >= lookback
    at = (cells.window[kept] - lookback, cells.stream[kept])
    values = np.full(shape, np.nan)
    values[at] = cells.value[kept]
    observed = np.zeros(shape, dtype=np.bool_)
    observed[at] = True
    stuck = np.zeros(shape, dtype=np.bool_)
    stuck[at] = cells.stuck[kept]
    values[stuck] = np.nan

    was_late = _marked(late, windows, catalogue)
    was_rejected = _marked(rejected, windows, catalogue)
    _fill_zeros(values, observed, observed | was_late | was_rejected, catalogue)
    reason = _reasons(np.isnan(values), was_late, was_rejected, stuck)
    return Aggregated(windows, values, reason)


def _reasons(
    missing: BoolArray, was_late: BoolArray, was_rejected: BoolArray, stuck: BoolArray
) -> ReasonArray:
    reason = np.full(missing.shape, MissingReason.NONE, dtype=np.int8)
    reason[missing] = MissingReason.ABSENT
    reason[missing.all(axis=1)] = MissingReason.OFF
    reason[missing & was_late] = MissingReason.LATE
    reason[missing & was_rejected] = MissingReason.REJECTED
    reason[stuck] = MissingReason.STUCK
    return reason


@dataclass(frozen=True)
class _Ordered:
    """Readings of a range by stream and time, each time of a stream once."""

    cell: IntArray
    value: FloatArray


@dataclass(frozen=True)
class _Cells:
    """The windows of streams that hold at least one reading, by stream and window."""

    stream: IntArray
    window: IntArray
    value: FloatArray
    stuck: BoolArray


def _ordered(readings: Readings, windows: WindowRange, catalogue: Catalogue) -> _Ordered:
    _check_streams(readings, catalogue)
    start = windows.start * MICROSECONDS
    span = len(windows) * _WINDOW_MICROSECONDS
    inside = (readings.microseconds >= start) & (readings.microseconds < start + span)
    stream, value = readings.stream, readings.value
    time = readings.microseconds
    if not inside.all():
        stream, time, value = stream[inside], time[inside], value[inside]
    _check_values(stream, value, catalogue)

    key = stream * span + (time - start)
    # -0.0 equals 0.0, so which of the two is kept would depend on the order of input.
    value = value + 0.0
    if (key[1:] < key[:-1]).any():
        order = np.argsort(key)
        key, value = key[order], value[order]
    first = np.flatnonzero(np.diff(key, prepend=-1))
    if len(first) < len(key):
        key, value = key[first], np.maximum.reduceat(value, first)
    return _Ordered(key // _WINDOW_MICROSECONDS, value)


def _cells(seen: _Ordered, n_windows: int, catalogue: Catalogue) -> _Cells:
    if not len(seen.cell):
        none = np.empty(0, dtype=np.int64)
        return _Cells(none, none, np.empty(0), np.empty(0, dtype=np.bool_))
    start = np.flatnonzero(np.diff(seen.cell, prepend=-1))
    cell = seen.cell[start]
    stream, window = np.divmod(cell, n_windows)
    count = np.diff(start, append=len(seen.cell))
    # bincount adds one reading after the other, whatever the number of readings: unlike
    # np.add.reduceat, whose pairwise sums are an implementation detail.
    total = np.bincount(np.repeat(np.arange(len(start)), count), weights=seen.value)
    limit = np.finfo(np.float64).max
    np.clip(total, -limit, limit, out=total)
    last = seen.value[start + count - 1]
    largest = np.maximum.reduceat(seen.value, start)
    smallest = np.minimum.reduceat(seen.value, start)

    how = np.array([_AGGREGATIONS.index(s.aggregation) for s in catalogue.streams])[stream]
    value = np.choose(how, (total / count, total, last, count.astype(np.float64), largest))
    run = _unchanged_run(stream, window, largest, constant=largest == smallest)
    limits = np.array([s.stuck_after or np.iinfo(np.int64).max for s in catalogue.streams])
    return _Cells(stream, window, value, run >= limits[stream])


_AGGREGATIONS = (
    Aggregation.MEAN,
    Aggregation.SUM,
    Aggregation.LAST,
    Aggregation.COUNT,
    Aggregation.MAX,
)


def _unchanged_run(
    stream: IntArray, window: IntArray, value: FloatArray, *, constant: BoolArray
) -> IntArray:
    """Count, up to each cell, the adjacent windows of its stream with one unchanged value."""
    continues = np.zeros(len(stream), dtype=np.bool_)
    continues[1:] = (
        constant[1:]
        & constant[:-1]
        & (value[1:] == value[:-1])
        & (stream[1:] == stream[:-1])
        & (window[1:] == window[:-1] + 1)
    )
    position = np.arange(len(stream))
    begun = np.maximum.accumulate(np.where(continues, 0, position))
    return np.where(constant, position - begun + 1, 0)


def _fill_zeros(
    values: FloatArray, observed: BoolArray, has_reading: BoolArray, catalogue: Catalogue
) -> None:
    for position, witnesses in enumerate(catalogue.witnesses_of_stream):
        if len(witnesses):
            witnessed = observed[:, witnesses].any(axis=1)
            values[witnessed & ~has_reading[:, position], position] = 0.0


def _marked(times: ReadingTimes | None, windows: WindowRange, catalogue: Catalogue) -> BoolArray:
    """Whether each window and stream holds one of the readings."""
    marked = np.zeros((len(windows), len(catalogue.streams)), dtype=np.bool_)
    if times is not None:
        _check_streams(times, catalogue)
        window = (times.microseconds - windows.start * MICROSECONDS) // _WINDOW_MICROSECONDS
        inside = (window >= 0) & (window < len(windows))
        marked[window[inside], times.stream[inside]] = True
    return marked


def _check_streams(times: ReadingTimes, catalogue: Catalogue) -> None:
    if not len(times.stream):
        return
    unknown = (times.stream < 0) | (times.stream >= len(catalogue.streams))
    if unknown.any():
        msg = (
            f"reading {int(np.argmax(unknown))} is of stream number "
            f"{int(times.stream[np.argmax(unknown)])}, but catalogue {catalogue.name!r} "
            f"has streams 0 to {len(catalogue.streams) - 1}"
        )
        raise InputError(msg)


def _check_values(stream: IntArray, value: FloatArray, catalogue: Catalogue) -> None:
    finite = np.isfinite(value)
    if not finite.all():
        worst = int(np.argmin(finite))
        msg = (
            f"stream {catalogue.streams[int(stream[worst])].id!r}: {int((~finite).sum())} "
            f"non-finite readings in all, the first {value[worst]}; "
            "reject such readings before they are aggregated"
        )
        raise InputError(msg)
