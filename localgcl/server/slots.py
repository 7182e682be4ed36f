"""Endpoints that take, renew and give back slots."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from localgcl._base.checks import check_requested_name
from localgcl._base.text import quoted
from localgcl._drivers.flow import HoldingTerms, RateTerms
from localgcl._engine import clients
from localgcl._engine import request as _outcomes
from localgcl._engine.clients import Client
from localgcl._storage.database import Transaction
from localgcl.errors import ConcurrencySlotAcquisitionError
from localgcl.server.addresses import FORWARDED_HEADERS, is_forwarded
from localgcl.server.administration import PREFIX
from localgcl.server.answers import RefusedError, body_of, invalid, no_content
from localgcl.server.bodies import GiveBack, ReleaseLease, Renewal, Take, TakeLease
from localgcl.server.connections import Connection, connection_of
from localgcl.server.service import (
    Service,
    client_of,
    party_of,
    service_of,
)
from localgcl.server.waiting_room import AgainError, ClosingError, GoneError, Key, Place

# How long a client waits before it tries again when the server ends.
_RESTART_SECONDS = 2

# Leases that hold nothing and can be renewed like others: only the latest are kept.
_MAX_EMPTY_LEASES = 1000

Limits = list[tuple[str, str, int]]


async def increment(request: Request) -> Response:
    """Take slots without a lease: by rate, or until they are given back by number."""
    take = await body_of(request, Take)

    client = client_of(request, None)
    _, limits = await _take(request, take, client, clients.detach)
    return JSONResponse(_minimal(limits))


async def increment_with_lease(request: Request) -> Response:
    """Take slots and hold them by a lease, which ends unless it is renewed."""
    take = await body_of(request, TakeLease)
    holder = take.holder and json.dumps(take.holder.model_dump(mode="json"), separators=(",", ":"))
    client = client_of(request, holder or None)

    empty = service_of(request).empty_leases

    def settle(tx: Transaction, asked: _outcomes.Request) -> None:
        clients.assign_to_client(tx, asked, client, take.lease_duration)
        if asked.granted is None or not (asked.holds and asked.granted.taken):
            # Nothing else bounds the leases whose names belong to no limit.
            empty.append(asked.id)
            if len(empty) > _MAX_EMPTY_LEASES:
                clients.release(tx, empty.popleft())

    lease, limits = await _take(request, take, client, settle)
    return JSONResponse({"lease_id": str(UUID(hex=lease)), "limits": _minimal(limits)})


async def _take(
    request: Request,
    take: Take,
    client: Client,
    settle: Callable[[Transaction, _outcomes.Request], None],
) -> tuple[str, Limits]:
    """Wait for the slots, `settle` who holds them from now on, and return lease and limits."""
    service = service_of(request)
    names = _possible(take.names)
    waiting = client.command if client.holder is None else f"{client.command} {client.holder}"
    kind = HoldingTerms if take.mode == "concurrency" else RateTerms
    terms = kind(names, take.slots, None, holder=waiting)
    key, connection = _key_of(request, take), _own_connection(request)
    gone = asyncio.ensure_future(_hang_up(request))
    try:
        place = await service.room.ask(key, terms, connection, gone)
        return place.request.id, await _settled(service, place, settle, gone)
    except ConcurrencySlotAcquisitionError as error:
        raise RefusedError(422, _reason(error)) from None
    except AgainError as again:
        raise RefusedError(423, "Locked", {"retry-after": repr(again.seconds)}) from None
    except (ClosingError, GoneError):
        raise RefusedError(
            503, "The server is shutting down; try again.", {"retry-after": str(_RESTART_SECONDS)}
        ) from None
    finally:
        gone.cancel()


# Headers that differ between clients, and stay the same from one request to the next.
_TELLING_HEADERS = ("user-agent", *FORWARDED_HEADERS)
_TELLING_PREFIX = "x-prefect-"


def _key_of(request: Request, take: Take) -> Key:
    headers = sorted(
        (name, value)
        for name, value in request.headers.items()
        if name in _TELLING_HEADERS or name.startswith(_TELLING_PREFIX)
    )
    # Of a fixed length, however much a client sends.
    words = repr((headers, request.url.path, take.model_dump_json()))
    return Key(party_of(request), hashlib.sha256(words.encode(errors="surrogatepass")).digest())


def _own_connection(request: Request) -> Connection | None:
    """Return the connection of a request, unless a proxy shares it between many clients."""
    return None if is_forwarded(request) else connection_of(request.scope)


async def _settled(
    service: Service,
    place: Place,
    settle: Callable[[Transaction, _outcomes.Request], None],
    gone: asyncio.Future[None],
) -> Limits:
    def work(tx: Transaction) -> Limits:
        settle(tx, place.request)
        return clients.limits_called(tx, place.request.names)

    try:
        limits = await service.transact(work)
        if gone.done():
            raise GoneError
    except BaseException:
        await service.room.undo(place)
        raise
    return limits


def _possible(names: list[str]) -> list[str]:
    """Return the names that can be requested, once each; no limit has any of the others."""
    possible = []
    for name in dict.fromkeys(names):
        try:
            possible.append(check_requested_name(name))
        except ValueError:
            continue
    return possible


async def _hang_up(request: Request) -> None:
    """Return when the client has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _reason(error: ConcurrencySlotAcquisitionError) -> str:
    if error.reason == "over_limit":
        return "Slots requested is greater than the limit"
    if error.reason == "no_decay":
        return (
            "Only concurrency limits with slot decay can be used for rate limiting. The following"
            f" limits do not have a decay configured: {quoted(error.names)}"
        )
    return str(error)


def _minimal(limits: Limits) -> list[dict[str, Any]]:
    return [{"id": identity, "name": name, "limit": limit} for identity, name, limit in limits]


async def decrement(request: Request) -> Response:
    """Give back slots that were taken without a lease."""
    give = await body_of(request, GiveBack)
    work = functools.partial(
        clients.return_slots,
        names=_possible(give.names),
        slots=give.slots,
        occupancy_seconds=give.occupancy_seconds,
    )
    return JSONResponse(_minimal(await service_of(request).transact(work)))


async def renew(request: Request) -> Response:
    """Have a lease last for the given number of seconds from now."""
    renewal = await body_of(request, Renewal, empty=b"{}")
    text = request.path_params["lease"]
    try:
        lease = UUID(text)
    except ValueError:
        raise invalid(("path", "lease_id"), text, "Input should be a valid UUID") from None
    work = functools.partial(clients.renew, lease=lease.hex, seconds=renewal.lease_duration)
    if not await service_of(request).transact(work):
        raise RefusedError(410, "Lease not found - it may have expired or been revoked")
    return no_content()


async def decrement_with_lease(request: Request) -> Response:
    """End a lease, also one that has ended."""
    lease = (await body_of(request, ReleaseLease)).lease_id
    await service_of(request).transact(functools.partial(clients.release, lease=lease.hex))
    return no_content()


ROUTES = [
    Route(f"{PREFIX}/increment", increment, methods=["POST"]),
    Route(f"{PREFIX}/increment-with-lease", increment_with_lease, methods=["POST"]),
    Route(f"{PREFIX}/decrement", decrement, methods=["POST"]),
    Route(f"{PREFIX}/decrement-with-lease", decrement_with_lease, methods=["POST"]),
    Route(f"{PREFIX}/leases/{{lease}}/renew", renew, methods=["POST"]),
]
