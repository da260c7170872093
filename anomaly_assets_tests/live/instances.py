"""Several ``anomaly-assets serve`` of one deployment, each a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import httpx

from anomaly_assets_tests.live.api.serving import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.storage.database import Database

COMMAND = (
    "import typer; from anomaly_assets.cli import serve; app = typer.Typer(); "
    "app.callback()(lambda: None); serve.register(app); app()"
)


class Instance:
    """One process, a client of it, and what it has told a listener.

    Parameters
    ----------
    database, home
        Of the deployment.
    secret
        A token for everything.
    shard
        As on the command line.
    """

    def __init__(self, database: Database, home: Path, secret: str, shard: str) -> None:
        self.told: list[dict[str, Any]] = []
        self.shards: list[dict[str, Any]] = []
        port = free_port()
        self._log = (home / f"{port}.log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "serve", "--port", str(port), "--shard", shard],
            env={**os.environ, "DATABASE_URL": database.url, "ANOMALY_ASSETS_HOME": str(home)},
            cwd=home,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {secret}"},
            timeout=30,
            trust_env=False,
        )
        self._listener: threading.Thread | None = None

    def health(self) -> dict[str, Any]:
        """Return what it says of itself; nothing before it answers."""
        try:
            found: dict[str, Any] = self.client.get("/v1/health").json()
        except httpx.TransportError:
            return {}
        return found

    def is_(self, role: str) -> bool:
        """Whether it has that role, and its pipeline runs if it scores."""
        health = self.health()
        scores = health.get("pipeline") == ("standby" if role == "standby" else "running")
        return health.get("role") == role and scores

    def figure(self, name: str) -> float:
        """Return one of its figures for Prometheus."""
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.split()[0] == name)

    def listen(self) -> None:
        """Keep what it tells from now on."""
        started = threading.Event()
        self._listener = threading.Thread(target=self._listen, args=(started,), daemon=True)
        self._listener.start()
        assert started.wait(20)

    def _listen(self, started: threading.Event) -> None:
        try:
            with self.client.stream("GET", "/v1/events") as answer:
                kind = ""
                for line in answer.iter_lines():
                    started.set()
                    if line.startswith("event: "):
                        kind = line.removeprefix("event: ")
                    elif line.startswith("data: "):
                        kept = self.shards if kind == "shards" else self.told
                        if kind != "explanation":
                            kept.append(json.loads(line.removeprefix("data: ")))
        except httpx.TransportError:
            # It was killed.
            return

    def kill(self) -> None:
        """Kill it without warning."""
        self.process.kill()
        self.process.wait()
        if self._listener is not None:
            self._listener.join(10)
        self.client.close()
        self._log.close()
