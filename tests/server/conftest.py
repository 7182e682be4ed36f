"""A server that really listens, in a thread of the test's own process, and clients of it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from localgcl import Limiter
from localgcl.server import serving, waiting_room
from localgcl.server.credentials import Credentials
from tests.flavours import never_blocking

# Only a fault makes anything here take as long.
DEADLINE_SECONDS = 30.0

LIMITS = "/api/v2/concurrency_limits"


@pytest.fixture(autouse=True)
def _never_blocking() -> Iterator[None]:
    with never_blocking():
        yield


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a first request held for as long as the others, lest a slow machine cut it short."""
    monkeypatch.setattr(waiting_room, "FIRST_HOLD_SECONDS", waiting_room.NEXT_HOLD_SECONDS)


class Served:
    """A server in a thread."""

    def __init__(self, path: str, auth: str | None = None, host: str = "127.0.0.1") -> None:
        credentials = None if auth is None else Credentials(auth)
        self.sockets = serving.sockets_for(host, 0, credentials)
        self.address: tuple[str, int] = self.sockets[0].getsockname()[:2]
        self.url = serving.url_of(self.sockets[0]).rstrip("/")
        self._connections: list[socket.socket] = []
        self._opened = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: serving.Server | None = None
        self._thread = threading.Thread(target=self._run, args=(path, credentials, host))
        self._thread.start()
        assert self._opened.wait(DEADLINE_SECONDS)

    def _run(self, path: str, credentials: Credentials | None, host: str) -> None:
        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            self._server = serving.Server(path, self.sockets, credentials, host)
            await self._server.run(self._opened.set)

        asyncio.run(main())

    def end(self) -> None:
        """End it as a signal does, and wait until it has."""
        assert self._loop is not None
        assert self._server is not None
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._server.end)
        self._thread.join(DEADLINE_SECONDS)
        assert not self._thread.is_alive()

    def held(self) -> int:
        """Return how many requests it holds open."""
        assert self._server is not None
        return self._server._service.room._held

    def client(self, **options: Any) -> httpx.Client:
        """Return a client of it."""
        return httpx.Client(base_url=self.url, timeout=DEADLINE_SECONDS, trust_env=False, **options)

    def connect(self) -> socket.socket:
        """Return a bare connection to it, which is closed with the test at the latest."""
        self._connections.append(socket.create_connection(self.address, DEADLINE_SECONDS))
        return self._connections[-1]

    def hang_up(self) -> None:
        """Close every connection of the test's."""
        for connection in self._connections:
            connection.close()


Serve = Callable[..., Served]


@pytest.fixture
def serve(path: str) -> Iterator[Serve]:
    """Start servers that end with the test."""
    started: list[Served] = []

    def start(**options: Any) -> Served:
        started.append(Served(path, **options))
        return started[-1]

    yield start
    for one in started:
        one.end()
        one.hang_up()


@pytest.fixture
def served(serve: Serve) -> Served:
    """A server for this machine alone."""
    return serve()


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    """A client of it."""
    with served.client() as opened:
        yield opened


@pytest.fixture
def limiter(path: str) -> Iterator[Limiter]:
    """A limiter of the database that is served."""
    with Limiter(path) as opened:
        yield opened
