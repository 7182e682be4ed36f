"""A server that really listens, in a thread of this process, and what is asked of it."""

from __future__ import annotations

import asyncio
import json
import re
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import httpx

from localgcl.server import serving
from localgcl.server.credentials import Credentials
from tests.helpers.waiting import DEADLINE_SECONDS

LIMITS = "/api/v2/concurrency_limits"


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


TAKE = f"{LIMITS}/increment-with-lease"


def take(client: httpx.Client, *names: str, slots: int = 1, **more: Any) -> httpx.Response:
    """Ask for a lease."""
    return client.post(TAKE, json={"names": list(names), "slots": slots, **more})


def leased(client: httpx.Client, *names: str, **more: Any) -> str:
    """Take a lease that must be free, and return its id."""
    answer = take(client, *names, **more)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["lease_id"])


def give(client: httpx.Client, lease: str) -> httpx.Response:
    """Give a lease back."""
    return client.post(f"{LIMITS}/decrement-with-lease", json={"lease_id": lease})


def hold_connection(served: Served, body: dict[str, Any]) -> socket.socket:
    """Send a request and leave its answer unread."""
    content = json.dumps(body).encode()
    connection = served.connect()
    head = f"POST {TAKE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


class Process:
    """A server in a process of its own."""

    def __init__(self, path: str, *options: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "localgcl", "--db", path, "serve", "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.popen.stdout is not None
        ready, _, _ = select.select([self.popen.stdout], [], [], DEADLINE_SECONDS)
        assert ready, "it did not begin to serve"
        self.line = self.popen.stdout.readline()
        found = re.fullmatch(r"Serving (.*) at (http://\S+)/\n", self.line)
        assert found is not None, self.line or self.popen.communicate()[1]
        assert found[1] == path
        self.url = found[2]

    def client(self) -> httpx.Client:
        """Return a client of it."""
        return httpx.Client(base_url=self.url, timeout=DEADLINE_SECONDS, trust_env=False)

    def end(self, number: int) -> tuple[int, str]:
        """Send it a signal; return its exit status and what it wrote on standard error."""
        self.popen.send_signal(number)
        _, errors = self.popen.communicate(timeout=DEADLINE_SECONDS)
        return self.popen.returncode, errors
