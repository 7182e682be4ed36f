"""To whom a place in the queue belongs."""

from __future__ import annotations

from typing import Any

import pytest
from uvicorn import Config

from localgcl import Limiter
from localgcl.server import waiting_room
from tests.helpers.served import TAKE, Serve, Served
from tests.helpers.waiting import DEADLINE_SECONDS, until


class Asking:
    """A client that asks for a slot of `db` on connections of its own."""

    def __init__(self, served: Served, headers: str = "") -> None:
        self._served = served
        self._headers = headers
        self.connection = served.connect()

    def ask(self) -> None:
        """Send the request."""
        content = b'{"names": ["db"], "slots": 1}'
        head = f"POST {TAKE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n"
        self.connection.sendall(f"{head}{self._headers}\r\n".encode() + content)

    def status(self) -> str:
        """Return the status of the answer, once it is there."""
        answer = b""
        while b"}" not in answer:
            received = self.connection.recv(65536)
            assert received
            answer += received
        return answer.split(b" ", 2)[1].decode()

    def locked(self) -> Asking:
        """Ask, and be told to ask again."""
        self.ask()
        assert self.status() == "423"
        return self

    def hang_up(self) -> None:
        """Close the connection, and open another."""
        self.connection.close()
        self.connection = self._served.connect()


@pytest.fixture
def told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have clients be told soon to ask again, and their places be kept for long."""
    monkeypatch.setattr(waiting_room, "FIRST_HOLD_SECONDS", 0.2)
    monkeypatch.setattr(waiting_room, "GRACE_SECONDS", DEADLINE_SECONDS)


@pytest.mark.usefixtures("told_soon")
@pytest.mark.parametrize("newcomers", [1, 3])
def test_a_newcomer_takes_nobodys_place(served: Served, limiter: Limiter, newcomers: int) -> None:
    """It asks in the same words, from the same address, while the first is about to ask again."""
    limiter.create("db", 1)
    held = limiter.acquire("db")
    first = Asking(served).locked()
    others = [Asking(served) for _ in range(newcomers)]
    for number, other in enumerate(others):
        other.ask()
        until(lambda number=number: limiter.read("db").waiting == number + 2)  # type: ignore[misc]
    first.ask()
    until(lambda: served.held() >= 1)
    held.release()
    assert first.status() == "200"
    assert limiter.read("db").active_slots == 1


@pytest.mark.usefixtures("told_soon")
@pytest.mark.parametrize("headers", ["", "Connection: close\r\n"])
def test_a_client_with_a_connection_for_each_request_keeps_its_place(
    served: Served, limiter: Limiter, headers: str
) -> None:
    """Once a connection is closed, by either side, its client is known by its words."""
    limiter.create("db", 1)
    held = limiter.acquire("db")
    client = Asking(served, headers).locked()
    client.hang_up()
    behind = Asking(served, "User-Agent: another\r\n")
    behind.ask()
    until(lambda: limiter.read("db").waiting == 2)
    client.ask()
    until(lambda: served.held() == 2)
    assert limiter.read("db").waiting == 2
    held.release()
    assert client.status() == "200"
    assert limiter.read("db").waiting == 1


@pytest.mark.usefixtures("told_soon")
@pytest.mark.parametrize(
    "headers",
    ["User-Agent: another\r\n", "X-Prefect-Flow-Run-Id: 2\r\n", "X-Real-IP: 10.0.0.9\r\n"],
)
def test_a_closed_connections_place_is_not_for_other_words(
    served: Served, limiter: Limiter, headers: str
) -> None:
    """Who differs in what it says of itself is another client."""
    limiter.create("db", 1)
    held = limiter.acquire("db")
    Asking(served).locked().hang_up()
    other = Asking(served, headers)
    other.ask()
    until(lambda: limiter.read("db").waiting == 2)
    held.release()


@pytest.mark.usefixtures("told_soon")
def test_clients_behind_a_proxy_keep_their_places_over_any_of_its_connections(
    served: Served, limiter: Limiter
) -> None:
    """Its connections are no client's own: who asks is told by what it forwards."""
    limiter.create("db", 1)
    held = limiter.acquire("db")
    first = Asking(served, "X-Forwarded-For: 10.0.0.1\r\n").locked()
    second = Asking(served, "X-Forwarded-For: 10.0.0.2\r\n").locked()
    assert limiter.read("db").waiting == 2
    first.connection, second.connection = second.connection, first.connection
    for number, client in enumerate((second, first)):
        client.ask()
        until(lambda number=number: served.held() == number + 1)  # type: ignore[misc]
    assert limiter.read("db").waiting == 2
    held.release()
    assert first.status() == "200"


@pytest.mark.usefixtures("told_soon")
def test_a_connection_with_a_place_stays_open(
    serve: Serve, limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server does not close what tells a client from others, before its time to ask again."""
    begin = Config.__init__

    def impatient(self: Config, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        self.timeout_keep_alive = 0.05  # type: ignore[assignment]

    monkeypatch.setattr(Config, "__init__", impatient)
    served = serve()
    limiter.create("db", 1)
    held = limiter.acquire("db")
    kept = Asking(served).locked()
    other = Asking(served)
    other.connection.sendall(b"GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    answer = b""
    while received := other.connection.recv(65536):
        answer += received
    assert answer.endswith(b"true")  # and closed after it
    kept.ask()
    until(lambda: served.held() == 1)
    held.release()
    assert kept.status() == "200"


@pytest.mark.usefixtures("told_soon")
def test_no_more_places_are_kept_than_there_is_room_for(
    serve: Serve, limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond, a client comes again without a place, and its request leaves the queue until then."""
    monkeypatch.setattr(waiting_room, "MAX_KEPT_FOR_ONE", 3)
    served = serve()
    limiter.create("db", 1)
    held = limiter.acquire("db")
    clients = [Asking(served).locked() for _ in range(6)]
    assert limiter.read("db").waiting == 3
    held.release()
    clients[0].ask()
    assert clients[0].status() == "200"
