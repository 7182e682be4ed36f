"""Endpoints of the page: limits with holders, waiters and past as JSON, and a stream of changes."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from localgcl._admin import reading as _reading
from localgcl._admin import usage as _usage
from localgcl._admin.action import together
from localgcl._base import clock
from localgcl.errors import LimitNotFoundError
from localgcl.server.answers import RefusedError, limit_json, limit_not_found
from localgcl.server.live import Listener, Live
from localgcl.server.service import Service, limit_in, party_of, service_of

# The reader of an answer that is not read for this long counts as gone.
_PATIENCE_SECONDS = 30.0

# Of the holders, the waiters and the keys of one limit, as many as anybody reads.
_MAX_LISTED = 500


async def limits(request: Request) -> Response:
    """List all limits with what is in use and who waits."""
    found = await service_of(request).live.read()
    now = clock.wall()

    def answer() -> Response:
        return JSONResponse({"limits": [limit_json(limit) for limit in found], "now": now})

    # Thousands of limits take a while. Meanwhile the loop answers others.
    return await asyncio.to_thread(answer)


async def limit(request: Request) -> Response:
    """Show one limit with its holders, its waiters, its past and what clients told of it."""
    service = service_of(request)
    try:
        name = await service.name_of(limit_in(request))
        # In one transaction, so that all of it is of one moment.
        shown, holders, waiters = await service.administer(
            together(
                _reading.read(name),
                _usage.holders(name, most=_MAX_LISTED),
                _usage.waiters(name, most=_MAX_LISTED),
            )
        )
        keys = None if shown.keys is None else await _keys_of(service, name)
    except (LimitNotFoundError, ValueError):
        raise limit_not_found() from None
    return JSONResponse(
        {
            **limit_json(shown),
            "keys_in_use": keys,
            "holders": [
                one.model_dump(mode="json") for one in sorted(holders, key=lambda one: one.since)
            ],
            "waiters": [one.model_dump(mode="json") for one in waiters],
            "past": service.live.past_of(shown.id),
            "events": service.events.of(shown.id),
            "now": clock.wall(),
        }
    )


async def _keys_of(service: Service, template: str) -> list[dict[str, Any]]:
    """Return the keys of a template that are in use."""
    keys = await service.administer(_reading.read_keys(template, most=_MAX_LISTED))
    return [limit_json(key) for key in keys]


async def release(request: Request) -> Response:
    """Free one lease, as `localgcl release` does."""
    text = request.path_params["lease"]
    released = await service_of(request).limiter.release(text)
    if not released:
        try:
            released = await service_of(request).limiter.release(UUID(text).hex)
        except ValueError:
            released = False
    if not released:
        raise RefusedError(404, "No such lease is held any more.")
    return JSONResponse({"released": True})


class _Changes(StreamingResponse):
    """A stream of changes, which ends if nobody reads it."""

    def __init__(self, live: Live, listener: Listener) -> None:
        super().__init__(live.changes(listener), media_type="text/event-stream")
        self._live = live
        self._listener = listener

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._live.leave(self._listener)

    async def stream_response(self, send: Any) -> None:
        async def sending(message: Any) -> None:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await send(message)

        try:
            await super().stream_response(sending)
        except TimeoutError:
            return


async def changes(request: Request) -> Response:
    """Tell of changes as they come, as server-sent events."""
    live = service_of(request).live
    listener = live.listen(party_of(request))
    if listener is None:
        raise RefusedError(503, "Too many listen already.", {"retry-after": "5"})
    return _Changes(live, listener)


ROUTES = [
    Route("/ui/limits", limits, methods=["GET"]),
    Route("/ui/limits/{limit:name}", limit, methods=["GET"]),
    Route("/ui/leases/{lease}/release", release, methods=["POST"]),
    Route("/ui/events", changes, methods=["GET"]),
]
