"""Apple Health: what records become, what is left out, and what is refused."""

from __future__ import annotations

import hashlib
import tracemalloc
import zipfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from anomaly_assets.errors import IngestionError
from anomaly_assets.ingestion.exports import conversion
from anomaly_assets.ingestion.exports.apple_health import MEASURES, convert_apple_health
from anomaly_assets.ingestion.exports.workout_routes import STREAMS
from anomaly_assets.streams.loading import load_catalogue

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from anomaly_assets.ingestion.exports.conversion import Conversion

DOCUMENT_TYPE = """<!DOCTYPE HealthData [
<!-- not well-formed, as some releases write it -->
<!ELEMENT HealthData (ExportDate,Me,(Record|Workout)*)>
<!ATTLIST Record type CDATA #REQUIRED
  startDate CDATA #REQUIRED <!ATTLIST
]>"""
ROUTE = """<?xml version="1.0"?><gpx><trk><trkseg>
<trkpt lon="13.0" lat="52.0"><ele>30</ele><time>2026-01-01T08:00:00Z</time>
<extensions><speed>1.5</speed><hAcc>4.0</hAcc></extensions></trkpt>
<trkpt lon="13.0" lat="52.001"><time>2026-01-01T08:00:01Z</time>
<extensions><speed>-1</speed></extensions></trkpt>
</trkseg></trk></gpx>"""


def record(  # noqa: PLR0913, PLR0917 - the attributes, in the order of an export
    kind: str, unit: str, value: object, start: str, end: str | None = None, source: str = "Watch"
) -> str:
    return (
        f'<Record type="HKQuantityTypeIdentifier{kind}" sourceName="{source}" unit="{unit}" '
        f'startDate="{start}" endDate="{end or start}" value="{value}"/>'
    )


def export(*records: str, head: str = DOCUMENT_TYPE) -> str:
    body = "\n".join(records)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}\n<HealthData>{body}</HealthData>\n'


def convert(path: Path, **options: Any) -> tuple[Conversion, list[tuple[str, str, float]]]:
    """Return the report, and stream, time and value of the readings."""
    target = path.parent / "readings.parquet"
    report = convert_apple_health(path, target, **options)
    rows = [
        (row["stream_id"], row["timestamp"].astimezone(UTC).isoformat(), row["value"])
        for row in pq.read_table(target).to_pylist()
    ]
    return report, rows


def written(folder: Path, text: str) -> Path:
    path = folder / "export.xml"
    path.write_text(text)
    return path


def test_every_stream_is_one_of_the_default_catalogue() -> None:
    """Nothing is mapped to a stream that does not exist."""
    streams = {measure.stream for measure in MEASURES.values()} | set(STREAMS.values())
    assert streams | {"gps_displacement"} <= set(load_catalogue("default").stream_ids)


@pytest.mark.parametrize(
    ("kind", "unit", "value", "stream", "converted"),
    [
        ("HeartRate", "count/min", 61, "heart_rate", 61.0),
        ("HeartRate", "count/s", 1.5, "heart_rate", 90.0),
        ("RespiratoryRate", "count/min", 14, "respiration_rate", 14.0),
        ("OxygenSaturation", "%", 0.97, "blood_oxygen", 97.0),
        ("StepCount", "count", 20, "steps", 20.0),
        ("ElectrodermalActivity", "S", 5e-6, "electrodermal_activity", 5.0),
        ("AppleSleepingWristTemperature", "degF", 95, "skin_temperature", 35.0),
        ("AppleSleepingWristTemperature", "degC", 35, "skin_temperature", 35.0),
        ("EnvironmentalAudioExposure", "dBASPL", 60, "audio_level", 60.0),
        ("PhysicalEffort", "kcal/hr·kg", 3.5, "activity_intensity", 3.5),
    ],
)
def test_units_are_converted(  # noqa: PLR0913, PLR0917 - the columns of the table
    tmp_path: Path, kind: str, unit: str, value: float, stream: str, converted: float
) -> None:
    """A value arrives in the unit of its stream, at the moment that its offset says."""
    text = export(record(kind, unit, value, "2026-01-01 08:00:00 +0200"))
    _, rows = convert(written(tmp_path, text))
    ((name, at, number),) = rows
    assert (name, at) == (stream, "2026-01-01T06:00:00+00:00")
    assert number == pytest.approx(converted)


def test_what_has_no_stream_is_counted_and_listed(tmp_path: Path) -> None:
    """Unknown types, sleep, workouts, unknown units and spoilt records each show in the report."""
    at = "2026-01-01 08:00:00 +0000"
    text = export(
        record("BodyMass", "kg", 70, at),
        record("HeartRate", "furlong", 1, at),
        record("HeartRate", "count/min", "fast", at),
        record("HeartRate", "count/min", 60, "yesterday"),
        record("StepCount", "count", 9000, at, "2026-01-01 20:00:00 +0000"),
        f'<Record type="HKCategoryTypeIdentifierSleepAnalysis" startDate="{at}" endDate="{at}" '
        'value="HKCategoryValueSleepAnalysisAsleepCore"/>',
        f'<Workout workoutActivityType="HKWorkoutActivityTypeRunning" startDate="{at}"/>',
    )
    report, rows = convert(written(tmp_path, text))
    assert rows == []
    assert report.records == 7
    assert report.unmapped == {
        "HKQuantityTypeIdentifierBodyMass": 1,
        "HKCategoryTypeIdentifierSleepAnalysis": 1,
        "Workout HKWorkoutActivityTypeRunning": 1,
    }
    assert report.skipped == {
        "heart_rate: unknown unit furlong": 1,
        "heart_rate: no number": 1,
        "heart_rate: no usable time": 1,
        "steps: counted over more than an hour": 1,
    }


def test_counts_are_shared_out_over_windows(tmp_path: Path) -> None:
    """Steps of an interval across windows are divided by time; a level is read in each window."""
    start, end = "2026-01-01 08:04:00 +0000", "2026-01-01 08:06:00 +0000"
    text = export(
        record("StepCount", "count", 40, start, end),
        record("HeartRate", "count/min", 70, start, end),
    )
    _, rows = convert(written(tmp_path, text))
    first, second = "2026-01-01T08:04:00+00:00", "2026-01-01T08:05:00+00:00"
    assert rows == [
        ("steps", first, 20.0),
        ("steps", second, 20.0),
        ("heart_rate", first, 70.0),
        ("heart_rate", second, 70.0),
    ]


def test_two_devices_do_not_double_the_steps(tmp_path: Path) -> None:
    """In each hour the steps of the device that counted most are taken, the others' are counted."""
    text = export(
        record("StepCount", "count", 30, "2026-01-01 08:00:00 +0000", source="Phone"),
        record("StepCount", "count", 50, "2026-01-01 08:01:00 +0000", source="Watch"),
        record("StepCount", "count", 20, "2026-01-01 09:00:00 +0000", source="Phone"),
    )
    report, rows = convert(written(tmp_path, text))
    assert [value for _, _, value in rows] == [50.0, 20.0]
    assert report.skipped == {"counted by another device too": 1}


def test_further_types_can_be_mapped(tmp_path: Path) -> None:
    """A type of one's own choice goes to a stream of one's own catalogue, as it is."""
    text = export(record("HeartRateVariabilitySDNN", "ms", 40, "2026-01-01 08:00:00 +0000"))
    also = {"HKQuantityTypeIdentifierHeartRateVariabilitySDNN": "my_hrv"}
    _, rows = convert(written(tmp_path, text), also=also)
    assert rows == [("my_hrv", "2026-01-01T08:00:00+00:00", 40.0)]


def test_archive_with_a_localised_name_and_routes(tmp_path: Path) -> None:
    """The zip is read without unpacking, whatever the phone's language; routes become positions."""
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        text = export(record("HeartRate", "count/min", 61, "2026-01-01 08:00:00 +0000"))
        packed.writestr("apple_health_export/Exportieren.xml", text)
        packed.writestr("apple_health_export/export_cda.xml", "<a>" + " " * 9_000 + "</a>")
        packed.writestr("apple_health_export/workout-routes/route.gpx", ROUTE)
        packed.writestr("apple_health_export/workout-routes/spoilt.gpx", "<gpx><trk>")
    report, rows = convert(path)
    assert [stream for stream, _, _ in rows] == [
        "heart_rate",
        "gps_speed",
        "gps_accuracy",
        "gps_displacement",
    ]
    assert rows[3][1] == "2026-01-01T08:00:01+00:00"
    assert rows[3][2] == pytest.approx(111.2, abs=0.1)
    assert list(report.unreadable) == ["apple_health_export/workout-routes/spoilt.gpx"]


BILLION = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10 if n else "ha"}">' for n in range(10))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"<!DOCTYPE HealthData [{BILLION}]><HealthData>&a9;</HealthData>", "declares entities"),
        (
            '<!DOCTYPE HealthData [<!ENTITY x SYSTEM "file:///etc/passwd">]><HealthData>&x;</a>',
            "declares entities",
        ),
        (f"<HealthData>{'<a>' * 100_000}", "nested more than"),
        (f'<HealthData><Record type="{"x" * 9_000_000}"/></HealthData>', "longer than"),
        ("<html></html>", "no Apple Health export"),
        ("<HealthData><Record", "to its end"),
        ("<HealthData>&undefined;</HealthData>", "to its end"),
        ("", "to its end"),
    ],
)
def test_hostile_or_broken_documents_are_refused(tmp_path: Path, text: str, why: str) -> None:
    """Entities, endless tags, endless nesting, other documents and broken ones are one clear error,
    and leave no file behind.
    """
    with pytest.raises(IngestionError, match=why):
        convert(written(tmp_path, text))
    assert [path.name for path in tmp_path.iterdir()] == ["export.xml"]


def test_entities_in_another_encoding_are_refused_too(tmp_path: Path) -> None:
    """A document type that a search for bytes overlooks does not get past the parser."""
    path = tmp_path / "export.xml"
    text = f'<?xml version="1.0"?><!DOCTYPE HealthData [{BILLION}]><HealthData>&a9;</HealthData>'
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(IngestionError, match="declares entities"):
        convert(path)


def test_archive_made_to_fill_memory_is_refused(tmp_path: Path) -> None:
    """A zip whose content grows a thousandfold is not read."""
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("export.xml", b" " * (65 << 20))
    with pytest.raises(IngestionError, match="no export does"):
        convert(path)


def test_memory_does_not_grow_with_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times as many records take no more memory, and one conversion equals the next."""
    # Several parts of one each, without as many records as a real export has.
    monkeypatch.setattr(conversion, "_ROWS", 5_000)
    fewest = 12_000
    peaks = []
    for count in (fewest, 3 * fewest):
        path = tmp_path / "export.xml"
        line = record("HeartRate", "count/min", 61, "2026-01-01 08:00:00 +0000") + "\n"
        with path.open("w") as file:
            file.write("<HealthData>")
            for _ in range(count // 1_000):
                file.write(line * 1_000)
            file.write("</HealthData>")
        if count == fewest:
            _, first = convert(path)
            assert len(first) == count
        tracemalloc.start()
        convert_apple_health(path, tmp_path / "other.parquet")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        if count == fewest:
            digests = {
                hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
                for name in ("readings.parquet", "other.parquet")
            }
            assert len(digests) == 1
    assert peaks[1] < 1.3 * peaks[0]


def test_time_without_offset_is_taken_in_the_zone(tmp_path: Path) -> None:
    """Should an offset be missing, the given zone decides."""
    text = export(record("HeartRate", "count/min", 61, "2026-01-01 08:00:00"))
    _, rows = convert(written(tmp_path, text), zone="Europe/Berlin")
    moment = datetime(2026, 1, 1, 7, tzinfo=UTC).isoformat()
    assert rows == [("heart_rate", moment, 61.0)]
