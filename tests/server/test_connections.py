"""Connections: who is dropped for whom, and that those who may come in are always served."""

from __future__ import annotations

import base64
import functools
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from localgcl import Limiter
from localgcl.server import live, protocol, serving
from localgcl.server.connections import Connection, Connections, Share
from tests.helpers.served import LIMITS, Serve, Served, give, hold_connection, leased
from tests.helpers.waiting import DEADLINE_SECONDS, until

AUTH = "app:password"
HEADERS = {"authorization": "Basic " + base64.b64encode(AUTH.encode()).decode()}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a server take 20 connections, of which 4 are for strangers.

    It drops them for others alone, however slow the machine is.
    """
    monkeypatch.setattr(serving, "_MAX_CONNECTIONS", 20)
    monkeypatch.setattr(protocol, "REQUEST_SECONDS", 10 * DEADLINE_SECONDS)
    patient = functools.partial(uvicorn.Config, timeout_keep_alive=int(10 * DEADLINE_SECONDS))
    monkeypatch.setattr(uvicorn, "Config", patient)


def is_cut(connection: socket.socket) -> bool:
    """Whether a connection was hung up on by now; what was told before is read away.

    Head and body of an answer come apart, so that some of it may be unread.
    """
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
        return True
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


STRANGERS: dict[str, bytes] = {
    "silent": b"",
    "half a head": b"POST /api/ HTTP/1.1\r\nHost: 127.0.0.1\r\n",
    "half a body": b"POST /api/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{",
    "without credentials": b"GET /api/nothing HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "with others'": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic eDp5\r\n\r\n",
    "at what is open to all": b"GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "an upgrade and no word": b"GET /api/events/in HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
}


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("beginning", STRANGERS.values(), ids=list(STRANGERS))
def test_strangers_shut_nobody_out(serve: Serve, limiter: Limiter, beginning: bytes) -> None:
    """Far more than there is room for connect, and a lease is taken, renewed and given back."""
    limiter.create("db", 1)
    served = serve(auth=AUTH)
    with served.client(headers=HEADERS) as before:
        lease = leased(before, "db")
        strangers = [served.connect() for _ in range(3 * 20)]
        for one in strangers:
            try:
                one.sendall(beginning)
            except ConnectionError:
                continue  # it was dropped by then
        with served.client(headers=HEADERS) as after:
            for client in (before, after):
                renewed = client.post(f"{LIMITS}/leases/{lease}/renew", json={})
                assert renewed.status_code == 204
            assert give(after, lease).status_code == 204
    until(lambda: sum(not is_cut(one) for one in strangers) <= 4)


@pytest.mark.usefixtures("few")
def test_the_oldest_silent_one_is_dropped(serve: Serve) -> None:
    """And not one that has come since."""
    served = serve(auth=AUTH)
    strangers = [served.connect() for _ in range(5)]
    until(lambda: is_cut(strangers[0]))
    assert not any(map(is_cut, strangers[1:]))


@pytest.mark.usefixtures("few")
def test_who_waits_is_not_dropped(serve: Serve, limiter: Limiter) -> None:
    """However many connect meanwhile, be they strangers or not, its grant arrives."""
    limiter.create("db", 1)
    held = limiter.acquire("db")
    served = serve()
    waiting = hold_connection(served, {"names": ["db"], "slots": 1})
    until(lambda: len(limiter.waiters()) == 1)
    for _ in range(3 * 20):
        served.connect()
    for _ in range(3 * 20):
        asking = served.connect()
        asking.sendall(b"GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert asking.recv(65536).startswith(b"HTTP/1.1 200 ")
    held.release()
    assert waiting.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.usefixtures("few")
def test_idle_ones_make_room_for_others(serve: Serve) -> None:
    """A connection that was let in and asks for nothing is closed when there are too many."""
    served = serve()
    idle = []
    for _ in range(3 * 20):
        idle.append(served.connect())
        idle[-1].sendall(b"GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert idle[-1].recv(65536).startswith(b"HTTP/1.1 200 ")
    until(lambda: sum(not is_cut(one) for one in idle) <= 20)
    assert is_cut(idle[0])
    assert not is_cut(idle[-1])


@pytest.mark.usefixtures("few")
def test_more_who_wait_than_there_is_room_for(serve: Serve, limiter: Limiter) -> None:
    """They are told to ask again, and a renewal is served in between."""
    limiter.create("db", 1)
    served = serve()
    with served.client() as client:
        lease = leased(client, "db")
        for number in range(15):
            hold_connection(served, {"names": ["db"], "slots": 1, "lease_duration": 60 + number})
        for _ in range(20):
            renewed = client.post(f"{LIMITS}/leases/{lease}/renew", json={})
            assert renewed.status_code == 204


def test_descriptors_are_left_to_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are fewer than files may be open, whatever the limit on these is."""
    for soft, hard in ((64, 64), (256, 256), (1024, 1024), (1024, 4096), (1024, 10**6)):
        limits = [(soft, hard)]
        monkeypatch.setattr(resource, "getrlimit", lambda _, limits=limits: limits[-1])
        monkeypatch.setattr(resource, "setrlimit", lambda _, to, limits=limits: limits.append(to))
        most = serving._allow_connections()
        assert 32 <= most <= limits[-1][0] - min(350, limits[-1][0] // 2)
        assert limits[-1][0] <= hard
    assert most == serving._MAX_CONNECTIONS


@pytest.fixture
def narrow(path: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process that may open 256 files."""
    server = subprocess.Popen(
        [
            *("bash", "-c", 'ulimit -n 256; exec "$@"', "bash"),
            *(sys.executable, "-m", "localgcl", "--db", path, "serve", "--port", "0"),
            *("--auth", AUTH),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    yield server, server.stdout.readline().rpartition(" ")[2].strip().rstrip("/")
    server.kill()
    server.communicate()


@pytest.mark.processes
def test_a_flood_leaves_descriptors(
    narrow: tuple[subprocess.Popen[str], str], limiter: Limiter
) -> None:
    """Under a low limit on open files, too, the database can be opened and clients are served."""
    server, url = narrow
    limiter.create("db", 1)
    host, _, port = url.removeprefix("http://").partition(":")
    flood = []
    try:
        for _ in range(600):
            flood.append(socket.socket())
            flood[-1].setblocking(False)
            flood[-1].connect_ex((host, int(port)))
        with httpx.Client(
            base_url=url, headers=HEADERS, timeout=DEADLINE_SECONDS, trust_env=False
        ) as client:
            lease = leased(client, "db")
            open_files = len(os.listdir(f"/proc/{server.pid}/fd"))
            assert give(client, lease).status_code == 204
    finally:
        for one in flood:
            one.close()
    assert open_files < 200
    server.send_signal(signal.SIGTERM)
    assert server.communicate(timeout=DEADLINE_SECONDS)[1] == ""


def connected(connections: Connections, number: int) -> list[Connection]:
    """Return so many connections that are silent."""
    made = []
    for _ in range(number):
        assert not connections.is_full
        made.append(connections.add())
    return made


def test_the_account_of_connections() -> None:
    """Strangers, those let in, those who fall back, and the room that is told of."""
    connections = Connections(10)
    dropped: list[Connection] = []
    for one in connected(connections, 2):
        one.made(lambda one=one: dropped.append(one))  # type: ignore[misc]
        one.tell(is_whole=True, is_answering=True)
    assert connections.is_full  # both are answered, and dropped for nobody
    told: list[None] = []
    connections.on_room = lambda: told.append(None)
    (first, second) = tuple(connections._strangers)
    first.admit()
    assert not connections.is_full
    first.tell(is_whole=False, is_answering=False)  # half of its next request
    assert (first in connections._strangers, first in connections._admitted) == (True, False)
    assert told == [None]
    connections.add()
    assert dropped == [first]
    assert not first.is_open
    assert second.is_open


def test_a_connection_that_is_dropped_while_it_is_made() -> None:
    """It is hung up on as soon as it is there."""
    (one,) = connected(Connections(10), 1)
    one.drop()
    hung_up: list[None] = []
    one.made(lambda: hung_up.append(None))
    assert hung_up == [None]


@pytest.mark.parametrize("clients", [["a"] * 5, ["a", "b", "a", "b", "a"], list("abcde")])
def test_a_share(clients: list[str]) -> None:
    """Neither all nor one may have more than is theirs, and what is left is to be had again."""
    share = Share(4, 2)
    entered = [client for client in clients if share.enter(client)]
    assert len(entered) <= 4
    assert all(entered.count(client) <= 2 for client in clients)
    assert len(entered) == min(4, sum(min(2, clients.count(one)) for one in set(clients)))
    for client in entered:
        share.leave(client)
    assert not share._counts
    assert share.enter(clients[0])


def test_a_client_has_a_share_of_the_streams(served: Served) -> None:
    """One address opens as many as it may, another still listens, and what ends is to be had."""

    def stream(address: str) -> tuple[socket.socket, bytes]:
        connection = socket.create_connection(
            served.address, DEADLINE_SECONDS, source_address=(address, 0)
        )
        connection.sendall(b"GET /ui/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        return connection, connection.recv(65536).split(b" ")[1]

    opened = [stream("127.0.0.1") for _ in range(live.MAX_LISTENERS_OF_ONE)]
    refused, other = stream("127.0.0.1"), stream("127.0.0.2")
    assert [status for _, status in opened] == [b"200"] * live.MAX_LISTENERS_OF_ONE
    assert (refused[1], other[1]) == (b"503", b"200")
    opened[0][0].close()

    def is_to_be_had() -> bool:
        connection, status = stream("127.0.0.1")
        opened.append((connection, status))
        return status == b"200"

    until(is_to_be_had)
    for connection, _ in (*opened, refused, other):
        connection.close()
