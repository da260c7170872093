"""Senders against a served API: how long a first look takes, and how much is taken."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.environments import ROOT, Environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LOCUST = Environment("locust", Path(__file__).with_name("requirements.txt"))
_SCRIPT = Path(__file__).with_name("load.py")
_PATIENCE_SECONDS = 300.0
#: A value each stream may have; what counts here is that readings are good.
STREAMS = {
    "heart_rate": 71.0,
    "accel_magnitude": 1.0,
    "skin_temperature": 33.0,
    "ambient_light": 200.0,
    "respiration_rate": 15.0,
    "cpu_load": 20.0,
    "audio_level": 40.0,
    "battery_level": 70.0,
}


@dataclass(frozen=True)
class Load:
    """Who sends what.

    Parameters
    ----------
    senders
        At once.
    batch
        Readings a request.
    rate
        Requests a second of each; 0: each sends the next when the last was answered.
    seconds
        For how long, a warm-up of five seconds included.
    looks
        Whether several readings ask for their first looks; a single one is always told.
    """

    senders: int
    batch: int
    rate: float
    seconds: int
    looks: bool = False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def serving(environment: Mapping[str, str], core: int | None) -> Iterator[str]:
    """Run ``anomaly-assets serve``, on one core if one is given, until the end of the block."""
    port = _free_port()
    command = [sys.executable, "-m", "anomaly_assets", "serve", "--port", str(port)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command, env=dict(environment), stdout=log, stderr=log
        )
        try:
            if core is not None:
                os.sched_setaffinity(process.pid, {core})
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(process, url)
            yield url
        finally:
            process.terminate()
            process.wait(60)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            msg = f"the API ended with {process.returncode}"
            raise RuntimeError(msg)
        try:
            with urllib.request.urlopen(f"{url}/v1/health", timeout=5) as answer:  # noqa: S310 - our own
                if json.load(answer)["pipeline"] == "running":
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.2)
    msg = f"the API is not ready after {_PATIENCE_SECONDS:.0f} s"
    raise RuntimeError(msg)


def send(url: str, token: str, load: Load, entities: int, core: int | None) -> dict[str, Any]:
    """Have Locust send; returns ``seconds``, ``milliseconds`` of each answer, and ``failed``.

    Raises
    ------
    RuntimeError
        If Locust cannot be installed or run.
    """
    problem = _LOCUST.install()
    if problem:
        raise RuntimeError(problem)
    with tempfile.TemporaryDirectory(prefix="anomaly-assets-bench-") as folder:
        result = Path(folder, "times.json")
        environment = {
            **os.environ,
            "LOAD_TOKEN": token,
            "LOAD_BATCH": str(load.batch),
            "LOAD_RATE": str(load.rate),
            "LOAD_LOOKS": str(int(load.looks)),
            "LOAD_ENTITIES": str(entities),
            "LOAD_STREAMS": json.dumps(list(STREAMS.items())),
            "LOAD_RESULT": str(result),
        }
        process = subprocess.Popen(  # noqa: S603 - our own script
            [
                str(_LOCUST.python),
                "-m",
                "locust",
                *("-f", str(_SCRIPT), "--headless", "--only-summary", "--loglevel", "ERROR"),
                *("-u", str(load.senders), "-r", str(load.senders)),
                *("-t", f"{load.seconds}s", "-H", url),
            ],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        _, words = process.communicate(timeout=load.seconds + 120)
        if not result.exists():
            msg = f"Locust wrote nothing: {words.decode(errors='replace')[-500:]}"
            raise RuntimeError(msg)
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return found
