"""A run whose process is gone is found out, and one that may live is left alone."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from dagster._core.launcher.base import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

from anomaly_assets.automation import launcher
from anomaly_assets.automation.launcher import WatchedRunLauncher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly_assets_tests.automation.support import Live

TINY = """
import dagster as dg


@dg.job
def nothing():
    pass


defs = dg.Definitions(jobs=[nothing])
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder for sockets, whose paths must be short."""
    with tempfile.TemporaryDirectory(prefix="aa-") as path:
        yield Path(path)


def health(live: Live, server: dict[str, Any] | None) -> WorkerStatus:
    """Return what is said of a run that such a code server has started."""
    tags = {} if server is None else {GRPC_INFO_TAG: json.dumps({"host": "localhost", **server})}
    run = live.instance.create_run_for_job(live.job, tags=tags)
    found = live.instance.run_launcher
    assert isinstance(found, WatchedRunLauncher)
    return found.check_run_worker_health(run).status


def test_monitoring_asks_our_launcher(live: Live) -> None:
    """The shipped dagster.yaml names it, and Dagster's monitoring is told to ask."""
    assert live.instance.run_launcher.supports_check_run_worker_health
    assert live.instance.run_monitoring_enabled


def test_a_run_in_the_foreground_is_left_alone(live: Live) -> None:
    """A backfill from the command line has no code server that could know of it."""
    assert health(live, None) is WorkerStatus.RUNNING


def test_a_run_dies_with_its_code_server(live: Live, folder: Path) -> None:
    """Nobody listens where its code server was."""
    assert health(live, {"socket": str(folder / "gone")}) is WorkerStatus.FAILED


def test_a_slow_code_server_has_not_lost_its_runs(
    live: Live, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that takes connections and does not answer says nothing about the run."""
    monkeypatch.setattr(launcher, "_PATIENCE_SECONDS", 1)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(folder / "deaf"))
        deaf.listen()
        assert health(live, {"socket": str(folder / "deaf")}) is WorkerStatus.RUNNING


def test_a_code_server_that_was_started_again_knows_no_old_run(live: Live, folder: Path) -> None:
    """The server answers and the run's process is none of its."""
    (folder / "tiny.py").write_text(TINY)
    path = folder / "server"
    command = ["dagster", "api", "grpc", "-f", str(folder / "tiny.py"), "--socket", str(path)]
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=folder)
    try:
        deadline = time.monotonic() + 60
        while not path.exists():
            assert time.monotonic() < deadline, "the code server does not start"
            time.sleep(0.05)
        assert health(live, {"socket": str(path)}) is WorkerStatus.FAILED
    finally:
        # A server that is asked to end while it still begins may not hear it.
        process.kill()
        process.wait(30)
