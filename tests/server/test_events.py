"""The WebSocket on which clients tell of what they take and release."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import httpx
import pytest
from wsproto.events import (
    CloseConnection,
    RejectConnection,
)

from localgcl import Limiter
from localgcl.server import events, protocol
from tests.helpers.served import Serve, Served
from tests.helpers.websockets import Socket, opened, told

AUTH = "app:password"


def test_events_are_kept(served: Served, client: httpx.Client, limiter: Limiter) -> None:
    """Once the handshake is done, what is told of a limit is shown with it."""
    limit = limiter.create("db", 1)
    one = opened(served)
    one.ping()
    one.tell({"type": "auth", "token": None})
    assert one.said() == {"type": "auth_success"}
    for event in ("acquired", "released"):
        one.tell(told(limit.id, event))
    one.tell(told("of nobody", "acquired"))
    one.ping()
    shown = client.get("/ui/limits/db").json()["events"]
    assert [(event["event"], event["slots"]) for event in shown] == [
        ("acquired", "1"),
        ("released", "1"),
    ]
    one.close()


def test_a_quiet_listener_stays(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time in which a request is to arrive is none of a WebSocket's."""
    monkeypatch.setattr(protocol, "REQUEST_SECONDS", 3.0)
    one = opened(serve())
    one.tell({"type": "auth", "token": None})
    assert one.said() == {"type": "auth_success"}
    time.sleep(protocol.REQUEST_SECONDS + 0.2)
    one.ping()
    one.close()


def test_what_is_no_event_is_passed_by(served: Served, client: httpx.Client) -> None:
    """Clients tell of much else; strangers of anything."""
    one = opened(served)
    one.tell({"type": "auth", "token": "anything, where nothing is asked for"})
    one.said()
    for message in ("", "{", "[]", "null", "\ud7ff\0", {"event": 5}, "[" * 10_000):
        one.tell(message)
    one.tell(told("x", "acquired", **{"slots-acquired": "9" * 100}))
    one.ping()
    one.close()
    assert client.get("/api/health").status_code == 200


def test_events_are_bounded(served: Served) -> None:
    """However many are told, of however many limits, so many are kept."""
    known = events.Events()
    for number in range(events._MAX_EVENTS + 5):
        known.note(json.dumps(told("a", f"acquired {number}")))
    assert len(known.of("a")) == events._MAX_EVENTS
    assert known.of("a")[-1]["event"] == f"acquired {events._MAX_EVENTS + 4}"
    for number in range(events._MAX_LIMITS):
        known.note(json.dumps(told(f"limit {number}", "acquired")))
    assert known.of("a") == []


def test_a_message_without_end(served: Served) -> None:
    """It is longer than any event, and ends the connection."""
    one = opened(served)
    one.tell({"type": "auth", "token": None})
    one.said()
    one.tell("x" * 1_000_000)
    closed = one.next()
    assert isinstance(closed, CloseConnection)
    assert closed.code == 1009


@pytest.mark.parametrize("first", ["", "{", "[]", '{"type": "hello"}', '{"type": "auth"}'])
def test_strange_handshakes(served: Served, serve: Serve, first: str) -> None:
    """They are answered, and closed: a client that hears nothing would wait at its end."""
    one = opened(serve(auth=AUTH) if "auth" in first else served)
    one.tell(first)
    assert one.said()["type"] == "auth_failure"
    closed = one.next()
    assert isinstance(closed, CloseConnection)
    assert closed.code == 1008


def test_who_says_nothing_is_cut_off(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first message is awaited for a time."""
    monkeypatch.setattr(events, "_HANDSHAKE_SECONDS", 0.05)
    one = opened(served)
    assert one.said()["type"] == "auth_failure"


def test_credentials_on_the_way(serve: Serve) -> None:
    """In the header of the upgrade, or as the token of the first message; wrong ones are not."""
    served = serve(auth=AUTH)
    header = "Basic " + base64.b64encode(AUTH.encode()).decode()
    for headers, token in (({"authorization": header}, None), ({}, AUTH)):
        one = opened(served, **headers)
        one.tell({"type": "auth", "token": token})
        assert one.said() == {"type": "auth_success"}
        one.close()
    wrong: tuple[Any, ...] = (None, "", "app", "app:passwort", 5, [AUTH])
    for said in wrong:
        one = opened(served)
        one.tell({"type": "auth", "token": said})
        assert one.said()["type"] == "auth_failure"
    rejected = Socket(served, authorization="Basic eA==").next()
    assert isinstance(rejected, RejectConnection)
    assert rejected.status_code == 403


@pytest.mark.parametrize(
    "headers", [{"origin": "https://attacker.example"}, {"sec-fetch-site": "cross-site"}]
)
def test_other_sites_tell_nothing(served: Served, headers: dict[str, str]) -> None:
    """A page of another site cannot open a WebSocket here."""
    rejected = Socket(served, **headers).next()
    assert isinstance(rejected, RejectConnection)


def test_the_server_ends_under_it(served: Served) -> None:
    """An open WebSocket is closed, and does not keep the server."""
    one = opened(served)
    one.tell({"type": "auth", "token": None})
    one.said()
    served.end()
    assert isinstance(one.next(), CloseConnection)
