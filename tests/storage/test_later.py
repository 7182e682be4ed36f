"""What cannot be undone at once is undone as soon as it can: on a full disk, in a finalizer."""

from __future__ import annotations

import asyncio
import functools
import gc
import math
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from contextlib import closing
from types import ModuleType
from typing import Any

import pytest

from localgcl import AsyncLimiter, DatabaseError, Limiter
from localgcl._base import threads
from localgcl._drivers import blocking
from localgcl._engine import acquire, release, wait
from localgcl._storage import backlog
from localgcl._storage.database import Database, Transaction
from tests.helpers.waiting import DEADLINE_SECONDS, until


@pytest.fixture
def limiter(path: str, monkeypatch: pytest.MonkeyPatch) -> Limiter:
    """A limiter with a limit of one slot, and clean-ups that are tried again soon."""
    monkeypatch.setattr(backlog, "_FIRST_PAUSE_SECONDS", 0.001)
    limiter = Limiter(path)
    limiter.create("a", 1)
    return limiter


def fail_at_first(
    patch: pytest.MonkeyPatch, module: ModuleType, name: str, times: int = 3
) -> Callable[[], bool]:
    """Have a transaction find the disk full; return whether it has done so often."""
    real = getattr(module, name)
    failures: list[str] = []

    @functools.wraps(real)
    def failing(tx: Transaction, *args: Any, **kwargs: Any) -> Any:
        if len(failures) < times:
            failures.append(name)
            raise sqlite3.OperationalError("database or disk is full")
        return real(tx, *args, **kwargs)

    patch.setattr(module, name, failing)
    return lambda: len(failures) == times


def test_interrupted_on_a_full_disk(limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is what the caller sees, and its place in the queue goes once there is room."""
    lease = limiter.acquire("a")
    failed = fail_at_first(monkeypatch, wait, "abandon")

    def interrupted(*_: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(blocking.Listener, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        limiter.acquire("a")
    until(lambda: limiter.waiters() == [])
    assert failed()
    lease.release()
    assert limiter.read("a").active_slots == 0


def test_cancelled_on_a_full_disk(limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled task leaves the queue once there is room, and the loop hears of no error."""
    lease = limiter.acquire("a")
    failed = fail_at_first(monkeypatch, wait, "abandon")
    heard: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: heard.append(what))
        other = AsyncLimiter(limiter._database.path)
        task = asyncio.create_task(other.acquire("a"))
        while not await other.waiters():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while await other.waiters():
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(main(), DEADLINE_SECONDS))
    assert failed()
    assert heard == []
    lease.release()
    assert limiter.read("a").active_slots == 0


def test_a_block_ends_on_a_full_disk(limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that cannot release raises, and its slots are free once there is room."""
    failed = fail_at_first(monkeypatch, release, "release_granted")
    with pytest.raises(DatabaseError, match="disk is full"), limiter.concurrency("a"):
        pass
    until(lambda: limiter.read("a").active_slots == 0)
    assert failed()


def test_an_awaited_block_ends_on_a_full_disk(
    limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for a task."""
    failed = fail_at_first(monkeypatch, release, "release_granted")

    async def main() -> None:
        other = AsyncLimiter(limiter._database.path)
        with pytest.raises(DatabaseError, match="disk is full"):
            async with other.concurrency("a"):
                pass
        while (await other.read("a")).active_slots:
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(main(), DEADLINE_SECONDS))
    assert failed()


def test_one_thread_for_all(limiter: Limiter) -> None:
    """However much is to be undone, one thread is at it, and what never succeeds holds up none."""
    threads, done = set[int](), list[int]()

    def work(number: int, tx: Transaction) -> None:
        threads.add(threading.get_ident())
        if number == 0 and len(done) < 9:
            raise sqlite3.OperationalError("database or disk is full")
        done.append(number)

    for number in range(10):
        backlog.run_later(limiter._database, functools.partial(work, number))
    until(lambda: len(done) == 10)
    assert done[-1] == 0
    assert len(threads) == 1


def test_a_request_that_was_never_begun(limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where already the first transaction fails, there is nothing to undo, now or later."""
    failed = fail_at_first(monkeypatch, acquire, "take", times=2)
    undone = list[object]()
    monkeypatch.setattr(wait, "abandon", lambda *args, **_: undone.append(args))
    with pytest.raises(DatabaseError, match="disk is full"):
        limiter.acquire("a")

    async def main() -> None:
        async with AsyncLimiter(limiter._database.path) as other:
            with pytest.raises(DatabaseError, match="disk is full"):
                await other.acquire("a")

    asyncio.run(main())
    assert failed()
    assert undone == []


def test_a_database_that_is_gone(limiter: Limiter, path: str) -> None:
    """With the file there is nothing left to undo: the thread ends, and makes no new file."""
    limiter.close()
    os.unlink(path)
    works: deque[backlog.Work] = deque([lambda _: pytest.fail("there is nothing")])
    backlog._work_off(limiter._database, works)
    assert not works
    assert not os.path.exists(path)


def test_what_was_opened_for_it_is_closed(limiter: Limiter) -> None:
    """The file is not left open: who asked may have closed it long ago, and closes it no more."""
    limiter.close()
    backlog.run_later(limiter._database, lambda tx: tx.now)
    until(lambda: limiter._database.openings == 2 and limiter._database._file is None)


@pytest.fixture(params=["the same connection", "another one", "another database"])
def within(request: pytest.FixtureRequest, limiter: Limiter, path: str) -> Database:
    """A connection in a transaction of which something of `limiter` is called.

    An event loop has one of its own, and the collector may run in its thread.
    """
    if request.param == "the same connection":
        return limiter._database
    return Database(path if request.param == "another one" else f"{path}.other")


def test_a_release_inside_a_transaction(limiter: Limiter, within: Database) -> None:
    """A signal handler or a finalizer that strikes there frees its slots right after."""
    lease = limiter.acquire("a")
    within.transact(lambda _: lease.release())
    until(lambda: limiter.read("a").active_slots == 0)


@pytest.mark.parametrize("call", ["acquire", "read", "close"])
def test_what_cannot_be_done_inside_a_transaction(
    limiter: Limiter, within: Database, call: str
) -> None:
    """Anything else is refused, rather than wait for what its own thread holds."""
    limiter.acquire("a").release()  # and so there is something to close

    def interrupted(_: Transaction) -> None:
        with pytest.raises(RuntimeError, match="inside its own transaction"):
            limiter.close() if call == "close" else getattr(limiter, call)("a")

    within.transact(interrupted)
    limiter.acquire("a").release()


def test_the_collector_releases(limiter: Limiter) -> None:
    """It may find what holds a lease at any moment, also inside a transaction."""
    limiter.update("a", limit=1_000)

    class Holder:
        """Something in a cycle, with a lease."""

        def __init__(self) -> None:
            self.lease = limiter.acquire("a")
            self.cycle = self

        def __del__(self) -> None:
            self.lease.release()

    for _ in range(500):
        Holder()
        with limiter.concurrency("a"):
            pass
    gc.collect()
    until(lambda: limiter.read("a").active_slots == 0)


def test_a_thread_that_ends_before_its_time(
    limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slot that it should have freed reaches the waiter, with no other call of this process."""
    start, ended = threads._start_real, threading.Event()

    def ends(*_: object) -> None:
        until(lambda: somebody_waits(limiter))
        ended.set()
        raise SystemExit

    def start_one_that_ends(_: Any, arguments: Any) -> None:
        monkeypatch.setattr(threads, "_start_real", start)
        start(ends, arguments)

    lease = limiter.acquire("a")
    monkeypatch.setattr(threads, "_start_real", start_one_that_ends)
    limiter._database.transact(lambda _: lease.release())
    monkeypatch.setattr(wait, "NET_SECONDS", math.inf)  # or it looks by itself
    monkeypatch.setattr(blocking.Listener, "recheck_seconds", math.inf)
    limiter.acquire("a", timeout_seconds=DEADLINE_SECONDS).release()
    assert ended.is_set()


def somebody_waits(limiter: Limiter) -> bool:
    """Look by a connection of another program: a transaction of ours would do what is left."""
    with closing(sqlite3.connect(limiter._database.path)) as connection:
        return bool(connection.execute("SELECT count(*) FROM waiters").fetchone()[0])
