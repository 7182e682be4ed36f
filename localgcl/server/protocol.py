"""HTTP as uvicorn speaks it, with an end to the patience for requests that never become whole."""

from __future__ import annotations

import asyncio
import socket

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 10.0


class Protocol(H11Protocol):
    """Cuts a connection off on which a request, head and body, takes too long to arrive."""

    _cut: asyncio.TimerHandle | None = None
    _is_upgraded = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_upgraded:
            return  # it has another protocol from here on
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._expect()
        else:
            self._have()

    def connection_lost(self, exc: Exception | None) -> None:
        self._have()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._have()
        self._is_upgraded = True
        # It may be quiet for hours; the kernel finds out whether somebody is still there.
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        super().handle_websocket_upgrade(event)

    def _expect(self) -> None:
        if self._cut is None and not self.transport.is_closing():
            self._cut = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _have(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None
