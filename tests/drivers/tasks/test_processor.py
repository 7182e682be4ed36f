"""The thread of a loop runs where the loop does, and the loop leaves it the processor."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Collection
from pathlib import Path

import pytest

from localgcl import AsyncLimiter
from localgcl._base import clock, threads
from localgcl._drivers import affinity
from localgcl._drivers.affinity import Processor
from localgcl._drivers.sessions import session_of
from tests.helpers.waiting import DEADLINE_SECONDS


async def _turn() -> None:
    """Let everything that is ready in the loop have its turn."""
    await asyncio.sleep(0)


class Kernel:
    """What the kernel is asked for, with a clock that only a yield moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.here = 0
        self.now = 1000.0
        self.yields = 0
        self.each_yield_takes = 50e-6
        self.moved: list[tuple[int, ...]] = []
        monkeypatch.setattr(affinity, "_here", lambda: self.here)
        monkeypatch.setattr(clock, "now", lambda: self.now)
        monkeypatch.setattr(os, "sched_yield", self._sched_yield)
        monkeypatch.setattr(os, "sched_setaffinity", self._sched_setaffinity)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})

    def _sched_yield(self) -> None:
        self.yields += 1
        self.now += self.each_yield_takes

    def _sched_setaffinity(self, thread: int, processors: tuple[int]) -> None:
        self.moved.append((thread, *processors))


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Have nothing really moved or yielded."""
    return Kernel(monkeypatch)


def test_the_thread_runs_where_its_loop_does_and_nobody_else_is_moved(path: Path) -> None:
    """Wherever the loop was when it gave the thread its last work, the thread is bound to."""
    allowed = os.sched_getaffinity(0)

    async def main() -> None:
        async with AsyncLimiter(path) as limiter:
            thread = (await session_of(str(path))).worker.thread.native_id()
            for processor in sorted(allowed):
                os.sched_setaffinity(0, {processor})
                async with limiter.concurrency("a"):
                    assert os.sched_getaffinity(thread) == {processor}
            os.sched_setaffinity(0, allowed)
            async with limiter.concurrency("a"):
                assert os.sched_getaffinity(0) == allowed

    try:
        asyncio.run(main())
    finally:
        os.sched_setaffinity(0, allowed)


def test_the_thread_is_moved_only_when_the_loop_has(kernel: Kernel) -> None:
    """Staying costs nothing."""

    async def main() -> None:
        processor = Processor(asyncio.get_running_loop(), 77)
        for here in (0, 0, 1, 1, 0):
            kernel.here = here
            processor.share()

    asyncio.run(main())
    assert kernel.moved == [(77, 0), (77, 1), (77, 0)]


def test_the_processor_is_left_once_what_is_ready_has_had_its_turn(kernel: Kernel) -> None:
    """Work that is given in one turn of the loop is waited for once, and not in that turn."""

    async def main() -> None:
        processor = Processor(asyncio.get_running_loop(), 77)
        for _ in range(3):
            processor.share()
        assert kernel.yields == 0
        await _turn()
        assert kernel.yields == 1
        processor.share()
        await _turn()
        assert kernel.yields == 2

    asyncio.run(main())


def test_who_loses_time_to_others_keeps_the_processor_for_a_while(kernel: Kernel) -> None:
    """What a yield has cost is at most a hundredth of the time until the next."""

    async def main() -> None:
        processor = Processor(asyncio.get_running_loop(), 77)

        async def yields() -> int:
            before = kernel.yields
            processor.share()
            await _turn()
            return kernel.yields - before

        kernel.each_yield_takes = 0.004  # a slice of somebody else's
        assert await yields() == 1
        kernel.now += 0.39
        assert await yields() == 0
        kernel.now += 0.02
        kernel.each_yield_takes = 50e-6
        assert [await yields() for _ in range(3)] == [1, 1, 1]

    asyncio.run(main())


def test_that_all_were_stopped_is_no_loss(kernel: Kernel) -> None:
    """A machine that slept for an hour in the middle of a yield yields again soon."""

    async def main() -> None:
        processor = Processor(asyncio.get_running_loop(), 77)
        for kernel.each_yield_takes in (3600.0, 50e-6):
            processor.share()
            await _turn()
            kernel.now += 11

    asyncio.run(main())
    assert kernel.yields == 2


def test_what_may_not_be_moved_any_more_is_set_free(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the thread can follow no longer, it is not to stay where the loop once was."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})

    def refuse(thread: int, processors: Collection[int]) -> None:
        if set(processors) == {1}:
            raise OSError
        kernel.moved.append((thread, *processors))

    monkeypatch.setattr(os, "sched_setaffinity", refuse)

    async def main() -> None:
        processor = Processor(asyncio.get_running_loop(), 77)
        for kernel.here in (0, 1, 2):
            processor.share()

    asyncio.run(main())
    assert kernel.moved == [(77, 0), (77, 0, 1, 2)]


def test_a_thread_that_such_a_thread_starts_has_all_processors(path: Path) -> None:
    """What is done later is not done where the loop is, and may take long."""
    allowed: list[set[int]] = []
    done = threading.Event()

    def note() -> None:
        allowed.append(os.sched_getaffinity(0))
        done.set()

    async def main() -> None:
        async with AsyncLimiter(path) as limiter:
            await limiter.read("a")
            (await session_of(str(path))).worker.thread.post(lambda: threads.start(note))
            await limiter.read("a")

    asyncio.run(main())
    assert done.wait(DEADLINE_SECONDS)
    assert allowed == [os.sched_getaffinity(0)]


def test_where_no_thread_may_be_moved_all_goes_on_without(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried once, and the processor is not left: the thread may be on another."""
    tries = []

    def refuse(thread: int, processors: object) -> None:
        tries.append(thread)
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refuse)

    async def main() -> None:
        processor = Processor(asyncio.get_running_loop(), 77)
        for _ in range(3):
            processor.share()
            await _turn()

    asyncio.run(main())
    assert tries == [77]
    assert kernel.yields == 0


def test_where_the_processor_cannot_be_told_all_goes_on_without(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS."""
    monkeypatch.setattr(affinity, "_here", None)

    async def main() -> None:
        Processor(asyncio.get_running_loop(), 77).share()
        await _turn()

    asyncio.run(main())
    assert kernel.moved == []
    assert kernel.yields == 0
