"""Limits with a window: no more than their slots in any period of so many seconds."""

from __future__ import annotations

import pytest

from localgcl import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    Limiter,
)
from tests.helpers.database import tables
from tests.helpers.flavours import both_flavours
from tests.helpers.played import Clock, Processes
from tests.helpers.usage import in_use, is_free

pytest_generate_tests = both_flavours


@pytest.fixture(autouse=True)
def _time(clock: Clock) -> None:
    """Have every test here move its time itself."""


def takes(limiter: Limiter, name: str, slots: int = 1) -> bool:
    """Whether slots can be taken by time now."""
    try:
        limiter.rate_limit(name, slots, timeout_seconds=0)
    except AcquireConcurrencySlotTimeoutError:
        return False
    return True


def test_a_slot_comes_back_exactly_so_long_after_it_was_taken(
    limiter: Limiter, clock: Clock
) -> None:
    """Not a moment before, whatever else was taken meanwhile."""
    limiter.create("api", 2, window_seconds=60.0)
    assert takes(limiter, "api")
    clock.advance(20)
    assert takes(limiter, "api")
    assert not takes(limiter, "api")
    assert limiter.read("api").next_slot_seconds == pytest.approx(40)
    clock.advance(39.9)
    assert not takes(limiter, "api")
    clock.advance(0.1)
    assert takes(limiter, "api")
    assert not takes(limiter, "api")
    assert limiter.read("api").next_slot_seconds == pytest.approx(20)


def test_a_request_for_several_slots_waits_for_the_last_of_them(
    limiter: Limiter, clock: Clock
) -> None:
    """Those that come back before do not suffice."""
    limiter.create("api", 3, window_seconds=60.0)
    for _ in range(3):
        assert takes(limiter, "api")
        clock.advance(10)
    clock.advance(30)  # the first is back
    assert not takes(limiter, "api", 2)
    assert takes(limiter, "api")
    clock.advance(20)
    assert takes(limiter, "api", 2)


def test_what_is_in_a_block_comes_back_at_its_end(limiter: Limiter, clock: Clock) -> None:
    """Or after the window, if that is earlier, although the block goes on."""
    limiter.create("api", 1, window_seconds=60.0)
    with limiter.concurrency("api"):
        assert not is_free(limiter, "api")
    assert is_free(limiter, "api")
    with limiter.concurrency("api"):
        clock.advance(60)
        assert takes(limiter, "api")
    assert not takes(limiter, "api")


def test_waiters_are_granted_in_order_at_their_moments(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """A window later for each full window before them."""
    limiter.create("api", 2, window_seconds=60.0)
    asks = [processes().ask("api", holds=False) for _ in range(6)]
    assert [ask.granted for ask in asks] == [True, True, False, False, False, False]
    expected = [waiter.expected_seconds for waiter in limiter.waiters("api")]
    assert expected == pytest.approx([60, 60, 120, 120])
    for _ in range(2):
        clock.advance(60)
        for ask in asks:
            if not ask.granted:
                ask.look()
    assert all(ask.granted for ask in asks)


def test_several_windows_and_a_rate_in_one_request(limiter: Limiter, clock: Clock) -> None:
    """Five a second, sixty a minute, and a burst of ten at two a second."""
    limiter.create("second", 5, window_seconds=1.0)
    limiter.create("minute", 60, window_seconds=60.0)
    limiter.create("rate", 10, rate="2/s")
    names = ["second", "minute", "rate"]
    granted = 0
    for _ in range(240):
        while True:
            try:
                limiter.rate_limit(names, timeout_seconds=0)
            except AcquireConcurrencySlotTimeoutError:
                break
            granted += 1
        clock.advance(0.25)
    assert granted == 60


def test_nothing_is_left_of_what_has_come_back(limiter: Limiter, clock: Clock) -> None:
    """One row for each grant in the window, and no more."""
    limiter.create("api", 3, window_seconds=10.0)
    for _ in range(20):
        assert takes(limiter, "api", 3)
        clock.advance(10)
    assert len(tables(limiter)["taken"]) <= 1
    assert in_use(limiter, "api") == 0


def test_settled_estimates(limiter: Limiter, clock: Clock) -> None:
    """The newest slots are given back first; above the limit it is a debt."""
    limiter.create("tokens", 100, window_seconds=60.0)
    assert takes(limiter, "tokens", 60)
    clock.advance(30)
    assert takes(limiter, "tokens", 40)
    assert limiter.adjust("tokens", -50).active_slots == 50
    clock.advance(30)  # what is left of the first grant comes back
    assert limiter.read("tokens").active_slots == 0
    assert limiter.adjust("tokens", 150).available_slots == 0
    assert not takes(limiter, "tokens")
    assert limiter.read("tokens").next_slot_seconds == pytest.approx(60)
    assert limiter.adjust("tokens", -1000).active_slots == 0


def test_a_change_between_the_rules(limiter: Limiter, clock: Clock) -> None:
    """Setting the one replaces the other; what is in use stays so until the new rule ends it."""
    limiter.create("api", 2, rate="1/min")
    assert takes(limiter, "api", 2)
    changed = limiter.update("api", window_seconds=30.0)
    assert (changed.rate, changed.window_seconds, changed.active_slots) == (None, 30.0, 2)
    clock.advance(29)
    assert not takes(limiter, "api")
    clock.advance(1)
    assert takes(limiter, "api", 2)
    changed = limiter.update("api", slot_decay_per_second=1.0)
    assert (changed.window_seconds, changed.active_slots) == (0.0, 2)
    clock.advance(1)
    assert takes(limiter, "api")


def test_what_no_window_can_do(limiter: Limiter) -> None:
    """A rate as well, numbers that make no sense, and taking by time without any."""
    for wrong in (-1.0, float("nan"), float("inf"), "60", True):
        with pytest.raises((TypeError, ValueError)):
            limiter.create("api", 1, window_seconds=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not both"):
        limiter.create("api", 1, rate="1/s", window_seconds=60.0)
    assert limiter.read_all() == []
    limiter.create("plain", 1)
    with pytest.raises(ConcurrencySlotAcquisitionError, match="window"):
        limiter.rate_limit("plain")
    assert limiter.create("long", 1, window_seconds=1e30).window_seconds == 1e30
    assert takes(limiter, "long")
    assert not takes(limiter, "long")
