"""`make topology`: the services of docker-compose.yml as processes, from readings to scores."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiomqtt
import httpx
import pytest

from anomaly_assets.live.tokens import TokenBook
from anomaly_assets.storage.database import Database
from anomaly_assets.streams.windows import window_of
from anomaly_assets_tests.cli.running import wait_until
from anomaly_assets_tests.live.sources.servers import HOST, MOSQUITTO, REDIS

if TYPE_CHECKING:
    from collections.abc import Iterator

#: One deployment at a time: beside that of ``up`` both would be slow.
pytestmark = [
    pytest.mark.xdist_group("up"),
    pytest.mark.skipif(
        None in {MOSQUITTO, REDIS, shutil.which("mosquitto_sub"), shutil.which("wget")}
        or not [*Path("/usr/lib/postgresql").glob("*/bin/postgres"), shutil.which("postgres")][0],
        reason="PostgreSQL, Redis, Mosquitto and its clients, and wget are not all installed",
    ),
]
ROOT = Path(__file__).parents[2]
WINDOWS = 6
BY_HTTP, BY_MQTT = "ann", "bob"


class Running:
    """The topology, started by the script that `make topology` runs."""

    def __init__(self) -> None:
        # PostgreSQL runs as somebody else under root, and has to get in.
        self.folder = Path(tempfile.mkdtemp(prefix="anomaly assets topology-"))
        end = window_of(datetime.now(tz=UTC))
        self.moments = [end - timedelta(minutes=5 * n) for n in range(WINDOWS, 0, -1)]
        settings = {
            "ANOMALY_ASSETS_WINDOW_START": self.moments[0].isoformat(),
            "ANOMALY_ASSETS_WINDOW_END": end.isoformat(),
            "ANOMALY_ASSETS_ALLOWED_LATENESS": "PT0S",
        }
        further = [f"--env={name}={value}" for name, value in settings.items()]
        script = ROOT / "deploy" / "topology.py"
        self.errors = self.folder / "errors.log"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, script, "--json", f"--folder={self.folder}", *further],
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        # It says one line once everything is healthy, and ends without one if that fails.
        line = self.process.stdout.readline()
        assert line, self.errors.read_text()
        self.said: dict[str, Any] = json.loads(line)
        self.database = Database(self.said["database_url"])

    def address(self, service: str) -> str:
        """Return the address of a service."""
        return str(self.said["addresses"][service])

    def secret(self, name: str) -> str:
        """Return a secret as it was made."""
        return (self.folder / "secrets.made" / name).read_text()

    def get(self, service: str, path: str) -> httpx.Response:
        """Ask a service for a page."""
        return httpx.get(f"{self.address(service)}{path}", trust_env=False, timeout=20)

    def processes(self) -> list[str]:
        """Return the command lines of all processes that work in its folder."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if (entry / "cwd").readlink().is_relative_to(self.folder):
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
        return found

    def stop(self) -> int:
        """Press Ctrl-C, and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(120)

    def remove(self) -> None:
        """End what is left, and remove the folder."""
        if self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stop()
            self.process.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def shared() -> Iterator[list[Running]]:
    """Keep the topology for all tests, and remove what was started."""
    started: list[Running] = []
    try:
        yield started
    finally:
        for one in started:
            one.remove()


@pytest.fixture
def running(shared: list[Running]) -> Running:
    """Share one topology, or start another one after the test that has stopped it."""
    if not shared or shared[-1].process.poll() is not None:
        shared.append(Running())
    return shared[-1]


def count(running: Running, query: str, *parameters: object) -> int:
    """Return the number that a query gives."""
    with running.database.connect() as connection:
        (number,) = connection.execute(query, parameters).fetchone() or (0,)
    return int(number)


def test_all_services_are_up(running: Running) -> None:
    """What docker-compose.yml starts without a profile is up, or said to be not installed."""
    services = {"database", "redis", "mqtt", "migrations", "code", "daemon", "webserver", "live"}
    assert services <= set(running.said["processes"])
    assert set(running.said["missing"]) <= {"grafana", "prometheus"}
    assert running.get("webserver", "/server_info").status_code == 200


def test_the_live_api_has_all_it_needs(running: Running) -> None:
    """Database, broker and Redis are reached with the secrets that were made."""

    def health() -> dict[str, Any]:
        answer: dict[str, Any] = running.get("live", "/v1/health/ready").json()
        return answer

    wait_until(lambda: set(health()["sources"].values()) == {"connected"}, "sources are connected")
    assert health()["database"] == "reachable"
    assert set(health()["sources"]) == {"mqtt", "redis"}


def test_readings_become_scores_through_the_daemon(running: Running) -> None:
    """Sent by HTTP and by MQTT, they are processed by a run that Dagster's sensor asked for."""
    token = TokenBook(running.database).create("senders")
    rows = [
        {"entity_id": BY_HTTP, "stream_id": "heart_rate", "timestamp": m.isoformat(), "value": 71}
        for m in running.moments
    ]
    taken = httpx.post(
        f"{running.address('live')}/v1/readings",
        json=rows,
        headers={"Authorization": f"Bearer {token}"},
        trust_env=False,
        timeout=20,
    )
    assert (taken.status_code, taken.json()["accepted"]) == (202, WINDOWS)
    asyncio.run(publish(running))
    stored = "SELECT count(*) FROM readings WHERE entity_id = %s"
    wait_until(lambda: count(running, stored, BY_MQTT) == WINDOWS, "what came by MQTT is stored")

    def runs() -> list[str]:
        asked = (
            '{ runsOrError(filter: {tags: [{key: "dagster/sensor_name", value: '
            '"complete_windows"}]}) { ... on Runs { results { status } } } }'
        )
        answer = httpx.post(
            f"{running.address('webserver')}/graphql",
            json={"query": asked},
            trust_env=False,
            timeout=20,
        ).json()
        return [run["status"] for run in answer["data"]["runsOrError"]["results"]]

    wait_until(lambda: "SUCCESS" in runs(), "a run of the sensor succeeds", seconds=180)
    assert "FAILURE" not in runs()
    scores = (
        "SELECT count(DISTINCT timestamp) FROM anomaly_scores "
        "WHERE method = 'ensemble' AND entity_id = %s"
    )
    for entity in (BY_HTTP, BY_MQTT):
        wait_until(lambda: count(running, scores, entity) == WINDOWS, f"{entity} is scored")  # noqa: B023


async def publish(running: Running) -> None:
    """Send as a device does: with the password for senders, which may write and not read."""
    port = int(running.address("mqtt").rsplit(":", 1)[1])
    password = running.secret("mqtt_senders_password")
    async with aiomqtt.Client(HOST, port, username="senders", password=password) as client:
        for moment in running.moments:
            payload = json.dumps({"timestamp": moment.isoformat(), "value": 72})
            await client.publish(f"{BY_MQTT}/heart_rate", payload, qos=1)


def test_the_broker_lets_nobody_in_without_a_password(running: Running) -> None:
    """A sender without one is refused."""

    async def knock() -> None:
        async with aiomqtt.Client(HOST, int(running.address("mqtt").rsplit(":", 1)[1])):
            pass

    with pytest.raises(aiomqtt.MqttError):
        asyncio.run(knock())


def test_prometheus_collects_the_figures(running: Running) -> None:
    """The live API's figures are there, and Prometheus finds them where it is told to look."""
    assert "anomaly_assets_" in running.get("live", "/metrics").text
    if "prometheus" in running.said["missing"]:
        pytest.skip("prometheus is not installed")

    def collected() -> bool:
        targets = running.get("prometheus", "/api/v1/targets").json()["data"]["activeTargets"]
        port = running.address("live").rsplit(":", 1)[1]
        return any(one["health"] == "up" and f":{port}/" in one["scrapeUrl"] for one in targets)

    wait_until(collected, "Prometheus collects from the live API")


def test_only_the_volume_is_written_to(running: Running) -> None:
    """What the services leave lies in what docker-compose.yml has as volumes: images stay as is."""
    home = running.folder / "volumes" / "home"
    assert {path.name for path in home.iterdir()} <= {"dagster", "numba", "signing.key"}
    assert {path.name for path in (running.folder / "image").iterdir()} == {"bin", "workspace.yaml"}


def test_ctrl_c_stops_everything_cleanly(running: Running) -> None:
    """Each service ends by itself in its time, and no process is left."""
    assert len(running.processes()) >= 8
    began = time.monotonic()
    code = running.stop()
    assert code == 0, running.errors.read_text()
    assert running.processes() == []
    assert time.monotonic() - began < 60
    with pytest.raises(httpx.ConnectError):
        running.get("live", "/v1/health/live")
