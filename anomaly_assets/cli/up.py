"""``anomaly-assets up``: everything that has to run, in the foreground, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from anomaly_assets.automation.instance import prepare
from anomaly_assets.cli.common import console
from anomaly_assets.cli.serve import pages_installed
from anomaly_assets.errors import SettingsError
from anomaly_assets.settings import settings
from anomaly_assets.storage.connect import connect_database, embedded_server

if TYPE_CHECKING:
    from collections.abc import Sequence

_GRACE_SECONDS = 15


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(up)


def up(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of the Dagster webserver.")
    ] = None,
    live: Annotated[bool, typer.Option(help="Start the live API too.")] = True,
) -> None:
    """Start database, migrations, Dagster's pages, daemon and live API; Ctrl-C stops them all."""
    options = settings()
    chosen = port or options.port
    _require_free(options.host, chosen, "--port or ANOMALY_ASSETS_PORT")
    if live and find_spec("fastapi") is None:
        console.print("no live API: pip install anomaly-assets[live]", markup=False)
        live = False
    if live:
        _require_free(options.live_host, options.live_port, "ANOMALY_ASSETS_LIVE_PORT")
    embedded = options.database_url is None
    database = connect_database(options)
    environment = {**os.environ, **prepare(options, database)}
    location = ("-m", "anomaly_assets.definitions")
    commands: dict[str, Sequence[str]] = {
        "webserver": (
            "dagster_webserver",
            "-h",
            options.host,
            "-p",
            str(chosen),
            "--log-level",
            "warning",
            *location,
        ),
        "daemon": ("dagster._daemon", "run", "--log-level", "warning", *location),
    }
    if live:
        commands["live API"] = ("anomaly_assets", "serve")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    processes = {
        name: subprocess.Popen(  # noqa: S603 - our own interpreter and commands
            [sys.executable, "-m", *command],
            env=environment,
            start_new_session=True,
        )
        for name, command in commands.items()
    }
    console.print(f"Dagster UI: [bold]http://{options.host}:{chosen}[/]  (Ctrl-C stops everything)")
    if live and options.dashboard and pages_installed():
        console.print(f"pages: [bold]http://{options.live_host}:{options.live_port}/ui/[/]")
    died = _wait(processes, stop)
    _terminate(list(processes.values()))
    if embedded:
        embedded_server(options).stop()
    if died is not None:
        console.print(f"[bold red]error:[/] the {died} ended by itself; the rest was stopped")
        raise typer.Exit(1)
    console.print("stopped")


def _require_free(host: str, port: int, where: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            msg = (
                f"port {port} on {host} is taken ({error.strerror}); stop what uses it, or choose "
                f"another with {where}"
            )
            raise SettingsError(msg) from error


def _wait(processes: dict[str, subprocess.Popen[bytes]], stop: threading.Event) -> str | None:
    while not stop.wait(0.5):
        for name, process in processes.items():
            if process.poll() is not None:
                return name
    return None


def _terminate(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
    for process in processes:
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # Code servers and run processes belong to the group of whoever started them.
        _end_group(process.pid)


def _end_group(leader: int) -> None:
    for number, seconds in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, 1.0)):
        deadline = time.monotonic() + seconds
        try:
            os.killpg(leader, number)
            while time.monotonic() < deadline:
                os.killpg(leader, 0)
                time.sleep(0.1)
        except ProcessLookupError:
            return
