"""``/docs``: the description of the API to look through; its scripts come from here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

if TYPE_CHECKING:
    from fastapi import FastAPI

STATIC: Final = Path(__file__).parent / "static"
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; object-src 'none'; "
    "frame-ancestors 'none'; form-action 'self'; img-src 'self' data:",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>anomaly-assets: live API</title>
<link rel="stylesheet" href="docs/static/swagger-ui.css">
<script src="docs/static/swagger-ui-bundle.js" defer></script>
<script src="docs/static/swagger-start.js" defer></script>
</head>
<body><div id="swagger-ui"></div></body>
</html>
"""


def add_documentation(app: FastAPI) -> None:
    """Serve the page and its files, which work without the internet."""

    async def page() -> HTMLResponse:
        return HTMLResponse(_PAGE, headers=_HEADERS)

    app.add_api_route("/docs", page, methods=["GET"], include_in_schema=False)
    app.mount("/docs/static", StaticFiles(directory=STATIC), name="documentation")
