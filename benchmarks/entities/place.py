"""A deployment of many entities: database, Redis, workers, and the windows they go through."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from anomaly_assets.automation.instance import prepare
from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets.pipeline.whole import process
from anomaly_assets.settings import Settings
from anomaly_assets.storage.database import Database, ensure_database
from benchmarks.entities.bed import Bed, windows_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Windows that the states have learnt before anything is timed.
WARM = 24
_START_SECONDS = 120.0
_HOST = "127.0.0.1"


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Run Redis while the block lasts, and yield its address.

    Raises
    ------
    SystemExit
        If it is not installed.
    """
    program = shutil.which("redis-server")
    if program is None:
        msg = "no redis-server on the path; install it (Debian: apt install redis-server)"
        raise SystemExit(msg)
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port = int(probe.getsockname()[1])
    command = [program, "--port", str(port), "--bind", _HOST, "--dir", str(folder), "--save", ""]
    with (folder / "redis.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - found above
    try:
        yield f"redis://{_HOST}:{port}/0"
    finally:
        server.terminate()
        server.wait()


class Place:
    """One deployment with so many entities, all their states warm.

    Parameters
    ----------
    server_url
        PostgreSQL server that its databases are made on.
    folder
        Where its files go.
    bed
        What the entities send.
    entities
        How many.
    windows
        How many windows can be taken, after the warm ones.
    """

    def __init__(
        self, server_url: str, folder: Path, bed: Bed, entities: int, windows: int
    ) -> None:
        self._folder = folder / f"of_{entities}"
        self._folder.mkdir()
        self._database = Database(ensure_database(server_url, f"of_{entities}"))
        self._settings = Settings.model_validate(
            {"home": self._folder, "DATABASE_URL": self._database.url}
        )
        self._environment = {**os.environ, **prepare(self._settings, self._database)}
        self._next = 0
        bed.watch(self._database, entities, windows_of(0, WARM + windows))
        self.plain(1, size=WARM)

    def plain(self, count: int, *, size: int = 1) -> list[float]:
        """Take windows without Dagster, in this process; return the seconds of each."""
        seconds = []
        for _ in range(count):
            deployment = Deployment(self._settings, self._database, run_id="benchmark")
            started = time.perf_counter()
            for _commit in process(deployment, windows_of(self._next, size)):
                pass
            seconds.append(time.perf_counter() - started)
            self._next += size
            if deployment.failures:
                raise SystemExit(str(deployment.failures))
        return seconds

    def through_dagster(self, count: int, *, broker: str, workers: int, shards: int) -> list[float]:
        """Take windows as Dagster runs on Celery workers; return the seconds of each.

        One more window goes before, in which the workers load what they need.
        """
        environment = {
            **self._environment,
            "ANOMALY_ASSETS_WINDOW_START": windows_of(0, 1).start_time.isoformat(),
            "ANOMALY_ASSETS_SHARDS": str(shards),
            "ANOMALY_ASSETS_EXECUTOR": "celery",
            "ANOMALY_ASSETS_CELERY_BROKER_URL": broker,
            "ANOMALY_ASSETS_CELERY_QUEUE": f"{self._folder.name}_by_{workers}",
        }
        with contextlib.ExitStack() as stack:
            for number in range(workers):
                stack.enter_context(self._worker(f"worker_{workers}_{number}", environment))
            leader = [sys.executable, "-m", "benchmarks.entities.leader"]
            with (self._folder / f"leader_{workers}.log").open("wb") as log:
                out = subprocess.run(  # noqa: S603 - our own interpreter
                    [*leader, str(self._next), str(count + 1)],
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    check=False,
                )
        if out.returncode:
            raise SystemExit((self._folder / f"leader_{workers}.log").read_text()[-4000:])
        self._next += count + 1
        seconds: list[float] = json.loads(out.stdout.splitlines()[-1])
        return seconds[1:]

    @contextlib.contextmanager
    def _worker(self, name: str, environment: dict[str, str]) -> Iterator[None]:
        path = self._folder / f"{name}.log"
        with path.open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "anomaly_assets", "worker", "--processes", "1"],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            deadline = time.monotonic() + _START_SECONDS
            while b" ready." not in path.read_bytes():
                if worker.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(path.read_text()[-4000:])
                time.sleep(0.1)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGTERM)
            worker.wait()
