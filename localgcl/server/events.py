"""What clients report: that they have taken and released slots. Only the latest events stay."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections import OrderedDict, deque
from typing import Any

from pydantic import ValidationError
from starlette.routing import WebSocketRoute
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from localgcl.server.addresses import address_of
from localgcl.server.bodies import Event
from localgcl.server.connections import Share, connection_of
from localgcl.server.credentials import USER, Credentials

_MAX_EVENTS = 100
_MAX_LIMITS = 1000
_MAX_OF_ALL_LIMITS = 10_000

# How many clients report at once: at most a part of all connections, of which there may be few.
MAX_TELLERS = 400
MAX_TELLERS_OF_ONE = 300
_TELLERS_PART = 5
_PREFIX = "prefect.concurrency-limit."

# A client authenticates in its first message, immediately.
_HANDSHAKE_SECONDS = 10.0

_POLICY_VIOLATION = 1008
_TRY_AGAIN_LATER = 1013


class Events:
    """The latest events of each limit, and how many clients report them."""

    def __init__(self, most_connections: float = math.inf) -> None:
        most = int(max(1, min(MAX_TELLERS, most_connections // _TELLERS_PART)))
        self.share = Share(most, max(1, min(MAX_TELLERS_OF_ONE, most * 3 // 4)))
        self._count = 0
        self._events: OrderedDict[str, deque[dict[str, Any]]] = OrderedDict()

    def note(self, text: str) -> None:
        """Note what a client reports, if it is about a limit."""
        try:
            event = Event.model_validate_json(text)
        except ValidationError:
            return  # clients report many other things
        if not event.resource.id.startswith(_PREFIX):
            return
        limit = event.resource.id.removeprefix(_PREFIX)
        events = self._events.setdefault(limit, deque(maxlen=_MAX_EVENTS))
        self._events.move_to_end(limit)
        self._count += len(events) < _MAX_EVENTS
        while len(self._events) > _MAX_LIMITS or self._count > _MAX_OF_ALL_LIMITS:
            self._count -= len(self._events.popitem(last=False)[1])
        events.append(
            {
                "occurred": event.occurred,
                "event": event.event.removeprefix(_PREFIX),
                "slots": event.resource.slots,
            }
        )

    def of(self, limit: str) -> list[dict[str, Any]]:
        """Return the events of the limit with this id, the oldest first."""
        return list(self._events.get(limit, ()))


async def listen(socket: WebSocket) -> None:
    """Receive a client's events, once it has authenticated.

    The answer to its authentication is always sent: a client would wait for it for ever, even while
    it ends.
    """
    protocols = socket.scope.get("subprotocols") or []
    await socket.accept(subprotocol="prefect" if "prefect" in protocols else None)
    try:
        async with asyncio.timeout(_HANDSHAKE_SECONDS):
            admitted = _admits(socket, await socket.receive())
    except TimeoutError:
        admitted = False
    if not admitted:
        with contextlib.suppress(WebSocketDisconnect):  # it has hung up already
            await socket.send_json({"type": "auth_failure", "reason": "Unauthorized"})
            await socket.close(_POLICY_VIOLATION)
        return
    await socket.send_json({"type": "auth_success"})
    events: Events = socket.app.state.service.events
    client = (socket.scope.get(USER) or "-", address_of(socket))
    if not events.share.enter(client):
        await socket.close(_TRY_AGAIN_LATER)
        return
    try:
        connection = connection_of(socket.scope)
        connection.tell(is_whole=True, is_answering=True)
        connection.admit()
        while (message := await socket.receive())["type"] == "websocket.receive":
            events.note(message.get("text") or "")
    finally:
        events.share.leave(client)


def _admits(socket: WebSocket, message: Message) -> bool:
    """Whether a first message, or the upgrade before it, authenticates, if that is required."""
    try:
        said = json.loads(message.get("text") or "")
    except ValueError:
        return False
    if not isinstance(said, dict) or said.get("type") != "auth":
        return False
    credentials: Credentials | None = socket.app.state.service.credentials
    if credentials is None or USER in socket.scope:
        return True
    token = said.get("token")
    return isinstance(token, str) and credentials.admit_token(token)


ROUTES = [WebSocketRoute("/events/in", listen)]
