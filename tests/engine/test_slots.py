"""Slots, taken and freed, in time that the tests move; blocked callers sleep in that time too."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from localgcl import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    Limiter,
    concurrency,
)
from localgcl._engine import acquire, owners
from localgcl._engine.decay import HORIZON_SECONDS
from localgcl._engine.watchers import WATCHERS
from localgcl._liveness.lifeline import lifeline
from localgcl._storage.database import Transaction
from tests.conftest import Clock, Process, blocking_alone, both_flavours, tables
from tests.flavours import Flavour

Processes = Callable[[], Process]
pytest_generate_tests = both_flavours


@pytest.fixture(autouse=True)
def _time(clock: Clock) -> None:
    """Have every test here move its time itself."""


def in_use(limiter: Limiter, name: str) -> int:
    """Return the slots in use of a limit."""
    return limiter.read(name).active_slots


def level(limiter: Limiter, name: str) -> float:
    """Return the level of a decaying limit as it was last written."""
    rows = limiter._database.transact(
        lambda tx: tx.execute("SELECT level FROM limits WHERE name = ?", (name,)).fetchall()
    )
    return float(rows[0][0])


def set_occupancy(limiter: Limiter, name: str, seconds: float) -> None:
    """Set what slots of a limit were held for of late."""
    limiter._database.transact(
        lambda tx: tx.execute(
            "UPDATE ledger SET occupancy = ?"
            " WHERE owner = -1 AND limit_key = (SELECT key FROM limits WHERE name = ?)",
            (seconds, name),
        )
    )


def is_free(limiter: Limiter, name: str, occupy: int = 1) -> bool:
    """Try once, and free again what was taken."""
    try:
        limiter.acquire(name, occupy, timeout_seconds=0).release()
    except AcquireConcurrencySlotTimeoutError:
        return False
    return True


# Taken and freed


def test_a_block_holds_its_slots(limiter: Limiter) -> None:
    """Slots are in use for as long as the block runs, and no longer."""
    limiter.create("database", 2)
    with limiter.concurrency("database"):
        assert in_use(limiter, "database") == 1
        with limiter.concurrency("database"):
            assert in_use(limiter, "database") == 2
            assert not is_free(limiter, "database")
        assert in_use(limiter, "database") == 1
    assert in_use(limiter, "database") == 0


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_block_that_fails_frees_its_slots(limiter: Limiter, error: type[BaseException]) -> None:
    """However a block ends, its slots are free, and its exception goes on."""
    limiter.create("database", 1)
    with pytest.raises(error), limiter.concurrency("database"):
        raise error
    assert in_use(limiter, "database") == 0


def test_a_lease_tells_what_it_is(flavour: Flavour, limiter: Limiter) -> None:
    """A lease has its id, the names as asked without repeats, the slots and the wait."""
    limiter.create("a", 5)
    limiter.create("b", 5)
    with limiter.concurrency(["b", "a", "b"], occupy=2) as lease:
        assert isinstance(lease, flavour.lease)
        assert lease.names == ("b", "a")
        assert lease.occupy == 2
        assert lease.waited_seconds == 0.0
        assert isinstance(lease.id, str)
        assert {one.lease for one in limiter.holders()} == {lease.id}
        assert lease.id in repr(lease)
    with limiter.concurrency("a") as other:
        assert other.id != lease.id


def test_names_as_asked_include_those_passed_by(limiter: Limiter) -> None:
    """A lease keeps the names of the missing and the inactive."""
    limiter.create("a", 1)
    limiter.create("asleep", 1, active=False)
    lease = limiter.acquire(["missing", "asleep", "a"])
    assert lease.names == ("missing", "asleep", "a")
    assert [one.limit for one in limiter.holders()] == ["a"]


def test_repeats_count_once(limiter: Limiter) -> None:
    """Naming a limit twice takes its slots once."""
    limiter.create("database", 1)
    with limiter.concurrency(["database", "database"], timeout_seconds=0):
        assert in_use(limiter, "database") == 1


def test_occupy(limiter: Limiter) -> None:
    """So many slots are taken from each name, and as many are freed."""
    limiter.create("a", 5)
    limiter.create("b", 3)
    with limiter.concurrency(["a", "b"], occupy=3):
        assert (in_use(limiter, "a"), in_use(limiter, "b")) == (3, 3)
        assert is_free(limiter, "a", 2)
        assert not is_free(limiter, "a", 3)
    assert (in_use(limiter, "a"), in_use(limiter, "b")) == (0, 0)


def test_release_twice_frees_nothing_else(limiter: Limiter) -> None:
    """A second release frees neither somebody else's slot nor anything again."""
    limiter.create("database", 1)
    first = limiter.acquire("database")
    first.release()
    second = limiter.acquire("database")
    first.release()
    assert [one.lease for one in limiter.holders()] == [second.id]


def test_release_inside_the_block(limiter: Limiter) -> None:
    """A block may free its slots early."""
    limiter.create("database", 1)
    with limiter.concurrency("database") as lease:
        lease.release()
        other = limiter.acquire("database", timeout_seconds=0)
    assert [one.lease for one in limiter.holders()] == [other.id]


def test_release_after_an_operator(limiter: Limiter) -> None:
    """What an operator has freed already is nobody's to free again."""
    limiter.create("database", 1)
    lease = limiter.acquire("database")
    assert limiter.release(lease.id)
    other = limiter.acquire("database", timeout_seconds=0)
    lease.release()
    assert [one.lease for one in limiter.holders()] == [other.id]


def test_a_holder_is_shown(limiter: Limiter) -> None:
    """A text is kept as it is, a mapping as compact JSON."""
    limiter.create("database", 2)
    limiter.acquire("database", holder="nightly run")
    limiter.acquire("database", holder={"job": "nightly", "run": 7})
    assert {one.holder for one in limiter.holders()} == {
        "nightly run",
        '{"job":"nightly","run":7}',
    }


def test_arguments_of_prefect_change_nothing(limiter: Limiter) -> None:
    """`lease_duration` and its sibling are accepted, whatever they are."""
    limiter.create("database", 1)
    with limiter.concurrency(
        "database", 1, 5.0, None, 0.001, True, None, raise_on_lease_renewal_failure=True
    ):
        assert in_use(limiter, "database") == 1


# All or nothing


@pytest.mark.parametrize("names", [["a", "b", "full"], ["full", "a", "b"], ["a", "full", "b"]])
def test_all_or_nothing(limiter: Limiter, names: list[str]) -> None:
    """Where one limit is full, nothing is taken of the others."""
    for name in ("a", "b", "full"):
        limiter.create(name, 1)
    limiter.acquire("full")
    with pytest.raises(AcquireConcurrencySlotTimeoutError) as caught:
        limiter.acquire(names, timeout_seconds=0)
    assert caught.value.names == tuple(names)
    assert (in_use(limiter, "a"), in_use(limiter, "b")) == (0, 0)
    assert is_free(limiter, "a")
    assert tables(limiter)["waiters"] == []


def test_all_or_nothing_over_a_rate(limiter: Limiter) -> None:
    """A refused request takes nothing of a rate either."""
    limiter.create("api", 3, slot_decay_per_second=0.001)
    limiter.create("full", 1, slot_decay_per_second=0.001, active_slots=1)
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.rate_limit(["api", "full"], timeout_seconds=0)
    assert level(limiter, "api") == 0
    with pytest.raises(ConcurrencySlotAcquisitionError):
        limiter.acquire(["api", "full"], occupy=2)
    assert level(limiter, "api") == 0


def test_two_requests_in_opposite_orders_cannot_deadlock(
    limiter: Limiter, processes: Processes
) -> None:
    """Whoever waits for two limits holds neither."""
    limiter.create("a", 1)
    limiter.create("b", 1)
    lease = limiter.acquire("b")
    one, other = processes().ask("a", "b"), processes().ask("b", "a")
    assert in_use(limiter, "a") == 0
    lease.release()
    one.look()
    assert one.granted
    one.release()
    other.look()
    assert other.granted


# Missing, inactive, none


def test_strict_names_all_that_are_missing(limiter: Limiter) -> None:
    """Nothing is taken, and the error names every missing name."""
    limiter.create("a", 1)
    with pytest.raises(ConcurrencySlotAcquisitionError) as caught:
        limiter.acquire(["x", "a", "y"], strict=True)
    assert caught.value.names == ("x", "y")
    assert caught.value.occupy == 1
    assert caught.value.waited_seconds == 0
    assert in_use(limiter, "a") == 0
    with pytest.raises(ConcurrencySlotAcquisitionError):
        limiter.rate_limit(["x"], strict=True)


def test_missing_names_are_logged_and_passed_by(
    limiter: Limiter, caplog: pytest.LogCaptureFixture
) -> None:
    """Each missing name is one warning at each call, and the names that exist are enforced."""
    limiter.create("a", 1)
    for call in (1, 2):
        caplog.clear()
        with limiter.concurrency(["x", "a", "y", "x"]):
            assert in_use(limiter, "a") == 1
        assert [record.name for record in caplog.records] == ["localgcl"] * 2, call
        assert {record.levelno for record in caplog.records} == {logging.WARNING}
        assert ["'x'" in message for message in caplog.messages] == [True, False]
        assert ["'y'" in message for message in caplog.messages] == [False, True]
    caplog.clear()
    limiter.rate_limit("x")
    assert len(caplog.records) == 1


def test_missing_names_are_logged_once_by_a_call_that_waits(
    limiter: Limiter, caplog: pytest.LogCaptureFixture
) -> None:
    """However long a call waits, its warning stands once; and it stands when the call fails."""
    limiter.create("a", 1)
    limiter.acquire("a")
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.acquire(["a", "x"], timeout_seconds=10)
    assert len(caplog.records) == 1
    caplog.clear()
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.acquire(["a", "x"], timeout_seconds=0)
    assert len(caplog.records) == 1
    caplog.clear()
    with pytest.raises(ConcurrencySlotAcquisitionError):
        limiter.acquire(["a", "x"], occupy=2)
    assert len(caplog.records) == 1


def test_a_decorator_warns_at_each_call(limiter: Limiter, caplog: pytest.LogCaptureFixture) -> None:
    """A decorated function is one call each time it is called."""
    decorated = limiter.concurrency("x")(lambda: None)
    assert caplog.records == []
    decorated()
    decorated()
    assert len(caplog.records) == 2


@pytest.mark.parametrize("strict", [True, False])
def test_inactive_limits_are_passed_by(
    limiter: Limiter, strict: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """An inactive limit takes nothing, refuses nothing and warns of nothing."""
    limiter.create("asleep", 1, active=False, active_slots=1)
    with limiter.concurrency("asleep", occupy=100, strict=strict, timeout_seconds=0):
        assert in_use(limiter, "asleep") == 1
    limiter.rate_limit("asleep", occupy=100, strict=strict, timeout_seconds=0)
    assert in_use(limiter, "asleep") == 1
    assert limiter.holders() == []
    assert caplog.records == []


@pytest.mark.parametrize("names", ["", [], None, ()])
def test_no_names_take_nothing(limiter: Limiter, path: str, names: Any) -> None:
    """No names give a lease of nothing, and the database is not touched."""
    with limiter.concurrency(names, strict=True) as lease:
        assert lease.names == ()
        assert lease.id
    lease.release()
    limiter.acquire(names).release()
    limiter.rate_limit(names, strict=True)
    assert not os.path.exists(os.path.dirname(path))


# Refused at once


def test_more_than_the_limit_is_refused_at_once(limiter: Limiter) -> None:
    """The error names those limits that are too small, and nobody waits."""
    limiter.create("small", 1)
    limiter.create("large", 5)
    with pytest.raises(ConcurrencySlotAcquisitionError) as caught:
        limiter.acquire(["large", "small"], occupy=2)
    assert caught.value.names == ("small",)
    assert caught.value.occupy == 2
    assert in_use(limiter, "large") == 0


def test_rate_limit_needs_decay(limiter: Limiter) -> None:
    """Every active limit named needs decay, or nothing is taken."""
    limiter.create("api", 5, slot_decay_per_second=1.0)
    limiter.create("database", 5)
    limiter.create("asleep", 5, active=False)
    with pytest.raises(ConcurrencySlotAcquisitionError) as caught:
        limiter.rate_limit(["api", "database", "asleep"])
    assert caught.value.names == ("database",)
    assert in_use(limiter, "api") == 0
    limiter.rate_limit(["api", "asleep"], timeout_seconds=0)
    assert in_use(limiter, "api") == 1


# Waiting, and its ends


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


# In order


def test_first_come_first_served(limiter: Limiter, processes: Processes) -> None:
    """Whoever asked first is served first, and is told at once."""
    limiter.create("database", 1)
    lease = limiter.acquire("database")
    queue = [processes().ask("database") for _ in range(4)]
    lease.release()
    for index, ask in enumerate(queue):
        assert [one.is_rung for one in queue[index:]] == [True] + [False] * (3 - index)
        ask.look()
        assert ask.granted
        ask.release()


def test_many_slots_are_not_starved_by_few(limiter: Limiter, processes: Processes) -> None:
    """A request for many slots keeps its place, and who comes later waits behind it."""
    limiter.create("database", 3)
    leases = [limiter.acquire("database") for _ in range(2)]
    large, small = processes().ask("database", occupy=3), processes().ask("database")
    assert small.waits
    for lease in leases:
        lease.release()
    large.look()
    small.look()
    assert large.granted
    assert small.waits


def test_order_holds_across_limits(limiter: Limiter, processes: Processes) -> None:
    """No request overtakes an earlier one that shares a limit with it."""
    limiter.create("a", 1)
    limiter.create("b", 1)
    limiter.create("c", 1)
    lease = limiter.acquire("a")
    first = processes().ask("a", "b")
    second = processes().ask("b", "c")
    third = processes().ask("c")
    assert (first.waits, second.waits, third.waits) == (True, True, True)
    lease.release()
    for ask in (first, second, third):
        ask.look()
    assert (first.granted, second.waits, third.waits) == (True, True, True)
    first.release()
    second.look()
    assert second.granted


def test_who_gives_up_makes_way(limiter: Limiter, processes: Processes) -> None:
    """The next in the queue is served when the one before it leaves."""
    limiter.create("database", 2)
    limiter.acquire("database")
    large, small = processes().ask("database", occupy=2), processes().ask("database")
    large.withdraw()
    assert small.is_rung
    small.look()
    assert small.granted


def test_granted_in_the_moment_of_giving_up(limiter: Limiter, processes: Processes) -> None:
    """The last look of a timeout finds the slot that is there already."""
    limiter.create("database", 1)
    lease = limiter.acquire("database")
    waiting = processes().ask("database")
    lease.release()
    waiting.withdraw()
    assert waiting.granted
    assert in_use(limiter, "database") == 1


def test_cancelled_in_the_moment_of_the_grant(limiter: Limiter, processes: Processes) -> None:
    """A cancelled request gives its slot to the next, however often it is cleaned up."""
    limiter.create("database", 1)
    lease = limiter.acquire("database")
    waiting, behind = processes().ask("database"), processes().ask("database")
    lease.release()
    waiting.abandon()
    waiting.abandon()
    behind.look()
    assert behind.granted
    assert in_use(limiter, "database") == 1


# By rate


def test_a_rate_is_exact(limiter: Limiter, clock: Clock) -> None:
    """The limit is the burst; after it each grant comes at its very moment."""
    limiter.create("api", 5, slot_decay_per_second=20.0)
    moments = []
    for _ in range(105):
        limiter.rate_limit("api")
        moments.append(clock.now - 1_000)
    assert moments[:5] == [0.0] * 5
    assert moments[5:] == pytest.approx([n / 20 for n in range(1, 101)])


def test_a_rate_holds_in_every_window(limiter: Limiter, clock: Clock) -> None:
    """No window of length T admits more than n + r*T, in bursts and pauses."""
    limiter.create("api", 3, slot_decay_per_second=2.0)
    grants: list[tuple[float, int]] = []
    for pause in (0, 0, 0.1, 0, 3, 0, 0, 0, 0.7, 0, 10, 0, 0, 0, 0.25, 0.25):
        clock.advance(pause)
        slots = 1 + len(grants) % 2
        limiter.rate_limit("api", slots)
        grants.append((clock.now, slots))
    for index, (begin, _) in enumerate(grants):
        admitted = 0
        for end, slots in grants[index:]:
            admitted += slots
            assert admitted <= 3 + 2.0 * (end - begin) + 1e-6


def test_a_stopped_waiter_at_a_rate_delays_nobody(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """Each waiter has its own moment, and whoever wakes serves all that are due."""
    limiter.create("api", 2, slot_decay_per_second=1.0, active_slots=2)
    stopped, second, third = (processes().ask("api", holds=False) for _ in range(3))
    clock.advance(2)
    second.look()
    assert second.granted
    assert stopped.is_rung
    third.look()
    assert third.waits
    clock.advance(1)
    third.look()
    assert third.granted
    stopped.look()
    assert stopped.granted


def test_a_timer_is_set_to_ones_own_moment(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """Who waits behind others looks when its own slots are due; nothing is lost until then."""
    limiter.create("api", 6, slot_decay_per_second=10.0, active_slots=6)
    asks = [processes().ask("api", occupy=2, holds=False) for _ in range(3)]
    timers = [ask.outcome.look_at - clock.now for ask in asks]
    assert timers == pytest.approx([at - HORIZON_SECONDS for at in (0.2, 0.4, 0.6)])
    assert all(timer <= due for timer, due in zip(timers, [0.2, 0.4, 0.6], strict=True))


def test_a_timer_is_set_anew_when_one_ahead_leaves(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """Who becomes the first of a rate's queue is told of its earlier moment."""
    limiter.create("api", 5, slot_decay_per_second=10.0, active_slots=5)
    ahead, behind = (processes().ask("api", occupy=occupy, holds=False) for occupy in (5, 1))
    ahead.withdraw()
    assert behind.is_rung
    behind.look()
    assert behind.outcome.look_at == pytest.approx(clock.now + 0.1 - HORIZON_SECONDS)


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_who_waits_elsewhere_does_not_wake_itself_at_a_rate(
    limiter: Limiter, processes: Processes, clock: Clock, decay: float
) -> None:
    """A waiter whose rate has room, but whose other limit is full, sleeps until that has room."""
    limiter.create("full", 1, slot_decay_per_second=decay, active_slots=1)
    limiter.create("api", 1, slot_decay_per_second=1.0)
    holder = processes()
    held = holder.ask("api")
    waiting = processes().ask("full", "api")
    behind = processes().ask("api")
    clock.advance(0.25)
    held.release()
    for _ in range(3):
        for ask in (waiting, behind):
            if ask.is_rung:
                ask.look()
    assert not waiting.is_rung
    assert not behind.is_rung
    assert waiting.waits
    assert waiting.outcome.look_at > clock.now


def test_who_waits_elsewhere_does_not_wake_itself_at_an_inactive_rate(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """The moment of a limit that is passed by is nobody's moment."""
    limiter.create("full", 1, slot_decay_per_second=0.001, active_slots=1)
    limiter.create("asleep", 1, slot_decay_per_second=1.0, active_slots=3, active=False)
    waiting = processes().ask("full", "asleep")
    limiter.update("asleep", limit=2)
    for _ in range(3):
        if waiting.is_rung:
            waiting.look()
    assert not waiting.is_rung
    assert waiting.outcome.look_at > clock.now + 1


def test_who_comes_to_the_front_of_an_inactive_limit_sleeps_on(
    limiter: Limiter, processes: Processes
) -> None:
    """There is nothing to watch at a limit that is passed by, and nothing to be woken for."""
    limiter.create("full", 1)
    limiter.create("asleep", 1, active=False)
    limiter.acquire("full")
    asks = [processes().ask("full", "asleep") for _ in range(12)]
    for ask in asks[:6]:
        ask.withdraw()
    for _ in range(3):
        for ask in asks[6:]:
            if ask.is_rung:
                ask.look()
    assert [ask.is_rung for ask in asks[6:]] == [False] * 6
    assert all(ask.waits for ask in asks[6:])


def test_a_cancelled_grant_by_rate_is_given_back(limiter: Limiter, processes: Processes) -> None:
    """Nobody made use of it, so the next need not wait for it."""
    limiter.create("api", 1, slot_decay_per_second=0.001)
    taken = processes().ask("api", holds=False)
    assert taken.granted
    taken.abandon()
    limiter.rate_limit("api", timeout_seconds=0)


def test_a_cancelled_grant_by_rate_is_not_given_back_twice(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """What has decayed by then is free already: the rate admits nothing extra."""
    limiter.create("api", 1, slot_decay_per_second=1.0, active_slots=1)
    stopped, other = (processes().ask("api", holds=False) for _ in range(2))
    clock.advance(1)
    other.look()  # which grants to the stopped one
    clock.advance(1)
    other.look()
    assert other.granted
    stopped.abandon()
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.rate_limit("api", timeout_seconds=0)


# Held over a limit with decay


@pytest.mark.parametrize(
    ("held", "left"), [(0, 2.0), (1, 2.0), (2, 2.0), (3, 2.0), (4, 1.0), (5, 0.0), (99, 0.0)]
)
def test_slots_come_back_once(limiter: Limiter, clock: Clock, held: float, left: float) -> None:
    """At exit only what decay has not freed is freed: max(0, k - r * held)."""
    limiter.create("api", 10, slot_decay_per_second=1.0)
    with limiter.concurrency("api", 3):
        limiter.rate_limit("api", 2)
        clock.advance(held)
        assert in_use(limiter, "api") == max(0, 5 - held)
    assert level(limiter, "api") == pytest.approx(left)


def test_a_release_just_before_the_moment_of_a_grant_gives_back_no_more(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """Where a slot was granted a moment ahead, a holder's slots have decayed by that moment too."""
    limiter.create("api", 2, slot_decay_per_second=20.0)
    held = processes().ask("api")
    limiter.rate_limit("api")
    waiting = processes().ask("api", holds=False)
    clock.advance(0.03)
    waiting.look()
    assert waiting.outcome.at == pytest.approx(1_000.05)
    held.release()
    assert level(limiter, "api") == pytest.approx(2.0)


def test_a_dead_holder_gives_back_what_decay_has_not_freed(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """A process that died frees its slots of a rate as its exit would have."""
    limiter.create("api", 10, slot_decay_per_second=1.0)
    limiter.rate_limit("api", 2)
    holder = processes()
    holder.ask("api", occupy=3)
    clock.advance(1)
    holder.die()
    assert in_use(limiter, "api") == 2


def test_held_slots_of_a_rate_let_nobody_in_too_early(limiter: Limiter, clock: Clock) -> None:
    """While slots are held they decay, and others enter at the rate."""
    limiter.create("api", 1, slot_decay_per_second=0.5)
    with limiter.concurrency("api"):
        assert not is_free(limiter, "api")
        clock.advance(1.9)
        assert not is_free(limiter, "api")
        clock.advance(0.1)
        limiter.acquire("api", timeout_seconds=0)
    assert not is_free(limiter, "api")


# The mean occupancy


def test_mean_occupancy(limiter: Limiter, clock: Clock) -> None:
    """It begins at 2.0 and is a running mean over the last 2 * limit releases."""
    limiter.create("database", 2)
    expected = 2.0
    for held in (4.0, 0.0, 10.0, 1.0):
        with limiter.concurrency("database"):
            clock.advance(held)
        expected += (held - expected) / 4
        assert limiter.read("database").avg_slot_occupancy_seconds == pytest.approx(expected)


def test_mean_occupancy_counts_releases_of_held_slots_only(limiter: Limiter, clock: Clock) -> None:
    """A second release, and slots taken by rate, say nothing of how long slots are held."""
    limiter.create("api", 1, slot_decay_per_second=1.0)
    limiter.rate_limit("api")
    lease = limiter.acquire("api")
    clock.advance(4)
    lease.release()
    lease.release()
    assert limiter.read("api").avg_slot_occupancy_seconds == pytest.approx(3.0)


# Decorators and blocks


def test_a_decorator_takes_a_new_lease_at_each_call(limiter: Limiter) -> None:
    """A decorated function holds while it runs, and is itself otherwise."""
    limiter.create("database", 1)
    seen = []

    @limiter.concurrency("database", timeout_seconds=0)
    def query(number: int, *, sign: int = 1) -> int:
        """Answer."""
        (holder,) = limiter.holders("database")
        seen.append(holder.lease)
        return number * sign

    assert limiter.holders() == []
    assert query(20, sign=-1) == -20
    assert query(21) == 21
    assert limiter.holders() == []
    assert len(set(seen)) == 2
    assert query.__name__ == "query"
    assert query.__doc__ == "Answer."


def test_a_decorator_frees_when_the_function_fails(limiter: Limiter) -> None:
    """An exception goes on, and the slot is free."""
    limiter.create("database", 1)

    @limiter.concurrency("database")
    def fail() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert in_use(limiter, "database") == 0


def test_a_decorated_function_may_call_itself(limiter: Limiter) -> None:
    """Each call has a lease of its own."""
    limiter.create("database", 3)

    @limiter.concurrency("database", timeout_seconds=0)
    def descend(depth: int) -> int:
        return descend(depth - 1) if depth else in_use(limiter, "database")

    assert descend(2) == 3
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        descend(3)
    assert in_use(limiter, "database") == 0


def test_one_concurrency_is_entered_once(limiter: Limiter) -> None:
    """Entered again, inside or after, it is a RuntimeError, and its slot is not lost."""
    limiter.create("database", 5)
    once = limiter.concurrency("database")
    with once:
        with pytest.raises(RuntimeError), once:
            pass
        assert in_use(limiter, "database") == 1
    with pytest.raises(RuntimeError):
        once.__enter__()
    assert in_use(limiter, "database") == 0


@blocking_alone
def test_asynchronous_functions_are_refused(limiter: Limiter, path: str) -> None:
    """The blocking flavour over an `async def` is a TypeError when it decorates."""

    async def coroutine() -> None:
        pass

    with pytest.raises(TypeError, match=r"localgcl\.asyncio"):
        limiter.concurrency("database")(coroutine)
    with pytest.raises(TypeError, match=r"localgcl\.asyncio"):
        concurrency("database")(coroutine)
    assert not os.path.exists(path)


# The functions of the module


def test_functions_use_the_database_of_the_environment(
    flavour: Flavour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`concurrency` and `rate_limit` read LOCALGCL_DB when they are entered."""
    for name in ("one.db", "two.db"):
        monkeypatch.setenv("LOCALGCL_DB", str(tmp_path / name))
        limiter = flavour.limiter()
        limiter.create("database", 1)
        limiter.create("api", 1, slot_decay_per_second=0.001)
        with flavour.concurrency("database", strict=True, timeout_seconds=0) as lease:
            assert [one.lease for one in limiter.holders()] == [lease.id]
        flavour.rate_limit("api", strict=True, timeout_seconds=0)
        with pytest.raises(AcquireConcurrencySlotTimeoutError):
            flavour.rate_limit("api", timeout_seconds=0)


def test_a_function_decorated_at_import_finds_the_database_when_called(
    flavour: Flavour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decorator stands at the top of a module, long before the environment is set."""
    decorated = flavour.concurrency("database", strict=True)(lambda: "done")
    monkeypatch.setenv("LOCALGCL_DB", str(tmp_path / "later.db"))
    Limiter().create("database", 1)
    assert decorated() == "done"


# Processes that end


def test_a_dead_holder_makes_way(limiter: Limiter, processes: Processes) -> None:
    """A slot whose process is gone comes back when the next one asks, also by a try."""
    limiter.create("database", 1)
    limiter.acquire("database").release()  # so this process is signed in already
    for _ in range(2):
        holder = processes()
        holder.ask("database")
        assert not is_free(limiter, "database")
        holder.die()
        assert is_free(limiter, "database")


def test_the_dead_at_the_front_make_way(limiter: Limiter, processes: Processes) -> None:
    """Dead waiters do not stand in a try's way either."""
    limiter.create("database", 2)
    limiter.acquire("database")
    front = processes()
    front.ask("database", occupy=2)
    assert not is_free(limiter, "database")
    front.die()
    assert is_free(limiter, "database")


def test_who_waits_learns_of_a_death(limiter: Limiter, processes: Processes) -> None:
    """The first in the queue is told by the kernel, and is served at its look."""
    limiter.create("database", 1)
    holder, waiter = processes(), processes()
    holder.ask("database")
    waiting = waiter.ask("database")
    assert waiting.reported_dead == []
    holder.die()
    assert waiting.reported_dead != []
    waiting.look()
    assert waiting.granted


def test_who_stands_far_behind_many_dead_is_served(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """A process that dies with its slot and all its waiting threads leaves nobody stuck behind it.

    Nobody else is at the front of the queue, so those behind have to notice.
    """
    limiter.create("database", 1)
    dying, living = processes(), processes()
    assert dying.ask("database").granted
    for _ in range(20):
        dying.ask("database")
    living.ask("no such limit")  # it has signed in before
    waiting = living.ask("database")
    dying.die()
    for _ in range(5):
        if waiting.reported_dead or waiting.is_rung or waiting.outcome.look_at <= clock.now:
            waiting.look()
        if waiting.granted:
            return
        clock.advance(1)
    pytest.fail("nobody noticed the death")


def test_who_stands_far_behind_many_processes_that_died_is_served(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """The same where those at the front were processes of their own, ended all at once."""
    limiter.create("database", 1)
    dying = [processes() for _ in range(12)]
    for process in dying:
        process.ask("database")
    living = processes()
    living.ask("no such limit")
    waiting = living.ask("database")
    for process in dying:
        process.die()
    for _ in range(10):
        if waiting.reported_dead or waiting.is_rung or waiting.outcome.look_at <= clock.now:
            waiting.look()
        if waiting.granted:
            return
        clock.advance(1)
    pytest.fail("nobody noticed the deaths")


def test_a_cleaner_takes_the_files_of_a_waiter(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """A waiter whose lifeline was removed makes it anew at its look, and keeps what it has."""
    limiter.create("database", 1)
    limiter.create("held", 1)
    holder, waiter = processes(), processes()
    holder.ask("database")
    assert waiter.ask("held").granted
    waiting = waiter.ask("database")
    assert waiter.lifeline is not None
    for name in os.listdir(waiter.folder.path):
        if name.startswith(waiter.lifeline.name):
            os.unlink(f"{waiter.folder.path}/{name}")
    holder.die()
    waiting.look()
    assert waiting.granted
    assert (in_use(limiter, "held"), in_use(limiter, "database")) == (1, 1)


def test_a_process_that_ends_orderly_frees_everything(
    limiter: Limiter, processes: Processes
) -> None:
    """Signing out frees the slots, the places in the queues and the files."""
    limiter.create("a", 1)
    limiter.create("b", 1)
    leaving, staying = processes(), processes()
    leaving.ask("a")
    held = staying.ask("b")
    leaving.ask("b")
    waiting = staying.ask("a")
    leaving.sign_out()
    waiting.look()
    assert waiting.granted
    assert [one.lease for one in limiter.holders("b")] == [held.request.id]
    assert limiter.waiters() == []
    assert len(tables(limiter)["owners"]) == 1


# Clocks


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


def test_nothing_is_granted_for_a_moment_after_its_waiter_has_given_up(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """A slot granted ahead of its moment is of no use to who does not wait so long."""
    limiter.create("api", 1, slot_decay_per_second=10.0)
    limiter.rate_limit("api")
    brief = processes().ask("api", holds=False, until=clock.now + 0.09)
    patient = processes().ask("api", holds=False)
    clock.advance(0.08)
    brief.look()
    assert brief.waits
    clock.advance(0.01)
    brief.withdraw()
    assert not brief.granted
    assert patient.is_rung
    patient.look()
    assert patient.outcome.at == pytest.approx(1_000.1)


def test_who_comes_to_the_front_is_told_to_watch(limiter: Limiter, processes: Processes) -> None:
    """Too far back to watch those in its way, a waiter is woken once it no longer is."""
    limiter.create("database", 1)
    processes().ask("database")
    asks = [processes().ask("database") for _ in range(WATCHERS + 2)]
    assert not any(ask.is_rung for ask in asks)
    asks[0].withdraw()
    assert [ask.is_rung for ask in asks[1:]] == [False] * (WATCHERS - 1) + [True, False]


@pytest.mark.parametrize("leave", ["withdraw", "abandon"])
def test_who_stands_behind_one_that_leaves_is_told_to_watch_another(
    limiter: Limiter, processes: Processes, leave: str
) -> None:
    """Too far back, it watches that one alone; all before it may die at once."""
    limiter.create("database", 1)
    dies, goes_on, waits = processes(), processes(), processes()
    dies.ask("database")
    for _ in range(WATCHERS + 1):
        dies.ask("database")
    between, last = goes_on.ask("database"), waits.ask("database")
    getattr(between, leave)()
    assert last.is_rung
    last.look()
    dies.die()
    assert last.reported_dead
    last.look()
    assert last.granted


def test_who_waits_at_a_limit_that_is_enabled_is_told_to_watch(
    limiter: Limiter, processes: Processes
) -> None:
    """Nobody was in its way while it was disabled; whoever holds there may die."""
    for name in ("full", "database"):
        limiter.create(name, 1)
    holder = processes()
    holder.ask("database")
    full = processes().ask("full")
    limiter.update("database", active=False)
    asks = [processes().ask("full", "database") for _ in range(WATCHERS + 2)]
    limiter.update("database", active=True)
    assert all(ask.is_rung for ask in asks)
    for ask in asks:
        ask.look()
    full.release()
    holder.die()
    assert asks[0].reported_dead
    asks[0].look()
    assert asks[0].granted


@pytest.mark.parametrize(
    "call",
    [
        lambda limiter: limiter.read_all(),
        lambda limiter: limiter.read("database"),
        lambda limiter: limiter.holders(),
        lambda limiter: limiter.waiters(),
        lambda limiter: is_free(limiter, "other"),
        lambda limiter: limiter.rate_limit("other"),
    ],
    ids=["read_all", "read", "holders", "waiters", "acquire", "rate_limit"],
)
def test_a_holder_whose_lifeline_was_taken_keeps_its_slot(
    limiter: Limiter, call: Callable[[Limiter], object]
) -> None:
    """Whatever it calls next, it does not take itself for dead."""
    limiter.create("database", 1)
    limiter.create("other", 1, slot_decay_per_second=1)
    lease = limiter.acquire("database")
    folder = limiter._database.transact(lambda tx: tx.folder)
    folder.discard(lifeline(folder).name)
    call(limiter)
    assert [one.lease for one in limiter.holders()] == [lease.id]


def test_a_lifeline_taken_inside_a_transaction(limiter: Limiter) -> None:
    """A cleaner may come between its mending and the look at who lives."""
    limiter.create("database", 1)
    lease = limiter.acquire("database")

    def clean_and_sweep(tx: Transaction) -> None:
        tx.folder.discard(lifeline(tx.folder).name)
        assert owners.sweep(tx) == set()

    limiter._database.transact(clean_and_sweep)
    assert [one.lease for one in limiter.holders()] == [lease.id]


def test_who_asks_again_waits_once(limiter: Limiter, processes: Processes) -> None:
    """A request whose row is gone joins the queue anew, and only once however often it is told."""
    limiter.create("database", 1)
    limiter.acquire("database")
    waiter = processes().ask("database")
    limiter._database.transact(lambda tx: tx.execute("DELETE FROM waits"))
    limiter._database.transact(lambda tx: tx.execute("DELETE FROM waiters"))
    for _ in range(2):
        waiter.process.do(
            partial(acquire.ask_again, request=waiter.request, listener=waiter.listener)
        )
        assert [one.holder for one in limiter.waiters()] == [None]
