"""``anomaly-assets serve``: the live API in the foreground, until Ctrl-C."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from anomaly_assets.cli.common import console, open_deployment
from anomaly_assets.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly_assets.pipeline.deployment import Deployment

#: How long requests in progress may take when it is stopped.
_GRACE_SECONDS = 10
_BACKLOG = 1024
_SWITCH_SECONDS = 0.0005


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on.")] = None,
    scoring: Annotated[
        bool,
        typer.Option(help="Score readings as they come; without, they are only stored."),
    ] = True,
    shard: Annotated[
        str | None,
        typer.Option(help="Score one shard of several, 0/2 the first of two; or some: 0,2/4."),
    ] = None,
) -> None:
    """Take readings, score them at once and answer questions; Ctrl-C stores what waits.

    On SIGINT and SIGTERM no more requests are taken, those in progress are answered, and every
    reading that was waiting is stored. Several instances share the entities of a deployment when
    each takes a shard; a second one of the same shard stands by, and takes over when the first is
    gone.
    """
    taken = None if shard is None else _shards(shard)
    deployment = open_deployment()
    if taken is not None:
        numbers, shards = taken
        changed = {"live_shards": shards, "live_shard": numbers}
        deployment.settings = deployment.settings.model_copy(update=changed)
    options = deployment.settings
    listening = listen(host or options.live_host, port or options.live_port)
    address = "http://{}:{}".format(*listening.getsockname()[:2])
    console.print(f"live API: [bold]{address}[/]  (documentation: {address}/docs; Ctrl-C stops it)")
    with_pages = options.dashboard and pages_installed()
    if with_pages:
        console.print(f"pages: [bold]{address}/ui/[/]")
    # The thread that stores readings must get its turn at once, or senders wait for its waits.
    sys.setswitchinterval(_SWITCH_SECONDS)
    with listening, asyncio.Runner(loop_factory=_event_loop()) as runner:
        runner.run(_serve(deployment, listening, scoring=scoring, pages=with_pages))
    console.print("stopped")


def _shards(text: str) -> tuple[tuple[int, ...], int]:
    """Read ``0/2`` or ``0,2/4``: the shards that are taken, and how many there are."""
    found = re.fullmatch(r"(\d+(?:,\d+)*)/(\d+)", text.replace(" ", ""))
    numbers = tuple(map(int, found[1].split(","))) if found else ()
    shards = int(found[2]) if found else 0
    if not numbers or max(numbers) >= shards:
        msg = f"--shard {text}: write 0/2 for the first of two shards, 0,2/4 for two of four"
        raise SettingsError(msg)
    return numbers, shards


async def _serve(
    deployment: Deployment, listening: socket.socket, *, scoring: bool, pages: bool
) -> None:
    # Heavy, and needed by no other command.
    from anomaly_assets.live.api.server import LiveServer  # noqa: PLC0415
    from anomaly_assets.live.service import LiveService  # noqa: PLC0415

    async with LiveService(deployment, scoring=scoring) as service:
        if pages:
            from anomaly_assets.dashboard import mount  # noqa: PLC0415

            mount(service.app, deployment, service.context.tokens)
        await LiveServer(service.app, grace_seconds=_GRACE_SECONDS).serve(sockets=[listening])


def _event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:  # there is none for Windows
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def pages_installed() -> bool:
    """Whether the extra ``dashboard`` is there."""
    return find_spec("jinja2") is not None


def listen(host: str, port: int, how: str = "ANOMALY_ASSETS_LIVE_PORT") -> socket.socket:
    """Return a listening socket.

    Parameters
    ----------
    host, port
        Where.
    how
        Setting that chooses another port, for the message.

    Raises
    ------
    SettingsError
        If the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        msg = (
            f"cannot listen on {host} port {port} ({error.strerror or error}); stop what uses it, "
            f"or choose another with --port or {how}"
        )
        raise SettingsError(msg) from error
    return listening
