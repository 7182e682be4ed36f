"""The transactions of one event loop's tasks: each runs whole, in the thread of the loop.

Calls that gathered while the thread was busy share one transaction. In it, the thread also looks
for those requests of its own loop that the transaction has decided. So their tasks need not ask.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from localgcl._base import clock
from localgcl._base.descriptors import Descriptor, close_if_ours
from localgcl._drivers.affinity import Processor
from localgcl._drivers.thread import Thread
from localgcl._engine import wait
from localgcl._engine.queue import promote
from localgcl._engine.request import Granted, Lost, NotGranted, Refused, Request, Waiting
from localgcl._liveness.folder import Folder
from localgcl._liveness.lifeline import Lifeline, WakeFifo, lifeline
from localgcl._storage.backlog import run_later
from localgcl._storage.database import Database, NoDatabaseError, Transaction

# How many calls share one transaction: enough to be quick, and few enough not to hold up others.
_MAX_TOGETHER = 32
_LONG_SECONDS = 0.01  # after this long, the remaining calls get a transaction of their own

_Outcome = tuple[Any, BaseException | None]


class Call:
    """A transaction that one task waits for, or nobody."""

    __slots__ = ("alone", "create", "durable", "future", "request", "retry", "work")

    def __init__(
        self,
        work: Callable[[Transaction], Any],
        future: asyncio.Future[Any] | None,
        *,
        request: Request | None = None,
        alone: bool = False,
        durable: bool = False,
        create: bool = True,
        retry: bool = False,
    ) -> None:
        self.work = work
        self.future = future
        self.request = request
        self.alone = alone
        self.durable = durable
        self.create = create
        self.retry = retry  # if it fails, it is tried again until it succeeds


class Tasks(Protocol):
    """What a worker needs from the side of the event loop."""

    closed: bool

    def give(self, request: Request, outcome: Any) -> None:
        """Hand a request the outcome of a look; called in the loop."""

    def turn_to_wake_fifo(self, former: Descriptor) -> None:
        """Listen to the worker's FIFO in place of the former one; called in the loop."""

    def pause(self) -> float | None:
        """Return after how long without work to call `look_at_loop`; None for never."""

    def look_at_loop(self) -> None:
        """Check whether the loop was closed."""


class Worker:
    """Runs the transactions of one event loop's tasks, and listens for all their requests."""

    recheck_seconds = float("inf")  # the session checks for all who wait there

    def __init__(self, loop: asyncio.AbstractEventLoop, path: str, tasks: Tasks) -> None:
        self.database = Database(path)
        self.requests: dict[int, Request] = {}  # by ticket
        self.wake_fifo_in_use: WakeFifo | None = None
        self._loop = loop
        self._tasks = tasks
        self._jobs: deque[Call] = deque()
        self._displaced: list[Request] = []  # a new file gave their tickets to others
        self.decided: dict[Request, Granted | Refused] = {}  # of requests that have no row
        self._lifeline: Lifeline | None = None
        # Set last: if the rest failed, the thread would stay.
        self.thread = Thread(self.database, tasks.pause, tasks.look_at_loop)
        self._processor = Processor(loop, self.thread.native_id())

    # Called in the loop

    def run(self, job: Call) -> None:
        """Run a transaction for which a task waits."""
        if self._tasks.closed:
            self._run_elsewhere(job)
            return
        self._processor.share()
        self._jobs.append(job)
        self.thread.post(self._run_jobs)

    def post(self, job: Call) -> None:
        """Run a transaction that no task waits for, or none that is in a hurry."""
        if self._tasks.closed:
            self._run_elsewhere(job)
            return
        self._jobs.append(job)
        self.thread.post(self._run_jobs)

    def _run_elsewhere(self, job: Call) -> None:
        # The thread has ended.
        work = job.work if job.request is None else functools.partial(self._for_request, job)
        run_later(self.database, work)
        if job.future is not None and not self._loop.is_closed() and not job.future.done():
            job.future.set_result(None)

    def run_unawaited(self, work: Callable[[Transaction], Any], *, retry: bool = False) -> None:
        """Run a transaction that nobody waits for, as soon as possible."""
        self.post(Call(work, None, create=False, retry=retry))

    def look_for(self, requests: Iterable[Request]) -> None:
        """Look for requests that may have been decided."""

        def work(tx: Transaction) -> None:
            for request in requests:
                if request.ticket in self.requests and self.wake_fifo_in_use is not None:
                    tx.wakeups.setdefault(self.wake_fifo_in_use.name, set()).add(request.ticket)

        self.run_unawaited(work)

    def look_round(self) -> None:
        """Look for all requests that were decided, and look ahead for those that wait."""

        def work(tx: Transaction) -> None:
            if self.wake_fifo_in_use is None:
                return
            self.recreate()
            wake_fifo = self.wake_fifo_in_use.name
            waiting = {
                ticket
                for ticket, request, verdict in tx.execute(
                    "SELECT ticket, request, verdict FROM waiters WHERE wakes = ?", (wake_fifo,)
                ).fetchall()
                if verdict is None
                and (known := self.requests.get(ticket)) is not None
                and known.id == request
            }
            # The first waiter at each limit looks ahead for all of them.
            firsts = tx.execute(
                "SELECT min(ticket) FROM waits JOIN waiters USING (ticket)"
                " WHERE wakes = ? GROUP BY limit_key",
                (wake_fifo,),
            ).fetchall()
            look = (self.requests.keys() - waiting).union(ticket for (ticket,) in firsts)
            if look:
                tx.wakeups.setdefault(wake_fifo, set()).update(look)

        self.run_unawaited(work)

    # The listener of every request here; called in the thread, inside transactions

    def wake_address(self, folder: Folder) -> str:
        ours = lifeline(folder)
        if self.wake_fifo_in_use is None or self._lifeline is not ours:
            self._lifeline = ours
            self.wake_fifo_in_use = ours.borrow_wake_fifo()
        return self.wake_fifo_in_use.name

    def recreate(self) -> None:
        taken = None if self.wake_fifo_in_use is None else self.wake_fifo_in_use.renew()
        if taken is not None:
            try:
                # Only the loop knows when nothing refers to the old end by its number any more.
                self._loop.call_soon_threadsafe(self._tasks.turn_to_wake_fifo, taken)
            except RuntimeError:
                close_if_ours(taken)  # the loop is closed, so nobody listens

    def return_wake_fifo(self) -> None:
        """Stop listening."""
        if self.wake_fifo_in_use is not None and self._lifeline is not None:
            self._lifeline.return_wake_fifo(self.wake_fifo_in_use)

    # Transactions, in the thread

    def _run_jobs(self) -> None:
        while self._jobs:
            together = [self._jobs.popleft()]
            while self._jobs and len(together) < _MAX_TOGETHER:
                if together[0].alone or self._jobs[0].alone:
                    break
                together.append(self._jobs.popleft())
            self._run_together(together)

    def _run_together(self, jobs: list[Call]) -> None:
        first = jobs[0]

        def work(tx: Transaction) -> tuple[list[Any], dict[Request, Any]]:
            tx.later = set()
            results = []
            for job in jobs:
                results.append(job.work(tx) if job.request is None else self._for_request(job, tx))
                if clock.now() - tx.now > _LONG_SECONDS:
                    break  # others wait for the gate
            promote(tx, tx.later)
            return results, self._looked_for(tx)

        looked: dict[Request, Any] = {}
        outcomes: list[_Outcome]
        rest: list[Callable[[Transaction], object]] = []
        try:
            results, looked = self.database.transact(
                work, durable=first.durable, create=any(job.create for job in jobs), rest=rest
            )
            outcomes = [(result, None) for result in results]
            self._jobs.extendleft(reversed(jobs[len(results) :]))
            jobs = jobs[: len(results)]
            for request, outcome in looked.items():
                if _is_decided(outcome):
                    self._drop(request)
                    self.decided[request] = outcome
                elif isinstance(outcome, Lost):
                    self._drop(request)  # it has no row by this ticket any more
        except BaseException as error:
            # The machine caused the error, not one of the calls. So all that shared the transaction
            # are told.
            outcomes = [(None, error)] * len(jobs)
            for job in jobs:
                if job.request is not None:
                    job.request.granted = None
                    self._drop(job.request)
                if job.retry and not isinstance(error, NoDatabaseError):
                    run_later(self.database, job.work)
        while self._displaced:
            looked.setdefault(self._displaced.pop(), Lost())
        self._answer(
            [
                (job.future, *outcome)
                for job, outcome in zip(jobs, outcomes, strict=True)
                if job.future is not None
            ],
            looked,
        )
        if rest:
            self.database.go_on(rest)

    def _for_request(self, job: Call, tx: Transaction) -> Any:
        """Run a request's own transaction, unless a look made for it was quicker."""
        request = job.request
        assert request is not None
        decided = self.decided.get(request)
        if decided is not None:
            return decided
        outcome = job.work(tx)
        if isinstance(outcome, Waiting):
            former = self.requests.get(request.ticket)
            if former is not None and former is not request:
                self._displaced.append(former)
            self.requests[request.ticket] = request
        else:
            self._drop(request)
            if isinstance(outcome, Granted):
                request.granted = outcome  # its task may be cancelled before it learns of it
        return outcome

    def _drop(self, request: Request) -> None:
        # Another request may have its ticket by now.
        if self.requests.get(request.ticket) is request:
            del self.requests[request.ticket]

    def _looked_for(self, tx: Transaction) -> dict[Request, Any]:
        """Look for those of our own requests that the transaction has decided or wakes."""
        looked: dict[Request, Any] = {}
        while self.wake_fifo_in_use is not None and (
            tickets := tx.wakeups.pop(self.wake_fifo_in_use.name, None)
        ):
            for ticket in tickets:
                request = self.requests.get(ticket)
                # If a look grants to its own request, the request is woken once more.
                if request is not None and not _is_decided(looked.get(request)):
                    looked[request] = wait.look(tx, request, self)
        return looked

    def undo(self, tx: Transaction, request: Request) -> None:
        """Undo a request, which may have been granted by a look meanwhile."""
        decided = self.decided.pop(request, None)
        if isinstance(decided, Granted):
            request.granted = decided
        self._drop(request)
        wait.abandon(tx, request)

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
                self._tasks.give(request, outcome)

        if answers or looked:
            try:
                self._loop.call_soon_threadsafe(deliver)
            except RuntimeError:  # the loop is closed, so nobody waits any more
                self.thread.post(self._tasks.look_at_loop)


def _is_decided(outcome: object) -> bool:
    return isinstance(outcome, Granted | Refused | NotGranted)
