"""Logging in with a token of the live API, and out again."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from typing import TYPE_CHECKING, Any, Final, Literal

from starlette.responses import HTMLResponse, RedirectResponse, Response

from anomaly_assets.dashboard.addresses import with_query
from anomaly_assets.dashboard.guard import comes_from_here, is_encrypted, safe_next
from anomaly_assets.dashboard.visits import COOKIE, read_form
from anomaly_assets.live.api.security import sender_address
from anomaly_assets.live.tokens import TokenError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from anomaly_assets.dashboard.visits import Board, Visit

#: Ties the login form to the browser that asked for it: nobody can be logged in by a stranger.
_BEFORE: Final = "anomaly_assets_login"
_BEFORE_SECONDS: Final = 3600


def ask(board: Board, request: Request) -> Response:
    """Send somebody to the login, and back to the page they wanted."""
    here = request.url.path
    wanted = f"{here}?{request.url.query}" if request.url.query else here
    if request.method != "GET" or here.startswith(f"{board.base}/data/"):
        wanted = ""
    address = with_query(f"{board.base}/login", {"next": wanted})
    if "hx-request" in request.headers:
        return Response("log in again", 401, {"HX-Redirect": f"{board.base}/login"})
    if here.startswith(f"{board.base}/data/"):
        return Response("log in again", 401)
    response = RedirectResponse(address, 303)
    response.delete_cookie(COOKIE, path=board.base)
    return response


def form_of(board: Board) -> Callable[[Request], Any]:
    """Return the endpoint of the form."""

    async def form(request: Request) -> Response:
        return _form(board, request, request.query_params.get("next", ""))

    return form


def check_of(board: Board) -> Callable[[Request], Any]:
    """Return the endpoint that checks a token, and opens a session."""

    async def check(request: Request) -> Response:
        fields = await read_form(request)
        wanted = fields.get("next", [""])[-1]
        settings = board.deployment.settings
        before = request.cookies.get(_BEFORE, "")
        given = fields.get("before", [""])[-1].strip()
        same = before and hmac.compare_digest(before.encode(), given.encode())
        if not same or not comes_from_here(request, settings.live_public_url):
            return _form(board, request, wanted, "The form had become old; try again.", 403)
        address = sender_address(request, settings.live_trusted_proxies)
        secret = fields.get("token", [""])[-1].strip()
        if not board.tokens.is_proven(secret):
            board.tokens.failures.require(address)
        try:
            principal = await asyncio.to_thread(board.tokens.check, secret)
        except TokenError as error:
            board.tokens.failures.note(address)
            return _form(board, request, wanted, f"Not accepted: {error}.", 401)
        if not principal.may_read:
            told = "This token may only send readings; make one with --read to look at results."
            return _form(board, request, wanted, told, 403)
        response = RedirectResponse(safe_next(board.base, wanted), 303)
        cookie = board.sessions.open(principal.token_id)
        _set(board, request, response, COOKIE, cookie, board.sessions.seconds, samesite="lax")
        response.delete_cookie(_BEFORE, path=f"{board.base}/login")
        return response

    return check


def logout(visit: Visit) -> Response:
    """End the session: here, and for every copy of its cookie."""
    board = visit.board
    board.sessions.end(visit.session)
    response = RedirectResponse(f"{board.base}/login?left=1", 303)
    response.delete_cookie(COOKIE, path=board.base)
    response.headers["Clear-Site-Data"] = '"cache"'
    return response


def _form(
    board: Board, request: Request, wanted: str, problem: str = "", status: int = 200
) -> HTMLResponse:
    before = secrets.token_urlsafe(24)
    values = {
        "problem": problem,
        "next": safe_next(board.base, wanted) if wanted else "",
        "before": before,
        "left": "left" in request.query_params,
    }
    response = board.page("login.html", values, status)
    _set(board, request, response, _BEFORE, before, _BEFORE_SECONDS, samesite="strict")
    return response


def _set(  # noqa: PLR0913, PLR0917 - what a cookie is made of
    board: Board,
    request: Request,
    response: Response,
    name: str,
    value: str,
    seconds: int,
    *,
    samesite: Literal["lax", "strict"],
) -> None:
    proxies = board.deployment.settings.live_trusted_proxies
    response.set_cookie(
        name,
        value,
        max_age=seconds,
        path=board.base if name == COOKIE else f"{board.base}/login",
        httponly=True,
        samesite=samesite,
        secure=is_encrypted(request, proxies),
    )
