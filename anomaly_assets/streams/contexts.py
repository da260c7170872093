"""In which context a window lies: at work, asleep, at the weekend, or none of these."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from anomaly_assets.streams.catalogue import Contexts
from anomaly_assets.streams.windows import BoolArray, Calendar, FloatArray

#: Names of the contexts; a context's code is its position here.
CONTEXT_NAMES: Final = ("work_hours", "sleep_hours", "weekend", "other")


def context_codes(calendar: Calendar, contexts: Contexts) -> npt.NDArray[np.int8]:
    """Return the context of every window.

    A window has one context: ``sleep_hours`` comes before ``weekend``, that before ``work_hours``,
    and ``other`` is the rest. The night to Sunday is therefore a night like any other.

    Parameters
    ----------
    calendar
        Local time of the windows.
    contexts
        Which hours and days mean what.

    Returns
    -------
    numpy.ndarray
        Positions in :data:`CONTEXT_NAMES`, int8, shape ``(n_windows,)``.

    Examples
    --------
    >>> import numpy as np
    >>> thursday = Calendar(hour=np.array([3.0, 10.0, 20.0]), weekday=np.array([3, 3, 3]))
    >>> [CONTEXT_NAMES[code] for code in context_codes(thursday, Contexts())]
    ['sleep_hours', 'work_hours', 'other']
    """
    conditions = (
        _within(calendar.hour, contexts.sleep_hours),
        is_weekend(calendar, contexts),
        is_work_hours(calendar, contexts),
    )
    codes = tuple(
        np.int8(CONTEXT_NAMES.index(name)) for name in ("sleep_hours", "weekend", "work_hours")
    )
    other = np.int8(CONTEXT_NAMES.index("other"))
    return np.select(conditions, codes, other).astype(np.int8, copy=False)


def is_weekend(calendar: Calendar, contexts: Contexts) -> BoolArray:
    """Return whether each window lies on a weekend day, whatever the hour, ``(n_windows,)``."""
    return np.isin(calendar.weekday, contexts.weekend_days)


def is_work_hours(calendar: Calendar, contexts: Contexts) -> BoolArray:
    """Return whether each window lies in the working hours of a working day, ``(n_windows,)``.

    Hours that wrap midnight (a night shift) belong to the day on which each window lies.
    """
    in_hours = _within(calendar.hour, contexts.work_hours)
    return in_hours & np.isin(calendar.weekday, contexts.work_days)


def _within(hour: FloatArray, bounds: tuple[float, float]) -> BoolArray:
    """Whether each hour lies in ``[start, end)``; bounds in the wrong order wrap midnight."""
    start, end = bounds
    if start <= end:
        return (hour >= start) & (hour < end)
    return (hour >= start) | (hour < end)
