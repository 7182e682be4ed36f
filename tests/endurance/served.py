"""Clients of `localgcl serve`: some hold and renew, and others connect and say nothing."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import random
import socket
import threading
import time
from dataclasses import replace
from typing import Any
from uuid import UUID

from tests.endurance.actor import Actor
from tests.endurance.wishes import Wish, wish

CREDENTIALS = "endurance:witness"
PORT = "ENDURANCE_PORT"

# What the server may have open for connections, and how many say nothing: more than that.
DESCRIPTORS = 450
_SILENT = 150

# Longer than anything holds up both a server and its client.
_LEASE_SECONDS = 120.0
_ANSWER_SECONDS = 60.0

_LIMITS = "/api/v2/concurrency_limits"
_LOCKED, _GONE, _NEVER, _FAILED = 423, 410, 422, (500, 503)

_SILENCE = (b"", b"GET /api/", b"POST /api/v2/concurrency_limits/increment HTTP/1.1\r\nHost: a\r\n")


class _NoAnswerError(Exception):
    """The server has hung up, or has not answered in time."""


class Client:
    """A thread that asks over HTTP, by one connection at a time."""

    def __init__(self, actor: Actor, rng: random.Random) -> None:
        self._actor = actor
        self._rng = rng
        self._connection: http.client.HTTPConnection | None = None

    def _post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(
                "127.0.0.1", int(os.environ[PORT]), timeout=_ANSWER_SECONDS
            )
        known = base64.b64encode(CREDENTIALS.encode()).decode()
        headers = {"Authorization": f"Basic {known}", "Content-Type": "application/json"}
        try:
            self._connection.request("POST", _LIMITS + path, json.dumps(body), headers)
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.hang_up()
            raise _NoAnswerError(f"{path}: {error!r}") from None
        told = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, told, json.loads(text) if text else None

    def hang_up(self) -> None:
        """Close the connection; the next request opens one."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def ask(self, wanted: Wish) -> None:
        """Ask for a lease, hold it and renew it, and give it back."""
        tag = self._actor.asks_for(wanted)
        process, _, number = tag.rpartition("-")
        holder = {"type": "flow_run", "id": str(uuid_of(process, int(number)))}
        asked = {
            "names": wanted.names,
            "slots": wanted.slots,
            "mode": "concurrency" if wanted.holds else "rate_limit",
            "lease_duration": _LEASE_SECONDS,
            "holder": holder,
        }
        patience = time.monotonic() + self._rng.choice([0, 0.5, 5])
        while True:
            status, headers, said = self._post("/increment-with-lease", asked)
            if status != _LOCKED:
                break
            if time.monotonic() >= patience:
                self.hang_up()
                self._actor.refused(tag, "locked")
                return
            time.sleep(min(5.0, float(headers["retry-after"])))
        if status == _NEVER:
            self._actor.refused(tag, "served: never")
        elif status in _FAILED:
            self._actor.note("lost", tag, f"served: {status} {said}")
        elif status == 200:
            missing = {one["name"] for one in said["limits"]} != set(wanted.names)
            if missing:  # a limit that is being deleted or renamed is taken by nobody
                self._actor.journal.write("excuse", tag)
            self._actor.note("in", tag)
            self._hold(tag, said["lease_id"], wanted)
        else:
            self._actor.journal.write("wrong", f"{tag} was answered {status} {said}")
            self._actor.refused(tag, "served: wrong")

    def _hold(self, tag: str, lease: str, wanted: Wish) -> None:
        for _ in range(self._rng.randint(1, 3)):
            time.sleep(wanted.hold_seconds)
            status, _, said = self._post(
                f"/leases/{lease}/renew", {"lease_duration": _LEASE_SECONDS}
            )
            if status == _GONE and wanted.holds:
                self._actor.note("gone", tag)
                return
            if status not in (204, *_FAILED, _GONE):
                self._actor.journal.write("wrong", f"renewing {tag}: {status} {said}")
        if wanted.holds:
            self._actor.note("out", tag)
        while (status := self._post("/decrement-with-lease", {"lease_id": lease})[0]) != 204:
            if status not in _FAILED:
                self._actor.journal.write("wrong", f"giving {tag} back: {status}")
            time.sleep(0.05)
        if wanted.holds:
            self._actor.note("free", tag)


def uuid_of(process: str, number: int) -> UUID:
    """Return the id that says of which request a lease is: Prefect's holders have such ones."""
    return UUID(int=int(process.rpartition(".")[2]) << 64 | number)


def tag_of(shown: str) -> str:
    """Return the tag of a request from what the views show of its holder."""
    _, found, text = shown.partition('{"type":')
    if not found:
        return shown
    number = UUID(json.loads('{"type":' + text)["id"]).int
    return f"{clients.__name__}.{number >> 64}-{number % 2**64}"


def clients(actor: Actor, until: float) -> None:
    """Two threads that hold and renew, and one that opens connections and says nothing."""

    def work(name: str) -> None:
        rng = actor.rng(name)
        client = Client(actor, rng)
        while actor.goes_on(until):
            wanted = replace(wish(rng), weights=None)  # Prefect's clients have one number
            try:
                client.ask(wanted)
            except _NoAnswerError as error:
                actor.journal.write("wrong", f"{actor.name}: {error}")
                return
            time.sleep(wanted.pause_seconds)
        client.hang_up()

    workers = [threading.Thread(target=work, args=(f"client {n}",)) for n in range(2)]
    for worker in workers:
        worker.start()
    _be_silent(actor, until)
    for worker in workers:
        worker.join()
    actor.journal.write("kill", actor.name, actor.now())


def _be_silent(actor: Actor, until: float) -> None:
    rng = actor.rng("silence")
    opened: list[socket.socket] = []
    address = ("127.0.0.1", int(os.environ[PORT]))
    while actor.goes_on(until):
        with contextlib.suppress(OSError):  # the oldest of them are hung up on
            opened.append(socket.create_connection(address, _ANSWER_SECONDS))
            opened[-1].sendall(rng.choice(_SILENCE))
        while len(opened) > _SILENT:
            opened.pop(rng.randrange(len(opened))).close()
        time.sleep(rng.choice([0, 0, 0.01]))
    for connection in opened:
        connection.close()


KINDS = {"clients": clients}
