"""Clients of `localgcl serve`: owners that expire instead of having a lifeline."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable

import pytest

from localgcl import AsyncLimiter, Limiter
from localgcl._engine import clients, request
from localgcl._engine.clients import Client
from localgcl._storage import schema
from tests.helpers.database import tables
from tests.helpers.played import Ask, Clock, Process
from tests.helpers.programs import Invoke

MakeProcess = Callable[[], Process]

CLIENT = Client("app", "192.0.2.7 prefect/3.8.8", '{"type":"flow_run"}')


@pytest.fixture
def server(processes: MakeProcess) -> Process:
    """The process that asks and holds for clients."""
    return processes()


def entrusted(server: Process, *names: str, occupy: int = 1, seconds: float = 60.0) -> Ask:
    """Have a client hold slots, as the server does for it."""
    ask = server.ask(*names, occupy=occupy)
    assert ask.granted
    assign_to_client(server, ask, seconds)
    return ask


def assign_to_client(server: Process, ask: Ask, seconds: float = 60.0) -> None:
    """Hand a granted lease over to a client."""
    work = functools.partial(
        clients.assign_to_client, request=ask.request, client=CLIENT, seconds=seconds
    )
    server.do(work)


def renew(process: Process, ask: Ask, seconds: float = 60.0) -> bool:
    """Have a client renew its lease."""
    return process.do(functools.partial(clients.renew, lease=ask.request.id, seconds=seconds))


def used(limiter: Limiter, name: str = "db") -> int:
    """The slots in use, as a reader finds them."""
    return limiter.read(name).active_slots


def test_a_clients_lease_outlives_the_server(
    clock: Clock, limiter: Limiter, server: Process
) -> None:
    """The server may be killed and started again: what it has handed over is still held."""
    limiter.create("db", 2)
    entrusted(server, "db")
    server.ask("db")
    assert used(limiter) == 2
    server.die()
    assert used(limiter) == 1


def test_it_outlives_a_server_that_ends_in_peace(
    clock: Clock, limiter: Limiter, server: Process
) -> None:
    """Signing out frees what the server holds itself, and nothing of its clients."""
    limiter.create("db", 1)
    entrusted(server, "db")
    server.sign_out()
    assert used(limiter) == 1


def test_a_client_expires(clock: Clock, limiter: Limiter, server: Process) -> None:
    """Without renewal the lease ends on the second, whoever looks next, and leaves no row."""
    limiter.create("db", 1)
    entrusted(server, "db", seconds=60)
    clock.advance(59.9)
    assert used(limiter) == 1
    clock.advance(0.1)
    assert used(limiter) == 0
    assert [row for row in tables(limiter)["owners"] if row[5] is not None] == []


def test_renewing_counts_from_now(clock: Clock, limiter: Limiter, server: Process) -> None:
    """Each renewal sets the end anew, sooner or later than the one before."""
    limiter.create("db", 1)
    ask = entrusted(server, "db", seconds=60)
    clock.advance(50)
    assert renew(server, ask, 60)
    clock.advance(50)
    assert used(limiter) == 1
    assert renew(server, ask, 5)
    clock.advance(5)
    assert used(limiter) == 0


def test_renewing_too_late_brings_nothing_back(
    clock: Clock, limiter: Limiter, server: Process
) -> None:
    """An end is final, even where nobody has cleared the lease away yet."""
    limiter.create("db", 1)
    ask = entrusted(server, "db", seconds=60)
    clock.advance(60)
    assert not renew(server, ask)
    assert used(limiter) == 0
    assert not renew(server, ask)


def test_what_was_freed_before_it_was_handed_over_is_lost(
    clock: Clock, limiter: Limiter, server: Process
) -> None:
    """An operator may free a grant in that moment: the client learns so as it renews."""
    limiter.create("db", 1)
    ask = server.ask("db")
    assert limiter.release(ask.request.id)
    assign_to_client(server, ask)
    assert used(limiter) == 0
    assert not renew(server, ask)
    assert [row for row in tables(limiter)["owners"] if row[5] is not None] == []


def test_what_is_left_of_a_grant_is_handed_over(
    clock: Clock, limiter: Limiter, server: Process
) -> None:
    """Of two limits one is deleted in that moment; the other's slot is the client's."""
    limiter.create("db", 1)
    limiter.create("api", 1)
    ask = server.ask("db", "api")
    limiter.delete("api")
    assign_to_client(server, ask)
    assert renew(server, ask)
    server.die()
    assert used(limiter) == 1


def test_a_lease_of_nothing_is_renewed(clock: Clock, limiter: Limiter, server: Process) -> None:
    """As Prefect has it: names that no limit has are granted, and their lease is as any other."""
    ask = entrusted(server, "unknown")
    assert renew(server, ask)


@pytest.mark.parametrize("holds", [True, False], ids=["holds", "by rate"])
def test_an_undone_lease_is_gone(
    clock: Clock, limiter: Limiter, server: Process, holds: bool
) -> None:
    """Of a client that has hung up nothing is left, and nothing to renew."""
    limiter.create("api", 2, slot_decay_per_second=0.01)
    ask = server.ask("api", holds=holds)
    assign_to_client(server, ask)
    server.do(functools.partial(clients.undo, request=ask.request))
    assert used(limiter, "api") == 0
    assert not renew(server, ask)


def test_a_try_clears_an_expired_client_away(
    clock: Clock, limiter: Limiter, server: Process, processes: MakeProcess
) -> None:
    """Who tries only once finds the slot free, without a look by anybody else before."""
    limiter.create("db", 1)
    entrusted(server, "db", seconds=60)
    assert not processes().ask("db", once=True).granted
    clock.advance(60)
    assert processes().ask("db", once=True).granted


def test_a_waiter_looks_when_the_client_in_its_way_expires(
    clock: Clock, limiter: Limiter, server: Process, processes: MakeProcess
) -> None:
    """Nobody reports a client's end, so the waiter has the moment in its timer."""
    limiter.create("db", 1)
    ask = entrusted(server, "db", seconds=4)
    waiter = processes().ask("db")
    assert waiter.outcome.look_at == clock.now + 4
    clock.advance(2)
    assert renew(server, ask, 5)
    clock.advance(2)
    waiter.look()
    assert waiter.waits
    assert waiter.outcome.look_at == clock.now + 3
    clock.advance(3)
    waiter.look()
    assert waiter.waits
    assert waiter.reported_dead  # which needs no sleep
    waiter.look()
    assert waiter.granted


def test_a_blocked_caller_gets_the_slot_at_the_end(limiter: Limiter, server: Process) -> None:
    """What sleeps over the client's end, as a thread does, wakes and is granted."""
    limiter.create("db", 1)
    entrusted(server, "db", seconds=0.1)
    with limiter.concurrency("db", timeout_seconds=30) as lease:
        assert lease.waited_seconds > 0
        assert [one.lease for one in limiter.holders()] == [lease.id]


def test_a_task_gets_the_slot_at_the_end(limiter: Limiter, server: Process, path: str) -> None:
    """The same for what waits in an event loop."""
    limiter.create("db", 1)
    entrusted(server, "db", seconds=0.1)

    async def main() -> float:
        async with AsyncLimiter(path).concurrency("db", timeout_seconds=30) as lease:
            return lease.waited_seconds

    assert asyncio.run(main()) > 0


def test_a_client_behind_a_dead_waiter(
    clock: Clock, limiter: Limiter, server: Process, processes: MakeProcess
) -> None:
    """A request of the server's waits in the one queue, and ends with the server."""
    limiter.create("db", 1)
    holder = processes().ask("db")
    asked = server.ask("db")
    next_one = processes().ask("db")
    server.die()
    holder.release()
    assert not asked.granted
    assert next_one.look() is next_one.outcome
    assert next_one.granted


def test_releasing_a_clients_lease(clock: Clock, limiter: Limiter, server: Process) -> None:
    """A client or an operator frees it by its id, once; its owner goes with it."""
    limiter.create("db", 2)
    ask = entrusted(server, "db", occupy=2)
    assert limiter.release(ask.request.id)
    assert not limiter.release(ask.request.id)
    assert used(limiter) == 0
    assert not renew(server, ask)


def test_a_lease_of_nothing(clock: Clock, limiter: Limiter, server: Process) -> None:
    """An inactive limit is passed by; its client renews and releases all the same."""
    limiter.create("db", 1, active=False)
    ask = entrusted(server, "db")
    assert renew(server, ask)
    assert not limiter.release(ask.request.id)
    assert not renew(server, ask)


def test_a_reboot_keeps_a_client_for_what_is_left(
    clock: Clock, limiter: Limiter, server: Process
) -> None:
    """The boot's clock begins again; a client elsewhere has seen nothing of that."""
    limiter.create("db", 1)
    entrusted(server, "db", seconds=100)
    limiter.close()
    server.die()
    clock.reboot(60)
    assert used(limiter) == 1
    clock.advance(39)
    assert used(limiter) == 1
    clock.advance(1)
    assert used(limiter) == 0


def test_a_wall_clock_set_back_while_down_keeps_no_client_for_ever(
    clock: Clock, limiter: Limiter, server: Process
) -> None:
    """After a reboot a lease lasts no longer than one can be asked for."""
    limiter.create("db", 1)
    entrusted(server, "db", seconds=100)
    limiter.close()
    clock.reboot(-10_000_000)
    assert used(limiter) == 1
    clock.advance(schema.MAX_LEASE_SECONDS)
    assert used(limiter) == 0


def test_ps_shows_a_client(clock: Clock, limiter: Limiter, server: Process, invoke: Invoke) -> None:
    """Who holds is shown with address and holder, and without a pid, which is not of this place."""
    limiter.create("db", 1)
    entrusted(server, "db")
    (holder,) = limiter.holders("db")
    assert (holder.pid, holder.user, holder.command, holder.holder) == (
        None,
        "app",
        "192.0.2.7 prefect/3.8.8",
        '{"type":"flow_run"}',
    )
    shown = invoke("ps").output
    assert "192.0.2.7 prefect/3.8.8" in shown
    assert "None" not in shown


def test_slots_without_a_lease(clock: Clock, limiter: Limiter, server: Process) -> None:
    """An old client takes slots that nobody is behind, and gives them back as it took them."""
    limiter.create("db", 5)
    limiter.create("api", 5, slot_decay_per_second=1)
    for occupy in (2, 1):
        ask = server.ask("db", "api", occupy=occupy)
        server.do(functools.partial(clients.detach, request=ask.request))
    server.die()
    assert (used(limiter), used(limiter, "api"), limiter.holders()) == (3, 3, [])
    limits = server.do(lambda tx: clients.return_slots(tx, ["db", "api", "none"], 1, 0.5))
    assert [(name, limit) for _, name, limit in limits] == [("db", 5), ("api", 5)]
    assert used(limiter) == 2
    assert limiter.read("db").avg_slot_occupancy_seconds == pytest.approx(1.85)
    assert used(limiter, "api") == 3  # 2.5 of 5: half of the slot had decayed
    clock.advance(10)
    assert used(limiter, "api") == 0


def test_giving_back_takes_from_no_holder(
    clock: Clock, limiter: Limiter, server: Process, processes: MakeProcess
) -> None:
    """More given back than was taken: the slots of those who hold stay theirs."""
    limiter.create("db", 5)
    processes().ask("db", occupy=2)
    limiter.create("other", 1)
    waiter = processes().ask("db", occupy=4)
    ask = server.ask("other")
    assert ask.granted
    server.do(lambda tx: clients.return_slots(tx, ["db"], 9, None))
    assert used(limiter) == 2
    assert waiter.waits


def test_giving_back_serves_the_queue(
    clock: Clock, limiter: Limiter, server: Process, processes: MakeProcess
) -> None:
    """Whoever waits for what is given back is granted it in the same transaction."""
    limiter.create("db", 1, active_slots=1)
    waiter = processes().ask("db")
    assert waiter.waits
    server.do(lambda tx: clients.return_slots(tx, ["db"], 1, None))
    waiter.look()
    assert waiter.granted
    assert isinstance(waiter.outcome, request.Granted)
