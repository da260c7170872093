"""Times, spans and figures as the pages write them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from html import escape
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from anomaly_assets.detection.explanation import wording

if TYPE_CHECKING:
    from collections.abc import Callable


class Html(str):
    """Text that is HTML already: templates put it into a page as it is."""

    __slots__ = ()

    def __html__(self) -> str:
        """Return it; a template asks for this before it escapes."""
        return str(self)


_UNKNOWN: Final = "\N{EN DASH}"
_STEPS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))


def when(moment: datetime | None, zone: str, style: str = "full") -> Html | str:
    """Return a moment on a zone's clock, with UTC on hover.

    Parameters
    ----------
    moment
        With a time zone; None: unknown.
    zone
        IANA zone that it is shown in.
    style
        ``full`` has the day, ``time`` only the clock.

    Examples
    --------
    >>> str(when(datetime(2026, 3, 2, 14, 10, tzinfo=UTC), "Europe/Berlin"))
    '<time datetime="2026-03-02T14:10:00Z" title="2026-03-02 14:10 UTC">Mon 2 Mar 2026 15:10</time>'
    """
    if moment is None:
        return _UNKNOWN
    utc, local = moment.astimezone(UTC), moment.astimezone(ZoneInfo(zone))
    shown = f"{local:%H:%M}"
    if style == "full":
        shown = f"{local:%a} {local.day} {local:%b %Y %H:%M}"
    return _time(utc, f"{utc:%Y-%m-%d %H:%M} UTC", shown)


def from_to(start: datetime, end: datetime, zone: str) -> Html:
    """Return a span on a zone's clock; the day of the end only where it is another."""
    same = start.astimezone(ZoneInfo(zone)).date() == end.astimezone(ZoneInfo(zone)).date()
    return Html(f"{when(start, zone)} to {when(end, zone, 'time' if same else 'full')}")


def ago(moment: datetime | None, now: datetime, zone: str = "UTC") -> Html | str:
    """Return how long ago a moment was, with the moment on hover."""
    if moment is None:
        return "never"
    utc, local = moment.astimezone(UTC), moment.astimezone(ZoneInfo(zone))
    title = f"{local:%Y-%m-%d %H:%M} ({zone}), {utc:%Y-%m-%d %H:%M} UTC"
    return _time(utc, title, _ago(now - moment))


def _time(utc: datetime, title: str, shown: str) -> Html:
    at = f"{utc:%Y-%m-%dT%H:%M:%SZ}"
    return Html(f'<time datetime="{at}" title="{escape(title)}">{escape(shown)}</time>')


def _ago(passed: timedelta) -> str:
    if passed < timedelta(minutes=-1):
        return f"in {duration(-passed)}"
    return "just now" if passed < timedelta(minutes=1) else f"{duration(passed)} ago"


def duration(length: timedelta | float | None) -> str:
    """Return a length of time in its largest one or two units.

    Parameters
    ----------
    length
        Of time; a number is seconds; None: unknown.

    Examples
    --------
    >>> duration(timedelta(minutes=95)), duration(300), duration(timedelta(days=2, hours=3))
    ('1 h 35 min', '5 min', '2 d 3 h')
    """
    if length is None:
        return _UNKNOWN
    seconds = int(length.total_seconds() if isinstance(length, timedelta) else length)
    parts: list[str] = []
    for size, unit in _STEPS:
        if seconds >= size and len(parts) < 2:
            parts.append(f"{seconds // size} {unit}")
            seconds %= size
        elif parts:
            break
    return " ".join(parts) or "0 min"


def score(value: float | None) -> str:
    """Return a score with two digits; unknown is a dash, never 0."""
    return _UNKNOWN if _is_unknown(value) else f"{value:.2f}"


def percent(value: float | None) -> str:
    """Return a share in [0, 1] as a percentage; what is above 0 and below 1 stays so.

    Examples
    --------
    >>> [percent(one) for one in (0.0, 0.002, 0.5, 0.999, 1.0)]
    ['0 %', '<1 %', '50 %', '>99 %', '100 %']
    """
    if value is None or _is_unknown(value):
        return _UNKNOWN
    if 0.0 < value < 0.005:
        return "<1 %"
    if 0.995 < value < 1.0:
        return ">99 %"
    return f"{value * 100:.0f} %"


def number(value: float | None) -> str:
    """Return a reading with as many digits as people read."""
    return _UNKNOWN if value is None or _is_unknown(value) else wording.number(value)


def plural(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun.

    Examples
    --------
    >>> plural(1, "window"), plural(1200, "entity", "entities")
    ('1 window', '1,200 entities')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _is_unknown(value: float | None) -> bool:
    return value is None or math.isnan(value)


FILTERS: Final[dict[str, Callable[..., object]]] = {
    "when": when,
    "ago": ago,
    "duration": duration,
    "score": score,
    "percent": percent,
    "number": number,
    "plural": plural,
    "in_words": wording.in_words,
    "capitalised": wording.capitalised,
}
