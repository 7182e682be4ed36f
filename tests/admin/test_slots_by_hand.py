"""Slots in use that an operator sets."""

from __future__ import annotations

import pytest

from localgcl import AcquireConcurrencySlotTimeoutError, Limiter
from tests.helpers.flavours import both_flavours
from tests.helpers.played import Clock, Processes
from tests.helpers.usage import in_use

pytest_generate_tests = both_flavours


def test_slots_set_by_hand_have_nobody_behind_them(limiter: Limiter) -> None:
    """They are in use like any others, are not shown, and no process's end frees them."""
    limiter.create("database", 3, active_slots=2)
    assert in_use(limiter, "database") == 2
    assert limiter.holders() == []
    limiter.acquire("database", timeout_seconds=0)
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.acquire("database", timeout_seconds=0)
    assert in_use(limiter, "database") == 3


def test_slots_set_by_hand_are_no_lease_to_release(limiter: Limiter) -> None:
    """They go by a reset, a deletion or another number, and by nothing else."""
    limiter.create("database", 3, active_slots=2)
    ((row,),) = limiter._database.transact(
        lambda tx: tx.execute("SELECT lease FROM leases").fetchall()
    )
    assert limiter.release(row) is False
    assert in_use(limiter, "database") == 2


def test_slots_set_by_hand_stand_in_place_of_the_leases(
    limiter: Limiter, processes: Processes
) -> None:
    """Setting them frees every lease of the limit, whose holders release nothing any more."""
    limiter.create("database", 3)
    lease = limiter.acquire("database", 2)
    waiting = [processes().ask("database", occupy=2) for _ in range(2)]
    assert limiter.update("database", active_slots=1).active_slots == 3  # 1, and the first waiter
    waiting[0].look()
    assert waiting[0].granted
    lease.release()
    assert in_use(limiter, "database") == 3
    assert limiter.update("database", active_slots=0).active_slots == 2  # the second waiter
    assert [one.slots for one in limiter.holders()] == [2]


def test_slots_set_by_hand_may_be_more_than_the_limit(limiter: Limiter) -> None:
    """An operator may close a limit for as long as it takes."""
    limiter.create("database", 3)
    assert limiter.update("database", active_slots=100).active_slots == 100
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.acquire("database", timeout_seconds=0)
    limiter.reset("database")
    assert in_use(limiter, "database") == 0


def test_slots_set_by_hand_decay(limiter: Limiter, clock: Clock) -> None:
    """With decay they are a level, which sinks and is read rounded up."""
    limiter.create("api", 5, slot_decay_per_second=0.5, active_slots=3)
    seen = []
    for _ in range(8):
        seen.append(in_use(limiter, "api"))
        clock.advance(1)
    assert seen == [3, 3, 2, 2, 1, 1, 0, 0]


def test_slots_set_by_hand_free_the_leases_of_a_decaying_limit_too(
    limiter: Limiter, clock: Clock
) -> None:
    """What was freed so is not given back again at exit."""
    limiter.create("api", 5, slot_decay_per_second=0.5)
    lease = limiter.acquire("api", 4)
    assert limiter.update("api", active_slots=3).active_slots == 3
    assert limiter.holders() == []
    clock.advance(2)
    lease.release()
    assert in_use(limiter, "api") == 2


def test_slots_set_by_hand_take_one_part_of_a_lease(limiter: Limiter) -> None:
    """A lease over several limits keeps its other parts."""
    limiter.create("a", 1)
    limiter.create("b", 1)
    lease = limiter.acquire(["a", "b"])
    limiter.update("a", active_slots=0)
    assert [one.limit for one in limiter.holders()] == ["b"]
    lease.release()
    assert limiter.holders() == []
