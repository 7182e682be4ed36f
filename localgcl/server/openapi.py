"""The description of the API, for programs as OpenAPI and for people as a page."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from localgcl import __version__
from localgcl.models import Limit
from localgcl.server import administration, slots, web
from localgcl.server.bodies import (
    ChangedLimit,
    Filter,
    GiveBack,
    NewLimit,
    ReleaseLease,
    Renewal,
    Take,
    TakeLease,
)

_INVALID = "Something in the request is not what it should be"
_MISSING = "There is no such limit"
_TAKEN = "The name is taken"
_LOCKED = "Not yet: ask again after Retry-After seconds; the place in the queue is kept"
_WOULD_NEVER_DO = "No wait would help, or something in the request is not what it should be"


@dataclass(frozen=True)
class _About:
    """What the code of an endpoint does not say about itself: its body and its answers."""

    body: type[BaseModel] | None
    answers: dict[int, str]
    content: Any = field(default=None)


_LIMIT = {"$ref": "#/components/schemas/Limit"}
_SOME = {"type": "object", "properties": {key: {} for key in ("id", "name", "limit")}}

_ENDPOINTS = {
    administration.create: _About(NewLimit, {201: "The limit", 409: _TAKEN, 422: _INVALID}, _LIMIT),
    administration.list_all: _About(
        Filter, {200: "Limits by name", 422: _INVALID}, {"type": "array", "items": _LIMIT}
    ),
    administration.read: _About(None, {200: "The limit", 404: _MISSING}, _LIMIT),
    administration.update: _About(
        ChangedLimit, {204: "It is changed", 404: _MISSING, 409: _TAKEN, 422: _INVALID}
    ),
    administration.delete: _About(None, {204: "It is deleted", 404: _MISSING}),
    slots.increment_with_lease: _About(
        TakeLease,
        {200: "The lease and its limits", 422: _WOULD_NEVER_DO, 423: _LOCKED},
        {
            "type": "object",
            "properties": {
                "lease_id": {"type": "string", "format": "uuid"},
                "limits": {"type": "array", "items": _SOME},
            },
        },
    ),
    slots.renew: _About(Renewal, {204: "It is renewed", 410: "The lease has ended", 422: _INVALID}),
    slots.decrement_with_lease: _About(
        ReleaseLease, {204: "The lease has ended, now or before", 422: _INVALID}
    ),
    slots.increment: _About(
        Take,
        {200: "The limits", 422: _WOULD_NEVER_DO, 423: _LOCKED},
        {"type": "array", "items": _SOME},
    ),
    slots.decrement: _About(
        GiveBack, {200: "The limits", 422: _INVALID}, {"type": "array", "items": _SOME}
    ),
}


def document() -> dict[str, Any]:
    """Return the description of the API in the form of OpenAPI 3.1."""
    bodies = {about.body for about in _ENDPOINTS.values() if about.body is not None}
    models: list[type[BaseModel]] = [Limit, *sorted(bodies, key=lambda model: model.__name__)]
    _, schemas = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for route in (*administration.ROUTES, *slots.ROUTES):
        if route.path != administration.PREFIX:  # it is the same as the one with a slash
            (method,) = (route.methods or set()) - {"HEAD"}
            paths.setdefault(f"/api{route.path_format}", {})[method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "localgcl",
            "version": __version__,
            "description": "Global concurrency limits as Prefect's clients use them.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
        "security": [{}, {"basic": []}, {"bearer": []}],
    }


def _operation(route: Route) -> dict[str, Any]:
    about = _ENDPOINTS[route.endpoint]
    operation: dict[str, Any] = {
        "operationId": route.endpoint.__name__,
        "summary": (inspect.getdoc(route.endpoint) or "").partition("\n")[0],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in route.param_convertors
        ],
        "responses": {
            str(status): {"description": text}
            | (
                {"content": {"application/json": {"schema": about.content}}}
                if about.content is not None and status < 300
                else {}
            )
            for status, text in about.answers.items()
        },
    }
    if about.body is not None:
        schema = {"$ref": f"#/components/schemas/{about.body.__name__}"}
        operation["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return operation


async def as_json(_: Request) -> Response:
    """Return the description for programs."""
    return JSONResponse(document())


async def as_page(request: Request) -> Response:
    """Return the description for people."""
    return web.page(request, "api.html", api=document())


ROUTES = [
    Route("/openapi.json", as_json, methods=["GET"]),
    Route("/docs", as_page, methods=["GET"]),
]
