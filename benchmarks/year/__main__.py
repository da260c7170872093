"""A year of 36 streams (105,120 windows) backfilled through Dagster by the command line.

``seconds`` is the time of ``anomaly-assets backfill`` from its start to its end, ``peak_mb`` the
most memory its process has held, ``growth_mb`` what it held more in the last quarter of the time
than in the second, ``database_mb`` what readings and results take, Dagster's own records apart.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from statistics import median

import psycopg

from anomaly_assets.automation.instance import prepare
from anomaly_assets.settings import settings
from anomaly_assets.storage.database import Database, ensure_database
from anomaly_assets.storage.embedded import EmbeddedServer
from benchmarks.output import publish
from benchmarks.year import pages, readings, statements

SAMPLE_SECONDS = 1.0


def main() -> None:
    """Load the readings, backfill them, and ask tables and pages."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--days", type=int, default=365, help="shorter, to try it")
    days = arguments.parse_args().days
    with tempfile.TemporaryDirectory(prefix="anomaly-assets-bench-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedServer(Path(folder) / "postgres")
        try:
            publish(f"{days} days of one person", measure(server.start(), Path(folder), days))
        finally:
            server.stop()


def measure(server_url: str, folder: Path, days: int) -> dict[str, float | int | str]:
    """Return the figures of one year on a database of its own."""
    database = Database(ensure_database(server_url, "year"))
    os.environ["DATABASE_URL"] = database.url
    os.environ["ANOMALY_ASSETS_HOME"] = str(folder / "home")
    os.environ["ANOMALY_ASSETS_WINDOW_START"] = readings.START.isoformat()
    os.environ["ANOMALY_ASSETS_WINDOW_END"] = (readings.START + timedelta(days=days)).isoformat()
    settings.cache_clear()
    environment = {**os.environ, **prepare(settings(), database)}
    copied, copy_seconds = in_a_process_of_its_own(database.url, days)
    began = time.perf_counter()
    samples, peak = backfill(environment)
    seconds = time.perf_counter() - began
    quarter = len(samples) // 4
    figures: dict[str, float | int | str] = {
        "windows": days * 288,
        "seconds": seconds,
        "peak_mb": peak,
        "growth_mb": median(samples[-quarter:]) - median(samples[quarter : 2 * quarter]),
        "database_mb": megabytes(database.url),
        "dagster_mb": megabytes(database.dagster_url().replace("+psycopg2", "")),
        "readings": copied,
        "readings_per_second": copied / copy_seconds,
    }
    with database.connect() as connection:
        figures |= statements.measure(connection)
    # A quarter of an hour is not to be lost to a page that does not come.
    print(json.dumps(figures), file=sys.stderr)
    figures |= pages.measure(environment)
    return figures


def in_a_process_of_its_own(url: str, days: int) -> tuple[int, float]:
    """Load the readings where what simulating takes of memory ends with it."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(readings.load, (url, days))


def backfill(environment: dict[str, str]) -> tuple[list[float], float]:
    """Backfill everything; return the memory held (MB), a sample a second, and its peak."""
    command = [sys.executable, "-m", "anomaly_assets", "backfill", "--json"]
    samples = []
    with subprocess.Popen(  # noqa: S603 - our own command
        command, env=environment, stdout=subprocess.PIPE, stderr=sys.stderr
    ) as process:
        peak = 0.0
        while process.poll() is None:
            held, most = memory(process.pid)
            if held:
                samples.append(held)
                peak = max(peak, most)
            time.sleep(SAMPLE_SECONDS)
        answer = process.stdout.read().decode() if process.stdout else ""
    if process.returncode:
        raise SystemExit(answer)
    return samples, peak


def memory(pid: int) -> tuple[float, float]:
    """Return what a process holds now and has held at most, in MB; zeros once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0, 0.0
    kilobytes = {
        name: float(rest.split()[0])
        for name, _, rest in (line.partition(":") for line in lines)
        if name in {"VmRSS", "VmHWM"}
    }
    return kilobytes.get("VmRSS", 0.0) / 1024, kilobytes.get("VmHWM", 0.0) / 1024


def megabytes(url: str) -> float:
    """Return the size of a database."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return 0.0 if row is None else row[0] / 2**20


if __name__ == "__main__":
    main()
