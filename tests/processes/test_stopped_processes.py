"""Real processes that are stopped, or whose loop is blocked, at the head of a rate's queue."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from localgcl import Limiter
from tests.helpers.actors import Actor
from tests.helpers.waiting import until

pytestmark = pytest.mark.processes

RATE = 1.0


def granted_at(limiter: Limiter) -> float:
    """The moment as of which the last slot was granted."""
    rows = limiter._database.transact(
        lambda tx: tx.execute("SELECT level_at FROM ledger WHERE owner = -1").fetchall()
    )
    return float(rows[0][0])


def waits(limiter: Limiter, number: int) -> None:
    """Wait until so many wait."""
    until(lambda: len(limiter.waiters("api")) == number)


@pytest.mark.parametrize("how", ["stopped", "two stopped", "a blocked loop"])
def test_no_interval_is_lost(limiter: Limiter, actor: Callable[[], Actor], how: str) -> None:
    """Those behind go on at the rate: one slot for each who is stuck, and one for each of them."""
    limiter.create("api", 1, slot_decay_per_second=RATE)
    stuck = [actor() for _ in range(2 if how == "two stopped" else 1)]
    behind = [actor(), actor()]
    limiter.rate_limit("api")
    begins = granted_at(limiter)
    for place, one in enumerate(stuck):
        if how == "a blocked loop":
            assert one.do("block_loop", "api") == "blocks"
        else:
            one.tell("rate_limit", "api")
            waits(limiter, place + 1)
            one.signal(signal.SIGSTOP)
    for place, one in enumerate(behind):
        one.tell("rate_limit", "api")
        waits(limiter, len(stuck) + place + 1)
    for one in behind:
        assert one.answer() is None
    # Half an interval is for a machine that is busy; what a stuck head would cost is a whole one.
    intervals = (granted_at(limiter) - begins) * RATE
    assert len(stuck) + len(behind) - 0.001 <= intervals < len(stuck) + len(behind) + 0.5
    if how != "a blocked loop":
        for one in stuck:
            assert not one.has_answered()
            one.signal(signal.SIGCONT)
            assert one.answer() is None
    assert limiter.waiters("api") == []
