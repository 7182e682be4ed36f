"""Cancellation at every point: nothing stays taken, and a task sees what a semaphore shows it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

import pytest

from localgcl import AsyncLimiter
from tests.helpers.tasks import nothing_is_left, until


async def work(limiter: AsyncLimiter) -> None:
    """Hold a slot for a moment."""
    async with limiter.concurrency("a"):
        await asyncio.sleep(0)


async def pass_by_rate(limiter: AsyncLimiter) -> None:
    """Take from a limit that is full, and from one with decay."""
    await limiter.rate_limit("api")


# At every point


def cancelled_at(
    path: Path, steps: int, scenario: Callable[..., Coroutine[Any, Any, None]]
) -> bool:
    """Cancel a scenario's task after so many turns; return whether it was still there."""

    async def main() -> bool:
        limiter = AsyncLimiter(path)
        await limiter.upsert("api", 1, slot_decay_per_second=0.001, active_slots=0)
        task = asyncio.create_task(scenario(limiter))
        for _ in range(steps):
            await asyncio.sleep(0)
            await asyncio.sleep(0.0002)
        cancelled = task.cancel()
        with pytest.raises(asyncio.CancelledError) if cancelled else contextlib.nullcontext():
            await task
        assert (await limiter.read("a")).active_slots == 0
        assert (await limiter.read("api")).active_slots == (
            1 if scenario is pass_by_rate and not cancelled else 0
        )
        assert await limiter.waiters() == []
        await limiter.reset("api")
        return cancelled

    return asyncio.run(main())


@pytest.mark.parametrize("scenario", [work, pass_by_rate])
def test_cancelled_at_every_turn(
    path: Path, scenario: Callable[..., Coroutine[Any, Any, None]]
) -> None:
    """Whenever a task is cancelled, no slot stays taken and no place in the queue."""
    steps = 0
    while cancelled_at(path, steps, scenario):
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


def test_a_rate_cancelled_at_random(path: Path) -> None:
    """What a cancelled call has taken by rate is given back, however far it had come."""
    rng = random.Random(5)

    async def main() -> None:
        limiter = AsyncLimiter(path)
        await limiter.create("api", 1, slot_decay_per_second=0.001)
        for _ in range(300):
            task = asyncio.create_task(limiter.rate_limit("api"))
            for _ in range(rng.randrange(12)):
                await asyncio.sleep(0)
            await asyncio.sleep(rng.random() * 0.0015)
            task.cancel()
            await asyncio.wait([task])
            assert (await limiter.read("api")).active_slots == (0 if task.cancelled() else 1)
            await limiter.reset("api")

    asyncio.run(main())
    nothing_is_left(path)


def test_a_place_that_is_left_and_taken_again(path: Path) -> None:
    """Where the last in the queue is cancelled as another comes, the other is not forgotten."""
    served: list[str] = []

    async def one(limiter: AsyncLimiter, name: str) -> None:
        async with limiter.concurrency("a"):
            served.append(name)

    async def main() -> None:
        limiter = AsyncLimiter(path)
        lease = await limiter.acquire("a")
        first = asyncio.create_task(one(limiter, "first"))
        last = asyncio.create_task(one(limiter, "last"))

        async def both_wait() -> bool:
            return (await limiter.read("a")).waiting == 2

        for number in range(20):
            await until(both_wait)
            last.cancel()
            last = asyncio.create_task(one(limiter, f"last {number}"))
            await asyncio.sleep(0.001 * (number % 3))
        await until(both_wait)
        await lease.release()
        await asyncio.gather(first, last)

    asyncio.run(main())
    assert served == ["first", "last 19"]
    nothing_is_left(path)


def test_a_coroutine_that_is_thrown_away(path: Path) -> None:
    """A request that is closed in the middle, as an abandoned coroutine is, leaves nothing."""

    async def main() -> None:
        limiter = AsyncLimiter(path)
        async with limiter.concurrency("a"):
            request = limiter.acquire("a")
            step = request.send(None)
            assert asyncio.isfuture(step)
            request.close()
        async with limiter.concurrency("a", timeout_seconds=5):
            pass

    asyncio.run(main())
    nothing_is_left(path)


# Beside a semaphore


class Place(Protocol):
    """One slot, entered by `async with`, and how many wait for it."""

    def enter(self) -> contextlib.AbstractAsyncContextManager[object]:
        """Return what holds the slot for a block."""

    async def waiting(self) -> int:
        """Return how many wait."""


class Semaphore:
    """What everybody knows."""

    def __init__(self) -> None:
        self._semaphore = asyncio.Semaphore(1)

    def enter(self) -> contextlib.AbstractAsyncContextManager[object]:
        return self._semaphore

    async def waiting(self) -> int:
        return len(self._semaphore._waiters or ())


class Limit:
    """What is tried."""

    def __init__(self, path: Path) -> None:
        self._limiter = AsyncLimiter(path)

    def enter(self) -> contextlib.AbstractAsyncContextManager[object]:
        return self._limiter.concurrency("a")

    async def waiting(self) -> int:
        return (await self._limiter.read("a")).waiting


Body = Callable[[], Awaitable[object]]


async def one_turn() -> None:
    """Let the others go on."""
    await asyncio.sleep(0)


class Story:
    """Tasks around one slot, and what they tell."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.told: list[str] = []

    async def hold(self, name: str, body: Body | None = None) -> None:
        """Enter, stay for as long as `body` takes, for ever without one, and tell all of it."""
        try:
            async with self.place.enter():
                self.told.append(f"{name} is in")
                await (body or asyncio.get_running_loop().create_future)()
                self.told.append(f"{name} is done")
        except BaseException as error:
            self.told.append(f"{name}: {type(error).__name__}{error.args}")
            raise

    def begin(self, name: str, body: Body | None = None) -> asyncio.Task[None]:
        """Begin a task that holds."""
        return asyncio.create_task(self.hold(name, body))

    async def is_in(self, name: str) -> None:
        """Wait until a task holds."""
        await until(lambda: _true(f"{name} is in" in self.told))

    async def wait_for(self, number: int) -> None:
        """Wait until so many wait."""

        async def reached() -> bool:
            return await self.place.waiting() == number

        await until(reached)

    async def ends(self, task: asyncio.Task[None]) -> None:
        """Wait for the end of a task, and tell of it."""
        await asyncio.wait([task])
        self.told.append("cancelled" if task.cancelled() else f"ended by {task.exception()!r}")


async def _true(value: bool) -> bool:
    return value


async def cancelled_inside(story: Story) -> None:
    """A body is cancelled, with a message."""
    task = story.begin("one")
    await story.is_in("one")
    task.cancel("enough")
    await story.ends(task)
    await story.hold("two", one_turn)


async def cancelled_twice_inside(story: Story) -> None:
    """A body is cancelled, and once more while it leaves."""
    task = story.begin("one")
    await story.is_in("one")
    task.cancel("enough")
    await asyncio.sleep(0)
    task.cancel("enough")
    await story.ends(task)
    await story.hold("two", one_turn)


async def cancelled_while_waiting(story: Story) -> None:
    """One of three that wait is cancelled, and the others come in order."""
    gate = asyncio.Event()
    tasks = [story.begin("one", gate.wait)]
    await story.is_in("one")
    for number, name in enumerate(("two", "three", "four"), 1):
        tasks.append(story.begin(name, one_turn))
        await story.wait_for(number)
    tasks[2].cancel("enough")
    await story.ends(tasks[2])
    await story.wait_for(2)
    gate.set()
    await asyncio.gather(tasks[0], tasks[1], tasks[3])


async def cancelled_twice_while_waiting(story: Story) -> None:
    """A waiter is cancelled, and once more before it has left."""
    gate = asyncio.Event()
    holder = story.begin("one", gate.wait)
    await story.is_in("one")
    task = story.begin("two")
    await story.wait_for(1)
    task.cancel("enough")
    task.cancel("enough")
    await story.ends(task)
    await story.wait_for(0)
    gate.set()
    await holder


async def cancelled_before_its_first_turn(story: Story) -> None:
    """A task that never ran takes nothing."""
    task = story.begin("one")
    task.cancel("enough")
    await story.ends(task)
    await story.hold("two", one_turn)


async def a_cancellation_that_is_swallowed(story: Story) -> None:
    """A body that goes on after its cancellation leaves as any other."""

    async def stubborn() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(0)

    task = story.begin("one", stubborn)
    await story.is_in("one")
    await asyncio.sleep(0)
    task.cancel()
    await story.ends(task)
    await story.hold("two", one_turn)


async def timeout_inside(story: Story) -> None:
    """`asyncio.timeout` in a body ends what it is about, and the body goes on."""

    async def body() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.sleep(60)
        task = asyncio.current_task()
        assert task is not None
        story.told.append(f"cancelling: {task.cancelling()}")

    await story.hold("one", body)
    await story.hold("two", one_turn)


async def timeout_around_the_block(story: Story) -> None:
    """`asyncio.timeout` around a block that holds, and around one that waits."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as patience:
            task = asyncio.create_task(story.is_in("one"))
            task.add_done_callback(lambda _: patience.reschedule(0))
            await story.hold("one")
    gate = asyncio.Event()
    holder = story.begin("two", gate.wait)
    await story.is_in("two")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await story.hold("three")
    await story.wait_for(0)
    gate.set()
    await holder


async def wait_for_around_a_waiter(story: Story) -> None:
    """`asyncio.wait_for` gives up for one that waits."""
    gate = asyncio.Event()
    holder = story.begin("one", gate.wait)
    await story.is_in("one")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(story.hold("two"), 0.05)
    await story.wait_for(0)
    gate.set()
    await holder


async def a_group_that_fails(story: Story) -> None:
    """A failing task has a TaskGroup cancel who holds and who waits, and raises its error alone."""

    async def fail() -> None:
        await story.is_in("one")
        await story.wait_for(1)
        raise ValueError("failed")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(story.hold("one"))
            await story.is_in("one")
            group.create_task(story.hold("two"))
            group.create_task(fail())
    except* ValueError as errors:
        story.told.append(repr(errors.exceptions))
    # In which order the two of them end is nobody's business.
    story.told.sort()
    await story.hold("three", one_turn)


async def a_block_that_fails(story: Story) -> None:
    """The error of a body goes on as it is."""

    async def fail() -> None:
        raise ValueError("failed")

    with pytest.raises(ValueError, match="failed"):
        await story.hold("one", fail)
    await story.hold("two", one_turn)


STORIES = [
    cancelled_inside,
    cancelled_twice_inside,
    cancelled_while_waiting,
    cancelled_twice_while_waiting,
    cancelled_before_its_first_turn,
    a_cancellation_that_is_swallowed,
    timeout_inside,
    timeout_around_the_block,
    wait_for_around_a_waiter,
    a_group_that_fails,
    a_block_that_fails,
]


@pytest.mark.parametrize("plot", STORIES, ids=lambda plot: plot.__name__)
def test_as_around_a_semaphore(path: Path, plot: Callable[[Story], Awaitable[None]]) -> None:
    """Tasks around a limit of one slot tell what they tell around `asyncio.Semaphore(1)`."""

    async def told(place: Place) -> list[str]:
        story = Story(place)
        await plot(story)
        return story.told

    expected = asyncio.run(told(Semaphore()))
    assert asyncio.run(told(Limit(path))) == expected
    assert expected
    nothing_is_left(path)
