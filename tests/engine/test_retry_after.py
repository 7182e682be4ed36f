"""What a time-out says of the moment at which a slot is expected."""

from __future__ import annotations

import pytest

from localgcl import AcquireConcurrencySlotTimeoutError, Limiter
from tests.helpers.flavours import both_flavours
from tests.helpers.played import Clock, Processes

pytest_generate_tests = both_flavours


@pytest.fixture(autouse=True)
def _time(clock: Clock) -> None:
    """Have every test here move its time itself."""


def retry_after(limiter: Limiter, seconds: float, name: str = "api", occupy: int = 1) -> float:
    """Return what a request says that was not granted in time; infinity if nothing."""
    with pytest.raises(AcquireConcurrencySlotTimeoutError) as caught:
        limiter.acquire(name, occupy, timeout_seconds=seconds)
    after = caught.value.retry_after_seconds
    assert ("localgcl ps" in str(caught.value)) is (after is None)
    return float("inf") if after is None else after


def test_a_rate_says_when(limiter: Limiter) -> None:
    """It is the moment of a new request, after what was waited."""
    limiter.create("api", 1, slot_decay_per_second=0.125)
    limiter.rate_limit("api")
    assert retry_after(limiter, 0) == pytest.approx(8)
    assert retry_after(limiter, 3) == pytest.approx(5)


def test_a_window_says_when(limiter: Limiter, clock: Clock) -> None:
    """It is when enough of the oldest slots come back."""
    limiter.create("api", 2, window_seconds=60)
    limiter.rate_limit("api")
    clock.now += 10
    limiter.rate_limit("api")
    assert retry_after(limiter, 0) == pytest.approx(50)
    assert retry_after(limiter, 0, occupy=2) == pytest.approx(60)


def test_only_a_release_can_tell(limiter: Limiter) -> None:
    """Without rate or window, nobody knows."""
    limiter.create("api", 1)
    limiter.acquire("api")
    assert retry_after(limiter, 0) == float("inf")
    assert retry_after(limiter, 2) == float("inf")


def test_the_end_of_a_pause_says_when(limiter: Limiter) -> None:
    """Of one without an end, only `resume` can tell."""
    limiter.create("api", 1)
    limiter.pause("api", 30)
    assert retry_after(limiter, 0) == pytest.approx(30)
    assert retry_after(limiter, 10) == pytest.approx(20)
    limiter.pause("api")
    assert retry_after(limiter, 0) == float("inf")


def test_it_is_behind_all_who_wait(limiter: Limiter, processes: Processes) -> None:
    """Who asks again comes after those who wait by then."""
    limiter.create("api", 1, slot_decay_per_second=0.125)
    limiter.rate_limit("api")
    assert processes().ask("api", holds=False).waits
    assert retry_after(limiter, 0) == pytest.approx(16)


def test_of_several_limits_the_last_one_counts(limiter: Limiter) -> None:
    """One that only a release can tell of leaves nothing to tell."""
    for name, rate in (("slow", 0.125), ("fast", 0.5)):
        limiter.create(name, 1, slot_decay_per_second=rate)
    limiter.rate_limit(["slow", "fast"])
    with pytest.raises(AcquireConcurrencySlotTimeoutError) as caught:
        limiter.rate_limit(["slow", "fast"], timeout_seconds=1)
    assert caught.value.retry_after_seconds == pytest.approx(7)
