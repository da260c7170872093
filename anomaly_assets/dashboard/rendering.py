"""Pages from templates, and the files they load; whatever is put into a page is escaped."""

from __future__ import annotations

import json
from functools import cache
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.staticfiles import StaticFiles

from anomaly_assets.dashboard import wording

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Scope

STATIC: Final = Path(__file__).parent / "static"
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_FOR_NOW: Final = "no-cache"


def environment() -> Environment:
    """Return the templates; a name that a template uses and nobody gave is an error."""
    made = Environment(
        loader=PackageLoader("anomaly_assets.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(wording.FILTERS)
    made.globals.update(from_to=wording.from_to, icon=icon)
    return made


def icon(name: str) -> wording.Html:
    """Return one of the drawings of ``icons.svg``; hidden from screen readers."""
    return wording.Html(
        '<svg class="icon" aria-hidden="true" width="16" height="16">'
        f'<use href="#i-{escape(name)}"></use></svg>'
    )


@cache
def digest(name: str) -> str:
    """Return the beginning of a static file's SHA-256, so that a changed one is fetched anew."""
    return sha256((STATIC / name).read_bytes()).hexdigest()[:12]


def as_json(document: Any) -> str:  # noqa: ANN401 - whatever JSON can hold
    """Return a compact document; NaN is refused, unknown is null."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


class OwnFiles(StaticFiles):
    """The static files: those asked for by their digest are kept by browsers for ever."""

    def __init__(self) -> None:
        super().__init__(directory=STATIC)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer one request."""
        response = await super().get_response(path, scope)
        versioned = scope.get("query_string", b"").startswith(b"v=")
        response.headers["Cache-Control"] = _FOR_EVER if versioned else _FOR_NOW
        return response
