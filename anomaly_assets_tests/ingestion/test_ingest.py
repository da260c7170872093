"""Files into the journal: nothing lost, nothing doubled, nothing bad, nothing in silence."""

from __future__ import annotations

import csv
import gzip
import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from anomaly_assets.errors import IngestionError
from anomaly_assets.ingestion.ingest import IngestOptions, IngestReport, ingest_files
from anomaly_assets.storage import journal
from anomaly_assets.storage.database import Database
from anomaly_assets.streams.catalogue import Catalogue, Group, Stream, StreamType
from anomaly_assets.streams.windows import WindowRange

NOW = datetime(2026, 6, 1, tzinfo=UTC)
CATALOGUE = Catalogue(
    name="small",
    groups=(Group(id="body"),),
    streams=(
        Stream(
            id="heart", type=StreamType.CONTINUOUS_SMOOTH, group="body", valid_range=(20.0, 250.0)
        ),
        Stream(id="steps", type=StreamType.DISCRETE_EVENTS, group="body"),
    ),
)
#: Run by a second process: ingests a file, and kills itself amid its third transaction.
KILLED = """
import os, signal, sys
from pathlib import Path
from anomaly_assets.ingestion import files, ingest
from anomaly_assets.storage.database import Database
from anomaly_assets_tests.ingestion.test_ingest import CATALOGUE, NOW

files.BLOCK_BYTES = 5_000
calls = 0
record = ingest.record_rejections

def record_and_die(*arguments, **keywords):
    global calls
    calls += 1
    stored = record(*arguments, **keywords)
    if calls == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return stored

ingest.record_rejections = record_and_die
ingest.ingest_files(
    Database(sys.argv[1]), [Path(sys.argv[2])], catalogue=CATALOGUE, entity_id="ann", now=NOW
)
"""


def ingest(database: Database, *paths: Path, **keywords: Any) -> IngestReport:
    """Ingest files of one entity."""
    keywords.setdefault("entity_id", "ann")
    return ingest_files(database, paths, catalogue=CATALOGUE, now=NOW, **keywords)


def rows(database: Database) -> list[tuple[Any, ...]]:
    """Return everything in the journal that does not depend on when it came."""
    with database.connect() as connection:
        return connection.execute(
            "SELECT entity_id, event_time, stream_id, value, late FROM readings ORDER BY 1, 2, 3"
        ).fetchall()


def rejected(database: Database) -> list[tuple[Any, ...]]:
    """Return what was refused, in the order of the file."""
    with database.connect() as connection:
        return connection.execute(
            "SELECT row_number, stream_id, reason, raw FROM rejected_readings ORDER BY 1, 2"
        ).fetchall()


def a_file(folder: Path, name: str, *lines: str) -> Path:
    """Write a file."""
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def a_long_file(folder: Path, count: int) -> Path:
    """Write a long file with some bad rows."""
    start = datetime(2026, 1, 31, 12, tzinfo=UTC)
    lines = [
        "oops"
        if n % 97 == 0
        else f"{(start + timedelta(seconds=n)).isoformat()},heart,{20 + n % 250}"
        for n in range(count)
    ]
    return a_file(folder, "long.csv", "timestamp,stream_id,value", *lines)


def test_every_kind_of_bad_reading_is_kept_with_its_reason(
    database: Database, tmp_path: Path
) -> None:
    """Each refused row is there with its number, its text and why; the good ones are stored."""
    path = a_file(
        tmp_path,
        "bad.csv",
        "timestamp,stream_id,value",
        "2026-05-01T00:00:00Z,heart,60.5",
        "yesterday,heart,60",
        "1970-01-01T00:00:00Z,heart,60",
        "2026-06-01T01:00:00Z,heart,60",
        "2026-05-01T00:01:00Z,Robert'); DROP TABLE readings;--,60",
        "2026-05-01T00:02:00Z,heart,sixty",
        "2026-05-01T00:03:00Z,steps,inf",
        "2026-05-01T00:04:00Z,steps,NaN",
        "2026-05-01T00:05:00Z,heart,251",
        "2026-05-01T00:06:00Z,heart,",
        "2026-05-01T00:07:00Z,heart",
        "2026-05-01T00:08:00Z, steps , 7 ",
    )
    report = ingest(database, path)
    assert (report.rows, report.accepted, report.files) == (12, 2, 1)
    found = rejected(database)
    assert [(number, reason) for number, _, reason, _ in found] == [
        (3, "wrong_time"),
        (4, "wrong_time"),
        (5, "future_time"),
        (6, "unknown_stream"),
        (7, "not_a_number"),
        (8, "not_finite"),
        (9, "not_finite"),
        (10, "out_of_range"),
        (11, "empty_value"),
        (12, "malformed_row"),
    ]
    assert found[3][1:] == (
        "Robert'); DROP TABLE readings;--",
        "unknown_stream",
        "2026-05-01T00:01:00Z,Robert'); DROP TABLE readings;--,60",
    )
    assert report.rejected == Counter(reason for _, _, reason, _ in found)
    assert [(row[2], row[3]) for row in rows(database)] == [("heart", 60.5), ("steps", 7.0)]


def test_bytes_that_are_no_text_are_refused_and_do_no_harm(
    database: Database, tmp_path: Path
) -> None:
    """Wrong encodings and NUL are shown as replacement characters."""
    path = tmp_path / "bytes.csv"
    path.write_bytes(
        b"timestamp,stream_id,value\n2026-05-01T00:00:00Z,heart,6\xff\n"
        b"2026-05-01T00:00:00Z,he\x00art,60\n2026-05-01T00:00:00Z,heart,60\n"
    )
    report = ingest(database, path)
    assert (report.accepted, dict(report.rejected)) == (
        1,
        {"not_a_number": 1, "unknown_stream": 1},
    )


def test_ingesting_again_changes_nothing(database: Database, tmp_path: Path) -> None:
    """The second run accepts nothing, counts duplicates, and reports the refusals again."""
    path = a_long_file(tmp_path, 500)
    first = ingest(database, path)
    before, refused = rows(database), rejected(database)
    for options in (IngestOptions(), IngestOptions(again=True)):
        report = ingest(database, path, options=options)
        assert (report.accepted, report.duplicate) == (0, first.accepted)
        assert report.rejected == first.rejected
        assert report.rows == first.rows
    assert rows(database) == before
    assert rejected(database) == refused


@pytest.mark.skipif(sys.platform == "win32", reason="needs a signal that cannot be caught")
def test_kill_in_the_middle_loses_and_doubles_nothing(
    database: Database, tmp_path: Path, empty_database_url: str
) -> None:
    """Killed amid a transaction, the next run goes on and ends with the rows of an unbroken one."""
    from anomaly_assets.storage import migrate  # noqa: PLC0415 - only for the second database

    path = a_long_file(tmp_path, 2_000)
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, database.url, str(path)], env=environment, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    partial = rows(database)
    assert partial
    resumed = ingest(database, path)
    assert resumed.duplicate == len(partial)
    assert resumed.accepted == 2_000 - 21 - len(partial) - resumed.rejected["out_of_range"]
    migrate.upgrade(empty_database_url)
    unbroken = Database(empty_database_url)
    report = ingest(unbroken, path)
    assert report.rejected == resumed.rejected
    assert rows(database) == rows(unbroken)
    assert rejected(database) == rejected(unbroken)


def test_wide_file_has_no_reading_where_a_cell_is_empty(database: Database, tmp_path: Path) -> None:
    """Empty and NaN cells are no readings; unknown columns are refused once, unless ignored."""
    path = a_file(
        tmp_path,
        "wide.csv",
        "timestamp,steps,label,heart",
        "2026-05-01T00:00:00Z,1,0,60",
        "2026-05-01T00:05:00Z,,1,nan",
        "2026-05-01T00:10:00Z,inf,0,x",
        "when,4,0,300",
    )
    report = ingest(database, path)
    assert [(row[2], row[3]) for row in rows(database)] == [("heart", 60.0), ("steps", 1.0)]
    assert [(number, stream, reason) for number, stream, reason, _ in rejected(database)] == [
        (1, "label", "unknown_stream"),
        (4, "heart", "not_a_number"),
        (4, "steps", "not_finite"),
        (5, "heart", "wrong_time"),
        (5, "steps", "wrong_time"),
    ]
    assert report.rows == 4
    options = IngestOptions(ignore_columns=frozenset({"label"}))
    assert "unknown_stream" not in ingest(database, path, options=options).rejected


def test_rows_without_times_are_counted_on_across_files(database: Database, tmp_path: Path) -> None:
    """Row i is start + i steps; without an index the second file goes on where the first ended."""
    step = IngestOptions(start=datetime(2026, 1, 1, tzinfo=UTC), step=timedelta(minutes=5))
    first = a_file(tmp_path, "a.csv", "heart", "60", "61")
    second = a_file(tmp_path, "b.csv", "heart", "62")
    report = ingest(database, first, second, options=step)
    assert report.accepted == 3
    minutes = [(row[1] - step.start).total_seconds() / 60 for row in rows(database) if step.start]
    assert minutes == [0, 5, 10]
    indexed = a_file(tmp_path, "c.csv", "t,heart", "7,63", "x,64", "9.5,65")
    report = ingest(database, indexed, options=step)
    assert (report.accepted, report.rejected["wrong_time"]) == (1, 2)
    assert (rows(database)[-1][1] - datetime(2026, 1, 1, tzinfo=UTC)) == timedelta(minutes=35)
    with pytest.raises(IngestionError, match="give start and step"):
        ingest(database, first)


def test_file_may_name_its_entities(database: Database, tmp_path: Path) -> None:
    """Each row's own entity is used and made; a row without one is refused."""
    path = a_file(
        tmp_path,
        "users.csv",
        "user,timestamp,stream_id,value",
        "bob,2026-05-01T00:00:00Z,heart,60",
        "ann,2026-05-01T00:00:00Z,heart,61",
        ",2026-05-01T00:00:00Z,heart,62",
    )
    report = ingest(database, path, entity_id=None, catalogue_name="small")
    assert [(row[0], row[3]) for row in rows(database)] == [("ann", 61.0), ("bob", 60.0)]
    assert report.rejected == {"missing_entity": 1}
    with pytest.raises(IngestionError, match="leave out entity 'ann'"):
        ingest(database, path)
    with pytest.raises(IngestionError, match="catalogue 'small', not 'other'"):
        ingest(
            database,
            path,
            entity_id=None,
            catalogue_name="other",
            options=IngestOptions(again=True),
        )


def test_parquet_and_csv_give_the_same_rows(database: Database, tmp_path: Path) -> None:
    """A Parquet file of the same readings adds nothing to those of the CSV file."""
    times = pd.date_range("2026-05-01", periods=500, freq="7s", tz="UTC")
    table = pd.DataFrame(
        {"timestamp": times, "heart": np.random.default_rng(3).uniform(50, 90, 500)}
    )
    table.loc[5, "heart"] = np.nan
    table.to_csv(tmp_path / "x.csv", index=False)
    table.to_parquet(tmp_path / "x.parquet", index=False)
    assert ingest(database, tmp_path / "x.csv").accepted == 499
    report = ingest(database, tmp_path / "x.parquet")
    assert (report.accepted, report.duplicate, dict(report.rejected)) == (0, 499, {})
    windows = WindowRange.between(times[0].to_pydatetime(), NOW)
    with database.connect() as connection:
        found = journal.read_readings(connection, "ann", windows, CATALOGUE).readings
    order = np.argsort(found.microseconds)
    expected = table["heart"].dropna().to_numpy()
    assert found.value[order].tobytes() == expected.tobytes()


def test_late_readings_are_counted(database: Database, tmp_path: Path) -> None:
    """Readings of windows that were aggregated already are late, or too late."""
    path = a_file(tmp_path, "one.csv", "timestamp,stream_id,value", "2026-05-01T00:00:00Z,heart,60")
    ingest(database, path)
    with database.connect() as connection:
        journal.close_windows(connection, "ann", datetime(2026, 5, 3, tzinfo=UTC))
    late = a_file(
        tmp_path,
        "late.csv",
        "timestamp,stream_id,value",
        "2026-05-01T00:01:00Z,heart,60",
        "2026-05-02T23:00:00Z,heart,60",
        "2026-05-03T00:00:00Z,heart,60",
    )
    report = ingest(database, late)
    assert (report.accepted, report.late, report.too_late) == (3, 1, 1)


def test_progress_is_told_while_it_happens(database: Database, tmp_path: Path) -> None:
    """The callback sees the totals grow up to the final ones."""
    seen: list[int] = []
    report = ingest(
        database, a_long_file(tmp_path, 50), progress=lambda so_far: seen.append(so_far.rows)
    )
    assert seen
    assert seen[-1] == report.rows == 50


@pytest.mark.recordings
def test_real_recording_is_stored_value_by_value(database: Database) -> None:
    """A month of a phone's battery and screen: every distinct reading comes back as written."""
    folder = Path(os.environ.get("ANOMALY_ASSETS_DATA", "../shared/data"))
    if not folder.is_absolute():
        folder = Path(__file__).parents[2] / folder
    path = folder / "wearable" / "aware1" / "aware1.csv.gz"
    if not path.exists():
        pytest.skip(f"no recordings in {folder}; set ANOMALY_ASSETS_DATA")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    expected: dict[tuple[datetime, str], float] = {}
    for line in lines:
        key = (datetime.fromisoformat(line["timestamp"]), line["stream_id"])
        expected.setdefault(key, float(line["value"]))
    catalogue = Catalogue(
        name="phone",
        groups=(Group(id="device"),),
        streams=tuple(
            Stream(id=name, type=StreamType.SPORADIC, group="device")
            for name in sorted({line["stream_id"] for line in lines})
        ),
    )
    report = ingest_files(database, [path], catalogue=catalogue, entity_id="phone", now=NOW)
    assert (report.rows, report.accepted) == (len(lines), len(expected))
    assert {(row[1], row[2]): row[3] for row in rows(database)} == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (IngestOptions(zone="Mars/Olympus"), "unknown time zone"),
        (IngestOptions(start=datetime(2026, 1, 1)), "no time zone"),  # noqa: DTZ001 - the point
        (IngestOptions(step=timedelta(0)), "not positive"),
    ],
)
def test_senseless_options_are_refused(
    database: Database, tmp_path: Path, options: IngestOptions, message: str
) -> None:
    """Unusable options are refused before anything is read."""
    with pytest.raises(IngestionError, match=message):
        ingest(database, tmp_path / "absent.csv", options=options)
