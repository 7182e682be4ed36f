"""Who holds and who waits, and leases that an operator frees."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta

import pytest

from localgcl import Limiter
from tests.helpers.flavours import both_flavours
from tests.helpers.played import Clock, Processes
from tests.helpers.usage import in_use

pytest_generate_tests = both_flavours


def test_holders(
    limiter: Limiter, processes: Processes, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part of a lease has a row, with who holds it and since when."""
    monkeypatch.setattr(sys, "argv", ["/opt/report.py", "--all"])
    limiter.create("b", 5)
    limiter.create("a", 5, active_slots=1)
    first = limiter.acquire(["b", "a"], 2, holder={"job": "nightly", "run": 7})
    clock.advance(12.5)
    second = processes().ask("a")
    rows = limiter.holders()
    assert [(one.limit, one.lease) for one in rows] == [
        ("a", first.id),
        ("a", second.request.id),
        ("b", first.id),
    ]
    row = rows[0]
    assert (row.slots, row.pid) == (2, os.getpid())
    assert row.holder == '{"job":"nightly","run":7}'
    assert row.held_seconds == 12.5
    assert row.since == datetime.fromtimestamp(clock.wall - 12.5, UTC)
    assert row.since.utcoffset() == timedelta(0)
    assert row.user
    assert row.command == "/opt/report.py --all"
    assert rows[1].holder is None
    assert [one.limit for one in limiter.holders("b")] == ["b"]


def test_waiters(limiter: Limiter, processes: Processes, clock: Clock) -> None:
    """Each place in a queue has a row, in order."""
    limiter.create("a", 2)
    limiter.create("b", 1)
    limiter.acquire(["a", "b"], 1)
    processes().ask("a", occupy=2)
    clock.advance(4.5)
    processes().ask("b", "a")
    rows = limiter.waiters()
    assert [(one.limit, one.position, one.slots) for one in rows] == [
        ("a", 1, 2),
        ("a", 2, 1),
        ("b", 1, 1),
    ]
    assert [one.waited_seconds for one in rows] == [4.5, 0, 0]
    assert rows[0].since == datetime.fromtimestamp(clock.wall - 4.5, UTC)
    assert [one.position for one in limiter.waiters("b")] == [1]
    assert (limiter.read("a").waiting, limiter.read("b").waiting) == (2, 1)


def test_a_reader_sees_no_dead(limiter: Limiter, processes: Processes) -> None:
    """A look clears the dead away first, and admits who fits then."""
    limiter.create("database", 1)
    dead, alive, late = processes(), processes(), processes()
    dead.ask("database")
    waiting = alive.ask("database")
    late.ask("database")
    late.die()
    dead.die()
    limit = limiter.read("database")
    assert (limit.active_slots, limit.waiting) == (1, 0)
    assert [one.lease for one in limiter.holders()] == [waiting.request.id]
    assert limiter.waiters() == []
    assert waiting.is_woken


def test_release_frees_all_of_a_lease(limiter: Limiter, processes: Processes) -> None:
    """An operator's release frees every part of any holder, and says whether it was held."""
    limiter.create("a", 1)
    limiter.create("b", 1)
    held = processes().ask("a", "b")
    waiting = processes().ask("b")
    assert limiter.release(held.request.id) is True
    assert limiter.release(held.request.id) is False
    waiting.look()
    assert waiting.granted
    assert (in_use(limiter, "a"), in_use(limiter, "b")) == (0, 1)
    assert held.release() is False


def test_release_does_not_free_who_waits(limiter: Limiter, processes: Processes) -> None:
    """The id of a request that waits is not a lease's yet."""
    limiter.create("database", 1)
    limiter.acquire("database")
    waiting = processes().ask("database")
    assert limiter.release(waiting.request.id) is False
    assert limiter.read("database").waiting == 1
