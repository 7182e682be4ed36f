"""What one request may ask for and leave behind: everything has a bound."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from localgcl import Limiter
from localgcl._admin import metrics
from localgcl._admin import reading as admin_reading
from localgcl._admin.action import Action
from localgcl._storage.database import Transaction
from localgcl.server import answers, bodies, events, reading
from tests.helpers.served import LIMITS, TAKE, Serve, Served, give, leased
from tests.helpers.waiting import until
from tests.helpers.websockets import told

TOO_MUCH: dict[str, tuple[str, Any]] = {
    "names": (TAKE, {"names": [f"n{i}" for i in range(bodies.MAX_NAMES + 1)], "slots": 1}),
    "names by rate": ("increment", {"names": ["n"] * (bodies.MAX_NAMES + 1), "slots": 1}),
    "names given back": ("decrement", {"names": ["n"] * (bodies.MAX_NAMES + 1), "slots": 1}),
    "a long name": (TAKE, {"names": ["n" * 256], "slots": 1}),
    "a long name given back": ("decrement", {"names": ["n" * 100_000], "slots": 1}),
    "a long name to create": ("", {"name": "n" * 100_000, "limit": 1}),
    "slots": (TAKE, {"names": ["n"], "slots": 10**400}),
    "a limit": ("", {"name": "n", "limit": 10**400}),
    "a page": ("filter", {"limit": 10**400}),
    "an offset": ("filter", {"offset": 10**400}),
    "seconds": (TAKE, {"names": ["n"], "slots": 1, "lease_duration": 10**400}),
    "an occupancy": ("decrement", {"names": ["n"], "slots": 1, "occupancy_seconds": 1e300}),
    "a holder": (TAKE, {"names": ["n"], "slots": 1, "holder": {"type": "x" * 9999, "id": "1"}}),
    "faults": ("", {f"key {i}": i for i in range(5000)}),
    "a key": ("", {"k" * 100_000: 1}),
    "lists in names": (TAKE, {"names": [["n"] * 9] * 2000, "slots": 1}),
}


@pytest.mark.parametrize(("where", "body"), TOO_MUCH.values(), ids=list(TOO_MUCH))
def test_too_much(client: httpx.Client, where: str, body: Any) -> None:
    """It is refused, and the refusal does not repeat what was sent without end."""
    path = where if where.startswith("/") else f"{LIMITS}/{where}"
    answer = client.post(path, content=json.dumps(body))
    assert answer.status_code == 422
    assert answer.json()["detail"]
    assert len(answer.content) < 10 * answers._MAX_SHOWN_BYTES
    assert len(answer.json().get("exception_detail", [])) <= answers._MAX_FAULTS


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (f"Content-Length: {answers.MAX_BODY_BYTES + 1}", 413),
        ("Content-Length: 1000000000000", 413),
        ("Content-Length: 2\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 2", 400),
        ("Content-Length: 2\r\nContent-Length: 3", 400),
    ],
)
@pytest.mark.parametrize("sent", [b"", b"{}"])
def test_what_the_head_of_a_request_shows(
    served: Served, headers: str, status: int, sent: bytes
) -> None:
    """A body that is too large, or has no certain end, is refused before it is waited for."""
    head = f"POST {LIMITS}/filter HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n\r\n"
    one = served.connect()
    one.sendall(head.encode() + sent)
    # It is hung up on as well: what follows may be the rest of the body or another request.
    with one.makefile("rb") as answer:
        assert answer.read().startswith(f"HTTP/1.1 {status} ".encode())


def test_as_much_as_may_be(client: httpx.Client, limiter: Limiter) -> None:
    """As many names as that, of that length and in any alphabet, are taken at once."""
    names = [f"{number:03}{'漢' * 252}" for number in range(bodies.MAX_NAMES)]
    for name in names[:3]:
        limiter.create(name, 1)
    body = json.dumps({"names": names, "slots": 1}, ensure_ascii=False).encode()
    answer = client.post(TAKE, content=body)
    assert [one["name"] for one in answer.json()["limits"]] == names[:3]
    give(client, answer.json()["lease_id"])


def test_long_paths(client: httpx.Client) -> None:
    """They are those of nothing."""
    for method in ("GET", "PATCH", "DELETE"):
        answer = client.request(
            method,
            f"{LIMITS}/{'x' * 50_000}",
            content=b'{"limit": 1}' if method == "PATCH" else None,
        )
        assert answer.status_code == 404
    assert client.get(f"/ui/limits/{'x' * 50_000}").status_code == 404


def test_what_is_kept_of_headers(serve: Serve, limiter: Limiter) -> None:
    """`ps` shows the beginning of what a client calls itself, while it waits and while it holds."""
    limiter.create("db", 1)
    served = serve()
    with served.client(headers={"user-agent": "x" * 50_000}) as client:
        leased(client, "db")
        with pytest.raises(httpx.ReadTimeout):
            client.post(TAKE, json={"names": ["db"], "slots": 1}, timeout=0.5)
        until(lambda: limiter.waiters() == [])
        (holder,) = limiter.holders()
    assert holder.command == f"127.0.0.1 {'x' * 200}"


def test_events_of_all_limits_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest limit's go first."""
    monkeypatch.setattr(events, "_MAX_OF_ALL_LIMITS", 10)
    known = events.Events()
    for limit in "abcdef":
        for _ in range(3):
            known.note(json.dumps(told(limit, "acquired")))
    assert [len(known.of(limit)) for limit in "abcdef"] == [0, 0, 0, 3, 3, 3]


def _counting(part: Callable[[int, int], Action[Any]], read: list[int]) -> Any:
    def counted(after: int, most: int) -> Action[Any]:
        action = part(after, most)

        def work(tx: Transaction) -> Any:
            found = action.work(tx)
            read.append(len(found[1] if isinstance(found, tuple) else found))
            return found

        return Action(work, action.view, absent=action.absent)

    return counted


READERS = ["/ui/limits", "/metrics"]


@pytest.mark.parametrize("where", READERS)
def test_many_limits_are_read_in_parts(
    serve: Serve, limiter: Limiter, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Others come to the database in between; all are there, once each and by name."""
    monkeypatch.setattr(reading, "_AT_A_TIME", 3)
    names = [f"{number:02}" for number in range(10)]
    for name in reversed(names):
        limiter.create(name, 1)
    read: list[int] = []
    for module, name in ((admin_reading, "read_part"), (metrics, "counters_part")):
        monkeypatch.setattr(module, name, _counting(getattr(module, name), read))
    monkeypatch.setattr(reading, "counters_part", metrics.counters_part)
    with serve().client() as client:
        text = client.get(where).text
    assert max(read) == 3
    found = [name for name in names if f'"{name}"' in text]
    assert found == names
    assert [text.index(f'"{name}"') for name in names] == sorted(
        text.index(f'"{name}"') for name in names
    )


def test_pages_of_a_listing(client: httpx.Client, limiter: Limiter) -> None:
    """By name, from any offset, also beyond the end."""
    for name in "cabed":
        limiter.create(name, 1)
    for offset, limit, expected in (
        (0, 2, "ab"),
        (3, 200, "de"),
        (4, 1, "e"),
        (9, 5, ""),
        (0, 0, ""),
    ):
        answer = client.post(f"{LIMITS}/filter", json={"offset": offset, "limit": limit})
        assert "".join(one["name"] for one in answer.json()) == expected


def test_many_holders(
    client: httpx.Client, limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one limit some are shown, the oldest first, and all are counted."""
    monkeypatch.setattr("localgcl.server.view._MAX_LISTED", 3)
    limiter.create("db", 10)
    limiter.create("other", 10)
    for _ in range(6):
        leased(client, "db")
        leased(client, "other")
    shown = client.get("/ui/limits/db").json()
    assert shown["active_slots"] == 6
    assert [one["limit"] for one in shown["holders"]] == ["db"] * 3
    since = [one["since"] for one in shown["holders"]]
    assert since == sorted(since)
