"""Routes of workouts (GPX): the fixes of the phone or watch while somebody was out."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from anomaly_assets.ingestion.times import microseconds_of

if TYPE_CHECKING:
    from anomaly_assets.ingestion.exports.conversion import Conversion, ReadingsFile

_EARTH_RADIUS: Final = 6_371_008.8
_LONGEST_TEXT: Final = 100
#: Values of a fix, and the streams they belong to.
STREAMS: Final = {"speed": "gps_speed", "hAcc": "gps_accuracy"}
_KIND: Final = "workout route"


class RouteReader:
    """Turns the points of one route into readings.

    Parameters
    ----------
    readings
        Where they go.
    report
        Is told of them.
    """

    def __init__(self, readings: ReadingsFile, report: Conversion) -> None:
        self.report = report
        self._readings = readings
        self._fix: dict[str, str] | None = None
        self._text = ""
        self._last: tuple[float, float] | None = None

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Take a tag that opens."""
        if name == "trkpt":
            self._fix = dict(attributes)
        self._text = ""

    def text(self, data: str) -> None:
        """Take a piece of text between tags."""
        if len(self._text) < _LONGEST_TEXT:
            self._text += data[:_LONGEST_TEXT]

    def end(self, name: str) -> None:
        """Take a tag that closes."""
        if self._fix is None:
            return
        if name != "trkpt":
            self._fix.setdefault(name, self._text.strip())
            return
        fix, self._fix = self._fix, None
        self.report.records += 1
        at = _moment(fix.get("time", ""))
        place = _number(fix.get("lat", "")), _number(fix.get("lon", ""))
        if at is None or place[0] is None or place[1] is None:
            self.report.skipped[f"{_KIND}: no usable time or place"] += 1
            return
        self._take(fix, at, (place[0], place[1]))

    def _take(self, fix: dict[str, str], at: int, place: tuple[float, float]) -> None:
        for name, stream in STREAMS.items():
            value = _number(fix.get(name, ""))
            # A negative speed or radius is how the phone says that it has none.
            if value is not None and value >= 0.0:
                self._readings.add(stream, at, value, _KIND)
                self.report.mapped[f"{_KIND} {name} -> {stream}"] += 1
        if self._last is not None:
            self._readings.add("gps_displacement", at, distance(self._last, place), _KIND)
            self.report.mapped[f"{_KIND} position -> gps_displacement"] += 1
        self._last = place


def distance(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Return the metres between two places given as degrees of latitude and longitude.

    Examples
    --------
    >>> round(distance((52.0, 13.0), (52.001, 13.0)), 1)
    111.2
    """
    latitudes = math.radians(one[0]), math.radians(other[0])
    half_north = math.sin((latitudes[1] - latitudes[0]) / 2)
    half_east = math.sin(math.radians(other[1] - one[1]) / 2)
    chord = half_north**2 + math.cos(latitudes[0]) * math.cos(latitudes[1]) * half_east**2
    return 2 * _EARTH_RADIUS * math.asin(min(1.0, math.sqrt(max(0.0, chord))))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _moment(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    # The format demands UTC.
    return microseconds_of(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
