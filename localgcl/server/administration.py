"""Endpoints that create, list, show, change and delete limits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from localgcl._admin import reading
from localgcl.errors import LimitAlreadyExistsError, LimitNotFoundError
from localgcl.models import Limit
from localgcl.server.addresses import address_of
from localgcl.server.answers import (
    RefusedError,
    body_of,
    invalid,
    limit_json,
    limit_not_found,
    no_content,
)
from localgcl.server.bodies import MAX_LISTED, ChangedLimit, Filter, NewLimit
from localgcl.server.service import Service, limit_in, service_of

PREFIX = "/v2/concurrency_limits"

# The keys sent by a client that writes back everything it has read, as Terraform's provider does.
_EVERYTHING = {"name", "limit", "active", "active_slots", "slot_decay_per_second"}


async def create(request: Request) -> Response:
    """Create a limit."""
    new = await body_of(request, NewLimit)
    try:
        with _refused_values():
            limit = await service_of(request).limiter.create(
                new.name,
                new.limit,
                slot_decay_per_second=new.slot_decay_per_second,
                window_seconds=new.window_seconds,
                active=new.active,
                active_slots=new.active_slots,
            )
    except LimitAlreadyExistsError as error:
        raise RefusedError(409, str(error)) from None
    return JSONResponse(_shown(request, limit), 201)


async def read(request: Request) -> Response:
    """Show one limit, by its id or its name."""
    service = service_of(request)
    limit = await _find(request)
    written = service.shown.read_once(address_of(request), limit.id)
    if written is not None:
        # The slots may have decayed since. But the client asks for the value that it wrote.
        limit = limit.model_copy(update={"active_slots": written})
    return JSONResponse(_shown(request, limit))


async def list_all(request: Request) -> Response:
    """List limits by name."""
    wanted = await body_of(request, Filter, empty=b"{}")
    if not 0 <= wanted.limit <= MAX_LISTED:
        bound = f"less than or equal to {MAX_LISTED}" if wanted.limit > 0 else "0 or more"
        raise RefusedError(422, f"Invalid limit: must be {bound}.")
    page = await service_of(request).administer(reading.read_page(wanted.offset, wanted.limit))
    return JSONResponse([_shown(request, limit) for limit in page])


async def update(request: Request) -> Response:
    """Change what is given of a limit."""
    return await _change(request, (await body_of(request, ChangedLimit)).given)


async def _change(request: Request, wanted: dict[str, Any]) -> Response:
    service, client = service_of(request), address_of(request)
    given = dict(wanted)
    limit = await _find(request)
    if limit.template is not None and given == {"active_slots": 0}:
        await service.limiter.reset(limit.name)  # of a key, this alone is its own
        return no_content()
    _refuse_key(limit)
    slots = given.get("active_slots")
    if given.keys() >= _EVERYTHING and (
        slots == limit.active_slots or service.shown.is_written_back(client, limit.id, slots or 0)
    ):
        del given["active_slots"]
    given.pop("denied_slots", None)
    if given.get("name") == limit.name:
        del given["name"]
    if given:
        try:
            await _update(service, limit, given)
        except LimitAlreadyExistsError as error:
            raise RefusedError(409, str(error)) from None
        except LimitNotFoundError:
            return await _change(request, wanted)  # renamed meanwhile, or deleted, as it will find
    if slots is not None:
        service.shown.write(client, limit.id, slots)
    return no_content()


async def _update(service: Service, limit: Limit, given: dict[str, Any]) -> None:
    if limit.keys is not None and given.get("active_slots") == 0:
        # Of a template, slots in use can be freed, and only that.
        await service.limiter.reset(limit.name)
        del given["active_slots"]
    if given:
        changes = {"new_name" if name == "name" else name: given[name] for name in given}
        with _refused_values():
            await service.limiter.update(limit.name, **changes)


@contextlib.contextmanager
def _refused_values() -> Iterator[None]:
    """Turn what a limit does not allow into an answer about a field."""
    try:
        yield
    except ValueError as error:
        field = "active_slots" if "active_slots" in str(error) else "slot_decay_per_second"
        raise invalid(("body", field), None, str(error)) from None


def _refuse_key(limit: Limit) -> None:
    """Say which template a key belongs to: a change is for the template."""
    if limit.template is not None:
        raise RefusedError(404, str(LimitNotFoundError(limit.name, limit.template)))


async def delete(request: Request) -> Response:
    """Delete a limit with its leases."""
    service = service_of(request)
    limit = await _find(request)
    _refuse_key(limit)
    try:
        await service.limiter.delete(limit.name)
    except LimitNotFoundError:
        return await delete(request)  # as for a change
    return no_content()


async def _find(request: Request) -> Limit:
    service = service_of(request)
    try:
        return await service.limiter.read(await service.name_of(limit_in(request)))
    except (LimitNotFoundError, ValueError):  # a text that is no valid name belongs to no limit
        raise limit_not_found() from None


def _shown(request: Request, limit: Limit) -> dict[str, object]:
    service_of(request).shown.note(address_of(request), limit.id, limit.active_slots)
    return limit_json(limit)


# A limit may be called "filter": a path without this method is tried with the next route.
ROUTES = [
    Route(f"{PREFIX}/filter", list_all, methods=["POST"]),
    Route(f"{PREFIX}/", create, methods=["POST"]),
    Route(PREFIX, create, methods=["POST"]),
    Route(f"{PREFIX}/{{limit:name}}", read, methods=["GET"]),
    Route(f"{PREFIX}/{{limit:name}}", update, methods=["PATCH"]),
    Route(f"{PREFIX}/{{limit:name}}", delete, methods=["DELETE"]),
]
