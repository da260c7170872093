"""Start the services of docker-compose.yml as plain processes of this machine (`make topology`).

Commands, health checks, their order and how long each service may take to stop are read from
docker-compose.yml and deploy/Dockerfile, so that they cannot differ; hosts, ports and folders of
the containers are replaced by those of this machine. PostgreSQL, Redis and Mosquitto have to be
installed (apt-get install postgresql redis-server mosquitto); Prometheus is started where it is.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from make_secrets import make
from places import PORTS, Places

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parent.parent
OURS = "anomaly_assets:"
#: Where Debian puts servers, which are not on everybody's path.
_SYSTEM = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"
_CLEARED = ("ANOMALY_ASSETS_", "DAGSTER_", "DATABASE_URL", "CELERY_", "PG", "POSTGRES_")
_POLL_SECONDS = 0.25
_CHECK_SECONDS = 2.0
#: PostgreSQL's image is stopped in this way: sessions are ended, a checkpoint is written.
_STOP_SIGNALS = {"database": signal.SIGINT}
_LOG_LINES = 25
_PACKAGES = "apt-get install postgresql redis-server mosquitto mosquitto-clients wget"


class TopologyError(Exception):
    """The services cannot be started; the message says which one, why and what to do."""


@dataclass
class Service:
    """A service of docker-compose.yml, as this machine runs it.

    Parameters
    ----------
    name
        Its name.
    command
        What to run.
    environment
        All of its environment variables.
    needs
        The services it waits for.
    check
        The command that tells whether it is healthy; None of one that ends by itself.
    start_seconds, stop_seconds
        How long it may take to become healthy, and to end.
    user
        Whom it runs as; None: whoever runs this.
    """

    name: str
    command: list[str]
    environment: dict[str, str]
    needs: list[str]
    check: list[str] | None
    start_seconds: float
    stop_seconds: float
    folder: Path
    user: str | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self, log: Path) -> None:
        """Start it in a session of its own."""
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
            )

    def healthy(self) -> bool:
        """Ask its health check, or whether it has ended well."""
        if self.check is None:
            return self.process is not None and self.process.poll() == 0
        try:
            answer = subprocess.run(
                self.check,
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=self.start_seconds,
            )
        except subprocess.TimeoutExpired:
            return False
        except FileNotFoundError as error:
            msg = f"{self.name}: its health check needs {error.filename}; install it ({_PACKAGES})"
            raise TopologyError(msg) from error
        return answer.returncode == 0

    def stop(self) -> bool:
        """Stop it and everything it has started; return whether it ended in time."""
        if self.process is None:
            return True
        in_time = True
        if self.process.poll() is None:
            self.process.send_signal(_STOP_SIGNALS.get(self.name, signal.SIGTERM))
            try:
                self.process.wait(self.stop_seconds)
            except subprocess.TimeoutExpired:
                in_time = False
        # As with a container, what is left of it goes with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return in_time


class Topology:
    """The services of docker-compose.yml on this machine.

    Parameters
    ----------
    folder
        Where everything is: secrets, data, logs.
    profiles
        Profiles of docker-compose.yml to start too.
    further
        Environment variables for our services, as ``.env`` gives them in containers.
    """

    def __init__(self, folder: Path, profiles: set[str], further: Mapping[str, str]) -> None:
        self.folder = folder
        self.compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
        self.missing: dict[str, str] = {}
        chosen = {
            name: described
            for name, described in self.compose["services"].items()
            if set(described.get("profiles", ())) <= profiles and self._installed(name, described)
        }
        make(folder / "secrets.made")
        self.places = Places(folder, self.compose, chosen)
        self.services = [self._service(name, chosen[name], further) for name in _ordered(chosen)]
        self.stop_asked = threading.Event()

    def start(self) -> None:
        """Start them, each as soon as what it needs is healthy.

        Raises
        ------
        TopologyError
            If one ends, or does not become healthy in the time it is given.
        """
        ready = {service.name: threading.Event() for service in self.services}

        def bring_up(service: Service) -> None:
            try:
                for need in service.needs:
                    while need in ready and not ready[need].wait(_POLL_SECONDS):
                        if self.stop_asked.is_set():
                            return
                if not self.stop_asked.is_set():
                    began = time.monotonic()
                    self._bring_up(service)
                    if not self.stop_asked.is_set():
                        took = time.monotonic() - began
                        sys.stderr.write(f"{service.name} is up ({took:.0f} s)\n")
                    ready[service.name].set()
            except BaseException:
                self.stop_asked.set()
                raise

        with ThreadPoolExecutor(len(self.services)) as pool:
            for future in [pool.submit(bring_up, service) for service in self.services]:
                future.result()

    def _bring_up(self, service: Service) -> None:
        log = self.log(service)
        if service.name == "database":
            self._make_cluster(service)
        service.start(log)
        deadline = time.monotonic() + service.start_seconds
        while not (self.places.listens(service.name) and service.healthy()):
            code = None if service.process is None else service.process.poll()
            ended = code is not None and (service.check is not None or code != 0)
            if ended or time.monotonic() > deadline:
                why = "has ended" if ended else "is not healthy in time"
                lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
                msg = f"{service.name} {why}; the end of {log}:\n" + "\n".join(lines)
                raise TopologyError(msg)
            # A check of Dagster's is a process that imports it: seconds of a core.
            if self.stop_asked.wait(_POLL_SECONDS if service.name in PORTS else _CHECK_SECONDS):
                return
        if service.name == "database":
            self._make_database(service)

    def watch(self) -> str | None:
        """Wait until one ends by itself, which is returned, or stopping is asked for."""
        while not self.stop_asked.wait(_POLL_SECONDS):
            for service in self.services:
                lasting = service.check is not None and service.process is not None
                if lasting and service.process is not None and service.process.poll() is not None:
                    return service.name
        return None

    def stop(self) -> list[str]:
        """Stop them, each once all that need it have ended; return those that had to be killed."""
        ended = {service.name: threading.Event() for service in self.services}
        killed = []

        def take_down(service: Service) -> None:
            for other in self.services:
                if service.name in other.needs:
                    ended[other.name].wait()
            try:
                if not service.stop():
                    killed.append(service.name)
            finally:
                ended[service.name].set()

        with ThreadPoolExecutor(len(self.services)) as pool:
            for future in [pool.submit(take_down, service) for service in self.services]:
                future.result()
        return killed

    def log(self, service: Service) -> Path:
        """Return the file of what a service says."""
        return self.folder / "logs" / f"{service.name}.log"

    def _installed(self, name: str, described: Mapping[str, Any]) -> bool:
        if described["image"].startswith(OURS):
            return True
        if name == "database":
            return True
        program = [*described.get("entrypoint", ()), *described.get("command", ("grafana",))][0]
        if shutil.which(program, path=self._path()) is None:
            if name in {"redis", "mqtt"}:
                msg = f"{program} is not installed: {_PACKAGES}"
                raise TopologyError(msg)
            self.missing[name] = f"{program} is not installed"
            return False
        return True

    def _path(self) -> str:
        ours = Path(sys.executable).parent
        return f"{self.folder / 'image' / 'bin'}:{ours}:{_postgres_folder()}:{_SYSTEM}"

    def _service(
        self, name: str, described: Mapping[str, Any], further: Mapping[str, str]
    ) -> Service:
        translate = self.places.of(name)
        ours = described["image"].startswith(OURS)
        entrypoint = described.get("entrypoint", ["with-secrets"] if ours else [])
        health = described.get("healthcheck", {})
        kind, *check = [*map(translate, health.get("test", ()))] or ["NONE"]
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(_CLEARED)
        }
        if ours:
            environment |= {**self.places.image_environment, **further}
        environment |= {k: translate(str(v)) for k, v in described.get("environment", {}).items()}
        service = Service(
            name,
            [translate(word) for word in [*entrypoint, *described.get("command", ())]],
            {**environment, "PATH": self._path()},
            list(described.get("depends_on", {})),
            ["sh", "-c", *(word.replace("$$", "$") for word in check)]
            if kind == "CMD-SHELL"
            else [word.replace("$$", "$") for word in check] or None,
            _seconds(health.get("start_period", "120s"))
            + health.get("retries", 1) * _seconds(health.get("interval", "30s")),
            _seconds(described.get("stop_grace_period", "10s")),
            self.places.working_folder(ours=ours),
        )
        if name == "database":
            service.command = self._postgres(service)
        return service

    def _postgres(self, service: Service) -> list[str]:
        """Return the server's command; its image's is not in docker-compose.yml."""
        if os.geteuid() == 0:
            service.user = next(
                (one.pw_name for one in pwd.getpwall() if one.pw_name == "postgres"), "nobody"
            )
        port = self.places.port("database", PORTS["database"][0])
        data = self.places.volume("database")
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "port": port}
        words = [f"--{name}={value}" for name, value in options.items()]
        return [f"{_postgres_folder()}/postgres", "-D", str(data), *words]

    def _make_cluster(self, service: Service) -> None:
        data = self.places.volume("database")
        if (data / "PG_VERSION").exists():
            return
        if service.user is not None:
            shutil.chown(data, service.user, service.user)
        data.chmod(0o700)
        environment = service.environment
        password = Path(environment["POSTGRES_PASSWORD_FILE"])
        with tempfile.NamedTemporaryFile("w", dir=self.folder) as readable:
            readable.write(password.read_text(encoding="utf-8"))
            readable.flush()
            if service.user is not None:
                shutil.chown(readable.name, service.user)
            words = ("-D", str(data), "-U", environment["POSTGRES_USER"], "-E", "UTF8")
            options = ("--no-locale", "--auth=scram-sha-256", f"--pwfile={readable.name}")
            self._tool(service, ["initdb", *words, *options], service.user)

    def _make_database(self, service: Service) -> None:
        """Do what the image does at its first start."""
        marker = self.folder / "database.made"
        if marker.exists():
            return
        given = service.environment
        service.environment |= {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.places.port("database", PORTS["database"][0])),
            "PGUSER": given["POSTGRES_USER"],
            "PGPASSWORD": Path(given["POSTGRES_PASSWORD_FILE"]).read_text(encoding="utf-8"),
        }
        create = f"CREATE DATABASE {given['POSTGRES_DB']}"
        self._tool(service, ["psql", "--quiet", "--dbname=postgres", f"--command={create}"])
        marker.touch()

    def _tool(self, service: Service, command: list[str], user: str | None = None) -> None:
        done = subprocess.run(
            command,
            env=service.environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
        if done.returncode != 0:
            msg = f"{command[0]} failed: {done.stderr.strip()[-2000:]}"
            raise TopologyError(msg)


def _postgres_folder() -> str:
    """Return where the newest PostgreSQL's programs are."""
    versions = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    found = sorted(versions, key=lambda path: int(path.parts[-3]))
    if found:
        return str(found[-1].parent)
    on_path = shutil.which("postgres")
    if on_path is None:
        msg = f"PostgreSQL is not installed: {_PACKAGES}"
        raise TopologyError(msg)
    return str(Path(on_path).parent)


def _ordered(services: Mapping[str, Any]) -> list[str]:
    """Return names so that each comes after what it needs, otherwise as they are written."""
    order: list[str] = []
    while len(order) < len(services):
        ready = (
            name
            for name, described in services.items()
            if name not in order
            and all(need in order for need in described.get("depends_on", {}) if need in services)
        )
        order.append(next(ready))
    return order


def _seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(s|m)", text).groups()  # type: ignore[union-attr]
    return float(number) * (60 if unit == "m" else 1)


def _say(topology: Topology, *, as_json: bool) -> None:
    where = topology.places.addresses()
    if as_json:
        document = {
            "addresses": where,
            "database_url": topology.places.secret("database_url"),
            "folder": str(topology.folder),
            "missing": topology.missing,
            "processes": {
                one.name: one.process.pid for one in topology.services if one.process is not None
            },
        }
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        for name, address in where.items():
            sys.stdout.write(f"{name:<12} {address}\n")
        for name, why in topology.missing.items():
            sys.stdout.write(f"{name:<12} not started: {why}\n")
        sys.stdout.write(f"logs, data and secrets: {topology.folder}\nCtrl-C stops everything\n")
    sys.stdout.flush()


def run(topology: Topology, *, as_json: bool) -> int:
    """Start everything, wait for Ctrl-C, stop everything; return the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: topology.stop_asked.set())
    died = None
    try:
        topology.start()
        if not topology.stop_asked.is_set():
            _say(topology, as_json=as_json)
            died = topology.watch()
    finally:
        killed = topology.stop()
    if died is not None:
        log = topology.folder / "logs" / f"{died}.log"
        sys.stderr.write(f"error: {died} ended by itself; the rest was stopped; see {log}\n")
    if killed:
        sys.stderr.write(f"error: {', '.join(killed)} did not end in time and had to be killed\n")
    return 1 if died is not None or killed else 0


def main() -> None:
    """Run the services until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Run docker-compose.yml as plain processes.")
    parser.add_argument("--folder", type=Path, help="keep data here; default: a temporary folder")
    parser.add_argument("--profile", action="append", default=[], help="such as celery")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--json", action="store_true", help="say where all is as one JSON line")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="anomaly-assets-topology-"))
    folder.mkdir(parents=True, exist_ok=True)
    # PostgreSQL runs as somebody else when we are root, and has to get in.
    folder.chmod(0o711)
    folder = folder.resolve()
    try:
        further = dict(pair.split("=", 1) for pair in options.env)
        code = run(Topology(folder, set(options.profile), further), as_json=options.json)
    except TopologyError as error:
        sys.exit(f"error: {error}")
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
