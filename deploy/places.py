"""Hosts, ports and folders of the containers, and what they are on this machine."""

from __future__ import annotations

import os
import re
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
#: Ports the services listen on in their containers.
PORTS: Mapping[str, tuple[int, ...]] = {
    "database": (5432,),
    "redis": (6379,),
    "mqtt": (1883, 1884),
    "code": (4000,),
    "webserver": (3000,),
    "live": (8000,),
    "prometheus": (9090,),
    "grafana": (3000,),
}
_SCHEMES = {"database": "postgresql", "redis": "redis", "mqtt": "mqtt", "code": "grpc"}
_HOME = "/var/lib/anomaly_assets/home"
_IMAGE = "/opt/anomaly_assets"
_SECRETS = "/run/secrets"


class Places:
    """What stands for hosts, ports and folders of the containers.

    Parameters
    ----------
    folder
        Where everything is kept; the secrets are in ``secrets.made`` already.
    compose
        The document docker-compose.yml.
    services
        Those that are started.
    """

    def __init__(
        self, folder: Path, compose: Mapping[str, Any], services: Mapping[str, Any]
    ) -> None:
        self._folder = folder
        self._services = services
        self._ports = _free_ports(services)
        for name in ("logs", "secrets", "image", "tmp"):
            (folder / name).mkdir(exist_ok=True)
        self._install()
        for name, described in compose["secrets"].items():
            made = folder / "secrets.made" / Path(described["file"]).name
            (folder / "secrets" / name).write_text(self._text(made, ""), encoding="utf-8")
        self._folders = {name: self._mount(name) for name in services}
        self.image_environment = {
            "PYTHONUNBUFFERED": "1",
            "DAGSTER_HOME": str(self.volume("home") / "dagster"),
            "TMPDIR": str(folder / "tmp"),
        }

    def port(self, service: str, port: int) -> int:
        """Return the port of this machine for one of a service."""
        return self._ports[service, port]

    def listens(self, service: str) -> bool:
        """Whether somebody answers where a service is to listen; true of one that does not."""
        for port in PORTS.get(service, ()):
            try:
                socket.create_connection((HOST, self._ports[service, port]), 1).close()
            except OSError:
                return False
        return True

    def addresses(self) -> dict[str, str]:
        """Return where each service is that listens."""
        return {
            name: f"{_SCHEMES.get(name, 'http')}://{HOST}:{self._ports[name, PORTS[name][0]]}"
            for name in self._services
            if name in PORTS
        }

    def secret(self, name: str) -> str:
        """Return a secret, with the places of this machine in it."""
        return (self._folder / "secrets" / name).read_text(encoding="utf-8").strip()

    def volume(self, name: str) -> Path:
        """Return the folder of a volume."""
        path = self._folder / "volumes" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def working_folder(self, *, ours: bool) -> Path:
        """Return the folder a service is started in."""
        return self.volume("home") if ours else self._folder

    def of(self, service: str) -> Callable[[str], str]:
        """Return what puts this machine's places into a text of a service."""
        return lambda text: self._translated(text, service, self._folders[service])

    def _translated(self, text: str, service: str, folders: Mapping[str, Path]) -> str:
        for (name, port), here in self._ports.items():
            text = re.sub(rf"\b{name}:{port}\b", f"{HOST}:{here}", text)
            text = re.sub(rf"host: {name}(\s+)port: {port}\b", rf"host: {HOST}\1port: {here}", text)
            if name == service:
                text = re.sub(rf"(?<![\d.]){port}(?![\d.])", str(here), text)
        text = text.replace("0.0.0.0", HOST)  # noqa: S104 - the containers' own, not ours
        if not folders:
            return text
        # In one go, the longest first: what was put in must not be replaced again.
        targets = "|".join(re.escape(one) for one in sorted(folders, key=len, reverse=True))
        return re.sub(
            rf"(?<![\w/.])({targets})(?=$|[/\s\"'])", lambda found: str(folders[found[1]]), text
        )

    def _text(self, path: Path, service: str, folders: Mapping[str, Path] | None = None) -> str:
        return self._translated(path.read_text(encoding="utf-8"), service, folders or {})

    def _mount(self, service: str) -> dict[str, Path]:
        """Return the folders and files of a container, made here."""
        folders = {
            _HOME: self.volume("home"),
            _IMAGE: self._folder / "image",
            _SECRETS: self._folder / "secrets",
        }
        files: dict[str, Path] = {}
        for volume in self._services[service].get("volumes", ()):
            source, target = volume.split(":")[:2]
            if source.startswith("."):
                files[target] = ROOT / source
            else:
                folders[target] = self.volume(source)
        copies = {}
        for target, source in files.items():
            if source.is_file():
                copies[target] = self._folder / "files" / service / source.name
        folders |= copies
        for target, copy in copies.items():
            copy.parent.mkdir(parents=True, exist_ok=True)
            text = self._text(files[target], service, folders)
            if service == "mqtt" and copy.suffix == ".conf" and os.geteuid() == 0:
                # As root it would become somebody who cannot enter the folder.
                text += "\nuser root\n"
            copy.write_text(text, encoding="utf-8")
        return folders

    def _install(self) -> None:
        """Put in place what the Dockerfile adds to the installed package."""
        dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
        for name, target in re.findall(
            rf"^COPY (?:--chmod=\d+ )?(deploy/\S+) {_IMAGE}/(\S+)$", dockerfile, re.MULTILINE
        ):
            copy = self._folder / "image" / target
            copy.parent.mkdir(exist_ok=True)
            copy.write_text(self._text(ROOT / name, ""), encoding="utf-8")
            copy.chmod(copy.stat().st_mode | stat.S_IXUSR)


def _free_ports(services: Mapping[str, Any]) -> dict[tuple[str, int], int]:
    """Return a port for each; the one in the container where it is free."""
    probes, ports = [], {}
    for name in services:
        for port in PORTS.get(name, ()):
            probe = socket.socket()
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                probe.bind((HOST, 0))
            # Held until all are chosen, so that no two are the same.
            probes.append(probe)
            ports[name, port] = int(probe.getsockname()[1])
    for probe in probes:
        probe.close()
    return ports
