"""Serving: the sockets, the loop, and a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn

from localgcl.server.addresses import is_loopback
from localgcl.server.app import application
from localgcl.server.connections import Connections
from localgcl.server.credentials import Credentials
from localgcl.server.protocol import Protocol, WebSocket
from localgcl.server.service import Service

# Connections of every kind, if the limit on open files allows that many. Beside them there is
# always room for the database and its folder, of which up to 256 lifelines are watched
# (`_liveness.folder.MAX_WATCHED`).
_MAX_CONNECTIONS = 2000
_DESCRIPTORS_BESIDE = 350

# Connections that come together are accepted in portions. In between, the others are read.
_MAX_ACCEPTED_AT_ONCE = 32
_NONE_LEFT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_NONE_LEFT_SECONDS = 0.5
_BACKLOG = 1024

_MAX_EVENT_BYTES = 65_536
_GRACE_SECONDS = 5

_FIRST_PASSED = 3  # https://www.freedesktop.org/software/systemd/man/sd_listen_fds.html


class AddressError(Exception):
    """An address that cannot or may not be served; the message says why."""


def sockets_for(host: str, port: int, credentials: Credentials | None) -> list[socket.socket]:
    """Return sockets that listen at an address, or those that systemd has passed.

    Without credentials only this machine's own addresses are allowed.
    """
    listening = _passed_sockets() or _bound_sockets(host, port)
    for one in listening:
        # Head and body of an answer are written apart. The second must not wait until the client
        # has acknowledged the first. Connections inherit this option.
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        address = one.getsockname()[0]
        if credentials is None and not is_loopback(address):
            _close(listening)
            raise AddressError(
                f"{address} can be reached from elsewhere; give --auth-file FILE or --auth"
                " USER:PASSWORD to say who may come in, or serve at 127.0.0.1"
            )
    return listening


def _passed_sockets() -> list[socket.socket]:
    """Return the sockets that systemd has passed; a wrong descriptor is an error."""
    pid, number = os.environ.get("LISTEN_PID"), os.environ.get("LISTEN_FDS")
    if pid is None and number is None:
        return []
    if pid != str(os.getpid()):
        raise AddressError(
            f"LISTEN_PID is {_shown(pid)} and this process is {os.getpid()}: the sockets were"
            " passed to another one; have systemd start `localgcl serve` itself (a script: by"
            " `exec`), or unset LISTEN_PID and LISTEN_FDS to serve at --host and --port"
        )
    if number is None or not (number.isascii() and number.isdecimal()) or not int(number):
        raise AddressError(
            f"LISTEN_FDS is {_shown(number)}, which is no number of sockets; let systemd set it,"
            " or unset LISTEN_PID and LISTEN_FDS to serve at --host and --port"
        )
    with contextlib.ExitStack() as opened:
        passed = [
            opened.enter_context(_passed_socket(descriptor, number))
            for descriptor in range(_FIRST_PASSED, _FIRST_PASSED + int(number))
        ]
        opened.pop_all()
    return passed


def _shown(value: str | None) -> str:
    return "not set" if value is None else repr(value[:40])


def _passed_socket(descriptor: int, number: str) -> socket.socket:
    try:
        passed = socket.socket(fileno=descriptor)
    except (OSError, OverflowError):
        raise AddressError(
            f"LISTEN_FDS is {_shown(number)}, but descriptor {descriptor} is no socket; list each"
            " socket as a ListenStream= of the .socket unit"
        ) from None
    if passed.family not in (socket.AF_INET, socket.AF_INET6):
        kind = "a UNIX socket" if passed.family == socket.AF_UNIX else "of another kind"
        problem = f"is {kind}; only TCP is served: set ListenStream= to a port or HOST:PORT"
    elif passed.type != socket.SOCK_STREAM or not passed.getsockopt(
        socket.SOL_SOCKET, socket.SO_ACCEPTCONN
    ):
        problem = "does not listen for TCP connections; use ListenStream= with Accept=no"
    else:
        passed.set_inheritable(False)
        return passed
    passed.close()
    raise AddressError(f"the socket that was passed as descriptor {descriptor} {problem}")


def _close(sockets: list[socket.socket]) -> None:
    for one in sockets:
        one.close()


def _bound_sockets(host: str, port: int) -> list[socket.socket]:
    if "/" in host:
        raise AddressError(
            f"{host} is the path of a UNIX socket, and only TCP is served; give --host an address"
            " of this machine, such as 127.0.0.1"
        )
    bound: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
        )
        for family, _, _, _, address in dict.fromkeys(found):
            # The same number for all sockets, even if the kernel chose it for the first.
            number = port or (bound[0].getsockname()[1] if bound else 0)
            bound.append(
                socket.create_server((address[0], number), family=family, backlog=_BACKLOG)
            )
    except (OSError, UnicodeError) as error:  # a name can be invalid
        _close(bound)
        reason = error.strerror if isinstance(error, OSError) else error
        raise AddressError(f"cannot serve at {host} port {port}: {reason}") from error
    return bound


def url_of(listening: socket.socket) -> str:
    """Return the address of the page at a socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


class _Server(uvicorn.Server):
    """uvicorn's, with signals left to the caller."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Acceptor:
    """Accepts connections, no more at once than there is room for."""

    def __init__(
        self,
        listening: list[socket.socket],
        connections: Connections,
        server: uvicorn.Server,
    ) -> None:
        self._listening = listening
        self._connections = connections
        self._server = server
        self._making: set[asyncio.Task[object]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._is_over = False

    def start(self) -> None:
        """Start to accept."""
        if self._is_over:
            return
        loop = asyncio.get_running_loop()
        for one in self._listening:
            one.setblocking(False)
            loop.add_reader(one, self._accept, one)

    def _stop(self) -> None:
        loop = asyncio.get_running_loop()
        self._connections.on_room = None
        if self._pause is not None:
            self._pause.cancel()
        for one in self._listening:
            loop.remove_reader(one)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_MAX_ACCEPTED_AT_ONCE):
            if self._connections.is_full:
                self._stop()
                self._connections.on_room = self.start
                return
            try:
                accepted = listening.accept()[0]
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NONE_LEFT:
                    return  # of that one connection: https://man7.org/linux/man-pages/man2/accept.2.html
                self._stop()
                self._pause = asyncio.get_running_loop().call_later(_NONE_LEFT_SECONDS, self.start)
                return
            self._make(accepted)

    def _make(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        server, connection = self._server, self._connections.add()
        protocol = Protocol(server.config, server.server_state, connection, loop)
        accepted.setblocking(False)
        making: asyncio.Task[object] = loop.create_task(
            loop.connect_accepted_socket(lambda: protocol, accepted)
        )
        self._making.add(making)

        def made(_: object) -> None:
            self._making.discard(making)
            if making.cancelled() or making.exception() is not None:
                connection.lost()
                accepted.close()

        making.add_done_callback(made)

    async def end(self) -> None:
        """Stop accepting."""
        self._is_over = True
        self._stop()
        _close(self._listening)
        if self._making:
            await asyncio.wait(tuple(self._making))


class Server:
    """One server, from its opening to its end."""

    def __init__(
        self,
        path: str,
        listening: list[socket.socket],
        credentials: Credentials | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        most = _allow_connections()
        self._service = Service(path, credentials, most)
        self._server = _Server(
            uvicorn.Config(
                application(self._service, host),
                http=Protocol,
                ws=WebSocket,
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_GRACE_SECONDS,
                ws_max_size=_MAX_EVENT_BYTES,
                ws_per_message_deflate=False,
            )
        )
        self._server.config.load()
        self._acceptor = _Acceptor(listening, Connections(most), self._server)
        self._ending: asyncio.Event = asyncio.Event()

    async def run(self, opened: Callable[[], None]) -> None:
        """Serve until `end`; `opened` is called once clients are accepted."""
        try:
            await self._service.start()
            # uvicorn gets no sockets: the acceptor has them.
            serving = asyncio.create_task(self._server.serve([]))
            ending = asyncio.create_task(self._ending.wait())
            self._acceptor.start()
            try:
                opened()
                await asyncio.wait((serving, ending), return_when=asyncio.FIRST_COMPLETED)
                await self._service.close()
            finally:
                await self._acceptor.end()
                ending.cancel()
                self._server.should_exit = True
                await serving
        finally:
            await self._service.limiter.aclose()

    def end(self) -> None:
        """Start to end: answer all waiters, then stop; a second call stops immediately."""
        if self._ending.is_set():
            self._server.force_exit = True
        self._ending.set()

    def end_on_signals(self) -> None:
        """Have SIGTERM and SIGINT end it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end)


def _allow_connections() -> int:
    """Raise the limit on open files as far as needed, and return how many connections fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_CONNECTIONS + _DESCRIPTORS_BESIDE
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft == resource.RLIM_INFINITY:
        return _MAX_CONNECTIONS
    # If there are few, half of them are left to the database.
    return max(2, min(_MAX_CONNECTIONS, soft - min(_DESCRIPTORS_BESIDE, soft // 2)))
