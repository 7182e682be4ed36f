"""One event loop's use of one database: its tasks wait here for transactions and for wake-ups.

The transactions run in the thread of a worker. Nothing here blocks the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Callable
from typing import Any

from localgcl._base import clock
from localgcl._base.descriptors import Descriptor, close_if_ours
from localgcl._drivers import departure
from localgcl._drivers.flow import Sleep
from localgcl._drivers.watch import LoopWatch
from localgcl._drivers.worker import Call, Worker
from localgcl._engine import wait
from localgcl._engine.request import Request
from localgcl._liveness.fifo import HINT_AT_ALL, HINT_LENGTH
from localgcl._storage.database import Transaction
from localgcl._storage.gate import GateTimeoutError
from localgcl.errors import LocalGCLError

# How often a loop checks, for all its waiters, whether an event was missed.
_NET_SECONDS = 1.0

# How often the thread checks, while tasks wait in a loop, whether the loop was closed.
_LOOP_SECONDS = 0.25

# Nobody waits longer than this for a clean-up or an end. The thread goes on by itself.
PATIENCE_SECONDS = 1.0

# A transaction gets at least this long. With less, a timeout's last look might never happen.
LEAST_SECONDS = 0.05


class Session:
    """One event loop's use of one database."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        path: str,
        on_end: Callable[[Session], bool],
    ) -> None:
        self.loop = loop
        self.path = path
        self._on_end = on_end  # called when it ends; returns whether it was the first time
        self._sleepers: dict[Request, asyncio.Future[Any]] = {}
        self._outcomes: dict[Request, Any] = {}  # of looks made while the task was awake
        self._unsettled: set[Request] = set()  # begun by their tasks, and not ended
        self._watch = LoopWatch(loop)
        self._net_timer: asyncio.TimerHandle | None = None
        self._uses = 0
        self.ends_when_idle = False  # set if nothing tells it of the loop's end any more
        self.until_loop_ends: AsyncGenerator[None, None] | None = None
        self.closed = False
        # Set last, because it starts a thread: if the rest failed, the thread would stay.
        self.worker = Worker(loop, path, self)

    # A session in use, inside a `with` block, is not closed

    def __enter__(self) -> None:
        self._uses += 1

    def __exit__(self, *_: object) -> None:
        self._uses -= 1
        if self.ends_when_idle and not self._uses and not self.closed:
            self._end()

    # Transactions

    async def transact(
        self,
        work: Callable[[Transaction], Any],
        *,
        request: Request | None = None,
        deadline: float | None = None,
        alone: bool = False,
        durable: bool = False,
        create: bool = True,
        retry: bool = False,
    ) -> Any:
        """Run `work` in one transaction, in the thread, and return what it returns.

        If this is cancelled, or if `deadline` comes first (GateTimeoutError), `work` is run all the
        same. If it fails, and `retry` is set, it is run again later.
        """
        if request is not None:
            self._unsettled.add(request)
        future: asyncio.Future[Any] = self.loop.create_future()
        job = Call(
            work,
            future,
            request=request,
            alone=alone,
            durable=durable,
            create=create,
            retry=retry,
        )
        self.worker.run(job)
        with self:
            if deadline is None:
                return await future
            timer = self.loop.call_later(
                max(LEAST_SECONDS, deadline - clock.now()),
                _fail,
                future,
                GateTimeoutError(under_way=True),
            )
            try:
                return await future
            finally:
                timer.cancel()

    def abandon(self, request: Request) -> asyncio.Future[Any]:
        """Undo a request after its transactions under way; the caller may wait for it or not."""
        future: asyncio.Future[Any] = self.loop.create_future()

        def undone(_: object) -> None:
            self._outcomes.pop(request, None)  # of an earlier look, and no more will come
            if not future.cancelled():
                future.exception()  # it is tried again, so nobody has to know

        future.add_done_callback(undone)
        undo = functools.partial(self.worker.undo, request=request)
        self.worker.post(Call(undo, future, create=False, retry=True))
        self._unsettled.discard(request)
        return future

    # Waiting

    def forget(self, request: Request) -> None:
        """Drop all that is kept for a request that has ended."""
        self._unsettled.discard(request)
        self._outcomes.pop(request, None)
        self.worker.decided.pop(request, None)

    async def sleep(self, request: Request, step: Sleep) -> Any:
        """Sleep as `step` says."""
        if step.blockers is None:
            while (seconds := step.until - clock.now()) > 0:
                await asyncio.sleep(seconds)
            return []
        if request in self._outcomes:
            return self._outcomes.pop(request)
        wake_fifo = self.worker.wake_fifo_in_use
        assert wake_fifo is not None  # nobody waits without one
        if not self._watch.is_on:
            self._watch.begin(wake_fifo.descriptor, self._woken)
            self._net_timer = self.loop.call_later(_NET_SECONDS, self._net)
        dead = self._watch.add(request, wake_fifo.folder, step.blockers)
        if dead:
            return dead
        future: asyncio.Future[Any] = self.loop.create_future()
        self._sleepers[request] = future
        timer = None
        if step.until != float("inf"):
            seconds = max(0.0, step.until - clock.now())
            timer = self.loop.call_later(seconds, _succeed, future, [])
        try:
            return await future
        finally:
            if timer is not None:
                timer.cancel()
            del self._sleepers[request]
            self._watch.discard(request, step.blockers)

    def give(self, request: Request, outcome: Any) -> None:
        """Hand a request the outcome of a look, at once or when it is about to sleep."""
        sleeper = self._sleepers.get(request)
        if sleeper is not None and not sleeper.done():
            sleeper.set_result(outcome)
        else:
            self._outcomes[request] = outcome

    def turn_to_wake_fifo(self, former: Descriptor) -> None:
        """Listen to the wake-up FIFO that replaces one that a cleaner took."""
        wake_fifo = self.worker.wake_fifo_in_use
        try:
            if self._watch.is_on and not self.closed and wake_fifo is not None:
                self._watch.turn_to(wake_fifo.descriptor)
        finally:
            close_if_ours(former)

    def _woken(self) -> None:
        wake_fifo = self.worker.wake_fifo_in_use
        if wake_fifo is None:
            return
        woken, dead = self._watch.hear()
        if woken:
            self._heed(wake_fifo.drain())
        for name in dead:
            for request in self._watch.pop(name):
                _succeed(self._sleepers.get(request), [name])

    def _heed(self, hints: bytes) -> None:
        tickets = {
            int.from_bytes(hints[start : start + HINT_LENGTH])
            for start in range(0, len(hints), HINT_LENGTH)
        }
        known = self.worker.requests
        requests = [known[ticket] for ticket in tickets if ticket in known]
        if HINT_AT_ALL in tickets:
            self.worker.look_round()
        elif requests:
            self.worker.look_for(requests)

    def _net(self) -> None:
        """Check, for all who sleep here, whether an event was missed or the file was replaced."""
        if self.closed:
            return
        self._net_timer = self.loop.call_later(_NET_SECONDS, self._net)
        # The loop's own timers stand still while the machine sleeps.
        now = clock.now()
        for request, sleeper in self._sleepers.items():
            if request.until <= now:
                _succeed(sleeper, [])
        self._watch.recreate()
        if self.worker.requests:
            self.worker.look_round()

    # The end

    async def close_if_idle(self) -> None:
        """Close all that is open; if other tasks use it, only the file, which is opened again."""
        if not self._uses:
            await self.close()
            return
        closed: asyncio.Future[None] = self.loop.create_future()

        def close_file() -> None:
            with contextlib.suppress(LocalGCLError):  # the next one that looks finds out
                self.worker.database.close(clock.now() + PATIENCE_SECONDS)
            self.loop.call_soon_threadsafe(_succeed, closed, None)

        self.worker.thread.post(close_file)
        await asyncio.wait([closed], timeout=PATIENCE_SECONDS)

    async def close(self) -> None:
        """Close all that is open; slots that are held here stay with the process."""
        if self.closed:
            return
        self.stop()
        stopped: asyncio.Future[None] = self.loop.create_future()

        def end() -> None:
            self._close_file()
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self.loop.call_soon_threadsafe(_succeed, stopped, None)

        self.worker.thread.post_last(end)
        await asyncio.wait([stopped], timeout=PATIENCE_SECONDS)
        while stopped.done() and self.worker.thread.is_alive():
            await asyncio.sleep(0)  # it has run its last function, and ends within microseconds

    def stop(self) -> None:
        """Have nothing more to do with the loop."""
        self.closed = True
        self._on_end(self)
        if self._net_timer is not None:
            self._net_timer.cancel()
        self._watch.close()

    def pause(self) -> float | None:
        """Return after how long without work the thread checks the loop; None for never."""
        return _LOOP_SECONDS if self._unsettled and not self.closed else None

    def look_at_loop(self) -> None:
        """Undo what waits in a loop that was closed: nobody else would, and it might be granted."""
        if self.loop.is_closed():
            self.end_without_loop()

    def end_without_loop(self) -> None:
        """Close what is left of a loop that was closed without notice."""
        if not self._on_end(self):
            return  # another thread does it
        for request in tuple(self._unsettled):
            abandon = functools.partial(wait.abandon, request=request)
            self.worker.run_unawaited(abandon, retry=True)
        self._end()

    def _end(self) -> None:
        self.stop()
        self.worker.thread.post_last(self._close_file)

    def _close_file(self) -> None:
        self.worker.return_wake_fifo()
        # The disk is full, or the file is corrupt: the next one that looks finds out.
        with contextlib.suppress(LocalGCLError):
            departure.depart(self.worker.database, if_idle=True)
            self.worker.database.close(clock.now() + PATIENCE_SECONDS)


def _succeed(future: asyncio.Future[Any] | None, result: Any) -> None:
    if future is not None and not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
