"""First come, first served, and who watches whom in a queue."""

from __future__ import annotations

from functools import partial

import pytest

from localgcl import Limiter
from localgcl._engine import acquire
from localgcl._engine.order import MAX_OVERTAKEN
from localgcl._engine.request import NotGranted
from localgcl._engine.watchers import WATCHERS
from tests.helpers.flavours import both_flavours
from tests.helpers.played import Clock, Processes
from tests.helpers.usage import in_use

pytest_generate_tests = both_flavours


@pytest.fixture(autouse=True)
def _time(clock: Clock) -> None:
    """Have every test here move its time itself."""


def test_first_come_first_served(limiter: Limiter, processes: Processes) -> None:
    """Whoever asked first is served first, and is told at once."""
    limiter.create("database", 1)
    lease = limiter.acquire("database")
    queue = [processes().ask("database") for _ in range(4)]
    lease.release()
    for index, ask in enumerate(queue):
        assert [one.is_woken for one in queue[index:]] == [True] + [False] * (3 - index)
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


def test_who_lacks_room_elsewhere_keeps_no_slot_idle(
    limiter: Limiter, processes: Processes
) -> None:
    """A request over several limits that lacks room at one of them blocks nobody at the others."""
    for name in "abc":
        limiter.create(name, 1)
    lease = limiter.acquire("a")
    first = processes().ask("a", "b")
    second = processes().ask("b", "c")
    third = processes().ask("c")
    assert (first.waits, second.granted, third.waits) == (True, True, True)
    lease.release()
    first.look()
    assert first.waits
    second.release()
    for ask in (first, third):
        ask.look()
    assert (first.granted, third.granted) == (True, True)


def test_who_has_room_elsewhere_blocks(limiter: Limiter, processes: Processes) -> None:
    """It is next, and waits for this limit alone."""
    limiter.create("a", 2)
    limiter.create("b", 1)
    lease = limiter.acquire("a")
    first = processes().ask("b", "a", occupy=1)
    assert first.granted
    wide = processes().ask("a", occupy=2)
    behind = processes().ask("a")
    assert (wide.waits, behind.waits) == (True, True)
    lease.release()
    wide.look()
    assert (wide.waits, behind.waits) == (True, True)
    first.release()
    wide.look()
    assert wide.granted


def test_who_comes_first_at_one_limit_waits_behind_others_at_another(
    limiter: Limiter, processes: Processes
) -> None:
    """Even if all its slots are free."""
    limiter.create("a", 1)
    limiter.create("b", 2)
    leases = [limiter.acquire("a"), limiter.acquire("b")]
    earlier, later = processes().ask("b", occupy=2), processes().ask("a", "b")
    leases[0].release()
    later.look()
    assert (earlier.waits, later.waits) == (True, True)
    leases[1].release()
    earlier.look()
    later.look()
    assert (earlier.granted, later.waits) == (True, True)
    earlier.release()
    later.look()
    assert later.granted


@pytest.mark.parametrize("how", ["taken", "paused"])
def test_who_ceases_to_have_room_elsewhere_no_longer_blocks(
    limiter: Limiter, processes: Processes, how: str
) -> None:
    """What fills up one limit can be what others wait for at another one."""
    limiter.create("a", 3)
    limiter.create("b", 1)
    limiter.acquire("a", 2)
    wide = processes().ask("a", "b", occupy=None, weights={"a": 2, "b": 1})
    narrow = processes().ask("a")
    assert (wide.waits, narrow.waits) == (True, True)
    if how == "taken":
        assert processes().ask("b").granted
    else:
        limiter.pause("b")
    assert narrow.is_woken
    narrow.look()
    assert narrow.granted
    limiter.resume("b")
    wide.look()
    assert wide.waits


def test_nobody_is_overtaken_for_ever(limiter: Limiter, processes: Processes) -> None:
    """After a hundred times, a request is not overtaken again."""
    limiter.create("customer", 1)
    limiter.create("total", 2)
    held = limiter.acquire("customer")
    waits = processes().ask("customer", "total")
    process = processes()
    for _ in range(MAX_OVERTAKEN):
        ask = process.ask("total", once=True)
        assert ask.granted
        ask.release()
    late = process.ask("total")
    assert (waits.waits, late.waits) == (True, True)
    assert isinstance(process.ask("total", once=True).outcome, NotGranted)
    held.release()
    waits.look()
    assert waits.granted
    late.look()
    assert late.granted


def test_a_release_has_nobody_overtaken_too_often(limiter: Limiter, processes: Processes) -> None:
    """Those who wait behind a request overtake it no more often than newcomers do."""
    limiter.create("customer", 1)
    limiter.create("total", 2)
    limiter.acquire("customer")
    waits, process = processes().ask("customer", "total"), processes()
    for _ in range(MAX_OVERTAKEN - 2):
        process.ask("total", once=True).release()
    wide = process.ask("total", occupy=2)
    assert wide.granted
    behind = [processes().ask("total") for _ in range(2)]
    wide.release()
    for ask in behind:
        ask.look()
    assert [ask.granted for ask in behind] == [True, False]
    behind[0].release()
    behind[1].look()
    assert (waits.waits, behind[1].waits) == (True, True)


def test_who_gives_up_makes_way(limiter: Limiter, processes: Processes) -> None:
    """The next in the queue is served when the one before it leaves."""
    limiter.create("database", 2)
    limiter.acquire("database")
    large, small = processes().ask("database", occupy=2), processes().ask("database")
    large.withdraw()
    assert small.is_woken
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
    assert patient.is_woken
    patient.look()
    assert patient.outcome.at == pytest.approx(1_000.1)


def test_who_comes_to_the_front_is_told_to_watch(limiter: Limiter, processes: Processes) -> None:
    """Too far back to watch those in its way, a waiter is woken once it no longer is."""
    limiter.create("database", 1)
    processes().ask("database")
    asks = [processes().ask("database") for _ in range(WATCHERS + 2)]
    assert not any(ask.is_woken for ask in asks)
    asks[0].withdraw()
    assert [ask.is_woken for ask in asks[1:]] == [False] * (WATCHERS - 1) + [True, False]


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
    assert last.is_woken
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
    assert all(ask.is_woken for ask in asks)
    for ask in asks:
        ask.look()
    full.release()
    holder.die()
    assert asks[0].reported_dead
    asks[0].look()
    assert asks[0].granted


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
