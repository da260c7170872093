"""The export of Apple Health: ``export.zip``, its folder, or ``export.xml`` alone.

A record holds for an interval. A quantity that is counted (steps) is shared out over the windows
that the interval touches, each share dated to the beginning of its part; a level (heart rate) is
read in each of those windows, or once where the interval is longer than an hour.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from anomaly_assets.errors import IngestionError
from anomaly_assets.ingestion.exports.archives import Archive, Member, open_archive
from anomaly_assets.ingestion.exports.conversion import Conversion, ReadingsFile, printable
from anomaly_assets.ingestion.exports.workout_routes import RouteReader
from anomaly_assets.ingestion.exports.xml_stream import scan
from anomaly_assets.ingestion.times import microseconds_of, parse_times
from anomaly_assets.streams.windows import WINDOW_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_LARGEST: Final = 64 << 30
_LARGEST_ROUTE: Final = 256 << 20
_WINDOW: Final = WINDOW_SECONDS * 1_000_000
_LONGEST_SHARED: Final = 3_600 * 1_000_000
#: Tags that say something about a record, or about the export, and are none themselves.
_ABOUT: Final = frozenset(
    {
        "HealthData",
        "ExportDate",
        "Me",
        "MetadataEntry",
        "HeartRateVariabilityMetadataList",
        "InstantaneousBeatsPerMinute",
        "WorkoutEvent",
        "WorkoutStatistics",
        "WorkoutRoute",
        "FileReference",
        "WorkoutActivity",
        "SensitivityPoint",
    }
)
_ZONED = re.compile(r"^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d(?:\.\d{1,6})?) ?([+-]\d\d:?\d\d|Z)$")


@dataclass(frozen=True)
class Measure:
    """What a type of record becomes.

    Parameters
    ----------
    stream
        Stream of the catalogue.
    factors
        What a value in each known unit is multiplied by; None accepts any unit as it is.
    counted
        Whether values are added up.
    """

    stream: str
    factors: Mapping[str, float] | None
    counted: bool = False


_PER_MINUTE: Final = {"count/min": 1.0, "count/s": 60.0, "Hz": 60.0}
#: Only types that mean what the stream means: a variability of another kind, or the distance walked
#: instead of the distance between two fixes, would be scored against the wrong past.
MEASURES: Final[Mapping[str, Measure]] = {
    "HKQuantityTypeIdentifierHeartRate": Measure("heart_rate", _PER_MINUTE),
    "HKQuantityTypeIdentifierRespiratoryRate": Measure("respiration_rate", _PER_MINUTE),
    # Apple writes the share of 1 and calls it per cent.
    "HKQuantityTypeIdentifierOxygenSaturation": Measure("blood_oxygen", {"%": 100.0}),
    "HKQuantityTypeIdentifierStepCount": Measure("steps", {"count": 1.0}, counted=True),
    "HKQuantityTypeIdentifierElectrodermalActivity": Measure(
        "electrodermal_activity", {"mcS": 1.0, "µS": 1.0, "S": 1e6}
    ),
    # Degrees Fahrenheit have an offset as well, see _converted.
    "HKQuantityTypeIdentifierAppleSleepingWristTemperature": Measure(
        "skin_temperature", {"degC": 1.0, "degF": 5 / 9, "K": 1.0}
    ),
    "HKQuantityTypeIdentifierEnvironmentalAudioExposure": Measure(
        "audio_level", {"dBASPL": 1.0, "dB": 1.0}
    ),
    "HKQuantityTypeIdentifierPhysicalEffort": Measure(
        "activity_intensity", {"kcal/hr·kg": 1.0, "kcal/(kg·hr)": 1.0, "MET": 1.0}
    ),
}
_OFFSETS: Final = {"degF": -32.0, "K": -273.15}


def convert_apple_health(
    path: Path,
    target: Path,
    *,
    zone: str = "UTC",
    also: Mapping[str, str] | None = None,
    progress: Callable[[Conversion], None] | None = None,
) -> Conversion:
    """Write the readings of an export into a Parquet file.

    Parameters
    ----------
    path
        ``export.zip``, ``export.xml`` or the folder of an unpacked export.
    target
        The file to write.
    zone
        IANA zone of times without an offset; the export itself always gives one.
    also
        Further types of records to take, and their streams (``{"HKQuantityType...": "hrv"}``);
        values are taken in the unit they have.
    progress
        Called now and then with the report.

    Raises
    ------
    IngestionError
        If it is no export, breaks off, or is hostile.
    """
    measures = {**MEASURES, **{name: Measure(to, None) for name, to in (also or {}).items()}}
    report = Conversion()
    tell = progress or (lambda _: None)
    counted = {measure.stream for measure in measures.values() if measure.counted}
    with (
        open_archive(path) as archive,
        ReadingsFile(target, report, counted | {"gps_displacement"}) as readings,
    ):
        document = _document(archive)
        routes = [one for one in archive.members if one.name.lower().endswith(".gpx")]
        report.total_bytes = document.size + sum(one.size for one in routes)
        _read_document(archive, document, _RecordReader(readings, report, measures, zone), tell)
        for route in routes:
            _read_route(archive, route, RouteReader(readings, report), tell)
    return report


def _document(archive: Archive) -> Member:
    """Find the records: ``export.xml``, whose name follows the language of the phone."""
    documents = [
        one
        for one in archive.members
        if one.name.lower().endswith(".xml") and not one.name.lower().endswith("_cda.xml")
    ]
    named = [one for one in documents if one.file_name == "export.xml"]
    if not documents:
        msg = f"{archive.path} holds no export.xml; export all health data on the phone, as a zip"
        raise IngestionError(msg)
    return max(named or documents, key=lambda one: one.size)


def _read_document(
    archive: Archive, member: Member, reader: _RecordReader, tell: Callable[[Conversion], None]
) -> None:
    def progress(done: int) -> None:
        reader.report.done_bytes = done
        tell(reader.report)

    with archive.open(member, _LARGEST) as file:
        scan(file, member.name, reader, progress)


def _read_route(
    archive: Archive, member: Member, reader: RouteReader, tell: Callable[[Conversion], None]
) -> None:
    report = reader.report
    try:
        with archive.open(member, _LARGEST_ROUTE) as file:
            scan(file, member.name, reader)
    except IngestionError as error:
        # One spoilt route is no reason to do without the rest.
        report.give_up(member.name, error)
    report.done_bytes += member.size
    tell(report)


class _RecordReader:
    """Turns the tags of ``export.xml`` into readings."""

    def __init__(
        self,
        readings: ReadingsFile,
        report: Conversion,
        measures: Mapping[str, Measure],
        zone: str,
    ) -> None:
        self.report = report
        self._readings = readings
        self._measures = measures
        self._zone = zone
        self._in_export = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._in_export:
            if name != "HealthData":
                msg = f"the document is {printable(name)!r}, no Apple Health export"
                raise IngestionError(msg)
            self._in_export = True
        if name in _ABOUT:
            return
        self.report.records += 1
        kind = attributes.get("type", "") if name == "Record" else _other(name, attributes)
        measure = self._measures.get(kind)
        if measure is None:
            self.report.leave_out(kind or name)
            return
        trouble = self._take(measure, attributes)
        if trouble is None:
            self.report.mapped[f"{kind} -> {measure.stream}"] += 1
        else:
            self.report.skipped[f"{measure.stream}: {trouble}"] += 1

    def end(self, name: str) -> None:
        """Do nothing: records say everything in their attributes."""

    def text(self, data: str) -> None:
        """Do nothing: records hold no text."""

    def _take(self, measure: Measure, attributes: Mapping[str, str]) -> str | None:
        """Add the readings of a record, or return what is wrong with it."""
        value = _number(attributes.get("value", ""))
        if value is None:
            return "no number"
        unit = attributes.get("unit", "")
        converted = _converted(value, unit, measure)
        if converted is None:
            return f"unknown unit {printable(unit)}"
        start = self._time(attributes.get("startDate", ""))
        end = self._time(attributes.get("endDate", attributes.get("startDate", "")))
        if start is None or end is None or end < start:
            return "no usable time"
        if measure.counted and end - start > _LONGEST_SHARED:
            # A day's total typed in by hand says nothing about five minutes.
            return "counted over more than an hour"
        source = attributes.get("sourceName", "")
        for at, share in _parts(start, end):
            self._readings.add(
                measure.stream, at, converted * (share if measure.counted else 1.0), source
            )
        return None

    def _time(self, text: str) -> int | None:
        return moment_of(text, self._zone)


def _other(name: str, attributes: Mapping[str, str]) -> str:
    activity = attributes.get("workoutActivityType")
    return f"{name} {activity}" if activity else name


def _converted(value: float, unit: str, measure: Measure) -> float | None:
    if measure.factors is None:
        return value
    factor = measure.factors.get(unit)
    return None if factor is None else (value + _OFFSETS.get(unit, 0.0)) * factor


def _parts(start: int, end: int) -> Iterator[tuple[int, float]]:
    """Yield beginning and share of the part of each window that an interval touches."""
    length = end - start
    if length == 0 or length > _LONGEST_SHARED:
        yield start, 1.0
        return
    at = start
    while at < end:
        following = min((at // _WINDOW + 1) * _WINDOW, end)
        yield at, (following - at) / length
        at = following


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def moment_of(text: str, zone: str) -> int | None:
    """Read a time as Apple writes it, in microseconds since the epoch; None if it is none.

    Examples
    --------
    >>> moment_of("2026-01-01 01:00:00 +0100", "UTC")
    1767225600000000
    """
    found = _ZONED.match(text)
    if found is None:
        return _local(text, zone)
    date, clock, offset = found.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{clock}{offset}")
        return microseconds_of(moment)
    except (ValueError, OverflowError):
        return None


def _local(text: str, zone: str) -> int | None:
    microseconds, readable = parse_times(pa.array([text], type=pa.string()), zone)
    return int(microseconds[0]) if readable[0] else None
