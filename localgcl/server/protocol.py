"""HTTP and WebSockets as uvicorn implements them, with a record of each connection.

Requests that never become complete are cut off after a time.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from uvicorn.server import ServerState

from localgcl.server.connections import STATE_KEY, Connection

REQUEST_SECONDS = 10.0


class Protocol(H11Protocol):
    """Cuts a connection off if a request on it, head and body, takes too long to arrive."""

    _cut: asyncio.TimerHandle | None = None
    _is_upgraded = False

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        connection: Connection,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        # Every scope has a copy of the state. So the handler of a request finds its connection
        # there.
        super().__init__(config, server_state, {STATE_KEY: connection}, loop)
        self._connection = connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._connection.made(transport.abort)
        self._expect()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_upgraded:
            return  # it has another protocol from here on
        self._account()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._is_upgraded:
            self._account()

    def connection_lost(self, exc: Exception | None) -> None:
        self._have()
        self._connection.lost()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        if self._connection.places:
            # Its client was told to ask again, and is recognized by this connection when it does.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
            return
        super().timeout_keep_alive_handler()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._have()
        self._is_upgraded = True
        # It may be quiet for hours. The kernel finds out whether the client is still there.
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        super().handle_websocket_upgrade(event)

    def _account(self) -> None:
        """Note how far the request has come that is arriving or being answered."""
        state = self.conn.their_state
        is_arriving = state is h11.SEND_BODY or (
            state is h11.IDLE and bool(self.conn.trailing_data[0])
        )
        if is_arriving:
            self._expect()
        elif state is not h11.IDLE or self.cycle is not None:
            self._have()
        is_answering = self.cycle is not None and not self.cycle.response_complete
        self._connection.tell(
            is_whole=not is_arriving, is_answering=is_answering and not is_arriving
        )

    def _expect(self) -> None:
        if self._cut is None and not self.transport.is_closing():
            self._cut = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _have(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None


class WebSocket(WSProtocol):
    """A connection that was upgraded."""

    def connection_lost(self, exc: Exception | None) -> None:
        connection: Any = self.app_state[STATE_KEY]
        connection.lost()
        super().connection_lost(exc)
