"""A limit that is paused grants nothing, by whichever way a slot is granted."""

from __future__ import annotations

import pytest

from localgcl import AcquireConcurrencySlotTimeoutError, Limiter
from tests.helpers.flavours import both_flavours
from tests.helpers.played import Clock, Processes

pytest_generate_tests = both_flavours


@pytest.fixture(autouse=True)
def _time(clock: Clock) -> None:
    """Have every test here move its time itself."""


def test_a_free_slot_of_a_limit_that_is_known(limiter: Limiter, clock: Clock) -> None:
    """Not before the end of the pause, although the limit was found free before."""
    limiter.create("database", 2)
    limiter.acquire("database").release()
    limiter.acquire("database").release()
    limiter.pause("database", 30)
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.acquire("database", timeout_seconds=0)
    clock.advance(30)
    limiter.acquire("database", timeout_seconds=0)


def test_a_slot_that_is_freed(limiter: Limiter, processes: Processes) -> None:
    """It stays free, and the first in the queue has it once the limit is resumed."""
    limiter.create("database", 1)
    lease = limiter.acquire("database")
    first, second = processes().ask("database"), processes().ask("database")
    limiter.pause("database")
    lease.release()
    first.look()
    assert (first.waits, second.waits) == (True, True)
    limiter.resume("database")
    assert first.is_woken
    for ask in (first, second):
        ask.look()
    assert (first.granted, second.waits) == (True, True)
