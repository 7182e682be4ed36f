"""Answers in the shapes that Prefect's clients read, errors in both of theirs.

A rule of business is a `detail`; a body that is not what it should be is an `exception_detail`, of
which the command line shows the first message. Every error here has a `detail` as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from localgcl.errors import DatabaseError
from localgcl.models import Limit, first_fault

B = TypeVar("B", bound=BaseModel)

MAX_BODY_BYTES = 1 << 20

NO_CONTENT = 204


class RefusedError(Exception):
    """A request that ends with an error of its own."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.detail = detail
        self.headers = headers
        super().__init__(detail)


class InvalidError(Exception):
    """A request of which something is not what it should be: `faults` as pydantic lists them."""

    def __init__(self, faults: list[Any], detail: str, body: Any = None) -> None:
        self.faults = faults
        self.detail = detail
        self.body = body
        super().__init__(detail)


def invalid(loc: tuple[str, ...], value: object, message: str) -> InvalidError:
    """Return the error for one value that is wrong."""
    fault = {"type": "value_error", "loc": loc, "msg": message, "input": value}
    return InvalidError([fault], f"{'.'.join(loc[1:])}: {message}")


async def body_of(request: Request, model: type[B], *, empty: bytes = b"") -> B:
    """Return the body as `model` has it, whatever its content type; `empty` where there is none."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise RefusedError(413, "the body is too large", {"connection": "close"})
    try:
        return model.model_validate_json(bytes(body) or empty)
    except ValidationError as error:
        faults: list[Any] = [
            {**fault, "loc": ("body", *fault["loc"])} for fault in error.errors(include_url=False)
        ]
        sent = None if faults[0]["type"] == "json_invalid" else json.loads(body or empty)
        raise InvalidError(faults, first_fault(error), sent) from None


def limit_json(limit: Limit) -> dict[str, Any]:
    """Return a limit as Prefect's clients know it."""
    return {**limit.model_dump(mode="json"), "denied_slots": 0}


def limit_not_found() -> RefusedError:
    """Return the error for a limit that is not there."""
    return RefusedError(404, "Concurrency Limit not found")


def no_content() -> Response:
    """Return the answer to what is done and needs no words."""
    return Response(status_code=NO_CONTENT)


def refused(_: Request, error: Exception) -> Response:
    """Answer a `RefusedError`."""
    assert isinstance(error, RefusedError)
    return JSONResponse({"detail": error.detail}, error.status, error.headers)


def not_valid(_: Request, error: Exception) -> Response:
    """Answer an `InvalidError`."""
    assert isinstance(error, InvalidError)
    content = {
        "exception_message": "Invalid request received.",
        "exception_detail": error.faults,
        "request_body": error.body,
        "detail": error.detail,
    }
    # What was sent may hold NaN, which pydantic reads and JSON does not have.
    written = json.dumps(content, default=str)
    return JSONResponse(json.loads(written, parse_constant=lambda _: None), 422)


def database_fault(_: Request, error: Exception) -> Response:
    """Answer where the database cannot be used; clients try again after a 503."""
    assert isinstance(error, DatabaseError)
    content = {"exception_message": "Service Unavailable", "detail": str(error)}
    return JSONResponse(content, 503)


def http_error(_: Request, error: Exception) -> Response:
    """Answer what no route does."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


def gone(_: Request, error: Exception) -> Response:
    """Answer nobody: the client has hung up in the middle of its body."""
    return Response(status_code=400)


def fault(_: Request, error: Exception) -> Response:
    """Answer where nothing else does."""
    return JSONResponse({"exception_message": "Internal Server Error"}, 500)


Handlers = dict[Any, Callable[[Request, Exception], Response]]

HANDLERS: Handlers = {
    RefusedError: refused,
    InvalidError: not_valid,
    DatabaseError: database_fault,
    HTTPException: http_error,
    ClientDisconnect: gone,
    500: fault,
}
