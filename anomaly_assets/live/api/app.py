"""The application: routes, what errors become, and what starts and stops with it."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import psycopg
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect

from anomaly_assets.errors import StorageError
from anomaly_assets.live.api import events, health, labels, latest, readings, results, webhooks
from anomaly_assets.live.api.context import Context
from anomaly_assets.live.api.documentation import add_documentation
from anomaly_assets.live.api.metrics import CountRequests
from anomaly_assets.live.bodies import BodyError
from anomaly_assets.live.cache import ScoreCache
from anomaly_assets.live.intake import Intake
from anomaly_assets.live.limits import OverloadedError, TemporaryError
from anomaly_assets.live.tokens import TokenBook
from anomaly_assets.live.writer import JournalWriter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from anomaly_assets.live.intake import Pipeline
    from anomaly_assets.live.ownership import Ownership
    from anomaly_assets.pipeline.deployment import Deployment

logger = logging.getLogger(__name__)

_DESCRIPTION: Final = """Send readings, ask for anomalies and their explanations, and listen.

A reading is on disk before it is answered with 202; whatever was not may be sent again."""


def create_app(  # noqa: PLR0913 - what it works with, each with a default
    deployment: Deployment,
    *,
    pipeline: Pipeline | None = None,
    writer: JournalWriter | None = None,
    tokens: TokenBook | None = None,
    cache: ScoreCache | None = None,
    ownership: Ownership | None = None,
) -> FastAPI:
    """Return the web application of a deployment.

    Parameters
    ----------
    deployment
        Its database is migrated already, and may be away.
    pipeline
        Scores readings at once; whoever made it starts and stops it. None: readings are only
        stored, and ``/v1/events`` is not served.
    writer
        Where readings go; started and stopped with the application. Default: one of its own.
    tokens
        Who may ask; default: the deployment's.
    cache
        Latest scores, shared with other processes; default: none.
    ownership
        Which entities other instances score; default: there are no others. Whoever made it starts
        and stops it.

    Returns
    -------
    fastapi.FastAPI
        Its ``state.context`` is the :class:`~anomaly_assets.live.api.context.Context`.
    """
    options = deployment.settings
    writer = writer or JournalWriter(
        deployment,
        most_pending_rows=options.live_max_pending_rows,
        owns=None if ownership is None else ownership.owns,
    )
    context = Context(
        deployment,
        Intake(writer, pipeline, ownership),
        tokens or TokenBook(deployment.database),
        cache=cache or ScoreCache(None),
    )
    app = FastAPI(
        title="anomaly-assets",
        version=version("anomaly-assets"),
        description=_DESCRIPTION,
        lifespan=_lifespan,
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.state.context = context
    app.router.routes.append(readings.DirectRoute())
    for module in (readings, results, latest, labels, events, webhooks, health):
        app.include_router(module.router)
    add_documentation(app)
    _handle_errors(app)
    app.add_middleware(CountRequests, metrics=context.metrics)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    context: Context = app.state.context
    ours = context.start()
    try:
        yield
    finally:
        if ours:
            await context.stop()


def _handle_errors(app: FastAPI) -> None:
    async def body(_: Request, error: BodyError) -> Response:
        return JSONResponse({"detail": str(error)}, error.status)

    async def temporary(_: Request, error: TemporaryError) -> Response:
        status = 429 if isinstance(error, OverloadedError) else 503
        headers = {"Retry-After": str(error.retry_after_seconds)}
        return JSONResponse({"detail": str(error)}, status, headers)

    async def database(_: Request, error: Exception) -> Response:
        # Its message names the server.
        logger.warning("a request met the database's %s", error)
        detail = {"detail": "the database cannot answer now"}
        return JSONResponse(detail, 503, {"Retry-After": "2"})

    async def gone(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=400)

    handlers: dict[type[Exception], Callable[..., object]] = {
        BodyError: body,
        TemporaryError: temporary,
        StorageError: database,
        psycopg.OperationalError: database,
        ClientDisconnect: gone,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)  # type: ignore[arg-type]
