"""The application of the pages: routes, what errors look like, and where it is mounted."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import psycopg
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route

from anomaly_assets.dashboard.addresses import QuestionError
from anomaly_assets.dashboard.guard import SecurityHeaders
from anomaly_assets.dashboard.pages import (
    data,
    entity,
    episode,
    episodes,
    feedback,
    gaps,
    login,
    models,
    overview,
    settings,
    suggestions,
)
from anomaly_assets.dashboard.rendering import OwnFiles, environment
from anomaly_assets.dashboard.sessions import Sessions
from anomaly_assets.dashboard.visits import Board, LoginNeededError, NavItem, visiting
from anomaly_assets.errors import StorageError
from anomaly_assets.live.limits import OverloadedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

    from anomaly_assets.dashboard.visits import Handler
    from anomaly_assets.live.tokens import TokenBook
    from anomaly_assets.pipeline.deployment import Deployment

logger = logging.getLogger(__name__)

#: Path that every page begins with: beside the live API, and alone too, so that links stay good.
BASE: Final = "/ui"
NAVIGATION: Final = (
    NavItem("/", "Overview", "o"),
    NavItem("/episodes", "Episodes", "e"),
    NavItem("/suggestions", "Suggestions", "s"),
    NavItem("/feedback", "Feedback", "f"),
    NavItem("/models", "Models", "m"),
    NavItem("/settings", "Settings", "c", everyone=False),
)
#: A further page is a line here, its handler, and its template.
PAGES: Final[tuple[tuple[str, Handler, str], ...]] = (
    ("/", overview.show, "GET"),
    ("/entity", entity.show, "GET"),
    ("/gaps", gaps.show, "GET"),
    ("/episodes", episodes.show, "GET"),
    ("/episode", episode.show, "GET"),
    ("/episode/judge", episode.judge, "POST"),
    ("/episode/undo", episode.undo, "POST"),
    ("/suggestions", suggestions.show, "GET"),
    ("/suggestions/decide", suggestions.decide, "POST"),
    ("/feedback", feedback.show, "GET"),
    ("/feedback/proposal", feedback.propose, "GET"),
    ("/feedback/search", feedback.search, "POST"),
    ("/feedback/decide", feedback.decide, "POST"),
    ("/feedback/recalibrate", feedback.recalibrate, "POST"),
    ("/feedback/revert", feedback.revert, "POST"),
    ("/models", models.show, "GET"),
    ("/models/act", models.act, "POST"),
    ("/settings", settings.show, "GET"),
    ("/data/scores", data.scores, "GET"),
    ("/data/heat", data.heat, "GET"),
    ("/data/stream", data.stream, "GET"),
    ("/data/minutes", data.minutes, "GET"),
    ("/logout", login.logout, "POST"),
)
_LEAST_COMPRESSED: Final = 700


def create_dashboard(deployment: Deployment, tokens: TokenBook) -> Starlette:
    """Return the application of the pages, to be mounted at :data:`BASE`.

    Parameters
    ----------
    deployment
        Whose results are shown; its database is migrated already, and may be away.
    tokens
        Who may log in: the same book as the live API's, where that runs in the same process.
    """
    sessions = Sessions(deployment.key, seconds=3600 * deployment.settings.dashboard_session_hours)
    board = Board(deployment, tokens, sessions, environment(), BASE, NAVIGATION)
    routes: list[Route | Mount] = [
        Route(path, visiting(board, handler), methods=[method]) for path, handler, method in PAGES
    ]
    routes += [
        Route("/login", login.form_of(board), methods=["GET"]),
        Route("/login", login.check_of(board), methods=["POST"]),
        Mount("/static", OwnFiles()),
    ]
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(GZipMiddleware, minimum_size=_LEAST_COMPRESSED, compresslevel=5),
        ],
        exception_handlers=_handlers(board),
    )
    app.state.board = board
    return app


def mount(app: Starlette, deployment: Deployment, tokens: TokenBook) -> None:
    """Serve the pages from an application, which leads from ``/`` to them.

    Parameters
    ----------
    app
        The live API, or an application without anything else.
    deployment, tokens
        As for :func:`create_dashboard`.
    """

    async def lead(_: Request) -> Response:
        return RedirectResponse(f"{BASE}/", 307)

    app.router.routes.append(Route("/", lead, methods=["GET"], include_in_schema=False))
    app.mount(BASE, create_dashboard(deployment, tokens), name="dashboard")


def _handlers(board: Board) -> dict[Any, Callable[..., Any]]:
    async def login_needed(request: Request, _: Exception) -> Response:
        return login.ask(board, request)

    async def known(request: Request, error: HTTPException) -> Response:
        return _problem(board, request, error.status_code, str(error.detail), error.headers)

    async def question(request: Request, error: QuestionError) -> Response:
        return _problem(board, request, 400, str(error))

    async def overloaded(request: Request, error: OverloadedError) -> Response:
        headers = {"Retry-After": str(error.retry_after_seconds)}
        return _problem(board, request, 429, str(error), headers)

    async def database(request: Request, error: Exception) -> Response:
        # Its message names the server.
        logger.warning("a page met the database's %s", error)
        told = "The database cannot answer now; what was judged is safe. Try again in a moment."
        return _problem(board, request, 503, told, {"Retry-After": "5"})

    async def unexpected(request: Request, _: Exception) -> Response:
        # The server logs it, with its traceback.
        return _problem(board, request, 500, "This page broke. The log of the server says why.")

    return {
        LoginNeededError: login_needed,
        HTTPException: known,
        QuestionError: question,
        OverloadedError: overloaded,
        StorageError: database,
        psycopg.OperationalError: database,
        500: unexpected,
    }


_TITLES: Final = {
    400: "That cannot be shown",
    403: "Not for this token",
    404: "Nothing here",
    405: "Not like that",
    429: "Too fast",
    503: "The database is away",
}


def _problem(
    board: Board,
    request: Request,
    status: int,
    told: str,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Answer with a page that says what is wrong, or, to a drawing or HTMX, with the bare text."""
    path = request.url.path.removeprefix(board.base)
    values = {"title": _TITLES.get(status, "Something went wrong"), "told": told, "status": status}
    if path.startswith("/data/"):
        response: Response = Response(told, status, media_type="text/plain")
    else:
        part = "hx-request" in request.headers
        response = board.page("_problem.html" if part else "problem.html", values, status)
    response.headers.update(headers or {})
    return response
