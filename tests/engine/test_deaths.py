"""What a process that ends leaves, orderly or not."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from localgcl import Limiter
from localgcl._engine import owners
from localgcl._liveness.lifeline import lifeline
from localgcl._storage.database import Transaction
from tests.helpers.database import tables
from tests.helpers.flavours import both_flavours
from tests.helpers.played import Clock, Processes
from tests.helpers.usage import in_use, is_free

pytest_generate_tests = both_flavours


@pytest.fixture(autouse=True)
def _time(clock: Clock) -> None:
    """Have every test here move its time itself."""


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
        if waiting.reported_dead or waiting.is_woken or waiting.outcome.look_at <= clock.now:
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
        if waiting.reported_dead or waiting.is_woken or waiting.outcome.look_at <= clock.now:
            waiting.look()
        if waiting.granted:
            return
        clock.advance(1)
    pytest.fail("nobody noticed the deaths")


def test_a_cleaner_takes_the_files_of_a_waiter(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """A waiter whose lifeline was removed makes a new one at its look, and keeps what it has."""
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
