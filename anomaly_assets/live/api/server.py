"""uvicorn, so configured that it ends in order and holds no more than it must."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import uvicorn

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from fastapi import FastAPI

    from anomaly_assets.live.api.context import Context

#: Requests at once, listeners among them, beyond which uvicorn answers 503 by itself.
_MOST_REQUESTS: Final = 2000
_KEEP_ALIVE_SECONDS: Final = 30


class OrderlyServer(uvicorn.Server):
    """A server that ends on SIGINT and SIGTERM and then returns to whoever started it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End on SIGINT and SIGTERM; unlike uvicorn's own, without raising them again afterwards.

        Whoever serves has things to bring to an end too, such as the streaming pipeline.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        wanted = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class LiveServer(OrderlyServer):
    """Serves the live API; on shutdown listeners are let go before requests are waited for.

    Parameters
    ----------
    app
        Made by :func:`~anomaly_assets.live.api.app.create_app`.
    grace_seconds
        How long requests in progress may take at the end.
    """

    def __init__(self, app: FastAPI, *, grace_seconds: int = 20) -> None:
        self._context: Context = app.state.context
        super().__init__(
            uvicorn.Config(
                app,
                access_log=self._context.deployment.settings.log_access,
                log_config=None,
                server_header=False,
                # Whose word about a sender's address is good is for the limit on tokens to say.
                proxy_headers=False,
                limit_concurrency=_MOST_REQUESTS,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=grace_seconds,
                ws="none",
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End in order."""
        self._context.events.close()
        await super().shutdown(sockets)
