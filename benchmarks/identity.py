"""A long recording processed in ranges of several sizes, down to single windows.

Ends with the number of rows that differ between the ways, which has to be 0.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets.pipeline.whole import process
from anomaly_assets.settings import Settings
from anomaly_assets.storage.database import Database, ensure_database
from anomaly_assets.storage.embedded import EmbeddedServer
from anomaly_assets.storage.migrate import upgrade
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange
from benchmarks.backfill import DAYS, START, load_month
from benchmarks.output import publish

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLES = ("time_series_data", "anomaly_scores", "stream_health", "gap_patterns")
END = START + timedelta(days=DAYS)


def main() -> None:
    """Process the month in one range, in days, and its end in parts of 7 and of 1 window."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="anomaly-assets-bench-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedServer(Path(folder) / "postgres")
        try:
            url = server.start()
            expected = rows_of(_deployment(url, folder, "all"), [WindowRange.between(START, END)])
            differing = {
                name: len(expected ^ rows_of(_deployment(url, folder, name), list(parts)))
                for name, parts in (
                    ("days", _parts(288)),
                    ("parts_of_7", _mixed(7)),
                    ("single_windows", _mixed(1)),
                )
            }
        finally:
            server.stop()
    publish(
        f"{DAYS} days of one person: rows that differ from one run over all",
        {
            "windows": DAYS * 288,
            "rows": len(expected),
            **{f"differing_{name}": count for name, count in differing.items()},
            "seconds": time.perf_counter() - started,
        },
    )


def rows_of(deployment: Deployment, parts: list[WindowRange]) -> set[bytes]:
    """Process the parts in order and return a digest of every row of results."""
    for part in parts:
        for _ in process(deployment, part):
            pass
    if deployment.failures:
        raise SystemExit(str(deployment.failures))
    rows: set[bytes] = set()
    with deployment.database.connect() as connection:
        for table in TABLES:
            with (
                connection.cursor() as cursor,
                cursor.copy(f"COPY (TABLE {table}) TO STDOUT") as copy,
            ):
                for row in copy.rows():
                    rows.add(hashlib.blake2b(repr((table, row)).encode(), digest_size=16).digest())
    return rows


def _deployment(url: str, folder: str, name: str) -> Deployment:
    database = Database(ensure_database(url, f"identity_{name}"))
    upgrade(database)
    load_month(database)
    home = Path(folder) / name
    return Deployment(Settings(_env_file=None, home=home, database_url=database.url), database)


def _parts(size: int) -> Iterator[WindowRange]:
    whole = WindowRange.between(START, END)
    step = size * WINDOW_SECONDS
    for start in range(whole.start, whole.end, step):
        yield WindowRange(start, min(start + step, whole.end))


def _mixed(size: int) -> Iterator[WindowRange]:
    """Yield one long range, and 60 small ones at the end of the month."""
    whole = WindowRange.between(START, END)
    cut = whole.end - 60 * size * WINDOW_SECONDS
    yield WindowRange(whole.start, cut)
    for start in range(cut, whole.end, size * WINDOW_SECONDS):
        yield WindowRange(start, start + size * WINDOW_SECONDS)


if __name__ == "__main__":
    main()
