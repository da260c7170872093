"""Texts and typed columns into event times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from anomaly_assets.streams.windows import BoolArray, IntArray

_ZONED = pa.timestamp("us", tz="UTC")
_NAIVE = pa.timestamp("us")
_DATE = r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
_CLOCK = r"[T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,9})?)?"
_IS_NAIVE = _DATE + rf"({_CLOCK})?$"
_IS_ZONED = _DATE + _CLOCK + r"(Z|z|[+-]\d{2}(:?[0-5]\d)?)$"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_times(column: pa.Array, zone: str) -> tuple[IntArray, BoolArray]:
    """Read event times.

    Parameters
    ----------
    column
        ISO 8601 texts, or timestamps, or dates.
    zone
        IANA zone of times that name none. A time that the clock shows twice is the earlier one; one
        that it skips is the moment of the change.

    Returns
    -------
    microseconds
        Since the epoch (UTC), int64, digits beyond microseconds cut off; 0 where unreadable.
    readable
        Whether each time was.
    """
    if pa.types.is_timestamp(column.type):
        if column.type.tz is None:
            return _numbers(_placed(column.cast(_NAIVE, safe=False), zone))
        return _numbers(column.cast(_ZONED, safe=False))
    if pa.types.is_date(column.type):
        return _numbers(_placed(column.cast(_NAIVE), zone))
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return np.zeros(len(column), dtype=np.int64), np.zeros(len(column), dtype=np.bool_)
    return _parse_texts(column.cast(pa.string()), zone)


def _parse_texts(texts: pa.Array, zone: str) -> tuple[IntArray, BoolArray]:
    try:
        return _numbers(texts.cast(_ZONED))
    except pa.ArrowInvalid:
        pass
    texts = pc.ascii_trim_whitespace(pc.fill_null(texts, ""))
    texts = pc.replace_substring_regex(texts, r"(\.\d{6})\d+", r"\1")
    microseconds = np.zeros(len(texts), dtype=np.int64)
    readable = np.zeros(len(texts), dtype=np.bool_)
    for pattern, kind in ((_IS_ZONED, _ZONED), (_IS_NAIVE, _NAIVE)):
        rows = np.flatnonzero(
            pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False)
        )
        if not len(rows):
            continue
        some = texts.take(pa.array(rows))
        try:
            times = some.cast(kind)
        except pa.ArrowInvalid:
            times = pa.array([_one(text) for text in some.to_pylist()], type=kind)
        microseconds[rows], readable[rows] = _numbers(
            _placed(times, zone) if kind == _NAIVE else times
        )
    return microseconds, readable


def _one(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.upper())
    except ValueError:
        return None


def _placed(times: pa.Array, zone: str) -> pa.Array:
    if zone == "UTC":
        return times.cast(_ZONED)
    return pc.assume_timezone(times, zone, ambiguous="earliest", nonexistent="latest").cast(_ZONED)


def _numbers(times: pa.Array) -> tuple[IntArray, BoolArray]:
    readable = times.is_valid().to_numpy(zero_copy_only=False)
    numbers = pc.fill_null(times.cast(pa.int64()), 0).to_numpy()
    return numbers, readable


def microseconds_of(moment: datetime) -> int:
    """Return an aware moment in microseconds since the epoch, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def is_zone(name: str) -> bool:
    """Whether `name` is an IANA time zone."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True
