"""How one thread obtains slots: it runs the transactions of a request, and sleeps between them."""

from __future__ import annotations

import functools
import os
from sys import modules

from localgcl._base import clock, threads
from localgcl._base.checks import check_lease_id
from localgcl._drivers import blocks
from localgcl._drivers.flow import Transact, flow
from localgcl._drivers.held import UNLIMITED
from localgcl._drivers.places import OwnPlace
from localgcl._drivers.receiver import Receiver, Seat
from localgcl._engine import release, wait
from localgcl._liveness.lifeline import lifeline, seems_whole
from localgcl._storage.backlog import run_later
from localgcl._storage.database import Database, NoDatabaseError
from localgcl._storage.gate import GateTimeoutError
from localgcl._storage.location import choose
from localgcl._storage.problems import database_error, is_foreign
from localgcl._storage.shared_file import NestedCallError
from localgcl.errors import DatabaseError, GreenThreadsError, LocalGCLError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol, TypeVar

    from localgcl._drivers.flow import Sleep, Terms
    from localgcl._drivers.places import Place
    from localgcl._engine.request import Granted, Request
    from localgcl._liveness.folder import Folder
    from localgcl._liveness.lifeline import Lifeline
    from localgcl._storage.database import Transaction

    class HeldLease(Protocol):
        """A lease; its class is the public one."""

        _of_block: bool
        id: str

        def release(self) -> None:
            """Free the slots."""

    class Entered(Protocol):
        """A block that was entered, and gets its lease."""

        _lease: HeldLease | None

    L = TypeVar("L", bound=HeldLease)

# This many waiting threads of a process have a wake-up FIFO each. The others share one.
_OWN_FIFOS = 8

# How long a clean-up waits for the gate. Then another thread waits, and the caller goes on.
_CLEAN_UP_SECONDS = 1.0

# After this many errors that are not a Ctrl-C, the next one counts as one that comes every time.
_MAX_FAULTS = 3


class Listener:
    """What one blocked thread sleeps on: a place, while its request waits."""

    recheck_seconds = 10.0
    _request: Request | None = None

    def __init__(self, database: Database, request: Request) -> None:
        self.woken = False  # whether the last sleep ended because somebody woke it
        self._database = database
        self._place: Place | None = None
        self._request = request  # set last: `__del__` uses the others

    def wake_address(self, folder: Folder) -> str:
        ours = lifeline(folder)
        place = self._place
        if place is None or place.lifeline is not ours:
            self.close()
            place = self._take_place(ours)
        elif isinstance(place, Seat):
            place.expect()
        place.openings = self._database.openings
        return place.wake_fifo.name

    def _take_place(self, ours: Lifeline) -> Place:
        request = self._request
        assert request is not None
        if ours.borrowed() < _OWN_FIFOS:
            own = self._place = OwnPlace(self._database, request, ours, ours.borrow_wake_fifo())
            return own
        receiver = ours.shared
        if receiver is None:
            receiver = ours.shared = ours.new_wake_fifo(Receiver)
        else:
            receiver.recreate()
        assert isinstance(receiver, Receiver)
        seat = self._place = Seat(self._database, request, ours, receiver)
        seat.expect()
        return seat

    def recreate(self) -> None:
        place = self._place
        if place is not None:
            place.openings = self._database.openings  # its row was found in this open file
            place.wake_fifo.recreate()

    def sleep(self, step: Sleep) -> list[str]:
        self.woken = False
        place = self._place
        if step.blockers is None or place is None:
            while (seconds := step.until - clock.now()) > 0:
                threads.sleep(seconds)
            return []
        dead = place.sleep(step.until, step.blockers)
        self.woken, place.hinted = place.hinted, False
        return dead

    def grant(self, request: Request) -> Granted | None:
        """Return the grant that this was woken for, if a read outside the gate finds it."""
        place = self._place
        if place is None:
            return None
        # A holder need not enter the gate to learn that it holds its slots. But if its lifeline may
        # be gone, others may take it for dead by now. Then it needs a transaction, which makes the
        # lifeline again.
        if seems_whole(place.wake_fifo.folder):
            granted = self._database.read(wait.peek, request)
            if granted is not None:
                return granted
        place.settle()
        return None

    def close(self) -> None:
        place, self._place = self._place, None
        if place is not None:
            place.close()

    def __del__(self) -> None:
        # Repeated Ctrl-C can keep a frame from clearing up after itself, but not from ending.
        request = self._request
        if request is None or (request.settled and self._place is None):
            return
        if request.pid == os.getpid():
            if not request.settled:
                run_later(self._database, functools.partial(wait.abandon, request=request))
            self.close()


def drive(terms: Terms, request: Request, database: Database, listener: Listener) -> Granted:
    """Take the steps of a request until it is granted; raise an error if it is refused."""
    steps = flow(terms, request, listener, database.path)
    advance: Callable[[Any], Transact | Sleep] = steps.send
    result: Any = None
    while True:
        try:
            step = advance(result)
        except StopIteration as stop:
            granted: Granted = stop.value
            return granted
        finally:
            # The traceback of an error that was thrown in leads to this frame. It would keep the
            # frame alive, and the listener with it, after a Ctrl-C.
            advance, result = steps.send, None
        if isinstance(step, Transact):
            try:
                result = database.transact(step.work, deadline=step.deadline)
            except (LocalGCLError, GateTimeoutError) as error:
                advance, result = steps.throw, error
        else:
            if (library := threads.unfit()) is not None:
                raise GreenThreadsError(library)
            if "_asyncio" in modules:
                _warn_if_a_loop_stands_still()
            try:
                result = listener.sleep(step)
            except OSError as error:
                if is_foreign(error):
                    raise
                raise database_error(database.path, error) from error
            if request.pid != os.getpid():
                raise DatabaseError(
                    database.path,
                    "this process was forked, by a signal's handler, while its parent waited; ask"
                    " again in the child",
                )
            if listener.woken:
                result = listener.grant(request) or result


# The calling lines that were warned of.
_warned: set[tuple[str, int]] = set()


def _warn_if_a_loop_stands_still() -> None:
    """Warn, once for each calling line, if an event loop cannot run while this thread waits."""
    if blocks.running_loop() is None:
        return
    line = blocks.calling_line()
    if line not in _warned:
        import logging

        _warned.add(line)
        logging.getLogger("localgcl").warning(
            "%s:%d waits for a slot while an event loop runs in this thread, and so stops all of"
            " its tasks. Await it by localgcl.asyncio instead.",
            *line,
        )


def obtain(
    terms: Terms,
    database: Database | None,
    lease_type: Callable[..., L],
    block: Entered | None = None,
) -> L:
    """Drive a request to its grant; if it ends otherwise, undo whatever it has left.

    `database` None means that of the environment, or the default. A `block` is given its lease
    here, while an interruption still undoes the request.
    """
    request = terms.request()
    if not terms.names or terms.unlimited:
        terms.check_nothing()
        lease = lease_type(request, 0.0, UNLIMITED if terms.names else None)
        if block is not None:
            block._lease = lease
        return lease
    if database is None:
        database = database_of(None)
    listener = Listener(database, request)
    try:
        granted = drive(terms, request, database, listener)
        listener.close()
        waited = clock.now() - request.began
        if waited < 0.0:
            waited = 0.0
        lease = lease_type(request, waited, granted, database if terms.holds else None)
        if block is not None:
            block._lease = lease
            lease._of_block = True
        request.settled = True
        return lease
    except BaseException:
        if not request.settled:
            clean_up(database, request)
        listener.close()
        raise


databases: dict[str, Database] = {}


def database_of(chosen: str | os.PathLike[str] | None) -> Database:
    """Return this process's one connection to a database; None means the same as for `Limiter`."""
    path = choose(chosen)[0]
    database = databases.get(path)
    if database is None:
        database = databases.setdefault(path, Database(path))  # two threads may get here at once
    return database


def run_until_committed(
    database: Database,
    work: Callable[[Transaction], None],
    deadline: float | None = None,
    faults: int = 0,
) -> None:
    """Run a transaction that may be run twice, however often Ctrl-C interrupts it.

    In two cases a thread of ours runs it. Either this call interrupted a transaction of its own
    thread, or the transaction fails every time. (An error from a signal's handler does not come
    every time.)
    """
    try:
        database.transact(work, deadline=deadline, create=False)
    except NoDatabaseError:
        pass  # so there is nothing to free
    except NestedCallError:
        run_later(database, work)
    except (LocalGCLError, GateTimeoutError):
        raise
    except BaseException as error:
        if isinstance(error, Exception) and faults >= _MAX_FAULTS:
            run_later(database, work)
            raise
        run_until_committed(database, work, deadline, faults + isinstance(error, Exception))
        raise


def release_by_id(database: Database, lease_id: str) -> bool:
    """Free a lease by its id; return whether it was held."""
    work = functools.partial(release.release_by_id, lease=check_lease_id(lease_id))
    try:
        return database.transact(work, create=False)
    except NoDatabaseError:
        return False


def clean_up(database: Database, request: Request) -> None:
    """Undo a request; do it later if that fails, or if somebody is stopped in a transaction."""
    work = functools.partial(wait.abandon, request=request)
    try:
        run_until_committed(database, work, clock.now() + _CLEAN_UP_SECONDS)
    except (LocalGCLError, GateTimeoutError):
        run_later(database, work)
    request.settled = True
