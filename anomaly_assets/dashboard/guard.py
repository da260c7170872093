"""What keeps strangers out: headers on every answer, and who may send a form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders

from anomaly_assets.live.api.security import address_within

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from anomaly_assets.live.posting import Network

_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'; img-src 'self' data:",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # "no-referrer" would make browsers send forms with the origin "null".
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_PRIVATE: Final = "no-store"


class SecurityHeaders:
    """Middleware that puts the same headers on every answer; nothing private is kept by browsers.

    Parameters
    ----------
    app
        The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", _PRIVATE)
            await send(message)

        await self._app(scope, receive, guarded)


def comes_from_here(request: Request, public_url: str | None) -> bool:
    """Whether a form was sent by a page of ours, as far as the browser tells.

    Parameters
    ----------
    request
        What was sent.
    public_url
        Where people reach the pages, if a proxy changes the host.

    Notes
    -----
    A browser that tells nothing is let through: every form carries a mark of its session too.
    """
    told = request.headers.get("origin") or request.headers.get("referer")
    if told is None:
        return request.headers.get("sec-fetch-site", "same-origin") in {"same-origin", "none"}
    ours = {request.headers.get("host", "")}
    if public_url is not None:
        ours.add(urlsplit(public_url).netloc)
    return urlsplit(told).netloc in ours - {""}


def is_encrypted(request: Request, proxies: Sequence[Network]) -> bool:
    """Whether the browser speaks https, to us or to a proxy whose word is taken."""
    if request.url.scheme == "https":
        return True
    forwarded = request.headers.get("x-forwarded-proto", "").split(",")[-1].strip()
    host = "" if request.client is None else request.client.host
    return forwarded == "https" and address_within(host, proxies)


def safe_next(base: str, wanted: str) -> str:
    r"""Return where to go after the login: the page asked for, if it is one of ours.

    Parameters
    ----------
    base
        Path that our pages begin with.
    wanted
        What the form says.

    Examples
    --------
    >>> safe_next("/ui", "/ui/entity?id=ann")
    '/ui/entity?id=ann'
    >>> [safe_next("/ui", one) for one in ("https://evil.example/", "//evil.example", "/ui/\\evil")]
    ['/ui/', '/ui/', '/ui/']
    """
    usable = (
        wanted.startswith(f"{base}/")
        and wanted.isascii()
        and wanted.isprintable()
        and "\\" not in wanted
        and "//" not in wanted.partition("?")[0]
        and "/../" not in wanted.partition("?")[0]
    )
    return wanted if usable else f"{base}/"
