"""Decay that is switched on and off, and rates that change."""

from __future__ import annotations

import pytest

from localgcl import Limiter
from localgcl._engine.decay import HORIZON_SECONDS
from tests.helpers.flavours import both_flavours
from tests.helpers.played import Clock, Processes
from tests.helpers.usage import in_use, level

pytest_generate_tests = both_flavours


def test_decay_begins_at_the_slots_in_use(limiter: Limiter, clock: Clock) -> None:
    """Changed from 0, the level begins at the slots in use, set by hand or held."""
    limiter.create("api", 5, active_slots=0)
    limiter.update("api", active_slots=1)
    lease = limiter.acquire("api", 3)
    clock.advance(100)
    assert limiter.update("api", slot_decay_per_second=1.0).active_slots == 4
    clock.advance(1)
    assert in_use(limiter, "api") == 3
    lease.release()  # of its 3, one has decayed since
    assert in_use(limiter, "api") == 1
    clock.advance(1)
    assert in_use(limiter, "api") == 0


def test_decay_ends_with_the_leases_that_remain(limiter: Limiter, clock: Clock) -> None:
    """Changed to 0, the slots in use are the leases, whole, and nothing by rate or by hand."""
    limiter.create("api", 10, slot_decay_per_second=1.0, active_slots=2)
    limiter.rate_limit("api", 3)
    lease = limiter.acquire("api", 4)
    clock.advance(3)
    assert in_use(limiter, "api") == 6
    assert limiter.update("api", slot_decay_per_second=0.0).active_slots == 4
    clock.advance(100)
    assert in_use(limiter, "api") == 4
    lease.release()
    assert in_use(limiter, "api") == 0


def test_decay_that_begins_under_waiters(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """A waiter is told, and sets its timer to its own moment or an earlier one."""
    limiter.create("api", 1)
    limiter.acquire("api")
    waiting = [processes().ask("api") for _ in range(4)]
    limiter.update("api", slot_decay_per_second=20.0)
    assert [ask.is_woken for ask in waiting] == [True] * 4
    for number, ask in enumerate(waiting, 1):
        ask.look()
        due = clock.now + number / 20
        assert clock.now < ask.outcome.look_at <= due - HORIZON_SECONDS + 1e-9
    for number, ask in enumerate(waiting, 1):
        clock.now = 1_000 + number / 20
        ask.look()
        assert ask.granted
        assert ask.outcome.at == pytest.approx(clock.now)


def test_decay_off_and_on(limiter: Limiter, clock: Clock) -> None:
    """A lease that lives through both counts from the last change."""
    limiter.create("api", 10, slot_decay_per_second=1.0)
    lease = limiter.acquire("api", 4)
    clock.advance(2)
    limiter.update("api", slot_decay_per_second=0)
    clock.advance(50)
    assert limiter.update("api", slot_decay_per_second=1.0).active_slots == 4
    clock.advance(1)
    lease.release()
    assert level(limiter, "api") == 0


def test_another_rate_counts_from_its_change(limiter: Limiter, clock: Clock) -> None:
    """The level sinks at each rate for its time, and a lease gives back what is then left."""
    limiter.create("api", 10, slot_decay_per_second=1.0)
    limiter.rate_limit("api", 4)
    lease = limiter.acquire("api", 6)
    clock.advance(2)
    assert limiter.update("api", slot_decay_per_second=0.25).active_slots == 8
    clock.advance(4)
    assert in_use(limiter, "api") == 7
    lease.release()  # 6 slots, of which 2 and then 1 have decayed
    assert level(limiter, "api") == 4


@pytest.mark.parametrize("rate", [5e-324, 1e-300, 1e308])
@pytest.mark.parametrize("before", [1.0, 1e308, 0.0])
def test_extreme_rates(rate: float, before: float, limiter: Limiter, clock: Clock) -> None:
    """Any finite rate can follow any other while slots are held."""
    limiter.create("api", 10, slot_decay_per_second=before)
    leases = [limiter.acquire("api", 2, timeout_seconds=0)]
    clock.advance(0.001)
    leases.append(limiter.acquire("api", 2, timeout_seconds=0))
    assert limiter.update("api", slot_decay_per_second=rate).slot_decay_per_second == rate
    clock.advance(1)
    for lease in leases:
        lease.release()
    assert 0 <= in_use(limiter, "api") <= 4


def test_a_rate_switched_off_refuses_who_waits_for_it(
    limiter: Limiter, processes: Processes
) -> None:
    """Who waits by rate gets the error for a limit without decay; who wants to hold waits on."""
    limiter.create("api", 1, slot_decay_per_second=0.01)
    limiter.acquire("api")
    holding = processes().ask("api")
    passing = processes().ask("api", holds=False)
    limiter.update("api", slot_decay_per_second=0)
    assert passing.look().reason == "no_decay"
    assert holding.look() is holding.outcome
    assert holding.waits
