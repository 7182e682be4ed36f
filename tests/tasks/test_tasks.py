"""The awaitable flavour: tasks, loops that come and go, and cancellation at every point."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import os
import random
import threading
from collections.abc import Callable, Coroutine
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
from localgcl.asyncio import concurrency, rate_limit


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database that is the default, with a limit of one slot."""
    database = tmp_path / "limits.db"
    monkeypatch.setenv("LOCALGCL_DB", str(database))
    with Limiter(database) as limiter:
        limiter.create("a", 1)
    return database


def nothing_is_left(path: Path) -> None:
    """Check that no slot is taken, nobody waits and no lifeline is left."""
    with Limiter(path) as limiter:
        assert [limit.active_slots for limit in limiter.read_all()] == [0] * len(limiter.read_all())
        assert limiter.waiters() == []
    assert set(os.listdir(f"{path}-run")) == {"gate", "create.lock"}


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
    """A try, a timeout, a missing name and a rate without decay are the errors of the contract."""

    async def main() -> None:
        async with concurrency("a"):
            with pytest.raises(AcquireConcurrencySlotTimeoutError):
                await AsyncLimiter(path).acquire("a", timeout_seconds=0)
            with pytest.raises(TimeoutError):
                async with concurrency("a", timeout_seconds=0.05):
                    pass
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


async def work(limiter: AsyncLimiter) -> None:
    """Hold a slot for a moment."""
    async with limiter.concurrency("a"):
        await asyncio.sleep(0)


def cancelled_at(
    path: Path, steps: int, scenario: Callable[..., Coroutine[Any, Any, None]]
) -> bool:
    """Cancel a scenario's task after so many turns; return whether it was still there."""

    async def main() -> bool:
        limiter = AsyncLimiter(path)
        await limiter.read("a")  # opened
        task = asyncio.create_task(scenario(limiter))
        for _ in range(steps):
            await asyncio.sleep(0)
            await asyncio.sleep(0.0002)
        cancelled = task.cancel()
        with pytest.raises(asyncio.CancelledError) if cancelled else contextlib.nullcontext():
            await task
        assert (await limiter.read("a")).active_slots == 0
        assert await limiter.waiters() == []
        return cancelled

    return asyncio.run(main())


def test_cancelled_at_every_turn(path: Path) -> None:
    """Whenever a task is cancelled, no slot stays taken and no place in the queue."""
    steps = 0
    while cancelled_at(path, steps, work):
        steps += 1
    assert steps > 0
    nothing_is_left(path)


def test_cancelled_at_random(path: Path) -> None:
    """The same two thousand times under contention, with two cancellations in a row at times."""
    rng = random.Random(3)

    async def main() -> None:
        limiter = AsyncLimiter(path)
        await limiter.update("a", limit=3)

        async def one() -> None:
            task = asyncio.create_task(work(limiter))
            await asyncio.sleep(rng.choice([0, 0.001, 0.005]))
            task.cancel()
            if rng.random() < 0.3:
                await asyncio.sleep(0)
                task.cancel()
            await asyncio.wait([task])

        for _ in range(40):
            await asyncio.gather(*[one() for _ in range(50)])
        leases = [await limiter.acquire("a", timeout_seconds=5) for _ in range(3)]
        for lease in leases:
            await lease.release()

    asyncio.run(main())
    nothing_is_left(path)


def test_timeouts_of_asyncio(path: Path) -> None:
    """`asyncio.timeout`, `wait_for` and a TaskGroup leave nothing behind."""

    async def main() -> None:
        limiter = AsyncLimiter(path)
        async with limiter.concurrency("a"):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await limiter.acquire("a")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(limiter.acquire("a"), 0.05)
            with pytest.raises(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(limiter.acquire("a"))
                    await asyncio.sleep(0.02)
                    raise ValueError
            assert await limiter.waiters() == []

    asyncio.run(main())
    nothing_is_left(path)


def test_loops_come_and_go(path: Path) -> None:
    """One limiter serves loops one after another and at the same time; nothing of them stays."""
    limiter = AsyncLimiter(path)
    before = set(os.listdir("/proc/self/fd"))

    async def main() -> None:
        await asyncio.gather(*[work(limiter) for _ in range(5)])

    asyncio.run(main())
    asyncio.run(main())
    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    nothing_is_left(path)
    assert [thread.name for thread in threading.enumerate()] == ["MainThread"]
    assert len(set(os.listdir("/proc/self/fd"))) <= len(before) + 1


def test_the_loop_is_not_blocked_by_the_gate(path: Path) -> None:
    """While another holds the gate, other tasks of the loop go on."""
    import fcntl

    async def main() -> None:
        limiter = AsyncLimiter(path)
        await limiter.read("a")
        gate = os.open(f"{path}-run/gate", os.O_RDWR)
        fcntl.flock(gate, fcntl.LOCK_EX)
        waiting = asyncio.create_task(limiter.acquire("a"))
        beats = 0
        for _ in range(20):
            await asyncio.sleep(0.005)
            beats += 1
        assert not waiting.done()
        os.close(gate)
        await (await waiting).release()
        assert beats == 20

    asyncio.run(main())
    nothing_is_left(path)


def test_tasks_and_threads_share_a_queue(path: Path) -> None:
    """A plain call in a thread and a task wait for each other."""
    limiter = Limiter(path)
    lease = limiter.acquire("a")

    async def main() -> None:
        waiting = asyncio.create_task(AsyncLimiter(path).acquire("a", timeout_seconds=30))
        while not limiter.waiters("a"):
            await asyncio.sleep(0.005)
        lease.release()
        await (await waiting).release()

    asyncio.run(main())
    limiter.close()
    nothing_is_left(path)
