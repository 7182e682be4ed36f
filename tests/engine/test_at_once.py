"""A limit that this process has used before, in all that may have become of it since.

What is granted and freed at once, by what was kept of the last time, is what the general way would
have granted and freed.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from localgcl import AcquireConcurrencySlotTimeoutError, Limiter
from localgcl._liveness.lifeline import lifeline
from tests.helpers.database import tables
from tests.helpers.flavours import both_flavours
from tests.helpers.played import Clock, Process

pytest_generate_tests = both_flavours


@pytest.fixture(autouse=True)
def _known(clock: Clock, limiter: Limiter) -> None:
    """Have a limit of two slots, and use it once."""
    limiter.create("database", 2)
    limiter.acquire("database").release()


def in_use(limiter: Limiter) -> int:
    """Return the slots in use of the limit."""
    return limiter.read("database").active_slots


def is_refused(limiter: Limiter, occupy: int = 1) -> bool:
    """Try once."""
    try:
        limiter.acquire("database", occupy, timeout_seconds=0)
    except AcquireConcurrencySlotTimeoutError:
        return True
    return False


def test_it_is_full(limiter: Limiter) -> None:
    """No more slots are taken than the limit has, and they come back."""
    first = limiter.acquire("database")
    assert is_refused(limiter, 2)
    second = limiter.acquire("database")
    assert is_refused(limiter)
    for lease in (first, second):
        lease.release()
        lease.release()
    assert in_use(limiter) == 0
    assert not is_refused(limiter, 2)


def test_it_is_lowered(limiter: Limiter) -> None:
    """The limit of today counts."""
    limiter.acquire("database")
    limiter.update("database", limit=1)
    assert is_refused(limiter)


def test_it_has_come_to_decay(limiter: Limiter, clock: Clock) -> None:
    """Its slots come back by the rate, too."""
    limiter.update("database", slot_decay_per_second=0.1)
    limiter.acquire("database", 2)
    assert is_refused(limiter)
    clock.now += 10
    assert not is_refused(limiter)


def test_it_comes_to_decay_while_it_is_held(limiter: Limiter, clock: Clock) -> None:
    """What has decayed by then is not freed once more."""
    lease = limiter.acquire("database", 2)
    limiter.update("database", slot_decay_per_second=0.1)
    clock.now += 10
    assert not is_refused(limiter)
    lease.release()
    assert in_use(limiter) == 1


def test_it_is_disabled(limiter: Limiter) -> None:
    """Nothing is taken of it."""
    limiter.update("database", active=False)
    with limiter.concurrency("database", 7):
        assert in_use(limiter) == 0
        assert limiter.holders() == []


def test_it_is_another_of_that_name(limiter: Limiter) -> None:
    """The slots are the new one's."""
    limiter.delete("database")
    limiter.create("database", 1)
    with limiter.concurrency("database"):
        assert in_use(limiter) == 1
        assert is_refused(limiter)
    assert in_use(limiter) == 0


def test_it_is_missing(limiter: Limiter) -> None:
    """Its leases went with it."""
    lease = limiter.acquire("database")
    limiter.delete("database")
    lease.release()
    with limiter.concurrency("database"):
        assert tables(limiter)["leases"] == []


def test_others_wait_for_it(limiter: Limiter, processes: Callable[[], Process]) -> None:
    """Who comes later does not overtake, and who waits is served by the release."""
    lease = limiter.acquire("database")
    both = processes().ask("database", occupy=2)
    assert both.waits
    assert is_refused(limiter)
    lease.release()
    both.look()
    assert both.granted
    assert in_use(limiter) == 2


def test_an_operator_has_freed_it(limiter: Limiter) -> None:
    """What comes after is not freed in its place, nor counted."""
    lease = limiter.acquire("database", 2)
    limiter.release(lease.id)
    other = limiter.acquire("database", 2)
    lease.release()
    assert [one.lease for one in limiter.holders()] == [other.id]


def test_this_process_was_taken_for_dead(limiter: Limiter) -> None:
    """A cleaner took its lifeline, and somebody its rows: it is a new owner."""
    folder = limiter._database.transact(lambda tx: tx.folder)
    folder.discard(lifeline(folder).name)
    limiter._database.transact(lambda tx: tx.execute("DELETE FROM owners"))
    with limiter.concurrency("database") as lease:
        assert [one.lease for one in limiter.holders()] == [lease.id]
    assert in_use(limiter) == 0
