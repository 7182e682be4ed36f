"""The application: every route, behind the guard."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from localgcl.server import administration, events, metrics, openapi, slots, view, web
from localgcl.server.answers import HANDLERS, RefusedError, fault_shown
from localgcl.server.guard import Guard
from localgcl.server.service import Service, service_of

# Prefect's clients warn about a server older than themselves, and fail with another major version.
PREFECT_VERSION = "3.99.0"


async def health(_: Request) -> Response:
    """Say that the server runs."""
    return JSONResponse(True)


async def ready(request: Request) -> Response:
    """Say whether the database can be used."""
    fault = service_of(request).live.fault
    if fault is not None:
        return JSONResponse({"message": fault_shown(request, fault)}, 503)
    return JSONResponse({"message": "OK"})


async def version(_: Request) -> Response:
    """Name the version of Prefect whose API this is."""
    return JSONResponse(PREFECT_VERSION)


async def no_csrf_token(_: Request) -> Response:
    """Say that there is no CSRF token, in the words that clients look for."""
    raise RefusedError(422, "CSRF protection is disabled.")


def application(service: Service, host: str = "127.0.0.1") -> ASGIApp:
    """Return the application for a service that clients reach as `host`."""
    api = [
        *administration.ROUTES,
        *slots.ROUTES,
        *events.ROUTES,
        *openapi.ROUTES,
        Route("/csrf-token", no_csrf_token, methods=["GET"]),
        Route("/admin/version", version, methods=["GET"]),
        Route("/health", health, methods=["GET"]),
        Route("/ready", ready, methods=["GET"]),
    ]
    app = Starlette(
        routes=[Mount("/api", routes=api), *view.ROUTES, *metrics.ROUTES, *web.ROUTES],
        exception_handlers=HANDLERS,
    )
    app.router.redirect_slashes = False
    app.state.service = service
    return Guard(app, service.credentials, host)
