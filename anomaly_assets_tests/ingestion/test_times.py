"""Event times, in every form that files have them in."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_assets.ingestion.times import microseconds_of, parse_times

NEW_YORK = "America/New_York"


def one(text: str, zone: str = "UTC") -> int | None:
    """Parse one text among others that are fine and that are not."""
    numbers, readable = parse_times(pa.array(["2020-01-01T00:00:00Z", text, "?"]), zone)
    assert readable.tolist()[0::2] == [True, False]
    return int(numbers[1]) if readable[1] else None


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2017-02-28T21:03:44.049Z", "2017-02-28T21:03:44.049000"),
        ("2017-02-28 21:03", "2017-02-28T21:03:00"),
        ("2017-02-28T21:03:44+02:00", "2017-02-28T19:03:44"),
        ("2017-02-28 21:03:44-0530", "2017-03-01T02:33:44"),
        (" 2017-02-28 ", "2017-02-28T00:00:00"),
        ("2017-02-28T21:03:44.123456789Z", "2017-02-28T21:03:44.123456"),
        ("2017-02-28T21:03:44.123456789", "2017-02-28T21:03:44.123456"),
        ("2016-02-29T00:00:00Z", "2016-02-29T00:00:00"),
    ],
)
def test_iso_8601_is_read(text: str, utc: str) -> None:
    """Zones, fractions and dates alone, among rows that need other treatment."""
    assert one(text) == microseconds_of(datetime.fromisoformat(utc).replace(tzinfo=UTC))


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "1425164624", "2017-02-30T00:00:00Z", "2017-02-30", "2017-13-01", "nan"],
)
def test_what_is_no_time_is_unreadable(text: str) -> None:
    """Nothing is guessed, not even epoch seconds or the 30th of February."""
    assert one(text) is None


def test_times_without_a_zone_are_taken_in_the_given_one() -> None:
    """Twice-shown times are the earlier one, skipped ones the moment of the change."""
    zone = ZoneInfo(NEW_YORK)
    assert one("2026-07-01 12:00", NEW_YORK) == microseconds_of(
        datetime(2026, 7, 1, 12, tzinfo=zone)
    )
    assert one("2026-11-01 01:30", NEW_YORK) == microseconds_of(
        datetime(2026, 11, 1, 5, 30, tzinfo=UTC)
    )
    assert one("2026-03-08 02:30", NEW_YORK) == microseconds_of(
        datetime(2026, 3, 8, 7, 0, tzinfo=UTC)
    )


def test_typed_columns_are_read() -> None:
    """Timestamps of any unit, with or without zone, dates, and NULL."""
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    expected = microseconds_of(moment)
    for kind in (pa.timestamp("us", "UTC"), pa.timestamp("ns", NEW_YORK), pa.timestamp("ns")):
        column = pa.array([moment, None], pa.timestamp("us", "UTC"))
        column = column.cast(pa.timestamp("ns", "UTC")).cast(pa.int64()).cast(pa.timestamp("ns"))
        column = column.cast(pa.int64()).cast(pa.timestamp("ns", kind.tz)).cast(kind)
        numbers, readable = parse_times(column, "UTC")
        assert numbers[0] == expected
        assert readable.tolist() == [True, False]
    numbers, _ = parse_times(pa.array([date(2026, 1, 2)]), "UTC")
    assert numbers[0] == microseconds_of(datetime(2026, 1, 2, tzinfo=UTC))
    assert not parse_times(pa.array([1.5]), "UTC")[1].any()


@given(
    st.lists(
        st.datetimes(timezones=st.just(UTC)),
        min_size=1,
        max_size=20,
    )
)
def test_written_times_are_read_to_the_microsecond(moments: list[datetime]) -> None:
    """ISO texts come back exactly."""
    numbers, readable = parse_times(pa.array([moment.isoformat() for moment in moments]), "UTC")
    assert readable.all()
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert numbers.dtype == np.int64
    assert [epoch + timedelta(microseconds=n) for n in numbers.tolist()] == moments
