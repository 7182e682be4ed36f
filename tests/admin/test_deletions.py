"""Limits that are deleted or reset."""

from __future__ import annotations

import pytest

from localgcl import Limiter, LimitNotFoundError
from tests.helpers.flavours import both_flavours
from tests.helpers.played import Clock, Processes
from tests.helpers.usage import in_use

pytest_generate_tests = both_flavours


def test_delete(limiter: Limiter) -> None:
    """A deleted limit is gone with its leases, whose holders release nothing any more."""
    limiter.create("database", 1)
    limiter.create("other", 1)
    lease = limiter.acquire(["database", "other"])
    assert limiter.delete("database") is None  # type: ignore[func-returns-value]
    assert [one.name for one in limiter.read_all()] == ["other"]
    assert [one.limit for one in limiter.holders()] == ["other"]
    lease.release()
    assert limiter.holders() == []
    with pytest.raises(LimitNotFoundError):
        limiter.delete("database")


def test_delete_and_create_begins_anew(limiter: Limiter) -> None:
    """A new limit of an old name has nothing of the old one."""
    first = limiter.create("database", 1)
    lease = limiter.acquire("database")
    limiter.delete("database")
    second = limiter.create("database", 1)
    assert second.id != first.id
    assert second.active_slots == 0
    mine = limiter.acquire("database", timeout_seconds=0)
    lease.release()
    assert [one.lease for one in limiter.holders()] == [mine.id]


def test_delete_under_strict_waiters(limiter: Limiter, processes: Processes) -> None:
    """A strict waiter gets the error for a missing limit, and leaves its other queues."""
    limiter.create("database", 1)
    limiter.create("other", 1)
    limiter.acquire("database")
    strict = processes().ask("other", "database", strict=True)
    assert [one.limit for one in limiter.waiters("other")] == ["other"]
    limiter.delete("database")
    assert strict.look().reason == "missing"
    assert strict.outcome.names == ("database",)
    assert limiter.waiters() == []


def test_delete_under_other_waiters(limiter: Limiter, processes: Processes) -> None:
    """The others pass, with a warning of the name that is missing now."""
    limiter.create("database", 1)
    limiter.create("other", 1)
    limiter.acquire("database")
    waiting = processes().ask("other", "database")
    limiter.delete("database")
    waiting.look()
    assert waiting.granted
    assert waiting.outcome.missing == ("database",)
    assert [one.limit for one in limiter.holders()] == ["other"]


def test_delete_under_waiters_that_died(limiter: Limiter, processes: Processes) -> None:
    """A process that died while two of its threads waited is in nobody's way."""
    limiter.create("database", 1)
    limiter.acquire("database")
    process = processes()
    process.ask("database")
    process.ask("database")
    process.die()
    limiter.delete("database")
    assert limiter.read_all() == []


def test_a_waiter_of_a_deleted_limit_stays_clear_of_a_new_one(
    limiter: Limiter, processes: Processes
) -> None:
    """Who still waits at one limit has nothing to do with what follows after another."""
    limiter.create("kept", 1)
    limiter.create("deleted", 1)
    lease = limiter.acquire("kept")
    waiting = processes().ask("deleted", "kept")
    limiter.delete("deleted")
    limiter.create("new", 1)
    lease.release()
    waiting.look()
    assert waiting.granted
    assert in_use(limiter, "new") == 0


def test_a_cancelled_request_of_a_deleted_limit_stays_clear_of_a_new_one(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """What was taken by rate from a limit that is gone is given back to no other."""
    limiter.create("deleted", 1, slot_decay_per_second=1.0)
    taken = processes().ask("deleted", holds=False)
    limiter.delete("deleted")
    limiter.create("new", 1, slot_decay_per_second=1.0, active_slots=1)
    clock.advance(0.25)
    taken.abandon()
    assert in_use(limiter, "new") == 1


def test_reset(limiter: Limiter, processes: Processes) -> None:
    """Every slot is free again, held or set by hand, and the waiters are admitted."""
    limiter.create("database", 2, active_slots=1)
    lease = limiter.acquire("database")
    waiting = [processes().ask("database") for _ in range(3)]
    limiter.reset("database")
    for ask in waiting:
        ask.look()
    assert [ask.granted for ask in waiting] == [True, True, False]
    lease.release()
    assert in_use(limiter, "database") == 2


def test_reset_of_a_rate(limiter: Limiter, clock: Clock) -> None:
    """A reset empties a level, and a holder gives nothing back after it."""
    limiter.create("api", 4, slot_decay_per_second=0.001)
    lease = limiter.acquire("api", 4)
    limiter.reset("api")
    assert in_use(limiter, "api") == 0
    limiter.rate_limit("api", 4, timeout_seconds=0)
    clock.advance(1)
    lease.release()
    assert in_use(limiter, "api") == 4


def test_reset_takes_one_part_of_a_lease(limiter: Limiter) -> None:
    """A lease over several limits keeps its other parts."""
    limiter.create("a", 1)
    limiter.create("b", 1)
    limiter.acquire(["a", "b"])
    limiter.reset("a")
    assert [one.limit for one in limiter.holders()] == ["b"]
