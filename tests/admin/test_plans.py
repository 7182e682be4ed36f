"""No step of a slot reads through a table: what else the database holds costs it hardly a thing."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from localgcl import AcquireConcurrencySlotTimeoutError, Limiter
from localgcl._admin.changes import key_of
from localgcl._engine import clients
from localgcl._engine.watchers import blockers_of
from tests.helpers.played import Ask, Clock, Process

# What begins or ends a transaction, and what a trigger does, which has its own plan.
_NO_QUERY = ("BEGIN", "COMMIT", "ROLLBACK", "PRAGMA", "--")
# Rows that a query makes itself, and one for each process, of which a reader looks for the dead.
_SMALL = {"SCAN hop", "SCAN CONSTANT ROW", "SCAN owners"}


class Traced:
    """Every statement that a connection ran."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._statements: set[str] = set()
        connection.set_trace_callback(self._statements.add)

    def scans(self) -> dict[str, list[str]]:
        """Return what SQLite would read through from end to end, by statement."""
        self._connection.set_trace_callback(None)
        found = {}
        for statement in self._statements:
            if statement.startswith(_NO_QUERY):
                continue
            database_error = "EXPLAIN QUERY PLAN " + re.sub(r"\bInf\b", "9e999", statement)
            plan = [row[3] for row in self._connection.execute(database_error)]
            scans = [step for step in plan if step.startswith("SCAN") and step not in _SMALL]
            if scans:
                found[statement] = scans
        return found


@pytest.fixture
def traced(clock: Clock, limiter: Limiter) -> Iterator[Traced]:
    """Two limits and a rate, and what is asked of the database from now on."""
    limiter.create("a", 1)
    limiter.create("b", 1)
    limiter.create("rate", 1, slot_decay_per_second=1.0)
    limiter.acquire("a").release()  # which signs in, once in the life of a process
    file = limiter._database._file
    assert file is not None
    yield Traced(file.connection)
    file.connection.set_trace_callback(None)


@pytest.fixture
def others(traced: Traced, processes: Callable[[], Process]) -> tuple[Process, Process]:
    """Two more processes, who have signed in."""
    both = processes(), processes()
    for process in both:
        process.ask("b").release()
    traced._statements.clear()
    return both


def test_taking_and_freeing(traced: Traced, limiter: Limiter) -> None:
    """Free slots of one limit and of two, a try in vain, and a rate."""
    with limiter.concurrency("a"), pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.acquire("a", timeout_seconds=0)
    limiter.acquire(["a", "b"]).release()
    limiter.rate_limit("rate")
    with limiter.concurrency("rate", timeout_seconds=10):
        pass
    assert traced.scans() == {}


def test_waiting(others: tuple[Process, Process], traced: Traced, limiter: Limiter) -> None:
    """A wait for a slot, for a rate, for two limits, one that ends in vain and one cancelled."""
    lease = limiter.acquire(["a", "b"])
    first, second = others
    one, two, three = first.ask("a"), second.ask("a", "b"), second.ask("a")
    four, five = second.ask("b"), first.ask("b")
    four.withdraw()
    five.abandon()
    lease.release()
    one.look()
    one.release()
    two.look()
    two.release()
    three.look()
    assert three.granted
    limiter.rate_limit("rate")
    by_rate = first.ask("rate", holds=False)
    assert by_rate.waits
    by_rate.look()
    by_rate.abandon()
    assert traced.scans() == {}


def test_what_was_granted_is_undone(others: tuple[Process, Process], traced: Traced) -> None:
    """A cancellation that comes with a grant: at once, in the queue, of two limits, of a rate."""
    first, second = others
    for names, holds in ((["a"], True), (["a", "b"], True), (["rate"], True), (["rate"], False)):
        granted, waiting = first.ask(*names, holds=holds), second.ask(*names, holds=holds)
        assert (granted.granted, waiting.waits) == (True, True)
        granted.abandon()
        waiting.abandon()
    assert second.ask("a", "b").granted
    assert traced.scans() == {}


def test_a_lease_of_a_client(others: tuple[Process, Process], traced: Traced) -> None:
    """It is handed over, renewed, released, and undone."""
    server, _ = others
    client = clients.Client("somebody", "from elsewhere", None)

    def entrusted() -> Ask:
        ask = server.ask("a", "b")
        server.do(
            partial(clients.assign_to_client, request=ask.request, client=client, seconds=60.0)
        )
        return ask

    lease = entrusted().request.id
    assert server.do(partial(clients.renew, lease=lease, seconds=60.0))
    assert server.do(partial(clients.release, lease=lease))
    assert not server.do(partial(clients.release, lease=lease))
    server.do(partial(clients.undo, request=entrusted().request))
    by_number = server.ask("a")
    server.do(partial(clients.detach, request=by_number.request))
    server.do(partial(clients.undo, request=by_number.request))
    assert server.ask("a", "b").granted
    assert traced.scans() == {}


def test_a_holder_or_waiter_of_one_limit_is_found_there(traced: Traced, limiter: Limiter) -> None:
    """Who holds and who waits for a limit is read from its own rows."""
    limiter.read("a")
    limiter.holders("a")
    limiter.waiters("a")
    assert traced.scans() == {}


def steps_to_holders(limiter: Limiter) -> int:
    """Return how many steps SQLite's machine takes to find who is in the way at a limit."""
    file = limiter._database._file
    assert file is not None
    taken = 0

    def step() -> int:
        nonlocal taken
        taken += 1
        return 0

    file.connection.set_progress_handler(step, 1)
    limiter._database.transact(lambda tx: blockers_of(tx, key_of(tx, "many")))
    file.connection.set_progress_handler(None, 0)
    return taken


def test_holders_are_found_whatever_they_hold(
    limiter: Limiter, others: tuple[Process, Process]
) -> None:
    """From each to the next in one step, past all its leases; no plan tells that.

    SQLite 3.53 takes a few steps less where an owner's leases fill more than one page.
    """
    limiter.create("many", 100)
    for process in others:
        process.ask("many")
    few = steps_to_holders(limiter)
    for process in others * 20:
        process.ask("many")
    assert steps_to_holders(limiter) <= few


def test_a_scan_is_noticed(traced: Traced, limiter: Limiter) -> None:
    """All holders are read from end to end, and that is seen here."""
    limiter.holders()
    assert list(traced.scans().values()) == [["SCAN ledger"]]
