"""What stands in the query of a page's address: what is shown, so that it can be shared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from anomaly_assets.errors import InputError
from anomaly_assets.streams.windows import WINDOW_SECONDS, window_of

if TYPE_CHECKING:
    from collections.abc import Container

#: Spans that can be chosen by name, the longest last.
PRESETS: Final = {
    "6h": timedelta(hours=6),
    "24h": timedelta(days=1),
    "3d": timedelta(days=3),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "90d": timedelta(days=90),
}
_DEFAULT: Final = "7d"
_LONGEST: Final = timedelta(days=400)
_EARLIEST: Final = datetime(1971, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)
_MOST_DIGITS: Final = 10
_WINDOW: Final = timedelta(seconds=WINDOW_SECONDS)


class QuestionError(InputError):
    """An address asks for something that there cannot be."""


@dataclass(frozen=True)
class Span:
    """The time that a page shows, on the window grid.

    Parameters
    ----------
    start, end
        From where to where (exclusive), UTC.
    preset
        Name of the span if it was chosen by one; empty otherwise.
    """

    start: datetime
    end: datetime
    preset: str = ""

    @property
    def length(self) -> timedelta:
        """How long it is."""
        return self.end - self.start

    @property
    def query(self) -> dict[str, str]:
        """What an address says of it."""
        if self.preset:
            return {"range": self.preset}
        return {"from": stamp(self.start), "to": stamp(self.end)}

    def moved(self, by: float) -> Span:
        """Return the span that lies so many lengths later."""
        shift = self.length * by
        return Span(window_of(self.start + shift), window_of(self.end + shift))


def span_asked(asked: Mapping[str, str], zone: str, until: datetime | None) -> Span:
    """Return the span that an address asks for.

    Parameters
    ----------
    asked
        ``from`` and ``to`` (times without an offset are the entity's), or ``range`` (one of
        :data:`PRESETS`, which ends where the data do).
    zone
        IANA zone of the entity.
    until
        End of the data; None where there are none.

    Raises
    ------
    QuestionError
        If a time or range is unusable, or the span is empty or too long.
    """
    latest = window_of(until or datetime.now(tz=UTC))
    if "from" not in asked and "to" not in asked:
        preset = asked.get("range", _DEFAULT)
        if preset not in PRESETS:
            msg = f"range {preset[:20]!r}: choose one of {', '.join(PRESETS)}"
            raise QuestionError(msg)
        return Span(latest - PRESETS[preset], latest, preset)
    end = moment_asked(asked.get("to", ""), zone) or latest
    start = moment_asked(asked.get("from", ""), zone) or end - PRESETS[_DEFAULT]
    first, last = window_of(start), window_of(end + _WINDOW - timedelta(microseconds=1))
    if not timedelta(0) < last - first <= _LONGEST:
        msg = f"from {stamp(first)} to {stamp(last)}: give 5 minutes to {_LONGEST.days} days"
        raise QuestionError(msg)
    return Span(first, last)


def moment_asked(text: str, zone: str) -> datetime | None:
    """Read a time of an address or a form; without an offset it is on the zone's clock.

    Raises
    ------
    QuestionError
        If it is no time of the calendar.
    """
    if not text:
        return None
    try:
        value = datetime.fromisoformat(text)
        aware = value if value.tzinfo else value.replace(tzinfo=ZoneInfo(zone))
        # Beyond these a shift of zones leaves the calendar.
        return min(max(aware, _EARLIEST), _LATEST).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        msg = f"{text[:40]!r} is no time; write for example 2026-03-02T15:10Z"
        raise QuestionError(msg) from error


def choice_asked(asked: Mapping[str, str], name: str, choices: Container[str], default: str) -> str:
    """Return one of some choices; whatever else an address says is the default."""
    value = asked.get(name, default)
    return value if value in choices else default


def number_asked(asked: Mapping[str, str], name: str, default: int, most: int) -> int:
    """Return a whole number from 1 on; whatever else an address says is the default."""
    text = asked.get(name, "")
    usable = text.isascii() and text.isdigit() and len(text) < _MOST_DIGITS
    return min(max(1, int(text)), most) if usable else default


def stamp(moment: datetime) -> str:
    """Return a time as addresses have it.

    Examples
    --------
    >>> stamp(datetime(2026, 3, 2, 15, 10, tzinfo=UTC))
    '2026-03-02T15:10Z'
    """
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%MZ}"


def with_query(path: str, query: Mapping[str, object] | Iterable[tuple[str, object]] = ()) -> str:
    """Return an address; what is None or empty is left out.

    Examples
    --------
    >>> with_query("/ui/entity", {"id": "../a&b", "stream": None})
    '/ui/entity?id=..%2Fa%26b'
    """
    pairs = query.items() if isinstance(query, Mapping) else query
    kept = [(name, value) for name, value in pairs if value is not None and value != ""]
    return f"{path}?{urlencode(kept)}" if kept else path
