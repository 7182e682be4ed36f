"""Answers in the shapes that Prefect's clients read, errors in both of theirs.

A broken rule of business is a `detail`. An invalid body is an `exception_detail`, of which the
command line shows the first message. Every error here has a `detail` as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import JSONResponse, Response

from localgcl.errors import DatabaseError
from localgcl.models import Limit, first_fault
from localgcl.server.addresses import is_forwarded, is_loopback
from localgcl.server.credentials import USER

B = TypeVar("B", bound=BaseModel)

# The most names of one request, in any alphabet, are shorter.
MAX_BODY_BYTES = 1 << 17

# How much the answer to an invalid body says: its first faults, and only as much of the sent values
# as helps to find them.
_MAX_FAULTS = 10
_MAX_SHOWN_BYTES = 2048
_MAX_LOC = 100

NO_CONTENT = 204

# Users who run flows against this server get this text.
NO_SUCH_API = (
    "localgcl serves global concurrency limits only; run flows without PREFECT_API_URL and import"
    " localgcl.sync"
)

_UNUSABLE = (
    "The database cannot be used; the log of `localgcl serve` says why, and so does"
    " `localgcl doctor` on the machine of the server."
)


class RefusedError(Exception):
    """A request that ends with an error of its own."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.detail = detail
        self.headers = headers
        super().__init__(detail)


class InvalidError(Exception):
    """A request with an invalid part: `faults` as pydantic lists them."""

    def __init__(self, faults: list[Any], detail: str, body: Any = None) -> None:
        self.faults = faults
        self.detail = detail
        self.body = body
        super().__init__(detail)


def invalid(loc: tuple[str, ...], value: object, message: str) -> InvalidError:
    """Return the error for one invalid value."""
    fault = {"type": "value_error", "loc": loc, "msg": message, "input": value}
    return InvalidError([fault], f"{'.'.join(loc[1:])}: {message}")


async def body_of(request: Request, model: type[B], *, empty: bytes = b"") -> B:
    """Return the body as `model`, whatever its content type; `empty` replaces an empty body."""
    # The protocol has checked that this is a number, and the only length.
    if int(request.headers.get("content-length", 0)) > MAX_BODY_BYTES:
        raise _too_large()
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
    try:
        return model.model_validate_json(bytes(body) or empty)
    except ValidationError as error:
        faults: list[Any] = [
            _bounded({**fault, "loc": ("body", *fault["loc"])})
            for fault in error.errors(include_url=False)[:_MAX_FAULTS]
        ]
        is_json = faults[0]["type"] != "json_invalid"
        sent = json.loads(body or empty) if is_json and len(body) <= _MAX_SHOWN_BYTES else None
        raise InvalidError(faults, first_fault(error)[:_MAX_SHOWN_BYTES], sent) from None


def _too_large() -> RefusedError:
    return RefusedError(413, "the body is too large", {"connection": "close"})


def _bounded(fault: dict[str, Any]) -> dict[str, Any]:
    """Return a fault without its sent value if that is long, and with a short location."""
    fault["loc"] = tuple(
        part[:_MAX_LOC] if isinstance(part, str) else part for part in fault["loc"]
    )
    if len(repr(fault.get("input"))) > _MAX_SHOWN_BYTES:
        fault["input"] = None
    return fault


def limit_json(limit: Limit) -> dict[str, Any]:
    """Return a limit as Prefect's clients know it."""
    return {**limit.model_dump(mode="json"), "denied_slots": 0}


def limit_not_found() -> RefusedError:
    """Return the error for a limit that does not exist."""
    return RefusedError(404, "Concurrency Limit not found")


def no_content() -> Response:
    """Return the answer to a request that is done and needs no content."""
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
    # The sent value may hold NaN, which pydantic reads and JSON does not have.
    written = json.dumps(content, default=str)
    return JSONResponse(json.loads(written, parse_constant=lambda _: None), 422)


def fault_shown(connection: HTTPConnection, error: DatabaseError) -> str:
    """Return what a client is told about a fault of the database.

    The file and the reason are only for clients that came with a password from this machine. The
    server's log has them too.
    """
    client = connection.client.host if connection.client else ""
    is_told = USER in connection.scope and is_loopback(client) and not is_forwarded(connection)
    return str(error) if is_told else _UNUSABLE


def database_fault(request: Request, error: Exception) -> Response:
    """Answer if the database cannot be used; clients try again after a 503."""
    assert isinstance(error, DatabaseError)
    content = {
        "exception_message": "Service Unavailable",
        "detail": fault_shown(request, error),
    }
    return JSONResponse(content, 503)


def http_error(request: Request, error: Exception) -> Response:
    """Answer a request that no route takes."""
    assert isinstance(error, HTTPException)
    detail = error.detail
    if error.status_code == 404 and re.match(r"/api(/|$)", request.scope["path"]):
        detail = NO_SUCH_API
    return JSONResponse({"detail": detail}, error.status_code, error.headers)


def gone(_: Request, error: Exception) -> Response:
    """Answer nobody: the client has hung up in the middle of its body."""
    return Response(status_code=400)


def fault(_: Request, error: Exception) -> Response:
    """Answer an error that no other handler takes."""
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
