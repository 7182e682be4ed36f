"""Templates, windows and pauses over HTTP, for clients that know nothing of them."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from localgcl import Limiter
from localgcl.server import waiting_room
from tests.helpers.served import LIMITS, give, take

KEYS = ["customer:42", "customer:a/b%c&d<e>", "customer:/", "customer://x//", "customer:", "/"]


@pytest.fixture
def known(limiter: Limiter) -> Limiter:
    """A limiter with a template for customers, and one for everything else."""
    limiter.create("customer:*", 1)
    limiter.create("*", 2)
    return limiter


def of(name: str) -> str:
    """Return the path of a limit, its name encoded whole."""
    return f"{LIMITS}/{quote(name, safe='')}"


@pytest.mark.parametrize("name", KEYS)
def test_a_key_is_a_limit_to_its_clients(name: str, client: httpx.Client, known: Limiter) -> None:
    """It is taken, shown with what is in use, and given back, whatever its name contains."""
    taken = take(client, name)
    assert taken.status_code == 200
    (limit,) = taken.json()["limits"]
    assert (limit["name"], limit["limit"]) == (name, known.read(name).limit)
    shown = client.get(of(name)).json()
    assert (shown["name"], shown["active_slots"]) == (name, 1)
    assert uuid.UUID(shown["id"]) == uuid.UUID(limit["id"])
    assert client.get(f"/ui/limits/{quote(name, safe='')}").json()["template"] == shown["template"]
    assert [one.limit for one in known.holders()] == [name]
    give(client, taken.json()["lease_id"])
    assert client.get(of(name)).json()["active_slots"] == 0
    assert known.holders() == []


def test_a_path_with_plain_slashes_is_no_name(client: httpx.Client, known: Limiter) -> None:
    """Only what a client has encoded belongs to the name."""
    for path in ("a/b", "leases/x/renew", "x/", "/"):
        assert client.get(f"{LIMITS}/{path}").status_code in (404, 405), path
    assert client.get(f"{LIMITS}/a%2Fb").status_code == 200


def test_keys_are_changed_by_their_template(client: httpx.Client, known: Limiter) -> None:
    """A change to a key says which template it is one for; a reset is the key's own."""
    take(client, "customer:a/b")
    for answer in (
        client.patch(of("customer:a/b"), json={"limit": 5}),
        client.delete(of("customer:a/b")),
    ):
        assert answer.status_code == 404
        assert "'customer:*'" in answer.json()["detail"]
    assert client.patch(of("customer:a/b"), json={"active_slots": 0}).status_code == 204
    assert known.holders() == []


def test_a_template(client: httpx.Client, known: Limiter) -> None:
    """It is listed with the sums over its keys; only resetting it may write them."""
    for name in ("customer:1", "customer:2"):
        take(client, name)
    (shown,) = [
        one for one in client.post(f"{LIMITS}/filter").json() if one["name"] == "customer:*"
    ]
    assert (shown["limit"], shown["active_slots"], shown["keys"]) == (1, 2, 2)
    page = client.get(f"/ui/limits/{shown['id']}").json()
    assert [one["name"] for one in page["keys_in_use"]] == ["customer:1", "customer:2"]
    assert [one["limit"] for one in page["holders"]] == ["customer:1", "customer:2"]
    refused = client.patch(of("customer:*"), json={"active_slots": 1})
    assert refused.status_code == 422
    assert refused.json()["exception_detail"][0]["loc"] == ["body", "active_slots"]
    assert client.patch(of("customer:*"), json={"active_slots": 0, "limit": 3}).status_code == 204
    assert (known.read("customer:*").active_slots, known.read("customer:*").limit) == (0, 3)
    assert client.get(f"/ui/limits/{shown['id']}").json()["keys_in_use"] == []


def test_a_template_cannot_be_requested(client: httpx.Client, known: Limiter) -> None:
    """Its own name is no key."""
    refused = take(client, "customer:*")
    assert refused.status_code == 422
    assert "template" in refused.json()["detail"]


def test_an_inactive_key_is_listed(client: httpx.Client, known: Limiter) -> None:
    """It grants, takes nothing, and a strict client sees that it exists."""
    known.update("customer:*", active=False)
    taken = take(client, "customer:9").json()
    assert [one["name"] for one in taken["limits"]] == ["customer:9"]
    assert known.read("customer:*").active_slots == 0


def by_rate(client: httpx.Client, name: str) -> httpx.Response:
    """Take a slot by rate."""
    body = {"names": [name], "slots": 1, "mode": "rate_limit"}
    return client.post(f"{LIMITS}/increment", json=body)


def test_a_window(client: httpx.Client, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full one is locked for as long as the window says; it is created and changed as a field."""
    monkeypatch.setattr(waiting_room, "FIRST_HOLD_SECONDS", 0.05)
    body: dict[str, Any] = {"name": "sms", "limit": 2, "window_seconds": 3600}
    made = client.post(f"{LIMITS}/", json=body)
    assert (made.status_code, made.json()["window_seconds"]) == (201, 3600.0)
    assert [by_rate(client, "sms").status_code for _ in range(2)] == [200, 200]
    locked = by_rate(client, "sms")
    assert locked.status_code == 423
    assert 3500 < float(locked.headers["retry-after"]) <= 3600
    both = {**body, "name": "both", "slot_decay_per_second": 1}
    assert client.post(f"{LIMITS}/", json=both).status_code == 422
    assert client.patch(of("sms"), json={"slot_decay_per_second": 5}).status_code == 204
    assert (limiter.read("sms").window_seconds, limiter.read("sms").rate) == (0.0, "5/s")
    assert client.patch(of("sms"), json={"window_seconds": -1}).status_code == 422


@pytest.mark.parametrize("seconds", [None, 20.0])
def test_a_pause(
    seconds: float | None, client: httpx.Client, limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is locked until its end, or for as long as a place is kept where nobody knows the end."""
    monkeypatch.setattr(waiting_room, "FIRST_HOLD_SECONDS", 0.05)
    limiter.create("db", 1)
    limiter.create("api", 1, rate="1000/s")
    limiter.pause("db", seconds)
    limiter.pause("api", seconds)
    for locked in (take(client, "db"), by_rate(client, "api")):
        assert locked.status_code == 423
        after = float(locked.headers["retry-after"])
        assert 0 < after <= (seconds or waiting_room.LONGEST_KEPT_SECONDS)
    paused = client.get(of("db")).json()["paused_until"]
    assert (paused == "9999-12-31T23:59:59Z") is (seconds is None)
