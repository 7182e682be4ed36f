"""How long a request waits, and how its wait ends."""

from __future__ import annotations

import math
import time

import pytest

from localgcl import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    Limiter,
)
from tests.helpers.database import tables
from tests.helpers.flavours import blocking_alone, both_flavours
from tests.helpers.played import Clock, Processes
from tests.helpers.usage import in_use, set_occupancy

pytest_generate_tests = both_flavours


@pytest.fixture(autouse=True)
def _time(clock: Clock) -> None:
    """Have every test here move its time itself."""


def test_timeout_of_zero_tries_once(limiter: Limiter, clock: Clock) -> None:
    """A full limit refuses at once, and leaves nothing in the queue."""
    limiter.create("database", 1)
    limiter.acquire("database")
    with pytest.raises(TimeoutError) as caught:
        limiter.acquire("database", timeout_seconds=0)
    assert isinstance(caught.value, AcquireConcurrencySlotTimeoutError)
    assert caught.value.names == ("database",)
    assert caught.value.occupy == 1
    assert caught.value.waited_seconds == 0
    assert clock.now == 1_000.0
    assert tables(limiter)["waiters"] == tables(limiter)["waits"] == []


@pytest.mark.parametrize("arguments", [{"timeout_seconds": 0}, {"max_retries": 0}], ids=str)
def test_a_try_does_not_overtake_who_waits(
    limiter: Limiter, processes: Processes, arguments: dict[str, int]
) -> None:
    """Where an earlier request waits, a try is refused even if a slot is free."""
    limiter.create("database", 3)
    limiter.acquire("database", 2)
    waiting = processes().ask("database", occupy=2)
    with pytest.raises((AcquireConcurrencySlotTimeoutError, ConcurrencySlotAcquisitionError)):
        limiter.acquire("database", 1, **arguments)  # type: ignore[arg-type]
    waiting.withdraw()
    limiter.acquire("database", 1, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0.5, 1, 7.25, 3600])
def test_timeout_is_the_longest_wait(limiter: Limiter, clock: Clock, seconds: float) -> None:
    """A wait lasts to its end and no longer, and leaves nothing in the queue."""
    limiter.create("database", 1)
    limiter.acquire("database")
    with pytest.raises(AcquireConcurrencySlotTimeoutError) as caught:
        limiter.acquire("database", timeout_seconds=seconds)
    assert caught.value.waited_seconds == pytest.approx(seconds)
    assert f"timed out after {seconds} second(s)" in str(caught.value)
    assert clock.now == pytest.approx(1_000 + seconds)
    assert tables(limiter)["waiters"] == tables(limiter)["waits"] == []


def test_timeout_lasts_to_its_end_where_the_rate_cannot_suffice(
    limiter: Limiter, clock: Clock
) -> None:
    """Somebody ahead may give up, so nobody is refused before its time."""
    limiter.create("api", 1, slot_decay_per_second=0.001, active_slots=1)
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.rate_limit("api", timeout_seconds=5)
    assert clock.now == pytest.approx(1_005)


def test_max_retries_of_zero_tries_once(limiter: Limiter, clock: Clock) -> None:
    """No further try is an error of acquisition, as with Prefect, and no timeout."""
    limiter.create("database", 1)
    limiter.acquire("database")
    with pytest.raises(ConcurrencySlotAcquisitionError) as caught:
        limiter.acquire("database", max_retries=0)
    assert caught.value.names == ("database",)
    assert clock.now == 1_000.0
    limiter.create("free", 1)
    limiter.acquire("free", max_retries=0)


@pytest.mark.parametrize(
    ("occupancy", "a_try"), [(2.0, 2.0), (0.5, 0.5), (0.01, 0.1), (0.0, 0.1), (100.0, 30.0)]
)
@pytest.mark.parametrize("tries", [1, 3])
def test_max_retries_last_as_long_as_a_slot_is_expected_to_take(
    limiter: Limiter, clock: Clock, occupancy: float, a_try: float, tries: int
) -> None:
    """Each further try is the mean occupancy long, clamped to 0.1 to 30 seconds."""
    limiter.create("database", 1)
    set_occupancy(limiter, "database", occupancy)
    limiter.acquire("database")
    with pytest.raises(ConcurrencySlotAcquisitionError) as caught:
        limiter.acquire("database", max_retries=tries)
    assert caught.value.waited_seconds == pytest.approx(tries * a_try)
    assert clock.now == pytest.approx(1_000 + tries * a_try)
    assert tables(limiter)["waiters"] == tables(limiter)["waits"] == []


def test_a_try_at_a_rate_lasts_exactly_as_long_as_its_slots_take(
    limiter: Limiter, clock: Clock
) -> None:
    """One further try suffices where nobody is ahead, however long it takes."""
    limiter.create("api", 2, slot_decay_per_second=0.01, active_slots=2)
    limiter.acquire("api", 2, max_retries=1)
    assert clock.now == pytest.approx(1_200)


@pytest.mark.parametrize(
    ("timeout", "tries", "error", "seconds"),
    [
        (1.0, 3, AcquireConcurrencySlotTimeoutError, 1.0),
        (100.0, 3, ConcurrencySlotAcquisitionError, 6.0),
        (5.0, 0, ConcurrencySlotAcquisitionError, 0.0),
        (None, 2, ConcurrencySlotAcquisitionError, 4.0),
        (math.inf, 2, ConcurrencySlotAcquisitionError, 4.0),
    ],
)
def test_timeout_and_max_retries(
    limiter: Limiter,
    clock: Clock,
    timeout: float | None,
    tries: int,
    error: type[Exception],
    seconds: float,
) -> None:
    """Whichever ends first ends the wait."""
    limiter.create("database", 1)
    limiter.acquire("database")
    with pytest.raises(error):
        limiter.acquire("database", timeout_seconds=timeout, max_retries=tries)
    assert clock.now == pytest.approx(1_000 + seconds)


def test_a_wait_that_is_served_tells_how_long_it_was(limiter: Limiter, clock: Clock) -> None:
    """A lease knows how long it took."""
    limiter.create("api", 1, slot_decay_per_second=0.5, active_slots=1)
    lease = limiter.acquire("api", timeout_seconds=60)
    assert lease.waited_seconds == pytest.approx(2.0)
    assert clock.now == pytest.approx(1_002)


@blocking_alone
def test_a_block_that_was_never_left_frees_its_slot_with_its_lease(limiter: Limiter) -> None:
    """As where a Ctrl-C strikes before the first instruction of `__exit__`."""
    limiter.create("database", 1)
    block = limiter.concurrency("database")
    lease = block.__enter__()
    del block
    assert in_use(limiter, "database") == 1  # there is still somebody who can release it
    del lease
    ends = time.monotonic() + 30
    while in_use(limiter, "database") and time.monotonic() < ends:
        time.sleep(0.001)
    assert in_use(limiter, "database") == 0
    limiter.acquire("database")  # not of a block: it stays, though nobody has kept the lease
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.acquire("database", timeout_seconds=0)


@blocking_alone
def test_ended_by_ctrl_c(limiter: Limiter, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted wait leaves no slot taken and no entry in the queue."""
    from localgcl._drivers import blocking

    limiter.create("database", 1)
    lease = limiter.acquire("database")

    def interrupt(*_: object) -> list[str]:
        lease.release()  # the slot is granted in this very moment
        raise KeyboardInterrupt

    monkeypatch.setattr(blocking.Listener, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        limiter.acquire("database")
    assert in_use(limiter, "database") == 0
    assert tables(limiter)["waiters"] == tables(limiter)["waits"] == []
