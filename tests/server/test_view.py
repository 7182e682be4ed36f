"""What the page reads: limits, holders, waiters, past, and the stream of changes."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from localgcl import AsyncLimiter, Limiter
from localgcl.server import live
from tests.helpers.served import LIMITS, Served


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the server look more often than a page needs it."""
    monkeypatch.setattr(live, "SAMPLE_SECONDS", 0.02)


def changes(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """Yield the data of each change in a stream."""
    event = ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            event = line.removeprefix("event: ")
        elif line.startswith("data: ") and event == "change":
            yield json.loads(line.removeprefix("data: "))


def test_the_page_is_there(client: httpx.Client) -> None:
    """The page and its style are served, as what they are."""
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert client.get("/static/base.css").headers["content-type"].startswith("text/css")


def test_all_limits(client: httpx.Client, limiter: Limiter) -> None:
    """Every limit is listed by name, with slots in use and waiting."""
    assert client.get("/ui/limits").json()["limits"] == []
    limiter.create("b", 2)
    limiter.create("a", 3, active_slots=1)
    found = client.get("/ui/limits").json()["limits"]
    assert [(one["name"], one["active_slots"], one["waiting"]) for one in found] == [
        ("a", 1, 0),
        ("b", 0, 0),
    ]


def test_one_limit(client: httpx.Client, limiter: Limiter) -> None:
    """Holders and waiters are there, found by id and by name."""
    limit = limiter.create("db", 1)
    lease = limiter.acquire("db", holder="<b>nightly</b>")
    waiting = threading.Thread(target=lambda: limiter.acquire("db").release())
    waiting.start()
    while not limiter.waiters():
        pass
    for key in (limit.id, "db"):
        found = client.get(f"/ui/limits/{key}").json()
        (holder,) = found["holders"]
        assert (holder["lease"], holder["holder"]) == (lease.id, "<b>nightly</b>")
        assert [one["position"] for one in found["waiters"]] == [1]
    assert client.post(f"/ui/leases/{lease.id}/release").json() == {"released": True}
    waiting.join()
    assert client.get("/ui/limits/none").status_code == 404


def test_freeing_a_lease_that_is_gone(client: httpx.Client, limiter: Limiter) -> None:
    """A second click, or an id of nothing, is told so."""
    limiter.create("db", 1)
    lease = limiter.acquire("db")
    path = f"/ui/leases/{lease.id}/release"
    assert [client.post(path).status_code for _ in range(2)] == [200, 404]
    assert client.post("/ui/leases/%F0%9F%92%A9/release").status_code == 404


def test_changes_by_any_process_are_told(served: Served, limiter: Limiter) -> None:
    """Who listens hears of what is created, taken and deleted, whoever did it."""
    with served.client() as client, client.stream("GET", "/ui/events") as response:
        heard = changes(response)
        limit = limiter.create("db", 2)
        assert [one["name"] for one in next(heard)["limits"]] == ["db"]
        lease = limiter.acquire("db")
        assert [one["active_slots"] for one in next(heard)["limits"]] == [1]
        lease.release()
        assert [one["active_slots"] for one in next(heard)["limits"]] == [0]
        limiter.delete("db")
        assert next(heard) == {"limits": [], "deleted": [limit.id]}


def test_what_was_shown_is_never_forgotten(path: str, limiter: Limiter) -> None:
    """What came and went between two looks is told of where a page has read it in between."""

    async def main() -> None:
        watched = live.Live(AsyncLimiter(path))
        listener = watched.listen()
        assert listener is not None
        heard = watched.changes(listener)
        assert b"hello" in await anext(heard)
        limit = await asyncio.to_thread(limiter.create, "db", 2)
        assert [one.name for one in await watched.read()] == ["db"]
        assert b'"name": "db"' in await anext(heard)
        await asyncio.to_thread(limiter.delete, "db")
        assert await watched.read() == []
        assert f'"deleted": ["{limit.id}"]'.encode() in await anext(heard)

    asyncio.run(main())


def test_the_past_is_kept(client: httpx.Client, limiter: Limiter) -> None:
    """What was in use when, for the chart: a point for each change."""
    limit = limiter.create("db", 5)
    for slots in (1, 4):
        limiter.update("db", active_slots=slots)
        while [p["active_slots"] for p in client.get(f"/ui/limits/{limit.id}").json()["past"]][
            -1:
        ] != [slots]:
            pass
    past = client.get("/ui/limits/db").json()["past"]
    assert [one["active_slots"] for one in past][-2:] == [1, 4]
    assert [one["at"] for one in past] == sorted(one["at"] for one in past)


def test_a_listener_too_slow_is_told_to_read_anew() -> None:
    """What it cannot take in is not kept for it without bound."""

    async def main() -> list[dict[str, Any] | None]:
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(maxsize=2)
        for number in range(5):
            live._put(queue, {"missed": True} if queue.full() else {"number": number})
        return [queue.get_nowait(), queue.get_nowait()]

    assert asyncio.run(main()) == [{"missed": True}, {"missed": True}]


def test_listening_ends_with_the_server(served: Served) -> None:
    """A stream that is open does not keep the server from its end."""
    with served.client() as client, client.stream("GET", "/ui/events") as response:
        lines = response.iter_lines()
        assert next(lines) == "retry: 2000"
        served.end()
        assert "event: change" not in list(lines)


def test_the_page_changes_limits_through_the_api(client: httpx.Client, limiter: Limiter) -> None:
    """An edit sends what was changed and nothing else is touched."""
    limit = limiter.create("db", 5, slot_decay_per_second=0.5)
    headers = {"origin": str(client.base_url).rstrip("/"), "sec-fetch-site": "same-origin"}
    answer = client.patch(f"{LIMITS}/{limit.id}", json={"limit": 7}, headers=headers)
    assert (answer.status_code, answer.content) == (204, b"")
    assert limiter.read("db").slot_decay_per_second == 0.5
    assert limiter.read("db").limit == 7
