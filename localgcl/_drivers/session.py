"""What the tasks of one event loop share: a thread with a connection, an ear and a watch.

A transaction runs whole in the thread, together with those that gathered while the thread was busy.
Nothing here blocks the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

from localgcl._base import clock, threads
from localgcl._base.descriptors import Descriptor, close_if_ours
from localgcl._base.forks import at_fork
from localgcl._drivers import departure
from localgcl._drivers.affinity import Processor
from localgcl._drivers.flow import Sleep
from localgcl._drivers.watch import Watch
from localgcl._drivers.worker import Job, Thread
from localgcl._engine import wait
from localgcl._engine.queue import promote
from localgcl._engine.request import Gone, Granted, NotNow, Refused, Request, Waiting
from localgcl._liveness.folder import HINT_AT_ALL, HINT_LENGTH, Folder
from localgcl._liveness.lifeline import Ear, Lifeline, lifeline
from localgcl._storage.backlog import run_later
from localgcl._storage.database import Database, NoDatabaseError, Transaction
from localgcl._storage.gate import GateTimeoutError
from localgcl._storage.problems import explaining
from localgcl.errors import GreenThreadsError, LocalGCLError

# How often a loop looks, for all its waiters, whether an event was missed.
_NET_SECONDS = 1.0

# How often the thread of a loop in which tasks wait looks whether the loop was closed.
_LOOP_SECONDS = 0.25

# Transactions that share one: enough to be quick, few enough to hold up no other process.
_MAX_TOGETHER = 32
_LONG_SECONDS = 0.01  # after so long, the rest of them get a transaction of their own

# Nobody waits longer than this for a clean-up or an end; the thread goes on by itself.
PATIENCE_SECONDS = 1.0

# A transaction has at least so long, or the last look of a timeout would never be a look.
LEAST_SECONDS = 0.05

_Outcome = tuple[Any, BaseException | None]


class Session:
    """One event loop's use of one database."""

    far_net_seconds = float("inf")  # `_net` looks for all who wait here

    def __init__(self, loop: asyncio.AbstractEventLoop, path: str) -> None:
        self.loop = loop
        self.path = path
        self.database = Database(path)
        self._jobs: deque[Job] = deque()
        self._requests: dict[int, Request] = {}  # by ticket
        self._displaced: list[Request] = []  # whose ticket is another's, in a file put in its place
        self._sleepers: dict[Request, asyncio.Future[Any]] = {}
        self._outcomes: dict[Request, Any] = {}  # looked for while awake
        self._decided: dict[Request, Granted | Refused] = {}  # of requests that have no row now
        self._unsettled: set[Request] = set()  # which their tasks have begun, and not ended
        self._lifeline: Lifeline | None = None
        self._ear: Ear | None = None
        self._watch = Watch(loop)
        self._net_timer: asyncio.TimerHandle | None = None
        self._uses = 0
        self.ends_when_idle = False  # where nothing tells it of the loop's end any more
        self.until_loop_ends: AsyncGenerator[None, None] | None = None
        self.closed = False
        # The last: without the rest it would stay.
        self._thread = Thread(self.database, self._pause, self._look_at_loop)
        self._processor = Processor(loop, self._thread.native_id())
        _last_databases[path] = self.database

    # In use, inside a `with` block, it is not closed

    def __enter__(self) -> None:
        self._uses += 1

    def __exit__(self, *_: object) -> None:
        self._uses -= 1
        if self.ends_when_idle and not self._uses and not self.closed:
            self._end()

    # The listener of every request here; called in the thread, inside transactions

    def ear(self, folder: Folder) -> str:
        ours = lifeline(folder)
        if self._ear is None or self._lifeline is not ours:
            self._lifeline = ours
            self._ear = ours.borrow_ear()
        return self._ear.name

    def mend(self) -> None:
        taken = None if self._ear is None else self._ear.renew()
        if taken is not None:
            try:
                # Only the loop knows when nothing refers to the old end by its number any more.
                self.loop.call_soon_threadsafe(self._listen_anew, taken)
            except RuntimeError:
                close_if_ours(taken)  # the loop is closed, and so nobody listens

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
        insists: bool = False,
    ) -> Any:
        """Run `work` in one transaction, in the thread, and return what it returns.

        If this is cancelled, or `deadline` comes first (GateTimeoutError), it is run all the same;
        if it fails and `insists`, it is run again later, too.
        """
        if request is not None:
            self._unsettled.add(request)
            work = functools.partial(self._for_request, request, work)
        future: asyncio.Future[Any] = self.loop.create_future()
        job = Job(
            work,
            future,
            request=request,
            alone=alone,
            durable=durable,
            create=create,
            insists=insists,
        )
        if not self.closed:  # and so the thread is there
            self._processor.share()
        self._post(job)
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

    def _for_request(
        self, request: Request, work: Callable[[Transaction], Any], tx: Transaction
    ) -> Any:
        """Run a request's own transaction, unless a look made for it was quicker."""
        decided = self._decided.get(request)
        if decided is not None:
            return decided
        outcome = work(tx)
        if isinstance(outcome, Waiting):
            former = self._requests.get(request.ticket)
            if former is not None and former is not request:
                self._displaced.append(former)
            self._requests[request.ticket] = request
        else:
            self._drop(request)
            if isinstance(outcome, Granted):
                request.granted = outcome  # should its task be cancelled before it learns of it
        return outcome

    def _drop(self, request: Request) -> None:
        # In the thread alone. Its ticket may be another's by now.
        if self._requests.get(request.ticket) is request:
            del self._requests[request.ticket]

    def abandon(self, request: Request) -> asyncio.Future[Any]:
        """Undo a request after whatever of it is under way; to be waited for or not."""
        future: asyncio.Future[Any] = self.loop.create_future()

        def work(tx: Transaction) -> None:
            decided = self._decided.pop(request, None)
            if isinstance(decided, Granted):
                request.granted = decided
            self._drop(request)
            wait.abandon(tx, request)

        def undone(_: object) -> None:
            self._outcomes.pop(request, None)  # of a look before, and by now there are no more
            if not future.cancelled():
                future.exception()  # it is tried again, and nobody need know

        future.add_done_callback(undone)
        self._post(Job(work, future, create=False, insists=True))
        self._unsettled.discard(request)
        return future

    def run_unawaited(self, work: Callable[[Transaction], Any], *, insists: bool = False) -> None:
        """Run a transaction for which nobody waits, as soon as may be."""
        self._post(Job(work, None, create=False, insists=insists))

    def _post(self, job: Job) -> None:
        if self.closed:  # and the thread has ended
            run_later(self.database, job.work)
            if not self.loop.is_closed():
                _succeed(job.future, None)
            return
        self._jobs.append(job)
        self._thread.post(self._run_jobs)

    def _run_jobs(self) -> None:
        while self._jobs:
            together = [self._jobs.popleft()]
            while self._jobs and len(together) < _MAX_TOGETHER:
                if together[0].alone or self._jobs[0].alone:
                    break
                together.append(self._jobs.popleft())
            self._run_together(together)

    def _run_together(self, jobs: list[Job]) -> None:
        first = jobs[0]

        def work(tx: Transaction) -> tuple[list[Any], dict[Request, Any]]:
            tx.later = set()
            results = []
            for job in jobs:
                results.append(job.work(tx))
                if clock.now() - tx.now > _LONG_SECONDS:
                    break  # others stand at the gate
            promote(tx, tx.later)
            return results, self._looked_for(tx)

        looked: dict[Request, Any] = {}
        outcomes: list[_Outcome]
        try:
            results, looked = self.database.transact(
                work, durable=first.durable, create=any(job.create for job in jobs)
            )
            outcomes = [(result, None) for result in results]
            self._jobs.extendleft(reversed(jobs[len(results) :]))
            jobs = jobs[: len(results)]
            for request, outcome in looked.items():
                if _is_decided(outcome):
                    self._drop(request)
                    self._decided[request] = outcome
                elif isinstance(outcome, Gone):
                    self._drop(request)  # it has no row by this ticket any more
        except BaseException as error:
            # It is of the machine, not of one transaction's own: everybody who shared it is told.
            outcomes = [(None, error)] * len(jobs)
            for job in jobs:
                if job.request is not None:
                    job.request.granted = None
                    self._drop(job.request)
                if job.insists and not isinstance(error, NoDatabaseError):
                    run_later(self.database, job.work)
        while self._displaced:
            looked.setdefault(self._displaced.pop(), Gone())
        self._answer(
            [
                (job.future, *outcome)
                for job, outcome in zip(jobs, outcomes, strict=True)
                if job.future is not None
            ],
            looked,
        )

    def _looked_for(self, tx: Transaction) -> dict[Request, Any]:
        """Look for those of our own requests that the transaction has decided or wants awake."""
        looked: dict[Request, Any] = {}
        while self._ear is not None and (tickets := tx.rings.pop(self._ear.name, None)):
            for ticket in tickets:
                request = self._requests.get(ticket)
                # A look that serves the request itself rings for it once more.
                if request is not None and not _is_decided(looked.get(request)):
                    looked[request] = wait.look(tx, request, self)
        return looked

    def _answer(
        self,
        answers: list[tuple[asyncio.Future[Any], Any, BaseException | None]],
        looked: dict[Request, Any],
    ) -> None:
        def deliver() -> None:
            for future, result, error in answers:
                if future.done():
                    continue  # cancelled, or out of time
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)
            for request, outcome in looked.items():
                self._give(request, outcome)

        if answers or looked:
            try:
                self.loop.call_soon_threadsafe(deliver)
            except RuntimeError:  # the loop is closed, and so nobody waits any more
                self._thread.post(self._look_at_loop)

    # Waiting

    def forget(self, request: Request) -> None:
        """Do no more for a request that has come to its end."""
        self._unsettled.discard(request)
        self._outcomes.pop(request, None)
        self._decided.pop(request, None)

    async def sleep(self, request: Request, step: Sleep) -> Any:
        """Sleep as `Sleep` says."""
        if step.ways is None:
            while (seconds := step.until - clock.now()) > 0:
                await asyncio.sleep(seconds)
            return []
        if request in self._outcomes:
            return self._outcomes.pop(request)
        ear = self._ear
        assert ear is not None  # nobody waits without
        if not self._watch.is_on:
            self._watch.begin(ear.descriptor, self._woken)
            self._net_timer = self.loop.call_later(_NET_SECONDS, self._net)
        dead = self._watch.add(request, ear.folder, step.ways)
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
            self._watch.discard(request, step.ways)

    def _give(self, request: Request, outcome: Any) -> None:
        sleeper = self._sleepers.get(request)
        if sleeper is not None and not sleeper.done():
            sleeper.set_result(outcome)
        else:
            self._outcomes[request] = outcome

    def _listen_anew(self, taken: Descriptor) -> None:
        """Listen to the ear that was made in place of one that a cleaner took."""
        ear = self._ear
        try:
            if self._watch.is_on and not self.closed and ear is not None:
                self._watch.turn_to(ear.descriptor)
        finally:
            close_if_ours(taken)

    def _woken(self) -> None:
        ear = self._ear
        if ear is None:
            return
        rung, dead = self._watch.hear()
        if rung:
            self._heed(ear.drain())
        for name in dead:
            for request in self._watch.pop(name):
                _succeed(self._sleepers.get(request), [name])

    def _heed(self, hints: bytes) -> None:
        tickets = {
            int.from_bytes(hints[start : start + HINT_LENGTH])
            for start in range(0, len(hints), HINT_LENGTH)
        }
        requests = [self._requests[ticket] for ticket in tickets if ticket in self._requests]
        if HINT_AT_ALL in tickets:
            self._look_round()
        elif requests:
            self._look_for(requests)

    def _look_for(self, requests: Iterable[Request]) -> None:
        def work(tx: Transaction) -> None:
            for request in requests:
                if request.ticket in self._requests and self._ear is not None:
                    tx.rings.setdefault(self._ear.name, set()).add(request.ticket)

        self.run_unawaited(work)

    def _net(self) -> None:
        """See, for all who sleep here, whether an event was missed or the file was replaced."""
        if self.closed:
            return
        self._net_timer = self.loop.call_later(_NET_SECONDS, self._net)
        # The loop's own timers stand still while the machine sleeps.
        now = clock.now()
        for request, sleeper in self._sleepers.items():
            if request.until <= now:
                _succeed(sleeper, [])
        self._watch.mend()
        if self._requests:
            self._look_round()

    def _look_round(self) -> None:
        """Look for all who were decided on, and ahead for those who wait."""

        def work(tx: Transaction) -> None:
            if self._ear is None:
                return
            self.mend()
            waiting = {
                ticket
                for ticket, request, verdict in tx.execute(
                    "SELECT ticket, request, verdict FROM waiters WHERE ear = ?", (self._ear.name,)
                ).fetchall()
                if verdict is None
                and (known := self._requests.get(ticket)) is not None
                and known.id == request
            }
            # Of those that wait, the first at each limit looks ahead for all of them.
            firsts = tx.execute(
                "SELECT min(ticket) FROM waits JOIN waiters USING (ticket)"
                " WHERE ear = ? GROUP BY limit_key",
                (self._ear.name,),
            ).fetchall()
            look = (self._requests.keys() - waiting).union(ticket for (ticket,) in firsts)
            if look:
                tx.rings.setdefault(self._ear.name, set()).update(look)

        self.run_unawaited(work)

    # The end

    async def close_if_idle(self) -> None:
        """Close all that is open, or, where other tasks are at it, what is opened again."""
        if not self._uses:
            await self.close()
            return
        closed: asyncio.Future[None] = self.loop.create_future()

        def close_file() -> None:
            with contextlib.suppress(LocalGCLError):  # whoever looks next finds out
                self.database.close(clock.now() + PATIENCE_SECONDS)
            self.loop.call_soon_threadsafe(_succeed, closed, None)

        self._thread.post(close_file)
        await asyncio.wait([closed], timeout=PATIENCE_SECONDS)

    async def close(self) -> None:
        """Close all that is open; what is held here stays with the process."""
        if self.closed:
            return
        self.stop()
        stopped: asyncio.Future[None] = self.loop.create_future()

        def end() -> None:
            self._close_file()
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self.loop.call_soon_threadsafe(_succeed, stopped, None)

        self._thread.post_last(end)
        await asyncio.wait([stopped], timeout=PATIENCE_SECONDS)
        while stopped.done() and self._thread.is_alive():
            await asyncio.sleep(0)  # it has done its last, and ends within microseconds

    def stop(self) -> None:
        """Have no more to do with the loop."""
        self.closed = True
        _sessions.pop((self.loop, self.path), None)
        if self._net_timer is not None:
            self._net_timer.cancel()
        self._watch.close()

    def _pause(self) -> float | None:
        """Return after how long the thread looks at the loop; None where that makes no odds."""
        return _LOOP_SECONDS if self._unsettled and not self.closed else None

    def _look_at_loop(self) -> None:
        """Undo what waits in a loop that was closed: nobody else would, and it can be granted."""
        if self.loop.is_closed():
            self.end_without_loop()

    def end_without_loop(self) -> None:
        """Close what a loop has left that was closed without a word."""
        if _sessions.pop((self.loop, self.path), None) is None:
            return  # another thread is at it
        for request in tuple(self._unsettled):
            self.run_unawaited(functools.partial(wait.abandon, request=request), insists=True)
        self._end()

    def _end(self) -> None:
        self.stop()
        self._thread.post_last(self._close_file)

    def _close_file(self) -> None:
        if self._ear is not None and self._lifeline is not None:
            self._lifeline.return_ear(self._ear)
        # A full disk, a corrupt file: whoever looks next finds out.
        with contextlib.suppress(LocalGCLError):
            departure.depart(self.database, if_idle=True)
            self.database.close(clock.now() + PATIENCE_SECONDS)


_sessions: dict[tuple[asyncio.AbstractEventLoop, str], Session] = {}

# What loops have left held goes with the process, which signs out of the databases that are there.
_last_databases: dict[str, Database] = {}


def last_database(path: str) -> Database:
    """Return the connection that the newest session with the database at `path` has, or had."""
    return _last_databases[path]


async def session_of(path: str) -> Session:
    """Return the running loop's session with the database at `path`."""
    loop = asyncio.get_running_loop()
    session = _sessions.get((loop, path))
    if session is None:
        for (other, _), left in tuple(_sessions.items()):
            if other.is_closed():
                left.end_without_loop()
        if (library := threads.unfit()) is not None:
            raise GreenThreadsError(library)
        with explaining(path):
            session = _sessions[loop, path] = Session(loop, path)
        if loop in _ending:
            session.ends_when_idle = True
        else:
            # `asyncio.run` closes asynchronous generators at its end, and so this one.
            session.until_loop_ends = _until_the_loop_ends(session)
            await anext(session.until_loop_ends)
    return session


# Loops that close their asynchronous generators; one may release a lease after ours was closed.
_ending: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


async def _until_the_loop_ends(session: Session) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        if not session.closed:  # or else the collector found this, after an `aclose`
            _ending.add(session.loop)
        await session.close()


def _forget_after_fork() -> None:
    # The threads are not in the child, and the selectors are shared with the parent's loops.
    for session in _sessions.values():
        session.closed = True
    _kept.extend(_sessions.values())
    _sessions.clear()


_kept: list[Session] = []  # lest the child close what is its parent's

at_fork(after_in_child=_forget_after_fork)


def _is_decided(outcome: object) -> bool:
    return isinstance(outcome, Granted | Refused | NotNow)


def _succeed(future: asyncio.Future[Any] | None, result: Any) -> None:
    if future is not None and not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
