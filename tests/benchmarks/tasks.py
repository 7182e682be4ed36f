"""The awaitable flavour: a pair by one task, many tasks that contend, and many that only wait."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import aiosqlite

from localgcl import AsyncLimiter
from tests.benchmarks.figures import NONE, Row, Setting, compare, micros, millis, times
from tests.benchmarks.floor import Floor
from tests.benchmarks.pairs import ROUNDS, seconds_each

_PAIRS = 500

_TASKS, _SLOTS = 200, 10
_HOLDS = 2000
_HOLD_SECONDS = 0.001

_WAITERS = 1000
_SETTLE_SECONDS = 2.0
_SECONDS = 6.0

Run = Callable[[Coroutine[Any, Any, float]], float]
Enter = Callable[[], contextlib.AbstractAsyncContextManager[object]]


def tasks(setting: Setting) -> Iterable[Row]:
    """What a process pays that uses asyncio."""
    with asyncio.Runner() as runner:
        limiter = AsyncLimiter(setting.path("localgcl.db"))
        runner.run(limiter.create("alone", 1))
        runner.run(limiter.create("contended", _SLOTS))
        runner.run(limiter.create("full", 1))
        yield _pair(setting, runner.run, limiter)
        yield _contention(setting, runner.run, limiter)
        yield _idle(setting, runner.run, limiter)


def _pair(setting: Setting, run: Run, limiter: AsyncLimiter) -> Row:
    Floor.make(setting.path("floor.db"))
    floor = Floor(setting.path("floor.db"))
    pairs = setting.count(_PAIRS)

    async def measured() -> float:
        began = time.perf_counter()
        for _ in range(pairs):
            async with limiter.concurrency("alone"):
                pass
        return (time.perf_counter() - began) / pairs

    def bare() -> float:
        return seconds_each(floor.pair, pairs)

    found = compare(lambda: run(measured()), bare, ROUNDS)
    hops = compare(lambda: run(_hops_each(setting.path("floor.db"), pairs)), bare, ROUNDS)
    floor.close()
    return Row(
        "acquire + release by a task, nobody else there",
        micros(found.measured),
        f"{micros(found.floor)} (in aiosqlite's thread {times(hops.ratio)})",
        times(found.ratio),
        "≤ 5x",
        found.ratio <= 5,
    )


async def _hops_each(path: str, pairs: int) -> float:
    """Return how long the floor takes for a task, which hands it to aiosqlite's thread.

    Two transactions are awaited one after the other, so there and back twice, and the thread runs
    wherever it is woken.
    """
    async with aiosqlite.connect(path) as connection:
        hop: Callable[..., Any] = connection._execute
        floor = await hop(Floor, path)
        began = time.perf_counter()
        for _ in range(pairs):
            await hop(floor.pair)
            await hop(_nothing)
        taken = time.perf_counter() - began
        await hop(floor.close)
    return taken / pairs


def _nothing() -> None:
    pass


def _contention(setting: Setting, run: Run, limiter: AsyncLimiter) -> Row:
    holds = setting.count(_HOLDS // _TASKS)

    async def one(enter: Enter) -> None:
        for _ in range(holds):
            async with enter():
                await asyncio.sleep(_HOLD_SECONDS)

    async def all_of(enter: Enter) -> float:
        began = time.perf_counter()
        await asyncio.gather(*[one(enter) for _ in range(_TASKS)])
        return time.perf_counter() - began

    async def around_a_semaphore() -> float:
        semaphore = asyncio.Semaphore(_SLOTS)
        return await all_of(lambda: semaphore)

    found = compare(
        lambda: run(all_of(lambda: limiter.concurrency("contended"))),
        lambda: run(around_a_semaphore()),
        rounds=5,
    )
    return Row(
        f"{_TASKS} tasks over {_SLOTS} slots, {_TASKS * holds} holds of 1 ms;"
        " floor: asyncio.Semaphore",
        millis(found.measured),
        millis(found.floor),
        times(found.ratio),
        "≤ 3x",
        found.ratio <= 3,
    )


def _idle(setting: Setting, run: Run, limiter: AsyncLimiter) -> Row:
    async def used() -> float:
        async with limiter.concurrency("full"):
            waiting = [asyncio.create_task(limiter.acquire("full")) for _ in range(_WAITERS)]
            while (await limiter.read("full")).waiting < _WAITERS:
                await asyncio.sleep(0.05)
            await asyncio.sleep(_SETTLE_SECONDS)
            began, worked = time.perf_counter(), time.process_time()
            await asyncio.sleep(_SECONDS * setting.scale)
            share = (time.process_time() - worked) / (time.perf_counter() - began)
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
        return share

    share = run(used())
    return Row(
        f"{_WAITERS} waiting tasks of one process, together",
        f"{share:.2%} of a core",
        NONE,
        NONE,
        "< 1 %",
        share < 0.01,
    )
