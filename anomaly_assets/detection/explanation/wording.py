"""Words for people: names of streams, numbers, times, rarities."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from anomaly_assets.streams.catalogue import Contexts, Stream

#: A description of more words is a sentence about the stream, not its name.
LONGEST_NAME_WORDS = 4
_ABBREVIATIONS = {
    "accel": "acceleration",
    "cpu": "CPU",
    "gps": "GPS",
    "gyro": "gyroscope",
    "hrv": "HRV",
    "rmssd": "RMSSD",
    "wifi": "Wi-Fi",
}
_FIRST_CLAUSE = re.compile(r"^[^.,;:(]*")
_FIRST_WORD = re.compile(r"^[A-Za-z]\S*")


def stream_name(stream: Stream) -> str:
    """Return what people call a stream: a short description, or its identifier in words.

    Examples
    --------
    >>> from anomaly_assets.streams.catalogue import StreamType
    >>> stream_name(Stream(id="gps_speed", type=StreamType.SPORADIC, group="location"))
    'GPS speed'
    """
    clause = _FIRST_CLAUSE.match(stream.description)
    name = clause.group().strip() if clause else ""
    first = _FIRST_WORD.match(name)
    if (
        first is None
        or first.group().lower() in {"how", "the", "stays"}
        or len(name.split()) > LONGEST_NAME_WORDS
    ):
        return in_words(stream.id)
    # "Heart rate" begins a sentence nowhere here, but "GPS speed" stays as it is.
    return name if first.group()[1:] != first.group()[1:].lower() else name[0].lower() + name[1:]


def in_words(identifier: str) -> str:
    """Return an identifier of a stream or a group as words: ``phone_use`` as ``phone use``."""
    words = re.split(r"[_.:-]+", identifier)
    return " ".join(_ABBREVIATIONS.get(word.lower(), word) for word in words)


def number(value: float) -> str:
    """Write a value with as many digits as people read.

    Examples
    --------
    >>> [number(value) for value in (148.2, 71.96, 0.01234, 52_310.0, 0.0, 3e12)]
    ['148', '72', '0.0123', '52,310', '0', '3e+12']
    """
    size = abs(value)
    if size >= 1e9:
        return f"{value:.3g}"
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}".removesuffix(".0")
    return f"{value:.3g}"


def with_unit(value: float, unit: str) -> str:
    """Write a value with its unit, where it has one."""
    return f"{number(value)} {unit}" if unit else number(value)


def duration(minutes: float) -> str:
    """Write a length of time: ``5 min``, ``1.5 h``, ``3 days``, ``46 years``."""
    if minutes < 60:
        return f"{minutes:.0f} min"
    if minutes < 48 * 60:
        return f"{minutes / 60:.1f}".removesuffix(".0") + " h"
    days = minutes / 1440
    return f"{days:.0f} days" if days < 2 * 365.25 else f"{days / 365.25:.0f} years"


def off_by(seconds: float) -> str:
    """Write how wrong a clock is: ``2 h ahead``, and ``2 h behind`` below 0."""
    return f"{duration(abs(seconds) / 60)} {'ahead' if seconds > 0.0 else 'behind'}"


def rarity(p: float) -> str:
    """Write how often something happens: ``in fewer than 1 % of cases``."""
    for limit, words in ((0.001, "0.1 %"), (0.01, "1 %"), (0.05, "5 %")):
        if p < limit:
            return f"in fewer than {words} of cases"
    return f"in about {100.0 * p:.0f} % of cases"


def listed(words: Sequence[str], *, most: int = 3) -> str:
    """Join words as a sentence does, naming at most `most`.

    Examples
    --------
    >>> listed(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    named = list(words[:most])
    if len(words) > most:
        named.append(f"{len(words) - most} more")
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"


def capitalised(sentence: str) -> str:
    """Return the sentence with a capital first letter."""
    return sentence[:1].upper() + sentence[1:]


def minutes_later(minutes: float) -> str:
    """Write a delay: ``at the same time as``, ``3 minutes after``."""
    if round(minutes) == 0:
        return "at the same time as"
    return f"{minutes:.0f} minute{'' if round(minutes) == 1 else 's'} after"


class Clock:
    """Tells times of one entity.

    Parameters
    ----------
    time_zone
        IANA name.
    contexts
        Which local hours mean what.
    """

    def __init__(self, time_zone: str, contexts: Contexts) -> None:
        self._zone = ZoneInfo(time_zone)
        self._contexts = contexts

    def time(self, second: float) -> str:
        """Write a moment (seconds since the epoch) as ``HH:MM`` of the local day."""
        local = datetime.fromtimestamp(second, tz=self._zone)
        return f"{local.hour:02d}:{local.minute:02d}"

    def context(self, second: float) -> str:
        """Name what a moment is: in work or sleep hours, at the week-end, in free time."""
        local = datetime.fromtimestamp(second, tz=self._zone)
        hour, weekday = local.hour + local.minute / 60.0, local.weekday()
        if weekday in self._contexts.work_days and _within(hour, self._contexts.work_hours):
            return "in work hours"
        if _within(hour, self._contexts.sleep_hours):
            return "in sleep hours"
        return "at the week-end" if weekday in self._contexts.weekend_days else "in free time"


def _within(hour: float, hours: tuple[float, float]) -> bool:
    start, end = hours
    return start <= hour < end if start <= end else hour >= start or hour < end


def known(value: float) -> float | None:
    """Return a finite float, or None: records hold no NaN."""
    value = float(value)
    return value if math.isfinite(value) else None
