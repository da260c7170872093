"""The processes of one deployment, each to be killed and started again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx

from anomaly_assets.automation.instance import prepare
from anomaly_assets.live.tokens import TokenBook
from anomaly_assets.settings import Settings
from anomaly_assets.storage.database import Database
from anomaly_assets.storage.embedded import EmbeddedServer
from anomaly_assets_tests.live.sources.servers import (
    HOST,
    MOSQUITTO,
    REDIS,
    Mosquitto,
    RedisServer,
    free_port,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

_POLL_SECONDS = 0.05
_SHOWN = 3000
#: Settings of Dagster's monitoring: as shipped, and here.
_HURRIED = (("start_timeout_seconds", 180, 30), ("poll_interval_seconds", 30, 5))


class NotInTimeError(RuntimeError):
    """Something did not come about in time."""


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = 120.0) -> None:
    """Ask until a condition holds; say what did not come about when the time is up."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            msg = f"not within {seconds:.0f} s: {what}"
            raise NotInTimeError(msg)
        time.sleep(_POLL_SECONDS)


class Command:
    """A command of ours in a session of its own, killed with everything it has started."""

    def __init__(self, name: str, arguments: list[str], folder: Path) -> None:
        self.name = name
        self.arguments = arguments
        self.folder = folder
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def ended(self) -> bool:
        """Whether it has ended although nobody killed it."""
        return self._process is not None and self._process.poll() is not None

    def start(self, environment: Mapping[str, str]) -> None:
        """Start it."""
        self.starts += 1
        with self._path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and command
                [sys.executable, "-m", *self.arguments],
                env=dict(environment),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Kill it and its children without warning."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    @property
    def _path(self) -> Path:
        return self.folder / f"{self.name}.log"

    def log(self) -> str:
        """Return everything it has said."""
        return self._path.read_text(errors="replace") if self._path.exists() else ""


class PostgresServer:
    """A PostgreSQL server of our own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = EmbeddedServer(folder)
        self._sockets: Path | None = None
        self.url = ""

    def start(self) -> None:
        """Start it, and wait until it has recovered."""
        self.url = self._server.start()

    def kill(self) -> None:
        """Kill the postmaster and every process of it at once."""
        (note,) = self._folder.glob("**/postmaster.pid")
        lines = note.read_text().splitlines()
        postmaster, port, self._sockets = int(lines[0]), lines[3], Path(lines[4])
        doomed = [postmaster, *_children(postmaster)]
        for pid in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(_lives, doomed)), "PostgreSQL's processes are gone")
        # Where nobody buries the dead, as in a container without an init, the server is taken for
        # one that is still running.
        note.unlink(missing_ok=True)
        (self._sockets / f".s.PGSQL.{port}.lock").unlink(missing_ok=True)

    def stop(self) -> None:
        """Stop it, if it runs, and leave nothing of it."""
        try:
            self._server.stop()
        finally:
            # A server that was killed leaves its socket; the folder is one of its own.
            if self._sockets is not None:
                shutil.rmtree(self._sockets, ignore_errors=True)


class Topology:
    """API and pipeline, Dagster's daemon, PostgreSQL, and Redis and a broker where installed.

    Everything is in a temporary folder with a blank in its name; at the end of the context all
    processes have ended and the folder is gone.

    Parameters
    ----------
    settings
        Environment variables for the processes, beyond those that follow from the topology.
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        # PostgreSQL runs as somebody else when we are root, and has to get in.
        self.folder = Path(tempfile.mkdtemp(prefix="anomaly-assets faults-"))
        self.folder.chmod(0o711)
        self.postgres = PostgresServer(self.folder / "postgres")
        self.redis: RedisServer | None = None
        self.broker: Mosquitto | None = None
        self.api_port = free_port()
        self.api = Command(
            "api", ["anomaly_assets", "serve", "--port", str(self.api_port)], self.folder
        )
        location = ("-m", "anomaly_assets.definitions")
        self.daemon = Command(
            "daemon", ["dagster._daemon", "run", "--log-level", "info", *location], self.folder
        )
        self.environment = _clean() | dict(settings)
        self.token = ""

    @property
    def url(self) -> str:
        """Address of the API."""
        return f"http://{HOST}:{self.api_port}"

    @property
    def database(self) -> Database:
        """The deployment's database."""
        return Database(self.postgres.url)

    def __enter__(self) -> Self:
        """Start the servers; API and daemon are left to the caller."""
        try:
            self._start_servers()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End all processes and remove the folder."""
        self.remove()

    def _start_servers(self) -> None:
        self.postgres.start()
        if REDIS is not None:
            (self.folder / "redis").mkdir()
            self.redis = RedisServer(self.folder / "redis")
            self.redis.start()
            self.environment["ANOMALY_ASSETS_REDIS_URL"] = self.redis.url
        if MOSQUITTO is not None:
            (self.folder / "mqtt").mkdir()
            self.broker = Mosquitto(self.folder / "mqtt")
            self.broker.start()
            self.environment["ANOMALY_ASSETS_MQTT_URL"] = f"mqtt://{HOST}:{self.broker.port}"
        home = self.folder / "home"
        options = Settings(_env_file=None, home=home, database_url=self.postgres.url)
        self.environment |= prepare(options, self.database)
        self._hurry(home / "dagster" / "dagster.yaml")
        self.token = TokenBook(self.database).create("senders")

    def _hurry(self, path: Path) -> None:
        """Have Dagster find out within seconds, and not minutes, that a run was killed.

        Things are killed so often here that it would do little else but wait.
        """
        text = path.read_text(encoding="utf-8")
        for name, shipped, here in _HURRIED:
            before, after = f"{name}: {shipped}\n", f"{name}: {here}\n"
            if before not in text:
                msg = f"dagster.yaml does not say {before.strip()} any more"
                raise RuntimeError(msg)
            text = text.replace(before, after)
        path.write_text(text, encoding="utf-8")

    def start_api(self) -> None:
        """Start the API, with the pipeline in it."""
        self.api.start(self.environment)

    def start_daemon(self, until: str) -> None:
        """Start Dagster's daemon, which is to know the windows before `until`."""
        self.daemon.start(self.environment | {"ANOMALY_ASSETS_WINDOW_END": until})

    def health(self) -> dict[str, Any] | None:
        """Return what the API says of itself; None while it takes no readings."""
        try:
            answer = httpx.get(f"{self.url}/v1/health", trust_env=False, timeout=5)
        except httpx.TransportError:
            return None
        return dict(answer.json()) if answer.is_success else None

    def metrics(self) -> dict[str, float]:
        """Return the API's figures without labels; nothing while it is away."""
        try:
            text = httpx.get(f"{self.url}/metrics", trust_env=False, timeout=10).text
        except httpx.TransportError:
            return {}
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if line[:1] not in {"", "#"}]
        return {name: float(value) for name, value in lines if "{" not in name}

    def all_answer(self) -> bool:
        """Whether everything that was started can be used."""
        health = self.health()
        return (
            health is not None
            and set(health["sources"].values()) <= {"connected"}
            and (self.redis is None or self.redis.answers())
        )

    def logs(self) -> str:
        """Return the ends of what API and daemon said."""
        return "".join(
            f"\n--- {one.name}:\n{one.log()[-_SHOWN:]}" for one in (self.api, self.daemon)
        )

    def remove(self) -> None:
        """End everything and remove the folder."""
        self.api.kill()
        self.daemon.kill()
        for server in (self.redis, self.broker):
            if server is not None:
                server.kill()
        try:
            self.postgres.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


def _clean() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ANOMALY_ASSETS_", "DAGSTER_")) and name != "DATABASE_URL"
    }


def _children(parent: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="],  # noqa: S607 - wherever the system has it
        capture_output=True,
        text=True,
        check=True,
    )
    pairs = [line.split() for line in listed.stdout.splitlines()]
    return [int(pid) for pid, of in pairs if int(of) == parent]


def _lives(pid: int) -> bool:
    state = subprocess.run(  # noqa: S603 - a number
        ["ps", "-o", "stat=", "-p", str(pid)],  # noqa: S607 - as above
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return bool(state) and not state.startswith("Z")
