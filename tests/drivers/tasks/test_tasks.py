"""The awaitable flavour: tasks in turn, beside threads and processes, and a loop that goes on."""

from __future__ import annotations

import asyncio
import contextvars
import fcntl
import inspect
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from localgcl import (
    AcquireConcurrencySlotTimeoutError,
    AsyncLimiter,
    ConcurrencySlotAcquisitionError,
    Limiter,
    LimitNotFoundError,
)
from localgcl._base import clock
from localgcl._drivers import session as _loop
from localgcl._drivers.sessions import session_of
from localgcl._engine import wait
from localgcl._storage.database import Transaction
from localgcl.asyncio import concurrency, rate_limit
from tests.helpers.tasks import nothing_is_left, until
from tests.helpers.waiting import DEADLINE_SECONDS


def test_the_calls_of_the_limiter(path: Path) -> None:
    """Every call of the blocking flavour is there and awaited."""

    async def main() -> None:
        async with AsyncLimiter(path) as limiter:
            await limiter.create("b", 2, slot_decay_per_second=1.0)
            assert (await limiter.upsert("c", 3)).limit == 3
            assert [one.name for one in await limiter.read_all()] == ["a", "b", "c"]
            assert (await limiter.update("c", new_name="d", limit=4)).name == "d"
            lease = await limiter.acquire(["a", "d"], holder={"job": 1})
            assert [one.limit for one in await limiter.holders()] == ["a", "d"]
            assert (await limiter.holders("a"))[0].holder == '{"job":1}'
            assert await limiter.waiters() == []
            assert await limiter.release(lease.id)
            assert not await limiter.release(lease.id)
            await lease.release()
            await limiter.rate_limit("b", 2)
            await limiter.reset("b")
            assert (await limiter.read("b")).active_slots == 0
            await limiter.delete("d")
            with pytest.raises(LimitNotFoundError):
                await limiter.read("d")

    asyncio.run(main())
    nothing_is_left(path)


@pytest.mark.parametrize("name", ["missing", "deleted"])
def test_who_is_granted_less_than_it_asked_for_is_told(
    path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """Of a name that was missing from the first, or since it waits; and nothing is left of it."""

    async def main() -> None:
        async with AsyncLimiter(path) as limiter:
            await limiter.create("deleted", 1)
            held = await limiter.acquire("a")
            waiting = asyncio.create_task(limiter.acquire(["a", name]))
            while not await limiter.waiters():
                await asyncio.sleep(0.001)
            await limiter.delete("deleted")
            await held.release()
            await (await waiting).release()

    asyncio.run(main())
    assert [f"'{name}'" in message for message in caplog.messages] == [True]
    nothing_is_left(path)


def test_a_request_that_another_thread_throws_away_is_undone(path: Path) -> None:
    """Also in debug mode, in which only its own thread may speak to a loop."""

    async def main() -> None:
        async with AsyncLimiter(path) as limiter:
            held = await limiter.acquire("a")
            request = limiter.acquire("a")
            future = request.send(None)
            while not await limiter.waiters():
                while not future.done():
                    await asyncio.sleep(0.001)
                if not await limiter.waiters():
                    future = request.send(None)
            thread = threading.Thread(target=request.close)
            thread.start()
            while thread.is_alive():
                await asyncio.sleep(0.001)
            await held.release()
            assert await limiter.waiters() == []

    asyncio.run(main(), debug=True)
    nothing_is_left(path)


def test_tasks_take_turns(path: Path) -> None:
    """Tasks never have more inside than the limit, and are served in the order they asked in."""
    order: list[int] = []
    inside = 0

    async def one(number: int) -> None:
        nonlocal inside
        async with concurrency("a", strict=True) as lease:
            inside += 1
            assert inside == 1
            assert lease.names == ("a",)
            order.append(number)
            await asyncio.sleep(0)
            inside -= 1

    async def main() -> None:
        await asyncio.gather(*[one(number) for number in range(50)])

    asyncio.run(main())
    assert order == list(range(50))
    nothing_is_left(path)


def test_refusals(path: Path) -> None:
    """A try, a timeout, a missing name and a rate without decay are the documented errors."""

    async def main() -> None:
        async with concurrency("a"):
            with pytest.raises(AcquireConcurrencySlotTimeoutError):
                await AsyncLimiter(path).acquire("a", timeout_seconds=0)
            with pytest.raises(TimeoutError):  # in a task that is not inside of the block
                await asyncio.create_task(AsyncLimiter(path).acquire("a", timeout_seconds=0.05))
            with pytest.raises(ConcurrencySlotAcquisitionError):
                async with concurrency("a", max_retries=0):
                    pass
            with pytest.raises(ConcurrencySlotAcquisitionError):
                async with concurrency("none", strict=True):
                    pass
            with pytest.raises(ConcurrencySlotAcquisitionError):
                await rate_limit("a")

    asyncio.run(main())
    nothing_is_left(path)


def test_a_decorated_coroutine_function(path: Path) -> None:
    """It stays one, takes a new lease at each call, and sees the caller's context."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    @concurrency("a", strict=True)
    async def function(value: int) -> tuple[int, str]:
        variable.set(variable.get() + "!")
        return value, variable.get()

    assert inspect.iscoroutinefunction(function)

    async def main() -> None:
        variable.set("kept")
        assert await function(1) == (1, "kept!")
        assert await function(2) == (2, "kept!!")

    asyncio.run(main())
    nothing_is_left(path)
    with pytest.raises(TypeError):
        concurrency("a")(lambda: None)  # type: ignore[arg-type, return-value]


# A loop that goes on


async def first_opening(limiter: AsyncLimiter) -> None:
    """Open the database, which is made then."""
    await AsyncLimiter(f"{limiter.path}.new").upsert("a", 1)


async def waiting(limiter: AsyncLimiter) -> None:
    """Take a slot that somebody holds."""
    async with limiter.concurrency("a"):
        pass


CALLS: dict[str, Callable[[AsyncLimiter], Awaitable[object]]] = {
    "first opening": first_opening,
    "acquire": lambda limiter: limiter.acquire("other", timeout_seconds=DEADLINE_SECONDS),
    "waiting": waiting,
    "rate_limit": lambda limiter: limiter.rate_limit("api"),
    "read": lambda limiter: limiter.read("a"),
    "release": lambda limiter: limiter.release("unknown"),
    "close": lambda limiter: limiter.aclose(),
}


@pytest.mark.parametrize("call", CALLS)
def test_the_loop_goes_on_while_the_gate_is_shut(path: Path, call: str) -> None:
    """While another process has the gate for 200 ms, the loop beats, whatever it has asked for."""

    async def main() -> None:
        limiter = AsyncLimiter(path)
        await limiter.create("api", 1, slot_decay_per_second=100.0)
        await limiter.create("other", 1)
        lease = await limiter.acquire("a")
        gate = shut_gate(f"{path}.new" if call == "first opening" else str(path))
        task = asyncio.ensure_future(CALLS[call](limiter))
        for _ in range(20):
            await asyncio.sleep(0.01)
            assert not task.done()
        os.close(gate)
        if call == "waiting":
            await until(lambda: somebody_waits(limiter))
            for _ in range(20):
                await asyncio.sleep(0.01)
                assert not task.done()
        await lease.release()
        await task

    asyncio.run(main())


@pytest.mark.parametrize("waits", [True, False])
def test_a_timeout_while_the_gate_is_shut(path: Path, waits: bool) -> None:
    """It is kept, and what the thread does of the request later is undone."""

    async def main() -> None:
        limiter = AsyncLimiter(path)
        lease = await limiter.acquire("a") if waits else None
        other = asyncio.create_task(limiter.acquire("a", timeout_seconds=0.2 if waits else 30))
        if waits:
            await until(lambda: somebody_waits(limiter))
        gate = shut_gate(str(path))
        late = asyncio.create_task(limiter.acquire("a", timeout_seconds=0.1))
        for task in (late, other) if waits else (late,):
            with pytest.raises(AcquireConcurrencySlotTimeoutError):
                await task
        os.close(gate)
        if not waits:
            lease = await other
        assert lease is not None
        assert [one.lease for one in await limiter.holders()] == [lease.id]
        assert await limiter.waiters() == []
        await lease.release()

    asyncio.run(main())
    nothing_is_left(path)


def shut_gate(path: str) -> int:
    """Enter the gate of a database as another process does; return what is closed to leave."""
    os.makedirs(f"{path}-run", mode=0o700, exist_ok=True)
    gate = os.open(f"{path}-run/gate", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(gate, fcntl.LOCK_EX)
    return gate


async def somebody_waits(limiter: AsyncLimiter) -> bool:
    """Whether a request is in the queue."""
    return (await limiter.read("a")).waiting > 0


def test_a_look_that_serves_its_own_request(path: Path) -> None:
    """A task that a stray hint wakes just when it is its moment is granted once, and told so."""

    async def main() -> None:
        limiter = AsyncLimiter(path)
        await limiter.create("api", 1, slot_decay_per_second=1e-6)
        await limiter.rate_limit("api")
        task = asyncio.create_task(limiter.acquire("api"))

        async def waits() -> bool:
            return (await limiter.read("api")).waiting == 1

        await until(waits)
        session = await session_of(limiter.path)

        def hint(tx: Transaction) -> None:
            tx.execute("UPDATE ledger SET level = 0 WHERE owner = -1")
            ((wake_fifo, ticket),) = tx.execute("SELECT wakes, ticket FROM waiters").fetchall()
            tx.wakeups[wake_fifo] = {ticket}

        await session.transact(hint)
        async with asyncio.timeout(DEADLINE_SECONDS):
            lease = await task
        assert [one.lease for one in await limiter.holders()] == [lease.id]
        await lease.release()

    asyncio.run(main())
    nothing_is_left(path)


# A loop that stands still


def take_again_and_again(path: Path, pairs: Any) -> None:
    """Count how often a slot was taken and freed, until ended."""
    limiter = Limiter(path)
    while True:
        with limiter.concurrency("b"):
            pairs.value += 1


@pytest.mark.processes
def test_a_task_that_computes_holds_up_no_other_process(path: Path) -> None:
    """Between any two awaits of a request a loop may stand still: the others go on meanwhile.

    The task computes until another process has made a hundred pairs. Held up, even for one
    transaction, that process would never make them.
    """
    context = multiprocessing.get_context("spawn")
    pairs = context.RawValue("l", 0)
    other = context.Process(target=take_again_and_again, args=(path, pairs))

    def compute() -> None:
        end, enough = time.monotonic() + DEADLINE_SECONDS, pairs.value + 100
        while pairs.value < enough:
            assert time.monotonic() < end, "the other process was held up"

    async def stand_still_after(turns: int, limiter: AsyncLimiter, *, contended: bool) -> bool:
        lease = await limiter.acquire("a") if contended else None
        request = asyncio.create_task(limiter.acquire("a"))
        for _ in range(turns):
            await asyncio.sleep(0.0002)
        done = request.done()
        compute()
        if lease is not None:
            await lease.release()
            compute()
        release = asyncio.create_task((await request).release())
        for _ in range(turns):
            await asyncio.sleep(0.0002)
        compute()
        await release
        return done

    async def main() -> None:
        async with AsyncLimiter(path) as limiter:
            enough = 0
            while not await stand_still_after(enough, limiter, contended=False):
                enough += 1
            for turns in range(enough + 3):
                await stand_still_after(turns, limiter, contended=True)

    with Limiter(path) as limiter:
        limiter.create("b", 1)
    other.start()
    try:
        compute()
        asyncio.run(main())
    finally:
        other.kill()
        other.join()
    nothing_is_left(path)


# Many, and beside others


def test_a_thousand_tasks_wait(path: Path) -> None:
    """They need a handful of descriptors and threads together, and are served in order."""
    order: list[int] = []

    async def one(limiter: AsyncLimiter, number: int) -> None:
        async with limiter.concurrency("a"):
            order.append(number)

    async def main() -> None:
        async with AsyncLimiter(path) as limiter:
            lease = await limiter.acquire("a")
            before = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
            tasks = [asyncio.create_task(one(limiter, number)) for number in range(1000)]

            async def all_wait() -> bool:
                return (await limiter.read("a")).waiting == 1000

            await until(all_wait)
            now = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
            assert now[0] <= before[0] + 10  # a look has some open for a moment, too
            assert now[1] == before[1]
            await lease.release()
            await asyncio.gather(*tasks)

    asyncio.run(main())
    assert order == list(range(1000))
    nothing_is_left(path)


def test_closed_while_a_task_waits(path: Path) -> None:
    """`aclose()` closes nothing that a waiting task needs."""

    async def main() -> None:
        limiter = AsyncLimiter(path)
        lease = await limiter.acquire("a")
        task = asyncio.create_task(limiter.acquire("a", timeout_seconds=DEADLINE_SECONDS))
        await until(lambda: somebody_waits(limiter))
        await limiter.aclose()
        await lease.release()
        await (await task).release()

    asyncio.run(main())
    nothing_is_left(path)


HOLD = """
import sys, time
from localgcl import Limiter
lease = Limiter(sys.argv[1]).acquire("a")
print("held", flush=True)
time.sleep(600)
"""


def test_the_death_of_a_holder_wakes_a_task(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel tells of it: nobody else looks, and the loop's own look round comes too late."""
    monkeypatch.setattr(wait, "NET_SECONDS", 1000.0)
    monkeypatch.setattr(_loop, "_NET_SECONDS", 1000.0)

    async def main() -> None:
        limiter = AsyncLimiter(path)
        holder = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", HOLD, str(path)), stdout=asyncio.subprocess.PIPE
        )
        assert holder.stdout is not None
        assert await holder.stdout.readline() == b"held\n"
        task = asyncio.create_task(limiter.acquire("a"))
        await until(lambda: somebody_waits(limiter))
        holder.kill()
        await (await asyncio.wait_for(task, DEADLINE_SECONDS)).release()
        await holder.wait()

    asyncio.run(main())
    nothing_is_left(path)


def test_a_thousand_tasks_are_granted_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All hear of it, though they are more than one ring can name, and nothing else tells them."""
    monkeypatch.setattr(wait, "NET_SECONDS", 1000.0)
    monkeypatch.setattr(_loop, "_NET_SECONDS", 1000.0)
    blocking = Limiter(path)
    blocking.create("many", 1000, active_slots=1000)

    async def main() -> None:
        limiter = AsyncLimiter(path)
        tasks = [asyncio.create_task(limiter.acquire("many")) for _ in range(1000)]

        async def all_wait() -> bool:
            return (await limiter.read("many")).waiting == 1000

        await until(all_wait)
        await asyncio.to_thread(blocking.reset, "many")
        async with asyncio.timeout(DEADLINE_SECONDS):
            for lease in await asyncio.gather(*tasks):
                await lease.release()

    asyncio.run(main())
    blocking.close()
    nothing_is_left(path)


def test_a_timeout_comes_after_the_machine_has_slept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timers of a loop stand still meanwhile; its look round sees what time it is."""
    slept = 0.0
    now = clock.now
    monkeypatch.setattr(clock, "now", lambda: now() + slept)

    async def main() -> None:
        nonlocal slept
        limiter = AsyncLimiter(path)
        lease = await limiter.acquire("a")
        first = asyncio.create_task(limiter.acquire("a"))
        await until(lambda: somebody_waits(limiter))
        second = asyncio.create_task(limiter.acquire("a", timeout_seconds=1000.0))

        async def both_wait() -> bool:
            return (await limiter.read("a")).waiting == 2

        await until(both_wait)
        slept = 2000.0
        with pytest.raises(AcquireConcurrencySlotTimeoutError):
            await asyncio.wait_for(second, DEADLINE_SECONDS)
        await lease.release()
        await (await first).release()

    asyncio.run(main())
    nothing_is_left(path)


def test_tasks_and_threads_share_a_queue(path: Path) -> None:
    """A plain call in a thread and a task wait for each other."""
    blocking = Limiter(path)
    lease = blocking.acquire("a")

    async def main() -> None:
        limiter = AsyncLimiter(path)
        task = asyncio.create_task(limiter.acquire("a", timeout_seconds=DEADLINE_SECONDS))
        await until(lambda: somebody_waits(limiter))
        thread = asyncio.create_task(asyncio.to_thread(blocking.acquire, "a"))

        async def both_wait() -> bool:
            return (await limiter.read("a")).waiting == 2

        await until(both_wait)
        await asyncio.to_thread(lease.release)
        await (await task).release()
        await asyncio.to_thread((await thread).release)

    asyncio.run(main())
    blocking.close()
    nothing_is_left(path)


def test_too_late_at_a_shut_gate(path: Path) -> None:
    """A timeout that comes while the gate is shut leaves nothing once it opens."""

    async def main() -> None:
        limiter = AsyncLimiter(path)
        await limiter.create("api", 1, slot_decay_per_second=1e-6)
        await limiter.create("full", 1)
        lease = await limiter.acquire("full")
        gate = shut_gate(str(path))
        calls = (
            limiter.acquire("a", timeout_seconds=0.05),
            limiter.acquire("full", timeout_seconds=0.05),
            limiter.rate_limit("api", timeout_seconds=0.05),
        )
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(error, AcquireConcurrencySlotTimeoutError)
        os.close(gate)
        assert await limiter.waiters() == []
        await lease.release()
        assert [limit.active_slots for limit in await limiter.read_all()] == [0, 0, 0]

    asyncio.run(main())
    nothing_is_left(path)
