"""Blocks of windows that are played at another speed."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_assets.errors import InputError
from anomaly_assets.streams.windows import Calendar, WindowBlock, WindowRange


def minutes(size: int) -> Calendar:
    """Return the local time of rows a minute apart."""
    return Calendar(hour=np.arange(size) / 60.0, weekday=np.zeros(size, dtype=np.int64))


def test_the_calendar_is_the_local_time_that_was_given() -> None:
    """Without one it follows from the windows; a part has its part of it."""
    windows = WindowRange(0, 12 * 300)
    values = np.zeros((12, 1))
    played = WindowBlock("x", "UTC", windows, values, minutes(12))
    assert played.calendar.hour[6] == pytest.approx(0.1)
    assert played.part(6, 8).calendar.hour.tolist() == pytest.approx([6 / 60, 7 / 60])
    plain = WindowBlock("x", "UTC", windows, values)
    assert plain.calendar.hour[6] == pytest.approx(0.5)
    assert plain.part(6, 8).local is None


def test_local_time_of_another_length_is_refused() -> None:
    """The message says how many are expected."""
    with pytest.raises(InputError, match=r"expected \(12,\) of each"):
        WindowBlock("x", "UTC", WindowRange(0, 3600), np.zeros((12, 1)), minutes(11))
