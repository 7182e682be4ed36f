"""The page's place: its templates, its static files, and `GET /`.

The page reads `/ui/limits`, `/ui/limits/ID` and the stream `/ui/events`, and changes limits through
`/api/v2/concurrency_limits`. What it is served with forbids inline scripts and styles.
"""

from __future__ import annotations

import os

from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from localgcl import __version__
from localgcl.server.service import service_of

_FOLDER = os.path.dirname(__file__)

_templates = Environment(
    loader=FileSystemLoader(os.path.join(_FOLDER, "templates")),
    autoescape=select_autoescape(default=True, default_for_string=True),
)


async def page(request: Request) -> Response:
    """Return the page."""
    shown = _templates.get_template("page.html").render(
        database=service_of(request).limiter.path, version=__version__
    )
    return HTMLResponse(shown)


ROUTES = [
    Route("/", page, methods=["GET"]),
    Mount("/static", StaticFiles(directory=os.path.join(_FOLDER, "static"))),
]
