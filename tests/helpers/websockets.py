"""A client of the server at a WebSocket, to which Prefect tells events."""

from __future__ import annotations

import json
import socket
from typing import Any, Protocol

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Message,
    Ping,
    Pong,
    Request,
    TextMessage,
)
from wsproto.utilities import RemoteProtocolError


class Listening(Protocol):
    """Where somebody listens."""

    address: tuple[str, int]

    def connect(self) -> socket.socket:
        """Return a connection to it."""


class Socket:
    """A client's end of a WebSocket."""

    def __init__(self, served: Listening, **headers: str) -> None:
        self.connection = served.connect()
        self.ws = WSConnection(ConnectionType.CLIENT)
        request = Request(
            host=f"127.0.0.1:{served.address[1]}",
            target="/api/events/in",
            subprotocols=["prefect"],
            extra_headers=[(name.encode(), value.encode()) for name, value in headers.items()],
        )
        self.connection.sendall(self.ws.send(request))

    def next(self) -> Event:
        """Return what the server sends next."""
        while True:
            for event in self.ws.events():
                return event
            received = self.connection.recv(65536)
            if not received:
                return CloseConnection(code=1006)
            try:
                self.ws.receive_data(received)
            except RemoteProtocolError as error:
                assert error.event_hint is not None
                return error.event_hint

    def tell(self, message: Any) -> None:
        """Send a text: JSON, unless it is a text already."""
        text = message if isinstance(message, str) else json.dumps(message)
        self.connection.sendall(self.ws.send(Message(data=text)))

    def said(self) -> Any:
        """Return the JSON that the server says next."""
        event = self.next()
        assert isinstance(event, TextMessage), event
        return json.loads(event.data)

    def ping(self) -> None:
        """Have the server show that it has read all before."""
        self.connection.sendall(self.ws.send(Ping(payload=b"x")))
        assert isinstance(self.next(), Pong)

    def close(self) -> None:
        """Hang up."""
        self.connection.close()


def opened(served: Listening, **headers: str) -> Socket:
    """Return a WebSocket that was accepted."""
    one = Socket(served, **headers)
    accepted = one.next()
    assert isinstance(accepted, AcceptConnection), accepted
    assert accepted.subprotocol == "prefect"
    assert accepted.extensions == []
    return one


def told(limit: str, event: str, **resource: str) -> dict[str, Any]:
    """Return an event as Prefect's client tells it."""
    return {
        "occurred": "2026-11-23T01:43:29.895305Z",
        "event": f"prefect.concurrency-limit.{event}",
        "resource": {
            "prefect.resource.id": f"prefect.concurrency-limit.{limit}",
            "prefect.resource.name": "db",
            "slots-acquired": "1",
            "limit": "100",
            **resource,
        },
        "related": [],
        "payload": {},
        "id": "8c6a2e0e-3d4b-4e0f-9d53-1d3b8f2f6a11",
        "follows": None,
    }
