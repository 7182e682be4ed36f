"""Serving: the sockets, the loop, and a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol

from localgcl.server.app import application
from localgcl.server.credentials import Credentials
from localgcl.server.guard import is_loopback
from localgcl.server.protocol import Protocol
from localgcl.server.service import Service

# Of every kind; clients that wait have one each, and `waiting.MAX_HELD` has to stay well below.
_MAX_CONNECTIONS = 1000
_DESCRIPTORS_BESIDE = 200

_MAX_EVENT_BYTES = 65_536
_GRACE_SECONDS = 5

_FIRST_PASSED = 3  # https://www.freedesktop.org/software/systemd/man/sd_listen_fds.html


class AddressError(Exception):
    """An address at which nothing can or may be served; the message says why."""


def sockets_for(host: str, port: int, credentials: Credentials | None) -> list[socket.socket]:
    """Return sockets that listen at an address, or those that systemd has passed.

    Without credentials only addresses of this machine's own are allowed.
    """
    listening = _passed_sockets() or _bound_sockets(host, port)
    for one in listening:
        # Head and body of an answer are written apart: the second is not to wait for the client to
        # acknowledge the first. Connections inherit it.
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        address = one.getsockname()[0]
        if credentials is None and not is_loopback(address):
            for opened in listening:
                opened.close()
            raise AddressError(
                f"{address} can be reached from elsewhere; give --auth-file FILE or --auth"
                " USER:PASSWORD to say who may come in, or serve at 127.0.0.1"
            )
    return listening


def _passed_sockets() -> list[socket.socket]:
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    number = int(os.environ.get("LISTEN_FDS", "0"))
    return [socket.socket(fileno=_FIRST_PASSED + index) for index in range(number)]


def _bound_sockets(host: str, port: int) -> list[socket.socket]:
    bound: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
        )
        for family, _, _, _, address in dict.fromkeys(found):
            # One number for all, also where the kernel chose it for the first.
            number = port or (bound[0].getsockname()[1] if bound else 0)
            bound.append(socket.create_server((address[0], number), family=family, backlog=1024))
    except (OSError, UnicodeError) as error:  # a name can be none at all
        for one in bound:
            one.close()
        reason = error.strerror if isinstance(error, OSError) else error
        raise AddressError(f"cannot serve at {host} port {port}: {reason}") from error
    return bound


def url_of(listening: socket.socket) -> str:
    """Return the address of the page at a socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


class _Server(uvicorn.Server):
    """uvicorn's, with signals left to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Server:
    """One server, from its opening to its end."""

    def __init__(
        self,
        path: str,
        listening: list[socket.socket],
        credentials: Credentials | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self._listening = listening
        self._service = Service(path, credentials)
        self._server = _Server(
            uvicorn.Config(
                application(self._service, host),
                http=Protocol,
                ws=WSProtocol,
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=_MAX_CONNECTIONS,
                timeout_graceful_shutdown=_GRACE_SECONDS,
                ws_max_size=_MAX_EVENT_BYTES,
                ws_per_message_deflate=False,
            )
        )
        self._ending: asyncio.Event = asyncio.Event()

    async def run(self, opened: Callable[[], None]) -> None:
        """Serve until `end`; `opened` is called once clients are let in."""
        _allow_descriptors()
        await self._service.start()
        serving = asyncio.create_task(self._server.serve(self._listening))
        ending = asyncio.create_task(self._ending.wait())
        try:
            opened()
            await asyncio.wait((serving, ending), return_when=asyncio.FIRST_COMPLETED)
            await self._service.close()
        finally:
            ending.cancel()
            self._server.should_exit = True
            await serving
            await self._service.limiter.aclose()

    def end(self) -> None:
        """Begin to end: answer all who wait, then stop; called again, stop at once."""
        if self._ending.is_set():
            self._server.force_exit = True
        self._ending.set()

    def end_on_signals(self) -> None:
        """Have SIGTERM and SIGINT end it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end)


def _allow_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_CONNECTIONS + _DESCRIPTORS_BESIDE
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
