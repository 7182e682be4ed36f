"""Waiting for oneself: it is an error at once, and what others can end is waited for."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localgcl import (
    AcquireConcurrencySlotTimeoutError,
    AsyncLimiter,
    ConcurrencySlotAcquisitionError,
    Limiter,
)
from localgcl._drivers import blocks
from localgcl.testing import unlimited
from tests.helpers.database import tables
from tests.helpers.usage import in_use
from tests.helpers.waiting import DEADLINE_SECONDS, until


def here() -> int:
    """Return the line after the caller's."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno + 1


def check(error: ConcurrencySlotAcquisitionError, line: int, *names: str) -> None:
    """Check that an error tells of a block that was entered at a line of this file."""
    assert error.reason == "own_block"
    assert error.names == names
    assert error.where == f"{__file__}:{line}"
    assert f"{__file__}:{line}" in str(error)
    assert f"'{names[0]}'" in str(error)


@pytest.fixture
def limiter(path: str) -> Limiter:
    """A limiter with limits of one, two and three slots."""
    made = Limiter(path)
    for name, limit in (("one", 1), ("two", 2), ("three", 3)):
        made.create(name, limit)
    return made


@pytest.fixture
def tasks(limiter: Limiter) -> AsyncLimiter:
    """The same limits, for tasks."""
    return AsyncLimiter(limiter._database.path)


@pytest.mark.parametrize("arguments", [{}, {"timeout_seconds": 60}, {"max_retries": 5}], ids=str)
def test_a_block_inside_of_a_block(limiter: Limiter, arguments: dict[str, int]) -> None:
    """The error comes at once, names both, and leaves nothing in the queue."""
    line = here()
    with limiter.concurrency("one"):
        with pytest.raises(ConcurrencySlotAcquisitionError) as caught:
            limiter.acquire("one", **arguments)  # type: ignore[arg-type]
        check(caught.value, line, "one")
        assert tables(limiter)["waiters"] == tables(limiter)["waits"] == []
        assert in_use(limiter, "one") == 1
    limiter.acquire("one").release()


def test_in_tasks(tasks: AsyncLimiter) -> None:
    """The same for `async with`."""

    async def main() -> None:
        line = here()
        async with tasks.concurrency("one"):
            with pytest.raises(ConcurrencySlotAcquisitionError) as caught:
                async with tasks.concurrency(["two", "one"]):
                    pass
            check(caught.value, line, "one")
        await (await tasks.acquire("one")).release()

    asyncio.run(main())


def test_a_decorated_call(limiter: Limiter) -> None:
    """The place is the line that has called the function."""

    @limiter.concurrency("one")
    def outer() -> None:
        limiter.acquire("one")

    line = here() + 1
    with pytest.raises(ConcurrencySlotAcquisitionError) as caught:
        outer()
    check(caught.value, line, "one")


def test_a_decorated_call_in_a_task(tasks: AsyncLimiter) -> None:
    """The place is the line that has awaited the function."""

    @tasks.concurrency("one")
    async def outer() -> None:
        await tasks.acquire("one")

    async def main() -> ConcurrencySlotAcquisitionError:
        with pytest.raises(ConcurrencySlotAcquisitionError) as caught:
            await outer()
        return caught.value

    check(asyncio.run(main()), inspect.getsourcelines(main)[1] + 2, "one")


def test_an_exit_stack(limiter: Limiter) -> None:
    """The place is the line that enters, and not one of contextlib's."""
    with contextlib.ExitStack() as stack:
        line = here()
        stack.enter_context(limiter.concurrency("one"))
        with pytest.raises(ConcurrencySlotAcquisitionError) as caught:
            limiter.acquire("one")
        check(caught.value, line, "one")


def test_a_context_manager_of_the_users(limiter: Limiter) -> None:
    """A generator that is suspended in a block is inside of it, and so is its caller."""

    @contextlib.contextmanager
    def locked() -> Iterator[None]:
        with limiter.concurrency("one"):
            yield

    with locked(), pytest.raises(ConcurrencySlotAcquisitionError):
        limiter.acquire("one")
    limiter.acquire("one").release()


def test_several_blocks_count_together(limiter: Limiter) -> None:
    """What the blocks around a request hold leaves less than it wants, though each would."""
    line = here()
    with limiter.concurrency("three"), limiter.concurrency("three"):
        with pytest.raises(ConcurrencySlotAcquisitionError) as caught:
            limiter.acquire("three", 2)
        check(caught.value, line, "three")
        limiter.acquire("three").release()


def test_what_others_hold_is_waited_for(limiter: Limiter) -> None:
    """Another thread's block may end, so a request waits for it."""
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with limiter.concurrency("two"):
            held.set()
            assert done.wait(DEADLINE_SECONDS)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(DEADLINE_SECONDS)
    with limiter.concurrency("two"):
        with pytest.raises(AcquireConcurrencySlotTimeoutError):
            limiter.acquire("two", timeout_seconds=0.05)
        done.set()
        limiter.acquire("two", timeout_seconds=DEADLINE_SECONDS).release()
    thread.join()


def test_a_thread_that_is_started_is_not_inside(limiter: Limiter) -> None:
    """It waits until its parent's block ends, even if it runs in a copy of the context."""
    granted = threading.Event()

    def request() -> None:
        limiter.acquire("one", timeout_seconds=DEADLINE_SECONDS).release()
        granted.set()

    with limiter.concurrency("one"):
        thread = threading.Thread(target=contextvars.copy_context().run, args=(request,))
        thread.start()
        until(lambda: limiter.waiters("one"))
    thread.join()
    assert granted.is_set()


def test_a_task_that_is_started_is_not_inside(tasks: AsyncLimiter) -> None:
    """It inherits the context, and waits until its parent's block ends."""

    async def main() -> None:
        async with tasks.concurrency("one"):
            child = asyncio.create_task(tasks.acquire("one", timeout_seconds=DEADLINE_SECONDS))
            while not await tasks.waiters("one"):
                await asyncio.sleep(0)
        await (await child).release()

    asyncio.run(main())


def test_a_block_around_the_loop(limiter: Limiter, tasks: AsyncLimiter) -> None:
    """The loop runs inside of the block, and so do all of its tasks."""
    line = here()
    with limiter.concurrency("one"):
        with pytest.raises(ConcurrencySlotAcquisitionError) as caught:
            asyncio.run(tasks.acquire("one"))
        check(caught.value, line, "one")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"timeout_seconds": 0}, AcquireConcurrencySlotTimeoutError),
        ({"max_retries": 0}, ConcurrencySlotAcquisitionError),
    ],
    ids=str,
)
def test_a_try_does_not_wait(
    limiter: Limiter, arguments: dict[str, int], error: type[Exception]
) -> None:
    """It fails as it always does."""
    with limiter.concurrency("one"), pytest.raises(error) as caught:
        limiter.acquire("one", **arguments)  # type: ignore[arg-type]
    assert getattr(caught.value, "reason", None) in (None, "retries")


def test_a_lease_outside_of_a_with_does_not_count(limiter: Limiter) -> None:
    """Anybody may release it; inside of a `with`, it counts."""
    lease = limiter.acquire("one")
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.acquire("one", timeout_seconds=0.05)
    line = here()
    with lease as entered:
        assert entered is lease
        with pytest.raises(ConcurrencySlotAcquisitionError) as caught:
            limiter.acquire("one")
        check(caught.value, line, "one")
    assert in_use(limiter, "one") == 0
    lease.release()


def test_a_lease_in_an_async_with(tasks: AsyncLimiter) -> None:
    """The same for an `AsyncLease`."""

    async def main() -> None:
        async with await tasks.acquire("one"):
            with pytest.raises(ConcurrencySlotAcquisitionError, match="only the end of the block"):
                await tasks.acquire("one")
        await (await tasks.acquire("one")).release()

    asyncio.run(main())


def test_what_was_released_early_is_not_waited_for(limiter: Limiter) -> None:
    """A lease may be released inside of its block, and an operator may free it."""
    with limiter.concurrency("one") as lease:
        lease.release()
        limiter.acquire("one").release()
    with limiter.concurrency("one"):
        limiter.reset("one")
        limiter.acquire("one").release()


def test_blocks_that_end_in_another_order(limiter: Limiter) -> None:
    """What has ended is not around anybody, whatever ended first."""
    first, second = limiter.concurrency("one"), limiter.concurrency("two", 2)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    limiter.acquire("one").release()
    with pytest.raises(ConcurrencySlotAcquisitionError):
        limiter.acquire("two")
    second.__exit__(None, None, None)
    limiter.acquire("two").release()


@pytest.mark.parametrize("rule", [{"slot_decay_per_second": 100.0}, {"window_seconds": 0.01}])
def test_what_time_gives_back_is_waited_for(limiter: Limiter, rule: dict[str, float]) -> None:
    """With a rate or a window, slots come back inside of the block."""
    limiter.create("api", 1, **rule)  # type: ignore[arg-type]
    with limiter.concurrency("api"):
        limiter.rate_limit("api", timeout_seconds=DEADLINE_SECONDS)


def test_an_inactive_limit_is_ignored(limiter: Limiter) -> None:
    """Nobody waits for it."""
    with limiter.concurrency("one"):
        limiter.update("one", active=False)
        limiter.acquire("one").release()


def test_another_database_is_another_limit(limiter: Limiter, tmp_path: Path) -> None:
    """The same name there has slots of its own."""
    other = Limiter(tmp_path / "other.db")
    other.create("one", 1)
    other.acquire("one")
    with limiter.concurrency("one"), pytest.raises(AcquireConcurrencySlotTimeoutError):
        other.acquire("one", timeout_seconds=0.05)


@pytest.mark.parametrize("variable", ["LOCALGCL_LEASE", "LOCALGCL_OUTER_LEASES"])
def test_under_run(limiter: Limiter, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `localgcl run` holds is not free before its command ends."""
    lease = limiter.acquire("one")
    monkeypatch.setenv(variable, lease.id)
    with pytest.raises(ConcurrencySlotAcquisitionError) as caught:
        limiter.acquire("one")
    assert caught.value.where == "localgcl run"
    assert "`localgcl run`" in str(caught.value)
    with limiter.concurrency("two"):
        limiter.acquire("two").release()
    lease.release()
    limiter.acquire("one").release()


def test_a_forked_child_is_not_inside(limiter: Limiter) -> None:
    """The block is its parent's, which may end it while the child waits."""
    with limiter.concurrency("one"):
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(AcquireConcurrencySlotTimeoutError):
                limiter.acquire("one", timeout_seconds=DEADLINE_SECONDS)
                status = 0
            os._exit(status)
        until(lambda: limiter.waiters("one"))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_refusal_is_counted(limiter: Limiter) -> None:
    """It is a request that no wait would have served, and no time-out."""
    with limiter.concurrency("one"), pytest.raises(ConcurrencySlotAcquisitionError):
        limiter.acquire("one")
    rows = limiter._database.transact(
        lambda tx: tx.execute("SELECT refusals, timeouts FROM limits WHERE name = 'one'").fetchall()
    )
    assert rows == [(1, 0)]


def test_nothing_is_kept_of_blocks_that_ended(limiter: Limiter) -> None:
    """Blocks may end elsewhere than they began."""
    for _ in range(50):
        block = limiter.concurrency("one")
        block.__enter__()
        thread = threading.Thread(target=block.__exit__, args=(None, None, None))
        thread.start()
        thread.join()
    nothing: list[Any] = [[], {}, "", None]
    for names in nothing:
        with limiter.concurrency(names):
            pass
    with unlimited(), limiter.concurrency("one"):
        pass
    assert not blocks.entered
