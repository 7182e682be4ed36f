"""Levels and owners after a reboot, and steps of the wall clock."""

from __future__ import annotations

import pytest

from localgcl import AcquireConcurrencySlotTimeoutError, Limiter
from tests.helpers.flavours import both_flavours
from tests.helpers.played import Clock, Processes
from tests.helpers.usage import in_use, is_free

pytest_generate_tests = both_flavours


@pytest.fixture(autouse=True)
def _time(clock: Clock) -> None:
    """Have every test here move its time itself."""


@pytest.mark.parametrize(("down", "left"), [(0.0, 10), (3.0, 7), (9.5, 1), (10.0, 0), (1e6, 0)])
def test_a_level_is_brought_over_a_reboot(
    limiter: Limiter, clock: Clock, down: float, left: int
) -> None:
    """After a reboot the level has decayed by the wall-clock time that went by."""
    limiter.create("api", 10, slot_decay_per_second=1.0, active_slots=10)
    limiter.close()
    clock.reboot(down)
    assert in_use(limiter, "api") == left
    clock.advance(1)
    assert in_use(limiter, "api") == max(0, left - 1)


def test_a_level_is_never_brought_backwards(limiter: Limiter, clock: Clock) -> None:
    """A wall clock that comes back early from a reboot adds nothing and holds up nobody."""
    limiter.create("api", 10, slot_decay_per_second=1.0, active_slots=6)
    limiter.close()
    clock.reboot(-3600)
    assert in_use(limiter, "api") == 6
    clock.advance(2)
    assert in_use(limiter, "api") == 4
    limiter.rate_limit("api", 6, timeout_seconds=0)
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.rate_limit("api", timeout_seconds=0)
    limiter.rate_limit("api", timeout_seconds=1.0)


def test_reboots_add_up(limiter: Limiter, clock: Clock) -> None:
    """Each reboot is bridged by its own wall-clock time, uptime in between included."""
    limiter.create("api", 20, slot_decay_per_second=1.0, active_slots=20)
    for _ in range(3):
        clock.advance(2)
        limiter.close()
        clock.reboot(3)
        clock.advance(1)
        limiter.read_all()
    assert in_use(limiter, "api") == 2


def test_every_owner_is_dead_after_a_reboot(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """Leases and waiters of another boot are cleared by whoever looks first."""
    limiter.create("database", 1)
    limiter.create("api", 10, slot_decay_per_second=1.0)
    process = processes()
    process.ask("database", "api")
    process.ask("database")
    process.die()
    limiter.close()
    clock.reboot(3600)
    limiter.acquire("database", timeout_seconds=0)
    assert limiter.waiters() == []
    assert in_use(limiter, "api") == 0


@pytest.mark.parametrize("step", [3600.0, -3600.0])
@pytest.mark.parametrize("reopened", [True, False])
def test_a_step_of_the_wall_clock_changes_nothing(
    limiter: Limiter, processes: Processes, clock: Clock, step: float, reopened: bool
) -> None:
    """An hour either way admits nothing extra and delays nobody, also for who opens after it."""
    limiter.create("api", 2, slot_decay_per_second=0.5, active_slots=2)
    limiter.create("database", 1)
    lease = limiter.acquire("database")
    waiting = processes().ask("api", holds=False)
    clock.advance(1)
    clock.step_wall(step)
    if reopened:
        limiter.close()
    waiting.look()
    assert waiting.waits
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.rate_limit("api", timeout_seconds=0)
    assert not is_free(limiter, "database")
    (holder,) = limiter.holders("database")
    assert (holder.lease, holder.held_seconds) == (lease.id, 1)
    assert limiter.waiters("api")[0].waited_seconds == 1
    clock.advance(1)
    waiting.look()
    assert waiting.granted


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_step_of_the_wall_clock_before_a_reboot(
    limiter: Limiter, clock: Clock, step: float
) -> None:
    """A step that somebody's opening has noticed does not count as time that went by."""
    limiter.create("api", 10, slot_decay_per_second=1.0, active_slots=10)
    clock.step_wall(step)
    limiter.close()
    limiter.read_all()
    limiter.close()
    clock.reboot(4)
    assert in_use(limiter, "api") == 6
