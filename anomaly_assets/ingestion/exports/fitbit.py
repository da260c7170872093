"""The export of Fitbit (Google Takeout): its folder, or the zip archive as it comes."""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pydantic_core

from anomaly_assets.errors import IngestionError
from anomaly_assets.ingestion.exports.archives import Archive, Member, open_archive
from anomaly_assets.ingestion.exports.conversion import Conversion, ReadingsFile
from anomaly_assets.ingestion.times import parse_times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: A file holds a day or a month, a few megabytes at most.
_LARGEST: Final = 64 << 20
_LONGEST_CELL: Final = 1_000
_READ: Final = frozenset({".json", ".csv"})
_DATED = re.compile(r"^(\d\d)/(\d\d)/(\d\d) (\d\d:\d\d:\d\d)$")
#: What in a file's name tells one from the next of its kind: date, number, ending.
_SUFFIX = re.compile(r"[-_ ]*(\d{4}-\d\d(-\d\d)?|\(?\d+\)?)*(\.\w+)?$")


@dataclass(frozen=True)
class Family:
    """Files of one kind.

    Parameters
    ----------
    kind
        Beginning of their names, before date and ending.
    ending
        ``.json`` or ``.csv``.
    stream
        Stream of the catalogue.
    time, value
        Column or key of either; a key with a dot lies one level down.
    trusted
        Column or key whose value is 0 where the reading is only a guess.
    """

    kind: str
    ending: str
    stream: str
    time: str
    value: str
    trusted: str | None = None


FAMILIES: Final = (
    Family("heart_rate", ".json", "heart_rate", "dateTime", "value.bpm", "value.confidence"),
    Family("steps", ".json", "steps", "dateTime", "value"),
    Family("Minute SpO2", ".csv", "blood_oxygen", "timestamp", "value"),
    Family("Heart Rate Variability Details", ".csv", "hrv_rmssd", "timestamp", "rmssd"),
)
_FAMILIES: Final = {(family.kind, family.ending): family for family in FAMILIES}


def convert_fitbit(
    path: Path,
    target: Path,
    *,
    zone: str = "UTC",
    progress: Callable[[Conversion], None] | None = None,
) -> Conversion:
    """Write the readings of an export into a Parquet file.

    Parameters
    ----------
    path
        The zip archive, or a folder with what was in it, or one of its files.
    target
        The file to write.
    zone
        IANA zone of times that name none.
    progress
        Called after every file with the report.

    Raises
    ------
    IngestionError
        If there is no export, or none of its files can be used. Single files that cannot be read
        are listed in the report.
    """
    report = Conversion()
    with open_archive(path) as archive, ReadingsFile(target, report, set()) as readings:
        report.total_bytes = sum(one.size for one in archive.members)
        for member in archive.members:
            _read(archive, member, readings, report, zone)
            report.done_bytes += member.size
            if progress is not None:
                progress(report)
        if not report.mapped and not report.skipped and not report.unreadable:
            known = ", ".join(f"{family.kind}-*{family.ending}" for family in FAMILIES)
            msg = f"{path} holds no readings of a Fitbit; files that are read: {known}"
            raise IngestionError(msg)
    return report


def _read(
    archive: Archive, member: Member, readings: ReadingsFile, report: Conversion, zone: str
) -> None:
    name = member.file_name
    ending = name[name.rfind(".") :].lower() if "." in name else ""
    kind = _SUFFIX.sub("", name)
    family = _FAMILIES.get((kind, ending))
    if family is None:
        if ending in _READ:
            report.leave_out(f"{kind}{ending}")
        return
    try:
        with archive.open(member, _LARGEST) as file:
            content = file.read()
        rows = _json_rows(content) if ending == ".json" else _csv_rows(content)
        _take(family, list(rows), readings, report, zone)
    except (IngestionError, ValueError, RecursionError, csv.Error) as error:
        report.give_up(member.name, error)


def _take(
    family: Family,
    rows: list[dict[str, Any]],
    readings: ReadingsFile,
    report: Conversion,
    zone: str,
) -> None:
    texts = pa.array([_iso(_at(row, family.time)) for row in rows], type=pa.string())
    microseconds, readable = parse_times(texts, zone)
    for row, at, known in zip(rows, microseconds.tolist(), readable.tolist(), strict=True):
        report.records += 1
        value = _number(_at(row, family.value))
        if not known:
            report.skipped[f"{family.stream}: no usable time"] += 1
        elif value is None:
            report.skipped[f"{family.stream}: no number"] += 1
        elif family.trusted and _number(_at(row, family.trusted)) == 0.0:
            report.skipped[f"{family.stream}: the tracker does not trust it"] += 1
        else:
            readings.add(family.stream, at, value)
            report.mapped[f"{family.kind} -> {family.stream}"] += 1


def _json_rows(content: bytes) -> Iterator[dict[str, Any]]:
    # Refuses what is nested too deep, and numbers that JSON does not have.
    document = pydantic_core.from_json(content, allow_inf_nan=False)
    if not isinstance(document, list):
        msg = f"expected a list of records, found {type(document).__name__}"
        raise IngestionError(msg)
    for row in document:
        yield row if isinstance(row, dict) else {}


def _csv_rows(content: bytes) -> Iterator[dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    for row in reader:
        yield {name: cell for name, cell in row.items() if name is not None}


def _at(row: dict[str, Any], key: str) -> object:
    found: object = row
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _iso(text: object) -> str | None:
    """Return a time as ISO 8601; Takeout has American dates with two digits of the year."""
    if not isinstance(text, str) or len(text) > _LONGEST_CELL:
        return None
    found = _DATED.match(text)
    if found is None:
        return text
    month, day, year, clock = found.groups()
    return f"20{year}-{month}-{day}T{clock}"


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value[:_LONGEST_CELL] if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
