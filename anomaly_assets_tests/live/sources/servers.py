"""Real brokers for the tests: Mosquitto and Redis, on free ports, killed and started again."""

from __future__ import annotations

import asyncio
import contextlib
import io
import shutil
import signal
import socket
import ssl
import subprocess
import time
from typing import TYPE_CHECKING, Any

import aiomqtt
import pytest
import redis

from anomaly_assets.live.writer import JournalWriter
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from anomaly_assets.live.readings import Row, RowResult
    from anomaly_assets.live.sources.pump import Pump
    from anomaly_assets.live.sources.source import Sink
    from anomaly_assets.storage.database import Database

HOST = "127.0.0.1"
# Where Debian puts servers, which is not on everybody's path.
_PLACES = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/opt/homebrew/sbin:/opt/homebrew/bin"
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path=_PLACES)
REDIS = shutil.which("redis-server") or shutil.which("redis-server", path=_PLACES)
OPENSSL = shutil.which("openssl")

needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
needs_redis = pytest.mark.skipif(REDIS is None, reason="redis-server is not installed")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Server:
    """A server process with its files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Return the command line."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether it can be used."""
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 1):
            return True
        return False

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command(), cwd=self.folder, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while not self.answers():
            said = (self.folder / "log").read_text(errors="replace")
            assert self.process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill it without warning."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Mosquitto(Server):
    """A broker that keeps sessions; a durable one writes every change to its file, slowly."""

    tls: tuple[Path, Path] | None = None
    durable = False

    def command(self) -> list[str]:
        """Return the command line, and write the file it names."""
        lines = [
            f"listener {self.port} {HOST}",
            "allow_anonymous true",
            "persistence true",
            f"persistence_location {self.folder}/",
            "max_queued_messages 0",
            "user root",
        ]
        if self.durable:
            lines += ["autosave_on_changes true", "autosave_interval 1"]
        if self.tls is not None:
            lines += [f"certfile {self.tls[0]}", f"keyfile {self.tls[1]}"]
        (self.folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        assert MOSQUITTO is not None
        return [MOSQUITTO, "-c", str(self.folder / "mosquitto.conf")]

    def forgot(self, mark: str) -> bool:
        """Whether a text is in no message that the broker keeps."""
        path = self.folder / "mosquitto.db"
        path.unlink(missing_ok=True)
        assert self.process is not None
        self.process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + 10
        while not path.exists():
            assert time.monotonic() < deadline, "the broker does not write its file"
            time.sleep(0.01)
        return mark.encode() not in path.read_bytes()

    def holds(self, mark: str) -> bool:
        """Whether a text is in the file that the broker starts from."""
        path = self.folder / "mosquitto.db"
        return path.exists() and mark.encode() in path.read_bytes()


class RedisServer(Server):
    """A Redis that answers only when its file has it."""

    @property
    def url(self) -> str:
        """The address."""
        return f"redis://{HOST}:{self.port}/0"

    def command(self) -> list[str]:
        """Return the command line."""
        assert REDIS is not None
        port = str(self.port)
        options = ["--bind", HOST, "--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        return [REDIS, "--port", port, "--dir", str(self.folder), *options]

    def answers(self) -> bool:
        """Whether it can be used, its file being read."""
        try:
            with self.client() as client:
                return bool(client.ping())
        except (redis.RedisError, OSError):
            return False

    def client(self) -> redis.Redis:
        """Return a client, to be used as a context."""
        return redis.Redis(host=HOST, port=self.port, protocol=2)


async def until(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Wait until a condition holds; say what did not come about when the time is up."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(pump: Pump) -> AsyncIterator[Pump]:
    """Run a pump, and stop it at the end."""
    task = asyncio.create_task(pump.run())
    try:
        yield pump
        # A pump that ended by itself did so by an error.
        if task.done():
            await task
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=20)
        where = io.StringIO()
        task.print_stack(file=where)
        assert task.done(), f"the pump does not end:\n{where.getvalue()}"


@contextlib.asynccontextmanager
async def journal(database: Database, home: Path) -> AsyncIterator[Sink]:
    """Yield a sink that stores in the journal of a database."""
    writer = JournalWriter(deployment_of(database, home))
    writer.start()

    async def store(rows: Sequence[Row]) -> Sequence[RowResult]:
        return (await writer.append_rows(rows, source="test")).results

    try:
        yield store
    finally:
        await writer.stop()


def stored(database: Database) -> list[tuple[Any, ...]]:
    """Return entity, stream and value of all readings, by time."""
    with database.connect() as connection:
        return connection.execute(
            "SELECT entity_id, stream_id, value FROM readings ORDER BY event_time, entity_id"
        ).fetchall()


def refused(database: Database) -> list[tuple[Any, ...]]:
    """Return entity, stream and reason of everything that was refused."""
    with database.connect() as connection:
        return connection.execute(
            "SELECT entity_id, stream_id, reason FROM rejected_readings ORDER BY 1, 2, 3"
        ).fetchall()


async def publish(
    broker: Mosquitto, messages: Sequence[tuple[str, str]], context: ssl.SSLContext | None = None
) -> None:
    """Publish topics and payloads with QoS 1; returns when the broker has them all."""
    async with aiomqtt.Client(HOST, broker.port, tls_context=context) as client:
        for topic, payload in messages:
            await client.publish(topic, payload, qos=1)
