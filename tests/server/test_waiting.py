"""Requests for slots that wait, and how they end."""

from __future__ import annotations

import concurrent.futures
import json
import sqlite3
from collections.abc import Callable

import httpx
import pytest

from localgcl import Limiter
from localgcl._engine import clients as _clients
from localgcl._engine.request import Request
from localgcl._storage import backlog
from localgcl._storage.database import Transaction
from localgcl.server import waiting_room
from tests.helpers.served import LIMITS, Served, give, hold_connection, leased, take
from tests.helpers.waiting import DEADLINE_SECONDS, until


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

    monkeypatch.setattr(_clients, "assign_to_client", full)
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
