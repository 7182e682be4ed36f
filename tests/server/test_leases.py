"""Slots over HTTP: taken, waited for, renewed and given back."""

from __future__ import annotations

import concurrent.futures
import json
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from uvicorn import Config

from localgcl import Limiter
from localgcl._engine import clients as _clients
from localgcl._engine.request import Request
from localgcl._storage import backlog
from localgcl._storage.database import Transaction
from localgcl.server import waiting_room
from tests.helpers.served import LIMITS, TAKE, Serve, Served, give, hold_connection, leased, take
from tests.helpers.waiting import DEADLINE_SECONDS, until


@pytest.fixture
def pool() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    """Threads for calls that wait."""
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        yield threads


def test_a_lease(client: httpx.Client, limiter: Limiter) -> None:
    """Taken over several limits at once, seen by everybody, renewed and given back."""
    ids = {name: limiter.create(name, 2).id for name in ("a", "b")}
    answer = take(
        client,
        "a",
        "b",
        slots=2,
        mode="concurrency",
        lease_duration=60,
        holder={"type": "flow_run", "id": str(uuid.uuid4())},
    )
    assert answer.status_code == 200
    found = answer.json()
    assert found["limits"] == [{"id": ids[name], "name": name, "limit": 2} for name in ("a", "b")]
    lease = str(uuid.UUID(found["lease_id"]))
    assert [one.active_slots for one in limiter.read_all()] == [2, 2]
    (holder, _) = limiter.holders()
    assert holder.pid is None
    assert holder.command.startswith("127.0.0.1 python-httpx/")
    assert json.loads(holder.holder or "")["type"] == "flow_run"
    renew = f"{LIMITS}/leases/{lease.upper()}/renew"
    assert client.post(renew, json={"lease_duration": 60.5}).status_code == 204
    assert client.post(renew).status_code == 204
    assert [give(client, lease).status_code for _ in range(2)] == [204, 204]
    assert [one.active_slots for one in limiter.read_all()] == [0, 0]
    gone = client.post(renew, json={"lease_duration": 60})
    assert gone.status_code == 410
    assert gone.json()["detail"].startswith("Lease not found")


def test_limits_that_are_not_there_or_not_active(client: httpx.Client, limiter: Limiter) -> None:
    """Unknown ones are left out of the answer, inactive ones are in it, neither is taken from."""
    limiter.create("known", 1)
    limiter.create("asleep", 1, active=False)
    names = ["none", "known", "asleep", "a/b", "", "known"]
    answer = take(client, *names).json()
    assert [one["name"] for one in answer["limits"]] == ["known", "asleep"]
    assert [one.active_slots for one in limiter.read_all()] == [0, 1]
    nothing = take(client, "none", "%").json()
    assert nothing["limits"] == []
    inactive = leased(client, "asleep", slots=9)
    for lease in (uuid.UUID(nothing["lease_id"]), inactive):
        assert client.post(f"{LIMITS}/leases/{lease}/renew", json={}).status_code == 204
        assert give(client, str(lease)).status_code == 204
        assert client.post(f"{LIMITS}/leases/{lease}/renew", json={}).status_code == 410


@pytest.mark.parametrize("free", ["reset", "delete", "update"])
def test_a_lease_that_an_operator_frees(client: httpx.Client, limiter: Limiter, free: str) -> None:
    """Its client learns of it as soon as nothing is left of the lease."""
    for name in ("a", "b"):
        limiter.create(name, 1)
    lease, other = leased(client, "a", "b"), leased(client, "none")
    more = {"active_slots": 0} if free == "update" else {}
    for name, status in (("a", 204), ("b", 410)):
        getattr(limiter, free)(name, **more)
        renewed = client.post(f"{LIMITS}/leases/{lease}/renew", json={})
        assert renewed.status_code == status
    assert client.post(f"{LIMITS}/leases/{other}/renew", json={}).status_code == 204


def test_a_lease_of_what_a_rate_gives(client: httpx.Client, limiter: Limiter) -> None:
    """There is nothing to give back, and the lease is as any other, waited for or not."""
    limiter.create("api", 1, slot_decay_per_second=50.0)
    for _ in range(2):
        lease = leased(client, "api", mode="rate_limit")
        assert client.post(f"{LIMITS}/leases/{lease}/renew", json={}).status_code == 204
        assert give(client, lease).status_code == 204


def test_what_no_wait_would_serve(client: httpx.Client, limiter: Limiter) -> None:
    """Too many slots, a limit of none, a rate that is none: the texts that clients show."""
    limiter.create("db", 2)
    limiter.create("none", 0)
    for names, slots in ((["db"], 3), (["none"], 1)):
        answer = take(client, *names, slots=slots)
        assert answer.status_code == 422
        assert answer.json() == {"detail": "Slots requested is greater than the limit"}
    rate = {"names": ["db"], "slots": 1, "mode": "rate_limit"}
    answer = client.post(f"{LIMITS}/increment", json=rate)
    assert answer.status_code == 422
    assert answer.json()["detail"] == (
        "Only concurrency limits with slot decay can be used for rate limiting. The following"
        " limits do not have a decay configured: 'db'"
    )


BAD_REQUESTS: dict[str, Any] = {
    "no names": {"slots": 1},
    "an empty list": {"names": [], "slots": 1},
    "a name that is no text": {"names": [1], "slots": 1},
    "no slots": {"names": ["db"]},
    "none": {"names": ["db"], "slots": 0},
    "fewer": {"names": ["db"], "slots": -1},
    "half a slot": {"names": ["db"], "slots": 0.5},
    "more than there can be": {"names": ["db"], "slots": 2**53},
    "another mode": {"names": ["db"], "slots": 1, "mode": "x"},
    "a moment": {"names": ["db"], "slots": 1, "lease_duration": 0},
    "a lease without end": {"names": ["db"], "slots": 1, "lease_duration": 86401},
    "a holder of another kind": {"names": ["db"], "slots": 1, "holder": {"type": "x", "id": "1"}},
    "a holder that is text": {"names": ["db"], "slots": 1, "holder": "me"},
}


def test_bad_requests(client: httpx.Client, limiter: Limiter) -> None:
    """Each is told what is wrong, and nothing is taken."""
    limiter.create("db", 5)
    for what, body in BAD_REQUESTS.items():
        answer = client.post(TAKE, json=body)
        assert answer.status_code == 422, what
        assert answer.json()["exception_detail"][0]["msg"], what
    assert client.post(f"{LIMITS}/leases/x/renew", json={}).status_code == 422
    assert client.post(f"{LIMITS}/leases/{uuid.uuid4()}/renew", content="{").status_code == 422
    assert give(client, "x").status_code == 422
    assert give(client, str(uuid.uuid4())).status_code == 204
    assert limiter.read("db").active_slots == 0


def test_a_rate(client: httpx.Client, limiter: Limiter) -> None:
    """Slots taken by rate come back by themselves, at the rate, and are held by nobody."""
    limiter.create("api", 2, slot_decay_per_second=20)
    rate = {"names": ["api"], "slots": 2, "mode": "rate_limit"}
    began = time.monotonic()
    for _ in range(4):
        answer = client.post(f"{LIMITS}/increment", json=rate)
        assert answer.status_code == 200
        assert [set(one) for one in answer.json()] == [{"id", "name", "limit"}]
    assert time.monotonic() - began > 0.29  # three times a tenth of a second was to be waited
    assert limiter.holders() == []


def test_slots_without_a_lease(client: httpx.Client, limiter: Limiter) -> None:
    """As old clients take them: nobody's, until they are given back by number."""
    limit = limiter.create("db", 3)
    body = {"names": ["db", "none"], "slots": 2}
    minimal = [{"id": limit.id, "name": "db", "limit": 3}]
    assert client.post(f"{LIMITS}/increment", json=body).json() == minimal
    assert limiter.read("db").active_slots == 2
    back = f"{LIMITS}/decrement"
    assert client.post(back, json={**body, "slots": 1, "occupancy_seconds": 0.5}).json() == minimal
    assert limiter.read("db").active_slots == 1
    assert client.post(back, json={"names": ["none"], "slots": 1}).json() == []
    assert client.post(back, json={"names": ["db"], "slots": 0}).status_code == 422


# Waiting


def test_a_request_waits_in_the_one_queue(
    served: Served, limiter: Limiter, pool: concurrent.futures.ThreadPoolExecutor
) -> None:
    """Over HTTP and in a process of this machine: who comes first is served first."""
    limiter.create("db", 1)
    held = limiter.acquire("db")
    with served.client() as one, served.client() as other:
        first = pool.submit(take, one, "db")
        until(lambda: len(limiter.waiters()) == 1)
        second = pool.submit(limiter.acquire, "db")
        until(lambda: len(limiter.waiters()) == 2)
        third = pool.submit(take, other, "db")
        until(lambda: len(limiter.waiters()) == 3)
        assert "127.0.0.1 python-httpx/" in (limiter.waiters()[0].holder or "")
        held.release()
        lease = first.result(DEADLINE_SECONDS).json()["lease_id"]
        assert not second.done()
        give(one, lease)
        second.result(DEADLINE_SECONDS).release()
        assert third.result(DEADLINE_SECONDS).status_code == 200


def test_who_is_told_to_ask_again_keeps_its_place(
    served: Served,
    limiter: Limiter,
    pool: concurrent.futures.ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After 423 and its Retry-After, the client is where it was, before those who came since."""
    monkeypatch.setattr(waiting_room, "FIRST_HOLD_SECONDS", 0.5)
    limiter.create("db", 1)
    held = limiter.acquire("db")
    with served.client() as client:
        locked = take(client, "db")
        assert (locked.status_code, locked.json()) == (423, {"detail": "Locked"})
        assert float(locked.headers["retry-after"]) == waiting_room.AGAIN_SECONDS
        (place,) = limiter.waiters()
        later = pool.submit(limiter.acquire, "db")
        until(lambda: len(limiter.waiters()) == 2)
        again = pool.submit(take, client, "db")
        held.release()
        lease = again.result(DEADLINE_SECONDS).json()["lease_id"]
        assert not later.done()
        assert [one.since for one in limiter.holders()] > [place.since]
        give(client, lease)
        later.result(DEADLINE_SECONDS).release()


def test_clients_that_ask_for_the_same_come_back_to_their_places_in_turn(
    served: Served,
    limiter: Limiter,
    pool: concurrent.futures.ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody can tell one from the other: whoever is back first has the place in front."""
    monkeypatch.setattr(waiting_room, "FIRST_HOLD_SECONDS", 1.0)
    monkeypatch.setattr(waiting_room, "GRACE_SECONDS", DEADLINE_SECONDS)
    limiter.create("db", 1)
    held = limiter.acquire("db")
    with served.client() as one, served.client() as other:
        asked = [pool.submit(take, client, "db") for client in (one, other)]
        assert [each.result(DEADLINE_SECONDS).status_code for each in asked] == [423, 423]
        assert len(limiter.waiters()) == 2
        first = pool.submit(take, one, "db")
        until(lambda: served.held() == 1)
        second = pool.submit(take, other, "db")
        until(lambda: served.held() == 2)
        held.release()
        done, _ = concurrent.futures.wait(
            (first, second), DEADLINE_SECONDS, concurrent.futures.FIRST_COMPLETED
        )
        assert done == {first}
        give(one, first.result().json()["lease_id"])
        give(other, second.result(DEADLINE_SECONDS).json()["lease_id"])


def test_no_more_are_held_than_leave_room_for_others(
    served: Served,
    limiter: Limiter,
    pool: concurrent.futures.ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond, a client is told to come again, and keeps its place; what is free it gets at once."""
    monkeypatch.setattr(waiting_room, "MAX_HELD", 1)
    limiter.create("db", 1)
    limiter.create("free", 1)
    held = limiter.acquire("db")
    with served.client() as one, served.client() as other:
        first = pool.submit(take, one, "db")
        until(lambda: len(limiter.waiters()) == 1)
        locked = take(other, "db")
        assert locked.status_code == 423
        assert float(locked.headers["retry-after"]) == waiting_room.CROWDED_AGAIN_SECONDS
        assert len(limiter.waiters()) == 2
        give(other, leased(other, "free"))
        held.release()
        give(one, first.result(DEADLINE_SECONDS).json()["lease_id"])
        give(other, leased(other, "db"))


def test_who_does_not_come_again_loses_its_place(
    served: Served, limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grant that nobody comes for is undone, and the next is served."""
    monkeypatch.setattr(waiting_room, "FIRST_HOLD_SECONDS", 0.5)
    monkeypatch.setattr(waiting_room, "GRACE_SECONDS", 0.05)
    limiter.create("db", 1)
    held = limiter.acquire("db")
    with served.client() as client:
        assert take(client, "db").status_code == 423
    held.release()
    limiter.acquire("db", timeout_seconds=DEADLINE_SECONDS).release()
    assert limiter.waiters() == []


def test_a_rate_says_exactly_when(
    served: Served, limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only time frees slots, Retry-After is that time, for each in the queue its own."""
    monkeypatch.setattr(waiting_room, "FIRST_HOLD_SECONDS", 0.5)
    limiter.create("api", 1, slot_decay_per_second=0.01, active_slots=1)
    rate = {"names": ["api"], "slots": 1, "mode": "rate_limit"}
    for ahead in (0, 1):
        with served.client(headers={"user-agent": str(ahead)}) as client:
            locked = client.post(f"{LIMITS}/increment", json=rate)
            assert locked.status_code == 423
            assert float(locked.headers["retry-after"]) == pytest.approx(100 * (ahead + 1), abs=20)


def test_who_is_to_hold_comes_back_soon(
    client: httpx.Client, limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However far its turn seems: it may be granted earlier, and nobody else has the slots then."""
    monkeypatch.setattr(waiting_room, "FIRST_HOLD_SECONDS", 0.1)
    limiter.create("api", 1, slot_decay_per_second=0.001, active_slots=1)
    locked = take(client, "api")
    assert locked.status_code == 423
    assert float(locked.headers["retry-after"]) == waiting_room.LONGEST_KEPT_SECONDS


def test_a_grant_that_cannot_be_handed_over(
    client: httpx.Client, limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk is full by then, and for its undoing too, the slot is free once it is not."""
    limiter.create("db", 1)
    monkeypatch.setattr(backlog, "_FIRST_PAUSE_SECONDS", 0.001)
    undo, failures = _clients.undo, list[None]()

    def full(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    def full_at_first(tx: Transaction, request: Request) -> None:
        if len(failures) < 3:
            failures.append(None)
            full()
        undo(tx, request)

    monkeypatch.setattr(_clients, "entrust", full)
    monkeypatch.setattr(_clients, "undo", full_at_first)
    assert take(client, "db").status_code == 503
    until(lambda: limiter.read("db").active_slots == 0)
    assert len(failures) == 3


def test_who_hangs_up_leaves_the_queue(served: Served, limiter: Limiter) -> None:
    """A client that is gone waits no more, and those behind it move up."""
    limiter.create("db", 1)
    held = limiter.acquire("db")
    connection = hold_connection(served, {"names": ["db"], "slots": 1})
    until(lambda: len(limiter.waiters()) == 1)
    connection.close()
    until(lambda: limiter.waiters() == [])
    held.release()
    assert limiter.read("db").active_slots == 0


def test_a_grant_that_nobody_can_receive_is_undone(served: Served, limiter: Limiter) -> None:
    """Clients that vanish while they are granted leave no slot behind."""
    limiter.create("db", 1)
    for _ in range(20):
        held = limiter.acquire("db", timeout_seconds=DEADLINE_SECONDS)
        connection = hold_connection(served, {"names": ["db"], "slots": 1, "lease_duration": 2})
        until(lambda: len(limiter.waiters()) == 1)
        connection.close()
        held.release()
    limiter.acquire("db", timeout_seconds=DEADLINE_SECONDS).release()
    until(lambda: limiter.read("db").active_slots == 0)


def test_a_limit_that_changes_under_a_client(
    client: httpx.Client, limiter: Limiter, pool: concurrent.futures.ThreadPoolExecutor
) -> None:
    """Lowered, it is refused; disabled or deleted, it goes on without."""
    changes: list[tuple[Callable[[], object], int]] = [
        (lambda: limiter.update("db", limit=0), 422),
        (lambda: limiter.update("db", active=False), 200),
        (lambda: limiter.delete("db"), 200),
    ]
    for number, (change, status) in enumerate(changes):
        limiter.upsert("db", 1, active_slots=1)
        asked = pool.submit(take, client, "db", slots=1, lease_duration=100 + number)
        until(lambda: len(limiter.waiters()) == 1)
        change()
        assert asked.result(DEADLINE_SECONDS).status_code == status


def test_the_server_ends_under_a_client(
    served: Served, limiter: Limiter, pool: concurrent.futures.ThreadPoolExecutor
) -> None:
    """Who waits is answered, and told to try again in a while; nothing is left of it."""
    limiter.create("db", 1)
    limiter.acquire("db")
    with served.client() as client:
        asked = pool.submit(take, client, "db")
        until(lambda: len(limiter.waiters()) == 1)
        served.end()
        answer = asked.result(DEADLINE_SECONDS)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert limiter.waiters() == []


def test_leases_outlive_the_server(serve: Serve, limiter: Limiter) -> None:
    """Another server on the same database renews and frees what the one before has granted."""
    limiter.create("db", 1)
    first = serve()
    with first.client() as client:
        lease = leased(client, "db")
    first.end()
    assert limiter.read("db").active_slots == 1
    with serve().client() as client:
        assert client.post(f"{LIMITS}/leases/{lease}/renew", json={}).status_code == 204
        assert give(client, lease).status_code == 204
    assert limiter.read("db").active_slots == 0


def test_a_lease_that_is_not_renewed_ends(client: httpx.Client, limiter: Limiter) -> None:
    """Its slot comes back to whoever waits, without any look by the server."""
    limiter.create("db", 1)
    leased(client, "db", lease_duration=1)
    with limiter.concurrency("db", timeout_seconds=DEADLINE_SECONDS) as lease:
        assert lease.waited_seconds > 0.5


def test_never_more_than_the_limit(
    served: Served, limiter: Limiter, pool: concurrent.futures.ThreadPoolExecutor
) -> None:
    """Clients and threads of this machine contend for two slots: at no moment do three hold one."""
    limiter.create("db", 2)
    holding: list[int] = []
    most: list[int] = []

    def work() -> None:
        holding.append(1)
        most.append(len(holding))
        time.sleep(0.002)
        holding.pop()

    def over_http() -> None:
        with served.client() as client:
            for _ in range(20):
                lease = leased(client, "db")
                work()
                give(client, lease)

    def directly() -> None:
        for _ in range(20):
            with limiter.concurrency("db"):
                work()

    for one in [pool.submit(task) for task in (over_http, directly) * 4]:
        one.result(DEADLINE_SECONDS)
    assert max(most) <= 2
    assert len(most) == 160
    assert limiter.read("db").active_slots == 0


def test_two_hundred_wait_at_once(served: Served, limiter: Limiter) -> None:
    """Each is served in the end, and nothing is left."""
    limiter.create("db", 5)
    held = limiter.acquire("db", occupy=5)
    connections = [
        hold_connection(served, {"names": ["db"], "slots": 1, "lease_duration": 300})
        for _ in range(200)
    ]
    until(lambda: limiter.read("db").waiting == 200)
    held.release()
    served_ids = set()
    with served.client() as client:
        for connection in connections:
            answer = connection.recv(65536).decode()
            assert answer.startswith("HTTP/1.1 200 "), answer
            lease = json.loads(answer.partition("\r\n\r\n")[2])["lease_id"]
            served_ids.add(lease)
            give(client, lease)
            connection.close()
    assert len(served_ids) == 200
    assert limiter.read("db").active_slots == 0


# To whom a place belongs


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


def test_leases_of_nothing_are_bounded(
    client: httpx.Client, limiter: Limiter, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for what is not there again and again leaves no more than so many rows."""
    monkeypatch.setattr("localgcl.server.slots._MAX_EMPTY_LEASES", 3)
    limiter.create("db", 1)
    leases = [leased(client, "none") for _ in range(8)]
    with sqlite3.connect(path) as connection:
        ((rows,),) = connection.execute("SELECT count(*) FROM owners WHERE pid IS NULL").fetchall()
    connection.close()
    assert rows == 3
    renewed = [client.post(f"{LIMITS}/leases/{one}/renew", json={}).status_code for one in leases]
    assert renewed == [410] * 5 + [204] * 3
