"""Fitbit: which files become readings, in which time zone, and what is listed instead."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from anomaly_assets.errors import IngestionError
from anomaly_assets.ingestion.exports.fitbit import FAMILIES, convert_fitbit
from anomaly_assets.streams.loading import load_catalogue

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from anomaly_assets.ingestion.exports.conversion import Conversion

HEART = [
    {"dateTime": "07/01/26 08:00:05", "value": {"bpm": 61, "confidence": 3}},
    {"dateTime": "07/01/26 08:00:10", "value": {"bpm": 70, "confidence": 0}},
]
FILES = {
    "heart_rate-2026-07-01.json": json.dumps(HEART),
    "steps-2026-07-01.json": json.dumps([{"dateTime": "07/01/26 08:01:00", "value": "12"}]),
    "Minute SpO2 - 2026-07-01.csv": "timestamp,value\n2026-07-01T08:00:00Z,96.5\n",
    "Heart Rate Variability Details - 2026-07-01.csv": (
        "timestamp,rmssd,coverage\n2026-07-01T08:05:00,41.2,0.9\n"
    ),
    "calories-2026-07-01.json": "[]",
    "calories-2026-07-02.json": "[]",
    "README.txt": "hello",
}


def convert(path: Path, target: Path, **options: Any) -> tuple[Conversion, set[tuple[Any, ...]]]:
    report = convert_fitbit(path, target, **options)
    rows = pq.read_table(target).to_pylist()
    return report, {(r["stream_id"], r["timestamp"].isoformat()[:19], r["value"]) for r in rows}


def unpacked(folder: Path, files: dict[str, str]) -> Path:
    inside = folder / "Takeout" / "Fitbit" / "Global Export Data"
    inside.mkdir(parents=True)
    for name, text in files.items():
        (inside / name).write_text(text)
    return folder / "Takeout"


def test_every_stream_is_one_of_the_default_catalogue() -> None:
    """Nothing is mapped to a stream that does not exist."""
    known = set(load_catalogue("default").stream_ids)
    assert {family.stream for family in FAMILIES} <= known


def test_folder_and_archive_give_the_same(tmp_path: Path) -> None:
    """Local times are placed in the zone, those with one are not; what is no reading is listed."""
    folder = unpacked(tmp_path, FILES)
    archive = tmp_path / "takeout.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for name, text in FILES.items():
            packed.writestr(f"Takeout/Fitbit/Global Export Data/{name}", text)
    for path in (folder, archive):
        report, rows = convert(path, tmp_path / "readings.parquet", zone="Europe/Berlin")
        assert rows == {
            ("heart_rate", "2026-07-01T06:00:05", 61.0),
            ("steps", "2026-07-01T06:01:00", 12.0),
            ("blood_oxygen", "2026-07-01T08:00:00", 96.5),
            ("hrv_rmssd", "2026-07-01T06:05:00", 41.2),
        }
        assert report.unmapped == {"calories.json": 2}
        assert report.skipped == {"heart_rate: the tracker does not trust it": 1}


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"no": "list"}', "[1,", '[{"dateTime": "x", "value": NaN}]', "\x00\xff"],
)
def test_spoilt_file_does_not_keep_the_others_out(tmp_path: Path, text: str) -> None:
    """A file that is no list of records is listed with the reason; the others are read."""
    files = {**FILES, "heart_rate-2026-07-02.json": text}
    report, rows = convert(unpacked(tmp_path, files), tmp_path / "readings.parquet")
    assert len(rows) == 4
    (name,) = report.unreadable
    assert name.endswith("heart_rate-2026-07-02.json")


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"dateTime": "13/45/26 08:00:05", "value": "1"},
        {"dateTime": "07/01/26 08:00:05", "value": [1]},
        {"dateTime": "07/01/26 08:00:05", "value": "9" * 400},
        {"dateTime": "07/01/26 08:00:05", "value": True},
    ],
)
def test_spoilt_records_are_counted(tmp_path: Path, row: dict[str, Any]) -> None:
    """A record without a usable time or number is left out, and counted."""
    files = {"steps-2026-07-01.json": json.dumps([row, 7])}
    report, rows = convert(unpacked(tmp_path, files), tmp_path / "readings.parquet")
    assert rows == set()
    assert report.skipped.total() == 2


def test_folder_without_fitbit_is_refused(tmp_path: Path) -> None:
    """A folder that holds nothing of use is an error that says what would be."""
    (tmp_path / "photo.json").write_text("{}")
    with pytest.raises(IngestionError, match=r"heart_rate-\*\.json"):
        convert(tmp_path, tmp_path / "readings.parquet")


def test_missing_or_broken_archive_is_refused(tmp_path: Path) -> None:
    """What is not there, or is no archive after all, is one clear error."""
    with pytest.raises(IngestionError, match="there is no"):
        convert(tmp_path / "nowhere.zip", tmp_path / "readings.parquet")
