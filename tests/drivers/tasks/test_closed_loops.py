"""Loops that are closed while tasks wait in them, in a process that uses no other loop after."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from localgcl import AsyncLimiter, Limiter
from localgcl._engine import release
from localgcl._storage.database import Transaction
from tests.helpers.tasks import nothing_is_left, until
from tests.helpers.waiting import DEADLINE_SECONDS
from tests.helpers.waiting import until as until_blocking

Left = Callable[..., None]

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS)
def left(request: pytest.FixtureRequest) -> Iterator[Left]:
    """Run coroutines in a loop, and close it with whatever waits in it."""
    tasks: list[asyncio.Task[Any]] = []

    def run(*coroutines: Coroutine[Any, Any, Any]) -> None:
        async def begin() -> None:
            for coroutine in coroutines:
                tasks.append(asyncio.create_task(coroutine))
                await until(waits(len(tasks)))

        loop = LOOPS[request.param]()
        loop.run_until_complete(begin())
        loop.close()

    def waits(number: int) -> Callable[[], Coroutine[Any, Any, bool]]:
        async def condition() -> bool:
            return (await AsyncLimiter().read("a")).waiting == number

        return condition

    yield run
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]


def threads_of_ours() -> list[str]:
    """The threads that work for loops."""
    return [one.name for one in threading.enumerate() if one.name == "localgcl-loop"]


def test_what_waits_leaves_the_queue(path: Path, left: Left) -> None:
    """Nobody has to come to the loop, or to any other, for that."""
    limiter, asking = Limiter(path), AsyncLimiter(path)
    lease = limiter.acquire("a")
    left(*[asking.acquire("a") for _ in range(3)])
    until_blocking(lambda: limiter.waiters() == [])
    until_blocking(lambda: threads_of_ours() == [])
    lease.release()
    limiter.close()
    with limiter.concurrency("a", timeout_seconds=0):
        pass


def test_what_it_is_granted_is_given_back(path: Path, left: Left) -> None:
    """Whoever waits behind it gets the slot, with no other call of this process."""
    limiter, asking = Limiter(path), AsyncLimiter(path)
    lease = limiter.acquire("a")
    left(*[asking.acquire("a") for _ in range(3)])
    lease.release()
    limiter.acquire("a", timeout_seconds=DEADLINE_SECONDS).release()
    assert limiter.waiters() == []


@pytest.mark.parametrize("free", [True, False])
def test_an_outcome_that_the_loop_does_not_deliver(path: Path, free: bool) -> None:
    """What the thread decides only after the loop's end is undone, be it a slot or a place."""
    limiter, asking = Limiter(path), AsyncLimiter(path)
    lease = limiter.acquire("a")
    inside, ended = threading.Event(), threading.Event()

    def stay(tx: Transaction) -> None:
        inside.set()
        ended.wait(DEADLINE_SECONDS)
        if free:
            release.release_by_id(tx, lease.id)

    keeper = threading.Thread(target=limiter._database.transact, args=(stay,))

    async def begin_to_ask() -> None:
        await asking.read("a")
        keeper.start()
        assert await asyncio.to_thread(inside.wait, DEADLINE_SECONDS)
        tasks.append(asyncio.create_task(asking.acquire("a")))
        for _ in range(3):
            await asyncio.sleep(0)

    tasks: list[asyncio.Task[Any]] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin_to_ask())
    loop.close()
    tasks[0]._log_destroy_pending = False  # type: ignore[attr-defined]
    ended.set()
    keeper.join()
    until_blocking(lambda: threads_of_ours() == [])
    assert limiter.waiters() == []
    assert limiter.read("a").active_slots == (0 if free else 1)
    limiter.close()


def test_a_rate(path: Path, left: Left) -> None:
    """A task that is gone takes nothing of a rate either."""
    limiter, asking = Limiter(path), AsyncLimiter(path)
    limiter.create("api", 1, slot_decay_per_second=1e-4)
    limiter.rate_limit("api")
    lease = limiter.acquire("a")
    left(asking.acquire(["a", "api"]))
    until_blocking(lambda: limiter.waiters() == [])
    assert limiter.read("api").active_slots == 1
    lease.release()
    until_blocking(lambda: threads_of_ours() == [])
    limiter.close()
    nothing_but_the_rate_is_left(limiter)


def nothing_but_the_rate_is_left(limiter: Limiter) -> None:
    """Check that no slot of the other limit is taken."""
    assert limiter.read("a").active_slots == 0
    limiter.delete("api")
    limiter.close()


def test_a_loop_that_lives_is_left_alone(path: Path) -> None:
    """A loop that does not run for a while keeps its places: it may run again."""
    limiter, asking = Limiter(path), AsyncLimiter(path)
    lease = limiter.acquire("a")
    loop = asyncio.new_event_loop()
    task = loop.create_task(asking.acquire("a"))

    async def waits() -> bool:
        return (await asking.read("a")).waiting == 1

    loop.run_until_complete(until(waits))
    until_blocking(lambda: limiter.read("a").waiting == 1)
    lease.release()
    loop.run_until_complete(asyncio.wait_for(task, DEADLINE_SECONDS))
    loop.run_until_complete(task.result().release())
    loop.run_until_complete(asking.aclose())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    limiter.close()
    nothing_is_left(path)
