"""Slots over HTTP: taken, waited for, renewed and given back."""

from __future__ import annotations

import concurrent.futures
import json
import sqlite3
import time
import uuid
from typing import Any

import httpx
import pytest

from localgcl import Limiter
from tests.helpers.served import LIMITS, TAKE, Serve, Served, give, leased, take
from tests.helpers.waiting import DEADLINE_SECONDS


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


# How long they last


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
