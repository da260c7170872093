"""One visit to a page: who comes, what is asked, and what is answered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from anomaly_assets.dashboard.addresses import with_query
from anomaly_assets.dashboard.guard import comes_from_here
from anomaly_assets.dashboard.rendering import as_json, digest
from anomaly_assets.dashboard.replays import Replays
from anomaly_assets.errors import AnomalyAssetsError, CatalogueError
from anomaly_assets.live.gate import usable_entity
from anomaly_assets.live.tokens import TokenError
from anomaly_assets.pipeline.deployment import Entity
from anomaly_assets.storage.entities import EntityRow, find_entity

if TYPE_CHECKING:
    from jinja2 import Environment
    from starlette.requests import Request

    from anomaly_assets.dashboard.sessions import Session, Sessions
    from anomaly_assets.live.tokens import Principal, TokenBook
    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.database import Connection

logger = logging.getLogger(__name__)

COOKIE: Final = "anomaly_assets_session"
#: Name of the field, and of the header of HTMX, with the mark of the session.
MARK_FIELD: Final = "mark"
_MARK_HEADER: Final = "x-mark"
_MOST_BYTES: Final = 65_536
_MOST_FIELDS: Final = 600


@dataclass(frozen=True)
class NavItem:
    """An entry of the navigation.

    Parameters
    ----------
    path, title, key
        Path behind the base, title, and the key that follows ``g`` on the keyboard.
    everyone
        Whether tokens of one entity see it too.
    """

    path: str
    title: str
    key: str
    everyone: bool = True


@dataclass
class Board:
    """What all visits share.

    Parameters
    ----------
    deployment, tokens
        Whose pages, and who may see them.
    sessions
        Who has logged in.
    templates
        What pages are made from.
    base
        Path that the pages begin with.
    navigation
        Where one can go from every page.
    replays
        Carries out what takes longer than anybody waits for a page.
    """

    deployment: Deployment
    tokens: TokenBook
    sessions: Sessions
    templates: Environment
    base: str
    navigation: Sequence[NavItem] = ()
    replays: Replays = field(default_factory=Replays)

    def path(self, path: str, /, **query: object) -> str:
        """Return an address of ours."""
        return with_query(f"{self.base}{path}", query)

    def static(self, name: str) -> str:
        """Return the address of a static file, with its digest."""
        return f"{self.base}/static/{name}?v={digest(name)}"

    def page(self, template: str, values: Mapping[str, Any], status: int = 200) -> HTMLResponse:
        """Return a page."""
        shared = {"path": self.path, "static": self.static, "board": self}
        text = self.templates.get_template(template).render({**shared, **values})
        return HTMLResponse(text, status)


@dataclass
class Visit:
    """A request of somebody who has logged in.

    Parameters
    ----------
    board, request, connection
        The pages, what was sent, and a connection for as long as it takes.
    session, principal
        Who it is.
    form
        Fields of a form; empty for a question.
    """

    board: Board
    request: Request
    connection: Connection
    session: Session
    principal: Principal
    form: dict[str, list[str]] = field(default_factory=dict)
    now: datetime = field(default_factory=lambda: datetime.now(tz=UTC))

    @property
    def deployment(self) -> Deployment:
        """Whose pages they are."""
        return self.board.deployment

    @cached_property
    def asked(self) -> Mapping[str, str]:
        """The query of the address; of a repeated name the last value."""
        return dict(self.request.query_params)

    @property
    def partial(self) -> bool:
        """Whether HTMX asks for a part of a page."""
        headers = self.request.headers
        return "hx-request" in headers and "hx-history-restore-request" not in headers

    def said(self, name: str) -> str:
        """Return a field of the form, without blanks around it; empty if there is none."""
        return self.form.get(name, [""])[-1].strip()

    def render(self, template: str, code: int = 200, /, **values: object) -> HTMLResponse:
        """Return a page, or a part of one."""
        shared = {
            "visit": self,
            "principal": self.principal,
            "mark": self.board.sessions.mark(self.session),
            "now": self.now,
            "here": self.request.url.path.removeprefix(self.board.base),
        }
        return self.board.page(template, {**shared, **values}, code)

    def json(self, document: object) -> Response:
        """Return data for a drawing."""
        return Response(as_json(document), media_type="application/json")

    def go(self, path: str, /, **query: object) -> Response:
        """Send the browser on, after a form."""
        return RedirectResponse(self.board.path(path, **query), 303)

    @property
    def threshold(self) -> float:
        """Final score above which a window is anomalous."""
        return self.deployment.settings.explanation_threshold

    def require_judge(self) -> None:
        """Make sure that the token may judge and decide.

        Raises
        ------
        HTTPException
            403 if it may only look.
        """
        if not self.principal.may_judge:
            raise HTTPException(403, "This token may only look; judging takes one that may write.")

    def require_everybody(self) -> None:
        """Make sure that the token is good for the deployment as a whole.

        Raises
        ------
        HTTPException
            403 if it is one entity's.
        """
        if self.principal.entity_id is not None:
            raise HTTPException(403, "This token is good for one entity; this page is about all.")

    def entity_row(self) -> EntityRow:
        """Return the entity that the address names.

        Raises
        ------
        HTTPException
            404 if there is none, or it is not for this token: not even that it exists is told.
        """
        name = usable_entity(self.asked.get("id", ""))
        row = find_entity(self.connection, name) if name else None
        if row is None or not self.principal.allows(row.entity_id, write=False):
            raise HTTPException(404, "There is no such entity, or it is not for your token.")
        return row

    def watched(self, row: EntityRow) -> Entity | None:
        """Return an entity with its catalogue; None where that cannot be read."""
        try:
            catalogue = self.deployment.catalogue(row.catalogue)
        except CatalogueError as error:
            logger.warning("entity %r: %s", row.entity_id, error)
            return None
        return Entity(
            row.entity_id,
            catalogue,
            row.time_zone or catalogue.time_zone,
            None if row.first_window is None else int(row.first_window.timestamp()),
            self.deployment.handover,
        )


Handler = Callable[[Visit], Response]


class LoginNeededError(AnomalyAssetsError):
    """Nobody has logged in, or their session is over."""


def visiting(board: Board, handler: Handler) -> Callable[[Request], Any]:
    """Return an endpoint that lets people in who have logged in, and forms of theirs."""

    async def endpoint(request: Request) -> Response:
        form = {} if request.method in {"GET", "HEAD"} else await read_form(request)
        return await run_in_threadpool(_serve, board, handler, request, form)

    return endpoint


def _serve(
    board: Board, handler: Handler, request: Request, form: dict[str, list[str]]
) -> Response:
    session = board.sessions.read(request.cookies.get(COOKIE, ""))
    if session is None:
        raise LoginNeededError
    with board.deployment.database.connect() as connection:
        try:
            principal = board.tokens.standing(connection, session.token_id)
        except TokenError as error:
            board.sessions.end(session)
            raise LoginNeededError from error
        if not principal.may_read:
            raise LoginNeededError
        visit = Visit(board, request, connection, session, principal, form)
        if request.method not in {"GET", "HEAD"}:
            _require_own_form(visit)
        return handler(visit)


def _require_own_form(visit: Visit) -> None:
    request, board = visit.request, visit.board
    mark = request.headers.get(_MARK_HEADER) or visit.said(MARK_FIELD)
    here = comes_from_here(request, board.deployment.settings.live_public_url)
    if not here or not board.sessions.accepts(visit.session, mark):
        raise HTTPException(403, "This form does not come from your session; load the page again.")


async def read_form(request: Request) -> dict[str, list[str]]:
    """Return the fields of a form.

    Raises
    ------
    HTTPException
        413 or 415 if it is too large or no form.
    """
    if request.headers.get("content-type", "").split(";")[0] != "application/x-www-form-urlencoded":
        raise HTTPException(415, "A form is needed here.")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_BYTES:
            raise HTTPException(413, "This form is too large.")
    try:
        text = body.decode("ascii")
        return parse_qs(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError as error:
        raise HTTPException(422, "This form cannot be read.") from error
