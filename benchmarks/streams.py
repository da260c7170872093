"""The cost of a window as the streams of one entity grow, from the journal to explanations.

One entity with 30, 100 and 500 streams, each in a PostgreSQL database of its own. A day is taken as
one range, then single windows as a sensor's run takes them: readings into windows, tiers 1 to 3,
explanations where they are due, results and signed states, read from the database and written to it
by the same functions that the assets call. A level shift begins amid the windows, so that some have
to be explained. The sizes take turns, so that what else the machine does falls on all of them.

``window_s`` is the median of a window in a run of one process, whose steps hand over in memory what
they have written; ``apart_s`` that of steps in processes of their own, each of which reads what the
ones before it have stored; ``dagster_s`` that of a whole run through Dagster.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from anomaly_assets.automation.instance import prepare
from anomaly_assets.evaluation.simulator.faults import FaultKind
from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets.pipeline.handover import Handover
from anomaly_assets.pipeline.whole import STEPS, steps
from anomaly_assets.settings import Settings
from anomaly_assets.storage.database import Database, ensure_database
from anomaly_assets.storage.embedded import EmbeddedServer
from anomaly_assets.streams.windows import WINDOWS_PER_HOUR
from benchmarks.entities.bed import Bed, windows_of, write_catalogue

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZES = (30, 100, 500)
#: Windows that the bed has around any of its faults, before it begins anew.
MOST_WINDOWS = 500


def main() -> None:
    """Measure, and print the figures, as JSON in the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=SIZES, help="numbers of them")
    parser.add_argument("--windows", type=int, default=24, help="timed each way")
    parser.add_argument("--hours", type=int, default=24, help="learnt before")
    parser.add_argument("--dagster", type=int, default=3, help="windows timed through Dagster")
    options = parser.parse_args()
    # A terminated run cleans up like an interrupted one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    warm = options.hours * WINDOWS_PER_HOUR
    # Before those that are timed goes one each way.
    windows = 2 * (options.windows + 1) + options.dagster + 1
    if min(options.windows, options.hours, *options.streams) < 1 or options.dagster < 0:
        parser.error("give at least one stream, window and hour")
    if warm + windows > MOST_WINDOWS:
        parser.error(f"{warm + windows} windows in all; give fewer, at most {MOST_WINDOWS}")
    with tempfile.TemporaryDirectory(prefix="anomaly-assets-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = EmbeddedServer(folder / "postgres")
        try:
            url = server.start()
            # In this order, so that each one's peak of memory is its own.
            places = [
                Place(url, folder, streams, warm=warm, windows=windows)
                for streams in sorted(set(options.streams))
            ]
            for number in range(options.windows + 1):
                for place in places:
                    place.time(apart=False, keep=number > 0)
                    place.time(apart=True, keep=number > 0)
            if options.dagster:
                for place in places:
                    place.time_dagster(options.dagster)
        finally:
            server.stop()
    show(places, options.windows)


class Place:
    """A deployment of one entity with so many streams, its states warm.

    Parameters
    ----------
    server_url
        PostgreSQL server that its database is made on.
    folder
        Where its files go.
    streams
        How many.
    warm, windows
        Windows learnt before, and how many can be taken.

    Attributes
    ----------
    single, apart, explained, dagster : list of float
        Seconds of windows: in one process, of those the ones with an explanation, with steps that
        read what others have stored, and through Dagster.
    steps : dict
        Seconds of each step of the windows in one process.
    peak_mb : float
        The most memory that the process had held once the states were warm.
    """

    def __init__(
        self, server_url: str, folder: Path, streams: int, *, warm: int, windows: int
    ) -> None:
        self.streams = streams
        self.single: list[float] = []
        self.apart: list[float] = []
        self.explained: list[float] = []
        self.dagster: list[float] = []
        self.steps: dict[str, list[float]] = defaultdict(list)
        self._home = folder / f"of_{streams}"
        self._home.mkdir()
        self._database = Database(ensure_database(server_url, f"of_{streams}"))
        self._settings = Settings.model_validate(
            {"home": self._home, "DATABASE_URL": self._database.url}
        )
        self._environment = {**os.environ, **prepare(self._settings, self._database)}
        bed = Bed(write_catalogue(folder, streams), kinds=(FaultKind.LEVEL_SHIFT,))
        # It comes when a third of the windows has been taken.
        before = warm + windows // 3
        self._next = next(number for number in bed.faults if number >= before) - before
        bed.watch(self._database, 1, windows_of(self._next, warm + windows))
        self._take(warm, apart=False)
        # In bytes on macOS, in kilobytes elsewhere.
        unit = 2**20 if sys.platform == "darwin" else 2**10
        self.peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

    def time(self, *, apart: bool, keep: bool) -> None:
        """Take one window, with its steps apart or in one process, and keep what it took."""
        seconds, explained = self._take(1, apart=apart)
        if not keep:
            return
        whole = sum(seconds.values())
        (self.apart if apart else self.single).append(whole)
        if not apart:
            for step, taken in seconds.items():
                self.steps[step].append(taken)
            if explained:
                self.explained.append(whole)

    def time_dagster(self, count: int) -> None:
        """Take windows as Dagster runs in a process of their own, after one that is not timed."""
        environment = {
            **self._environment,
            "ANOMALY_ASSETS_WINDOW_START": windows_of(0, 1).start_time.isoformat(),
        }
        log = self._home / "leader.log"
        command = [sys.executable, "-m", "benchmarks.entities.leader"]
        with log.open("wb") as errors:
            done = subprocess.run(  # noqa: S603 - our own interpreter
                [*command, str(self._next), str(count + 1)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                check=False,
            )
        if done.returncode:
            raise SystemExit(log.read_text()[-4000:])
        self._next += count + 1
        self.dagster = json.loads(done.stdout.splitlines()[-1])[1:]

    def _take(self, size: int, *, apart: bool) -> tuple[dict[str, float], int]:
        """Take one range as a run of its own; return each step's seconds, and explanations."""
        handover = Handover(0) if apart else Handover()
        deployment = Deployment(
            self._settings, self._database, run_id="benchmark", handover=handover
        )
        windows = windows_of(self._next, size)
        seconds: dict[str, float] = {}
        rows: dict[str, int] = {}
        began = time.perf_counter()
        for step, commits in steps(deployment, deployment.entities(), windows):
            rows[step] = sum(commit.rows for commit in commits)
            now = time.perf_counter()
            seconds[step], began = now - began, now
        if deployment.failures:
            raise SystemExit(str(deployment.failures))
        self._next += size
        return seconds, rows[STEPS[-1]]


def show(places: Sequence[Place], windows: int) -> None:
    """Print tables of the figures, then the figures as the last line, in JSON."""
    by_number: dict[str, dict[str, float | None]] = {
        "window_s": {str(p.streams): median(p.single) for p in places},
        "ms_a_stream": {str(p.streams): median(p.single) / p.streams * 1e3 for p in places},
        "slowest_s": {str(p.streams): max(p.single) for p in places},
        "explained_s": {str(p.streams): _median(p.explained) for p in places},
        "apart_s": {str(p.streams): median(p.apart) for p in places},
        "dagster_s": {str(p.streams): _median(p.dagster) for p in places},
        "peak_mb": {str(p.streams): p.peak_mb for p in places},
    }
    each = by_number["ms_a_stream"]
    hundred, thirty = each.get("100"), each.get("30")
    ratio = None if hundred is None or thirty is None else hundred / thirty
    by_step = {
        step: {str(p.streams): median(p.steps[step]) * 1e3 for p in places} for step in STEPS
    }
    for title, rows in (
        (f"one window of one entity (medians of {windows})", by_number),
        ("its steps, milliseconds", by_step),
    ):
        table = Table("", *(f"{place.streams} streams" for place in places), title=title)
        for name, figures in rows.items():
            table.add_row(name, *("" if f is None else f"{f:,.3f}" for f in figures.values()))
        Console().print(table)
    document: dict[str, Any] = {
        "streams": [place.streams for place in places],
        "windows": windows,
        "ratio_100_to_30": ratio,
        **by_number,
        "explained": {str(p.streams): len(p.explained) for p in places},
        "steps_ms": by_step,
    }
    print(json.dumps(document))


def _median(seconds: Sequence[float]) -> float | None:
    return median(seconds) if seconds else None


if __name__ == "__main__":
    main()
