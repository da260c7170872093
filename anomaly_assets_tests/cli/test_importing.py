"""``anomaly-assets import`` against a real database, killed and run again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from anomaly_assets.cli import importing
from anomaly_assets.errors import AnomalyAssetsError
from anomaly_assets.live.sources.folder import WatchedFolder
from anomaly_assets_tests.cli.test_commands import deployed
from anomaly_assets_tests.ingestion.exports.test_apple_health import export, record
from anomaly_assets_tests.live.sources.servers import until
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from anomaly_assets.storage.database import Database

#: Run by a second process: imports an export, and kills itself after its second transaction.
KILLED = """
import os, signal, sys
from anomaly_assets.ingestion import files, ingest
from anomaly_assets_tests.cli.test_importing import app

files.PARQUET_ROWS = 1_000
calls = 0
commit = ingest._commit

def commit_and_die(*arguments):
    global calls
    done = commit(*arguments)
    calls += 1
    if calls == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return done

ingest._commit = commit_and_die
app(["import", "apple-health", sys.argv[1], "--entity", "ann"])
"""
app = typer.Typer()
importing.register(app)
app.command()(lambda: None)


@pytest.fixture
def fresh(database: Database, tmp_path: Path) -> Iterator[Database]:
    """Return the database of a deployment without readings."""
    with deployed(database, tmp_path):
        yield database


def run(*arguments: object) -> str:
    outcome = CliRunner().invoke(app, ["import", *map(str, arguments)], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return outcome.output


def count(database: Database) -> int:
    with database.connect() as connection:
        row = connection.execute("SELECT count(*) FROM readings").fetchone()
        assert row is not None
        return int(row[0])


def apple(folder: Path, minutes: int) -> Path:
    path = folder / "export.xml"
    times = (f"2026-01-{1 + n // 1440:02}" for n in range(minutes))
    records = [
        record(
            "HeartRate", "count/min", 60 + n % 30, f"{day} {n // 60 % 24:02}:{n % 60:02}:00 +0000"
        )
        for n, day in enumerate(times)
    ]
    body = record("BodyMass", "kg", 70, "2026-01-01 08:00:00 +0000")
    wrong = record("HeartRate", "count/min", 900, "2026-02-01 08:00:00 +0000")
    path.write_text(export(*records, body, wrong))
    return path


def test_apple_health_is_taken_in_once(fresh: Database, tmp_path: Path) -> None:
    """The document says what became of the records; a second import changes nothing."""
    path = apple(tmp_path, 100)
    first: Any = json.loads(run("apple-health", path, "--entity", "ann", "--json"))
    assert first["export"]["readings"] == 101
    assert first["export"]["unmapped"] == {"HKQuantityTypeIdentifierBodyMass": 1}
    assert first["journal"]["accepted"] == 100
    assert first["journal"]["rejected"] == {"out_of_range": 1}
    again = run("apple-health", path, "--entity", "ann")
    assert "0 accepted" in again
    assert "100 duplicate" in again
    assert "BodyMass: 1" in again
    assert count(fresh) == 100


def test_killed_import_is_resumed(fresh: Database, tmp_path: Path) -> None:
    """After a kill -9 the same command takes in the rest, and the part before counts once."""
    path = apple(tmp_path, 5_000)
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        capture_output=True,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    assert count(fresh) == 2_000
    report: Any = json.loads(run("apple-health", path, "--entity", "ann", "--json"))
    assert report["journal"]["accepted"] == 3_000
    assert report["journal"]["duplicate"] == 2_000
    assert count(fresh) == 5_000


def test_fitbit_is_taken_in_with_its_zone(fresh: Database, tmp_path: Path) -> None:
    """Local times of the tracker become moments."""
    rows = [{"dateTime": "07/01/26 08:00:05", "value": {"bpm": 61, "confidence": 3}}]
    (tmp_path / "heart_rate-2026-07-01.json").write_text(json.dumps(rows))
    run("fitbit", tmp_path, "--entity", "ann", "--zone", "Europe/Berlin")
    with fresh.connect() as connection:
        (row,) = connection.execute("SELECT event_time, value, source FROM readings").fetchall()
    assert row[0].isoformat() == "2026-07-01T06:00:05+00:00"
    assert row[1] == 61.0


@pytest.mark.parametrize(
    "arguments",
    [
        ("apple-health", "nowhere.zip", "--entity", "ann"),
        ("apple-health", "nowhere.zip", "--entity", "ann", "--zone", "Mars"),
        ("apple-health", "nowhere.zip", "--entity", "ann", "--map", "nonsense"),
        ("apple-health", "nowhere.zip", "--entity", "a\nb"),
        ("folder", "nowhere"),
        ("folder", ".", "--watch", "--json"),
    ],
)
@pytest.mark.usefixtures("fresh")
def test_mistakes_are_one_clear_error(arguments: tuple[str, ...]) -> None:
    """Wrong files and options are errors of ours, with a message."""
    with pytest.raises(AnomalyAssetsError, match=r"\w"):
        CliRunner().invoke(app, ["import", *arguments], catch_exceptions=False)


def test_folder_takes_in_each_content_once(fresh: Database, tmp_path: Path) -> None:
    """All usable files are taken in although one is not, which is the error at the end."""
    folder = tmp_path / "in"
    folder.mkdir()
    row = "2026-01-01T08:00:00Z,heart_rate,61\n"
    (folder / "a.csv").write_text(f"timestamp,stream_id,value\n{row}")
    (folder / "b.csv.part").write_text("unfinished")
    assert "a.csv: 1 accepted" in run("folder", folder, "--entity", "ann")
    assert "a.csv: 0 accepted, 1 duplicate" in run("folder", folder, "--entity", "ann")
    (folder / "a_empty.csv").write_text("")
    (folder / "c.csv").write_text(f"timestamp,stream_id,value\n{row.replace('08', '09')}")
    with pytest.raises(AnomalyAssetsError, match="1 of 3 files"):
        run("folder", folder, "--entity", "ann")
    assert count(fresh) == 2


def test_watched_folder_sees_what_is_added_and_changed(database: Database, tmp_path: Path) -> None:
    """Files are read once they are left alone, again when they change, and not otherwise."""
    folder = tmp_path / "in"
    folder.mkdir()
    deployment = deployment_of(database, tmp_path)
    watched = WatchedFolder(deployment, folder, entity_id="ann", settle_seconds=0.2)
    told: list[str] = []

    async def scenario() -> None:
        task = asyncio.create_task(
            watched.run(every_seconds=0.02, tell=lambda one: told.append(one.path.name))
        )
        path = folder / "a.csv"
        path.write_text("timestamp,stream_id,value\n2026-01-01T08:00:00Z,heart_rate,61\n")
        await until(lambda: told == ["a.csv"], "it is read")
        with path.open("a") as file:
            file.write("2026-01-01T08:01:00Z,heart_rate,62\n")
        await until(lambda: told == ["a.csv"] * 2, "it is read again")
        (folder / "broken.csv").write_text("")
        await until(lambda: told[2:] == ["broken.csv"], "the broken one is told once")
        task.cancel()
        await asyncio.wait({task})

    asyncio.run(scenario())
    assert count(database) == 2
    assert watched.scan(wait=False) == []


def test_file_is_not_read_while_it_is_being_written(database: Database, tmp_path: Path) -> None:
    """A file that was written to a moment ago is left alone."""
    folder = tmp_path / "in"
    folder.mkdir()
    watched = WatchedFolder(
        deployment_of(database, tmp_path), folder, entity_id="ann", settle_seconds=3_600
    )
    (folder / "a.csv").write_text("timestamp,stream_id,value\n")
    assert watched.scan() == []
    assert watched.scan() == []
