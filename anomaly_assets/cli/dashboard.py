"""``anomaly-assets dashboard``: the pages by themselves, in the foreground, until Ctrl-C."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Final

import typer

from anomaly_assets.cli.common import console, open_deployment
from anomaly_assets.cli.serve import listen, pages_installed
from anomaly_assets.errors import SettingsError

if TYPE_CHECKING:
    import uvicorn

    from anomaly_assets.pipeline.deployment import Deployment

_GRACE_SECONDS: Final = 5


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(dashboard)


def dashboard(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on.")] = None,
) -> None:
    """Serve the pages without the live API; people log in with its tokens."""
    if not pages_installed() or find_spec("uvicorn") is None:
        msg = "the pages need two extras: pip install anomaly-assets[live,dashboard]"
        raise SettingsError(msg)
    deployment = open_deployment()
    options = deployment.settings
    chosen = port or options.dashboard_port
    listening = listen(host or options.live_host, chosen, "ANOMALY_ASSETS_DASHBOARD_PORT")
    with listening:
        address = "http://{}:{}/ui/".format(*listening.getsockname()[:2])
        console.print(f"pages: [bold]{address}[/]  (Ctrl-C stops them)")
        console.print("to log in: anomaly-assets tokens create NAME")
        server_of(deployment).run(sockets=[listening])
    console.print("stopped")


def server_of(deployment: Deployment) -> uvicorn.Server:
    """Return a server of the pages alone."""
    # Needed by no other command.
    import uvicorn  # noqa: PLC0415
    from starlette.applications import Starlette  # noqa: PLC0415

    from anomaly_assets.dashboard import mount  # noqa: PLC0415
    from anomaly_assets.live.api.server import OrderlyServer  # noqa: PLC0415
    from anomaly_assets.live.tokens import TokenBook  # noqa: PLC0415

    app = Starlette()
    mount(app, deployment, TokenBook(deployment.database))
    return OrderlyServer(
        uvicorn.Config(
            app,
            access_log=False,
            log_config=None,
            server_header=False,
            # Whose word about a sender's address is good is for the limit on tokens to say.
            proxy_headers=False,
            ws="none",
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
    )
