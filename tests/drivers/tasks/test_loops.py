"""Loops that come and go: in a row, at once, closed too early, and across a fork."""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import selectors
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from localgcl import AsyncLimiter, DatabaseError, Limiter
from localgcl._drivers import session as _loop
from localgcl._drivers.session import Session
from localgcl._drivers.sessions import session_of
from localgcl._storage.database import Transaction
from tests.helpers.database import note_transactions
from tests.helpers.tasks import nothing_is_left, until
from tests.helpers.waiting import DEADLINE_SECONDS


async def take_turns(limiter: AsyncLimiter) -> None:
    """Have five tasks hold the one slot in turn."""

    async def one() -> None:
        async with limiter.concurrency("a", strict=True):
            await asyncio.sleep(0)

    await asyncio.gather(*[one() for _ in range(5)])


def test_one_after_another_and_at_once(path: Path) -> None:
    """One limiter, made outside any loop, serves several loops, and nothing of them stays."""
    limiter = AsyncLimiter(path)
    asyncio.run(take_turns(limiter))  # a process keeps one spare descriptor from its first wait on
    before = set(os.listdir("/proc/self/fd"))
    asyncio.run(take_turns(limiter))
    threads = [threading.Thread(target=asyncio.run, args=(take_turns(limiter),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    nothing_is_left(path)
    assert threading.enumerate() == [threading.main_thread()]
    assert len(os.listdir("/proc/self/fd")) <= len(before)


def test_loops_wait_for_each_other(path: Path) -> None:
    """What a task of one loop holds, a task of another waits for."""
    limiter = AsyncLimiter(path)
    order: list[str] = []
    other_waits = threading.Event()

    async def hold() -> None:
        async with limiter.concurrency("a"):
            thread = threading.Thread(target=asyncio.run, args=(wait(),))
            thread.start()
            assert await asyncio.to_thread(other_waits.wait, DEADLINE_SECONDS)
            order.append("released")
        await asyncio.to_thread(thread.join)

    async def wait() -> None:
        task = asyncio.create_task(limiter.acquire("a"))

        async def waits() -> bool:
            return (await limiter.read("a")).waiting == 1

        await until(waits)
        other_waits.set()
        lease = await task
        order.append("entered")
        await lease.release()

    asyncio.run(hold())
    assert order == ["released", "entered"]
    nothing_is_left(path)


def test_a_loop_that_is_closed_while_a_task_waits(path: Path) -> None:
    """The next loop clears away what such a loop has left, and the slot is not lost."""
    limiter = AsyncLimiter(path)
    blocking = Limiter(path)
    lease = blocking.acquire("a")
    abandoned: list[asyncio.Task[object]] = []

    async def begin_to_wait() -> None:
        abandoned.append(asyncio.create_task(limiter.acquire("a")))

        async def waits() -> bool:
            return (await limiter.read("a")).waiting == 1

        await until(waits)

    async def see_nobody_wait() -> None:
        async def nobody_waits() -> bool:
            return await limiter.waiters() == []

        await until(nobody_waits)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin_to_wait())
    loop.close()
    abandoned[0]._log_destroy_pending = False  # type: ignore[attr-defined]
    asyncio.run(see_nobody_wait())
    lease.release()
    asyncio.run(take_turns(limiter))
    blocking.close()
    nothing_is_left(path)
    assert threading.enumerate() == [threading.main_thread()]


# Programs, of which nothing is to stay and nothing to be heard

PROGRAM = """
import asyncio
import functools
import os
import signal
import sys
import threading
{more_imports}
from localgcl import AsyncLimiter, Limiter
from localgcl._drivers import sessions
from localgcl._storage.database import Transaction
from localgcl._drivers.sessions import session_of
from localgcl.asyncio import concurrency

limiter = AsyncLimiter()
new_loop = {new_loop}


def run(main):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)


async def hold():
    async with concurrency("a", strict=True):
        await asyncio.sleep(0)


async def begin_to_wait():
    task = asyncio.create_task(limiter.acquire("a"))
    while not (await limiter.read("a")).waiting:
        await asyncio.sleep(0.001)
    return task


{body}
"""

LOOPS = {"asyncio": "asyncio.new_event_loop", "uvloop": "uvloop.new_event_loop"}

# How they begin, their exit status, and the last line that they put on standard error.
BODIES = {
    "twice": ("run(hold())\nrun(hold())", 0, ""),
    "closed": (
        """
        async def main():
            async with AsyncLimiter() as limiter, limiter.concurrency("a"):
                pass
            assert threading.enumerate() == [threading.main_thread()]
            await hold()
            await limiter.aclose()
            await limiter.aclose()

        run(main())
        """,
        0,
        "",
    ),
    "never released": ("run(limiter.acquire('a'))", 0, ""),
    "left waiting": (
        """
        async def main():
            await limiter.acquire("a")
            await begin_to_wait()

        run(main())
        """,
        0,
        "",
    ),
    "an exception out of main": (
        """
        async def main():
            async with concurrency("a"):
                await begin_to_wait()
                raise ValueError("failed")

        run(main())
        """,
        1,
        "ValueError: failed",
    ),
    "an exit inside a block": (
        """
        async def main():
            async with concurrency("a"):
                await begin_to_wait()
                sys.exit(3)

        run(main())
        """,
        3,
        "",
    ),
    "interrupted": (
        """
        async def main():
            async with concurrency("a"):
                task = await begin_to_wait()
                signal.raise_signal(signal.SIGINT)
                await task

        run(main())
        """,
        -2,
        "KeyboardInterrupt",
    ),
    "in a daemon thread": (
        """
        waits = threading.Event()

        async def main():
            await limiter.acquire("a")
            task = await begin_to_wait()
            waits.set()
            await task

        threading.Thread(target=run, args=(main(),), daemon=True).start()
        waits.wait()
        """,
        0,
        "",
    ),
    "a loop that is closed at once": (
        """
        loop = new_loop()
        loop.run_until_complete(hold())
        loop.close()
        run(hold())
        """,
        0,
        "",
    ),
    "a generator left inside a block": (
        """
        async def rows():
            async with limiter.concurrency("a", strict=True):
                yield 1
                yield 2

        async def main():
            left.append(rows())
            await anext(left[-1])

        left = []
        for _ in range(30):
            run(main())
        assert not sessions._sessions
        """,
        0,
        "",
    ),
    "forked beside loops that begin": (
        """
        def go_round():
            while not over.is_set():
                run(hold())

        over = threading.Event()
        threads = [threading.Thread(target=go_round) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(40):
                child = os.fork()
                if not child:
                    status = 1
                    try:
                        with Limiter() as blocking, blocking.concurrency("a", strict=True):
                            status = 0
                    finally:
                        os._exit(status)
                assert os.waitpid(child, 0)[1] == 0
        finally:
            over.set()
            for thread in threads:
                thread.join()
        """,
        0,
        "",
    ),
    "forked with a running loop": (
        """
        async def in_child(lease):
            await lease.release()
            assert (await limiter.read("a")).active_slots == 1
            assert await limiter.waiters("a")
            async with limiter.concurrency("b", strict=True, timeout_seconds=5):
                assert (await limiter.holders("b"))[0].pid == os.getpid()

        async def main():
            await limiter.create("b", 1)
            lease = await limiter.acquire("a")
            task = await begin_to_wait()
            child = os.fork()
            if not child:
                status = 1
                try:
                    run(in_child(lease))
                    with Limiter() as blocking, blocking.concurrency("b", timeout_seconds=5):
                        status = 0
                finally:
                    os._exit(status)
            assert (await asyncio.to_thread(os.waitpid, child, 0))[1] == 0
            assert [one.pid for one in await limiter.holders()] == [os.getpid()]
            await lease.release()
            await (await task).release()
            await hold()

        run(main())
        """,
        0,
        "",
    ),
}


@pytest.mark.processes
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", BODIES)
def test_a_program_leaves_nothing(path: Path, name: str, loop: str) -> None:
    """However a program treats its loops, it ends, says nothing of ours, and leaves no file."""
    body, status, last_line = BODIES[name]
    program = PROGRAM.format(
        more_imports="import uvloop" if loop == "uvloop" else "",
        new_loop=LOOPS[loop],
        body=textwrap.dedent(body),
    )
    # Python 3.12 warns of any fork beside threads; here there are some.
    warnings = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    done = subprocess.run(
        [sys.executable, *warnings, "-c", program],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )
    assert done.returncode == status, done.stderr
    assert done.stderr.splitlines()[-1:] == [last_line][: bool(last_line)]
    assert "Exception ignored" not in done.stderr
    assert "never" not in done.stderr  # awaited, retrieved
    assert "destroyed" not in done.stderr
    if name == "in a daemon thread":
        Limiter(path).read_all()  # its thread might have gone on to the very end
    assert set(os.listdir(f"{path}-run")) == {"gate"}
    nothing_is_left(path)


def test_a_cleaner_takes_the_ear_of_a_loop(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop hears of its grants through the new ear, and nothing takes the old one's number."""
    monkeypatch.setattr(_loop, "_NET_SECONDS", 3600.0)
    limiter, other = AsyncLimiter(path), Limiter(path)
    other.create("b", 1)

    def recreate(session: Session, _: Transaction) -> None:
        session.worker.recreate()

    async def main() -> None:
        for _ in range(3):
            leases = [await limiter.acquire(name) for name in ("a", "b")]
            first = asyncio.create_task(limiter.acquire("a"))

            async def waits(name: str = "a") -> bool:
                return (await limiter.read(name)).waiting == 1

            await until(waits)
            for name in os.listdir(f"{path}-run"):
                if len(name) > 32:  # a wake-up FIFO, not a lifeline
                    os.unlink(f"{path}-run/{name}")
            session = await session_of(limiter.path)
            await session.transact(functools.partial(recreate, session))
            second = asyncio.create_task(limiter.acquire("b"))
            await until(functools.partial(waits, "b"))
            for lease in leases:
                await asyncio.to_thread(other.release, lease.id)
            async with asyncio.timeout(DEADLINE_SECONDS):
                for task in (first, second):
                    await (await task).release()

    asyncio.run(main())
    other.close()
    nothing_is_left(path)


def test_a_block_that_ends_in_a_thread_without_a_loop(path: Path) -> None:
    """The collector may find a forgotten task anywhere; its slots are free soon after."""
    limiter = AsyncLimiter(path)

    async def main() -> None:
        blocks = [limiter.concurrency("a")]
        await blocks[0].__aenter__()
        await asyncio.to_thread(blocks.clear)
        async with asyncio.timeout(DEADLINE_SECONDS), limiter.concurrency("a", strict=True):
            pass

    asyncio.run(main())
    nothing_is_left(path)


def test_too_many_open_files(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that cannot begin says why, and no thread of it stays."""
    limiter = AsyncLimiter(path)

    def too_many() -> selectors.BaseSelector:
        raise OSError(errno.EMFILE, "Too many open files")

    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(selectors, "DefaultSelector", too_many)
            with pytest.raises(DatabaseError, match="Too many open files"):
                await limiter.acquire("a")
        await take_turns(limiter)

    asyncio.run(main())
    assert threading.enumerate() == [threading.main_thread()]
    nothing_is_left(path)


def test_what_was_looked_for_a_request_that_is_over(path: Path) -> None:
    """A loop that hears of it late keeps nothing of it."""
    limiter = AsyncLimiter(path)

    async def main() -> None:
        lease = await limiter.acquire("a")
        task = asyncio.create_task(limiter.acquire("a"))

        async def waits() -> bool:
            return (await limiter.read("a")).waiting == 1

        await until(waits)
        session = await session_of(limiter.path)
        begun, go_on = threading.Event(), threading.Event()

        def look(tx: Transaction) -> None:
            assert session.worker.wake_fifo_in_use is not None
            tx.wakeups[session.worker.wake_fifo_in_use.name] = set(session.worker.requests)
            begun.set()
            go_on.wait(DEADLINE_SECONDS)

        session.worker.run_unawaited(look)
        while not begun.is_set():
            await asyncio.sleep(0)
        task.cancel()
        while not session.worker._jobs:
            await asyncio.sleep(0)
        go_on.set()
        while session.worker.requests:  # and so the loop hears of the look only afterwards
            pass
        with pytest.raises(asyncio.CancelledError):
            await task
        await lease.release()
        assert session._outcomes == {}

    asyncio.run(main())
    nothing_is_left(path)


def test_those_whose_tickets_are_given_anew(path: Path, tmp_path: Path) -> None:
    """Tasks wait, the file is replaced, and others wait under the same numbers: all are served."""
    limiter = AsyncLimiter(path)
    fresh = tmp_path / "fresh.db"
    with Limiter(fresh) as other:
        other.create("a", 1)

    async def main() -> None:
        async def in_turn() -> None:
            async with limiter.concurrency("a", strict=True):
                pass

        async def queue_up() -> list[asyncio.Task[None]]:
            tasks = [asyncio.create_task(in_turn()) for _ in range(20)]

            async def all_wait() -> bool:
                return (await limiter.read("a")).waiting >= len(tasks)

            await until(all_wait)
            return tasks

        lease = await limiter.acquire("a")
        tasks = await queue_up()
        fresh.replace(path)
        other = await limiter.acquire("a")
        tasks += await queue_up()
        await lease.release()
        await other.release()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await asyncio.gather(*tasks)

    asyncio.run(main())
    nothing_is_left(path)


@pytest.mark.parametrize("seconds", [0.0, 0.02])
def test_what_takes_long_keeps_no_other_process_waiting(
    path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """Quick transactions share one; after a slow one, the rest of them get their own."""

    async def main() -> int:
        limiter = AsyncLimiter(path)
        await limiter.read("a")
        session = await session_of(str(path))
        begun = note_transactions(monkeypatch, str(path))
        await asyncio.gather(
            *(session.transact(lambda _: time.sleep(seconds), create=False) for _ in range(9))
        )
        transactions = len(begun)
        await limiter.aclose()
        return transactions

    assert (asyncio.run(main()) == 9) is (seconds > 0)
