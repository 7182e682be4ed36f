"""The page: its templates, its static files, and the addresses at which it is.

The page reads `/ui/limits`, `/ui/limits/ID` and the stream `/ui/events`, and changes limits through
`/api/v2/concurrency_limits`. What it is served with forbids inline scripts and styles.
"""

from __future__ import annotations

import mimetypes
import os

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from localgcl import __version__
from localgcl.server.service import service_of

_FOLDER = os.path.dirname(__file__)

_templates = Environment(
    loader=FileSystemLoader(os.path.join(_FOLDER, "templates")),
    autoescape=select_autoescape(default=True, default_for_string=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
# Everything that a request needs from the disk is read now: later the loop would wait for it.
for _name in _templates.list_templates():
    _templates.get_template(_name)
mimetypes.init()


class _Static(StaticFiles):
    """Files that a browser caches, but checks each time: the next release has others."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = "no-cache"
        return response


async def limits(request: Request) -> Response:
    """Return the page of all limits."""
    return page(request, "limits.html")


async def limit(request: Request) -> Response:
    """Return the page of one limit, which it finds by the id or the name in its address."""
    return page(request, "limit.html")


def page(request: Request, template: str, **values: object) -> Response:
    """Return a page made of a template."""
    shown = _templates.get_template(template).render(
        database=service_of(request).limiter.path, version=__version__, **values
    )
    return HTMLResponse(shown)


ROUTES = [
    Route("/", limits, methods=["GET"]),
    Route("/limits/{limit:name}", limit, methods=["GET"]),
    Mount("/static", _Static(directory=os.path.join(_FOLDER, "static"))),
]
