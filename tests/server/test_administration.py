"""Limits over HTTP: created, listed, shown, changed and deleted as Prefect's clients do it."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from localgcl import Limiter
from localgcl.models import Limit
from localgcl.server import administration, shown
from tests.helpers.served import LIMITS

WHOLE = {
    "name": "web-a",
    "limit": 3,
    "active": True,
    "active_slots": 0,
    "slot_decay_per_second": 0.0,
}


def post(client: httpx.Client, **body: Any) -> httpx.Response:
    """Create a limit."""
    return client.post(f"{LIMITS}/", json=body)


def test_create(client: httpx.Client, limiter: Limiter) -> None:
    """The answer is the whole limit, in the types that strict clients need."""
    answer = post(client, **WHOLE)
    assert answer.status_code == 201
    limit = answer.json()
    assert {key: limit[key] for key in WHOLE} == WHOLE
    assert uuid.UUID(limit["id"]).version == 4
    assert limit["created"].endswith("Z")
    assert limit["updated"].endswith("Z")
    assert b'"limit":3,' in answer.content.replace(b" ", b"")
    assert (limit["denied_slots"], limit["avg_slot_occupancy_seconds"]) == (0, 2.0)
    assert limiter.read("web-a").id == limit["id"]


def test_create_with_defaults_and_without_the_slash(client: httpx.Client) -> None:
    """Name and limit will do; the path may end without its slash."""
    answer = client.post(LIMITS, content=b'{"name": "a", "limit": "2.0"}')
    assert answer.status_code == 201
    assert answer.json()["limit"] == 2
    assert (answer.json()["active"], answer.json()["slot_decay_per_second"]) == (True, 0)


def test_a_name_is_taken_once(client: httpx.Client) -> None:
    """A second limit of that name, and a rename to it, are conflicts."""
    assert post(client, name="a", limit=1).status_code == 201
    assert post(client, name="b", limit=1).status_code == 201
    again = post(client, name="a", limit=2)
    assert (again.status_code, type(again.json()["detail"])) == (409, str)
    assert client.patch(f"{LIMITS}/b", json={"name": "a"}).status_code == 409
    assert client.get(f"{LIMITS}/a").json()["limit"] == 1


def test_by_id_and_by_name(client: httpx.Client) -> None:
    """An id is read in any case and without dashes; a name as it is, spaces and all."""
    limit = post(client, name="été 1:2.3", limit=1).json()
    identity = limit["id"]
    for path in (identity, identity.upper(), identity.replace("-", ""), "%C3%A9t%C3%A9%201:2.3"):
        assert client.get(f"{LIMITS}/{path}").json() == limit
    missing = client.get(f"{LIMITS}/{uuid.uuid4()}")
    assert (missing.status_code, missing.json()) == (404, {"detail": "Concurrency Limit not found"})


def test_a_name_that_reads_as_an_id(client: httpx.Client) -> None:
    """What is nobody's id may be somebody's name."""
    name = str(uuid.uuid4())
    post(client, name=name, limit=4)
    assert client.get(f"{LIMITS}/{name}").json()["limit"] == 4


def test_names_that_paths_have(client: httpx.Client) -> None:
    """The method says whether a path means the action or the limit of that name."""
    for name in ("filter", "increment", "decrement", "increment-with-lease", "leases"):
        use(client, name)


def use(client: httpx.Client, name: str) -> None:
    """Create, show, change and delete a limit by its name."""
    post(client, name=name, limit=1)
    assert client.get(f"{LIMITS}/{name}").json()["limit"] == 1
    assert client.patch(f"{LIMITS}/{name}", json={"limit": 2}).status_code == 204
    assert [one["limit"] for one in client.post(f"{LIMITS}/filter").json()] == [2]
    assert client.delete(f"{LIMITS}/{name}").status_code == 204
    assert client.get(f"{LIMITS}/{name}").status_code == 404


def test_list(client: httpx.Client) -> None:
    """Limits come by name, in pages, 200 at the most."""
    for name in ("b", "a", "c"):
        post(client, name=name, limit=1)

    def listed(**body: Any) -> list[str]:
        return [one["name"] for one in client.post(f"{LIMITS}/filter", json=body).json()]

    assert listed(limit=100, offset=0) == listed(offset=0) == listed() == ["a", "b", "c"]
    assert listed(limit=1, offset=1) == ["b"]
    assert listed(limit=0) == listed(offset=9) == []
    refused = client.post(f"{LIMITS}/filter", json={"limit": 201})
    assert refused.status_code == 422
    assert refused.json() == {"detail": "Invalid limit: must be less than or equal to 200."}
    assert client.post(f"{LIMITS}/filter", json={"limit": -1}).status_code == 422
    assert client.post(f"{LIMITS}/filter", json={"offset": -1}).status_code == 422


def test_update_changes_what_is_given(client: httpx.Client, limiter: Limiter) -> None:
    """Each key alone, all together, and none."""
    post(client, **WHOLE)
    for change in (
        {"limit": 7},
        {"active": False},
        {"slot_decay_per_second": 0.25},
        {"name": "web-b"},
        {"denied_slots": 3},
        {},
    ):
        answer = client.patch(f"{LIMITS}/{limiter.read_all()[0].name}", json=change)
        assert (answer.status_code, answer.content) == (204, b"")
    limit = limiter.read("web-b")
    assert (limit.limit, limit.active, limit.slot_decay_per_second) == (7, False, 0.25)
    assert client.patch(f"{LIMITS}/web-a", json={"limit": 1}).status_code == 404


def test_slots_in_use_are_written(client: httpx.Client, limiter: Limiter) -> None:
    """They replace every lease, and may be more than the limit."""
    post(client, **WHOLE)
    lease = limiter.acquire("web-a")
    assert client.patch(f"{LIMITS}/web-a", json={"active_slots": 9}).status_code == 204
    assert client.get(f"{LIMITS}/web-a").json()["active_slots"] == 9
    assert not limiter.release(lease.id)
    assert client.patch(f"{LIMITS}/web-a", json={"active_slots": 0}).status_code == 204
    assert limiter.read("web-a").active_slots == 0


def test_delete(client: httpx.Client) -> None:
    """Once; then there is nothing to delete."""
    post(client, **WHOLE)
    assert [client.delete(f"{LIMITS}/web-a").status_code for _ in range(2)] == [204, 404]


BAD_LIMITS: dict[str, tuple[Any, str]] = {
    "no name": ({"limit": 1}, "name"),
    "no limit": ({"name": "a"}, "limit"),
    "a negative limit": ({"name": "a", "limit": -1}, "limit"),
    "half a slot": ({"name": "a", "limit": 0.5}, "limit"),
    "a limit that is no number": ({"name": "a", "limit": "x"}, "limit"),
    "no end of a limit": ({"name": "a", "limit": 2**53}, "limit"),
    "a limit of nothing": ({"name": "a", "limit": None}, "limit"),
    "negative slots": ({"name": "a", "limit": 1, "active_slots": -1}, "active_slots"),
    "a negative decay": ({"name": "a", "limit": 1, "slot_decay_per_second": -1}, "decay"),
    "an infinite decay": (b'{"name": "a", "limit": 1, "slot_decay_per_second": Infinity}', "decay"),
    "a decay of NaN": (b'{"name": "a", "limit": 1, "slot_decay_per_second": NaN}', "decay"),
    "a slash in the name": ({"name": "a/b", "limit": 1}, "name"),
    "an empty name": ({"name": "", "limit": 1}, "name"),
    "a name of blanks": ({"name": " ", "limit": 1}, "name"),
    "a name without end": ({"name": "a" * 256, "limit": 1}, "name"),
    "a control character": ({"name": "a\0", "limit": 1}, "name"),
    "a name that is no text": ({"name": 5, "limit": 1}, "name"),
    "half a character": (b'{"name": "\\ud800", "limit": 1}', ""),
    "another key": ({"name": "a", "limit": 1, "colour": "red"}, "colour"),
    "a list": ([], ""),
    "a text": ("a", ""),
    "nothing": (b"", ""),
    "no JSON": (b"{", ""),
    "no UTF-8": (b'{"name": "\xff", "limit": 1}', ""),
    "no end of brackets": (b"[" * 100_000, ""),
    "numbers in lists in NaN": (b'{"name": [NaN, {"a": [Infinity]}], "limit": 1}', "name"),
}


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_bad_limits(client: httpx.Client, limiter: Limiter, method: str) -> None:
    """Both shapes of the error are there: a list whose messages are shown, and a text."""
    limiter.create("old", 5)
    path = f"{LIMITS}/old" if method == "PATCH" else f"{LIMITS}/"
    for what, (body, where) in BAD_LIMITS.items():
        if method == "PATCH" and what in ("no name", "no limit"):
            continue  # which is no fault there
        content = body if isinstance(body, bytes) else json.dumps(body)
        answer = client.request(method, path, content=content)
        assert answer.status_code == 422, what
        fault = answer.json()
        assert fault["exception_message"] == "Invalid request received.", what
        assert fault["exception_detail"][0]["loc"][0] == "body", what
        assert fault["exception_detail"][0]["msg"], what
        assert where in fault["detail"], what
    assert [(one.name, one.limit) for one in limiter.read_all()] == [("old", 5)]


# What Terraform's provider sends: Go's JSON, with a newline, and floats without a point.


def terraform(client: httpx.Client, method: str, path: str, body: bytes = b"") -> httpx.Response:
    """Send a request byte for byte as the provider does."""
    headers = {
        "user-agent": "Go-http-client/1.1",
        "content-type": "application/json",
        "accept": "application/json",
    }
    url = str(client.base_url).rstrip("/") + path  # whose slashes are to stay as they are
    return client.request(method, url, content=body, headers=headers)


PLANNED = (
    b'{"active":true,"name":"x \\u0026 y","limit":10,"active_slots":0,"slot_decay_per_second":2}\n'
)


@pytest.mark.parametrize(
    "prefix",
    [
        "/api",
        "//api",
        "/api//api",
        "/api/accounts/0c5a1b3e-0000-4000-8000-000000000000"
        "/workspaces/7d1d3e21-23e6-45f7-b832-27fc318e7f46",
    ],
)
def test_terraform(client: httpx.Client, prefix: str) -> None:
    """Create, read, update, read, delete: each with the status that the provider insists on."""
    path = f"{prefix}/v2/concurrency_limits/"
    bad = terraform(client, "POST", path, PLANNED)
    assert bad.status_code == 422  # & is in no name; and the error is readable
    planned = PLANNED.replace(b"\\u0026", b"and")
    created = terraform(client, "POST", path, planned)
    assert created.status_code == 201
    assert terraform(client, "POST", path, planned).status_code == 409
    one = f"{path}{created.json()['id']}"
    assert terraform(client, "GET", one).json().items() >= json.loads(planned).items()
    for update in (
        b'{"active":false,"name":"z","limit":20,"active_slots":0,"slot_decay_per_second":1.5}\n',
        b'{"active":true,"name":"z","limit":4,"active_slots":7,"slot_decay_per_second":0.1}\n',
        b'{"active":true,"name":"z","limit":4,"active_slots":5,"slot_decay_per_second":1e6}\n',
        b'{"active":true,"name":"z","limit":4,"active_slots":3,"slot_decay_per_second":0}\n',
    ):
        answer = terraform(client, "PATCH", one, update)
        assert (answer.status_code, answer.content) == (204, b"")
        read = terraform(client, "GET", one)
        assert read.status_code == 200
        assert read.json().items() >= json.loads(update).items()
    assert b'"limit":4,' in read.content.replace(b" ", b"")
    assert terraform(client, "GET", f"{path}z").json() == read.json()
    assert [terraform(client, "DELETE", one).status_code for _ in range(2)] == [204, 404]


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_what_is_renamed_meanwhile_is_found_by_its_id(
    method: str, client: httpx.Client, limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look for its name and the change, somebody has renamed it."""
    identity = limiter.create("old", 1).id
    find = administration._find

    async def find_then_rename(request: Request) -> Limit:
        found = await find(request)
        if found.name == "old":
            await asyncio.to_thread(limiter.update, "old", new_name="new")
        return found

    monkeypatch.setattr(administration, "_find", find_then_rename)
    body = {"limit": 7} if method == "PATCH" else None
    assert client.request(method, f"{LIMITS}/{identity}", json=body).status_code == 204
    assert [(one.name, one.limit) for one in limiter.read_all()] == [("new", 7)][: bool(body)]


def test_terraform_takes_no_slots_from_holders(client: httpx.Client, limiter: Limiter) -> None:
    """It writes back what it has read, at times a while ago: nobody loses a slot by that."""
    limiter.create("db", 5)
    first = limiter.acquire("db", occupy=2)
    planned = terraform(client, "GET", f"{LIMITS}/db").json()
    assert planned["active_slots"] == 2
    second = limiter.acquire("db")
    assert client.get(f"{LIMITS}/db").json()["active_slots"] == 3  # somebody else at its address
    keys = ("active", "name", "limit", "active_slots", "slot_decay_per_second")
    body = {**{key: planned[key] for key in keys}, "limit": 9}
    identity = planned["id"]
    assert (
        terraform(client, "PATCH", f"{LIMITS}/{identity}", json.dumps(body).encode()).status_code
        == 204
    )
    # It insists on reading what it has written; from then on it sees what is.
    shown = [terraform(client, "GET", f"{LIMITS}/{identity}").json() for _ in range(2)]
    assert [one["active_slots"] for one in shown] == [2, 3]
    assert [one["limit"] for one in shown] == [9, 9]
    assert {one.lease for one in limiter.holders()} == {first.id, second.id}


def test_terraform_sets_slots_where_it_is_told_to(client: httpx.Client, limiter: Limiter) -> None:
    """A number that it has not read is a wish."""
    limiter.create("db", 5)
    limiter.acquire("db", occupy=2)
    terraform(client, "GET", f"{LIMITS}/db")
    body = b'{"active":true,"name":"db","limit":5,"active_slots":0,"slot_decay_per_second":0}\n'
    assert terraform(client, "PATCH", f"{LIMITS}/db", body).status_code == 204
    assert limiter.read("db").active_slots == 0


def test_a_number_that_was_shown_long_ago_is_a_wish(
    client: httpx.Client, limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody writes back for ever what was once there."""
    limiter.create("db", 5)
    assert client.get(f"{LIMITS}/db").json()["active_slots"] == 0
    limiter.acquire("db", occupy=2)
    monkeypatch.setattr(shown, "_SHOWN_SECONDS", 0.0)
    body = b'{"active":true,"name":"db","limit":5,"active_slots":0,"slot_decay_per_second":0}\n'
    assert terraform(client, "PATCH", f"{LIMITS}/db", body).status_code == 204
    assert limiter.read("db").active_slots == 0


def test_no_more_is_kept_of_what_was_shown_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each limit the latest values, and of the limits the latest."""
    monkeypatch.setattr(shown, "_MAX_VALUES", 2)
    monkeypatch.setattr(shown, "_MAX_SHOWN", 1)
    known = shown.ReadCache()
    for slots in (1, 2, 1, 3):
        known.note("here", "a", slots)
    assert [known.is_written_back("here", "a", slots) for slots in (1, 2, 3)] == [True, False, True]
    known.note("here", "b", 0)
    assert [known.is_written_back("here", *one) for one in (("a", 3), ("b", 0))] == [False, True]


def test_what_was_written_long_ago_is_not_shown(
    client: httpx.Client, limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads only later asks about what is."""
    monkeypatch.setattr(shown, "_WRITTEN_SECONDS", 0.0)
    limiter.create("db", 5)
    assert client.patch(f"{LIMITS}/db", json={"active_slots": 2}).status_code == 204
    limiter.reset("db")
    assert client.get(f"{LIMITS}/db").json()["active_slots"] == 0
