"""``anomaly-assets up`` as people run it: a process of its own, with its own embedded database."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomaly_assets.evaluation.simulator import simulate
from anomaly_assets.ingestion.ingest import ingest_files
from anomaly_assets.settings import DAGSTER_ENVIRONMENT, Settings
from anomaly_assets.storage.connect import connect_database, embedded_server
from anomaly_assets.storage.migrate import upgrade
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WindowRange, window_of

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = "127.0.0.1"
ENTITY = "ann"
#: Enough for a causal network at the last full hour.
HOURS = 6
PIPELINE = (
    "raw_readings",
    "tier1_models",
    "tier1_scores",
    "stream_health",
    "gap_patterns",
    "gap_features",
    "cross_stream_models",
    "cross_stream_scores",
    "ensemble_results",
    "explanations",
)
#: Assets with partitions of their own.
BESIDE = (
    "daily_report",
    "causal_network",
    "structure_suggestions",
    "model_backups",
    "meta_learner",
)
_POLL_SECONDS = 0.25


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = 120.0) -> None:
    """Ask until a condition holds; say what did not come about when the time is up."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(_POLL_SECONDS)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Running:
    """One deployment and its ``up``, whose person has been reporting for hours until now."""

    def __init__(self) -> None:
        # Not pytest's own folder: that one is closed to the user the server runs as under root.
        self.home = Path(tempfile.mkdtemp(prefix="anomaly-assets-up-"))
        self.home.chmod(0o755)
        self.settings = Settings(_env_file=None, home=self.home, database_url=None)
        self.port, self.live_port = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        end = window_of(datetime.now(tz=UTC))
        self.windows = WindowRange.between(end - timedelta(hours=HOURS), end)
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ANOMALY_ASSETS_", "DAGSTER_")) and name != "DATABASE_URL"
        } | {
            **DAGSTER_ENVIRONMENT,
            "ANOMALY_ASSETS_HOME": str(self.home),
            # As many partitions as there are windows, all complete: "all" can be asked for.
            "ANOMALY_ASSETS_WINDOW_START": self.windows.start_time.isoformat(),
            "ANOMALY_ASSETS_WINDOW_END": self.windows.end_time.isoformat(),
            "ANOMALY_ASSETS_ALLOWED_LATENESS": "PT0S",
            "ANOMALY_ASSETS_LIVE_PORT": str(self.live_port),
        }

    def ingest(self) -> None:
        """Put the readings of the hours until now into the journal."""
        frame = simulate(5, [ENTITY], start=self.windows.start_time, days=1).readings
        path = self.home / "readings.parquet"
        frame[frame["timestamp"] < self.windows.end_time].to_parquet(path, index=False)
        database = connect_database(self.settings)
        upgrade(database.url)
        report = ingest_files(database, [path], catalogue=load_catalogue("default"))
        assert report.accepted == report.rows > 0

    def start(self) -> None:
        """Start ``up`` unless it runs, and wait until it serves its pages."""
        if self.process is not None:
            return
        with (self.home / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "anomaly_assets", "up", "--port", str(self.port)],
                env=self.environment,
                cwd=self.home,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(self._serves, "the pages are served; the log says:\n" + self.log())

    def stop(self) -> int:
        """Press Ctrl-C, and return the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(30)
        finally:
            self.process = None

    def remove(self) -> None:
        """Stop whatever is left, and remove the folder."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        embedded_server(self.settings).stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def log(self) -> str:
        """Return the end of what ``up`` and its processes have said."""
        path = self.home / "up.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of a page."""
        return self._request("GET", path, None)

    def live_answers(self) -> bool:
        """Whether the live API takes readings and scores them."""
        try:
            status, body = self._request("GET", "/v1/health", None, self.live_port)
        except OSError:
            return False
        return status == http.HTTPStatus.OK and json.loads(body)["pipeline"] == "running"

    def graphql(self, query: str, **variables: object) -> dict[str, Any]:
        """Return the data that a GraphQL query answers with."""
        status, body = self._request(
            "POST", "/graphql", json.dumps({"query": query, "variables": variables})
        )
        answer: dict[str, Any] = json.loads(body)
        assert status == http.HTTPStatus.OK, body
        assert "errors" not in answer, body
        data: dict[str, Any] = answer["data"]
        return data

    def materialised(self, asset: str) -> int:
        """Return how many partitions of an asset Dagster has recorded."""
        data = self.graphql(
            "query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { __typename "
            "... on AssetNode { partitionStats { numMaterialized } } } }",
            key={"path": [asset]},
        )
        return int(data["assetNodeOrError"]["partitionStats"]["numMaterialized"])

    def processes(self) -> list[str]:
        """Return the command lines of all processes that were given this home (Linux only)."""
        mark = f"ANOMALY_ASSETS_HOME={self.home}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and mark in (entry / "environ").read_bytes():
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found.append(f"{entry.name}: {command}")
            except OSError:
                continue  # it has ended meanwhile
        return found

    def _serves(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"up ended by itself: {self.log()}"
        try:
            return self.get("/server_info")[0] == http.HTTPStatus.OK
        except OSError:
            return False

    def _request(
        self, method: str, path: str, body: str | None, port: int | None = None
    ) -> tuple[int, str]:
        connection = http.client.HTTPConnection(HOST, port or self.port, timeout=30)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()
