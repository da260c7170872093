"""``anomaly-assets serve`` as a process: it takes readings, and ends in order."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from anomaly_assets.live.tokens import TokenBook
from anomaly_assets_tests.live.api.serving import URL, count, free_port, reading, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.storage.database import Database

COMMAND = (
    "import typer; from anomaly_assets.cli import serve; app = typer.Typer(); "
    "app.callback()(lambda: None); serve.register(app); app()"
)


def start(database: Database, home: Path, port: int, *options: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "DATABASE_URL": database.url,
        "ANOMALY_ASSETS_HOME": str(home),
    }
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "serve", "--port", str(port), *options],
        env=environment,
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v1/health/ready", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_takes_readings_until_it_is_stopped(
    database: Database, tmp_path: Path, number: signal.Signals
) -> None:
    """It answers, and on a signal ends by itself with what it acknowledged stored."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    headers = {"Authorization": f"Bearer {TokenBook(database).create('sender')}"}
    process = start(database, tmp_path, port)
    try:
        wait_until(lambda: is_ready(url), "it is ready", seconds=60)
        answer = httpx.post(url + URL, json=reading(), headers=headers, trust_env=False)
        assert answer.status_code == 202
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, output
    assert output.rstrip().endswith("stopped")
    assert count(database) == 1


def test_a_shard_that_there_is_not_is_one_clear_line(tmp_path: Path, database: Database) -> None:
    """What is wrong is said before anything is started, with how to write it."""
    process = start(database, tmp_path, free_port(), "--shard", "2/2")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "--shard 2/2: write 0/2" in output


def test_taken_port_is_one_clear_line(database: Database, tmp_path: Path) -> None:
    """A port that something else uses is named, with what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start(database, tmp_path, taken.getsockname()[1])
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ANOMALY_ASSETS_LIVE_PORT" in output
