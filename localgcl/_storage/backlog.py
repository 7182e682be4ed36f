"""Transactions that nobody waits for: a thread runs them, again and again until they succeed.

They free what a request or a lease has left and what could not be undone at once: a process was
stopped inside a transaction, or the disk is full. At the latest, the end of the process frees it.
"""

from __future__ import annotations

import _thread
import contextlib
import sys
import weakref
from collections import deque

from localgcl._base import clock, threads
from localgcl._base.forks import at_fork
from localgcl._storage.database import NoDatabaseError, afterwards
from localgcl._storage.gate import GateTimeoutError
from localgcl.errors import LocalGCLError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from localgcl._storage.database import Database, Transaction

    Work = Callable[[Transaction], object]

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_CLOSE_SECONDS = 1.0

# Without a thread, this delays a caller who is there for something else.
_AT_ONCE_SECONDS = 0.5


class _Backlog:
    """What is left to do at one database, and the lock of the one thread that does it."""

    __slots__ = ("lock", "works")

    def __init__(self) -> None:
        self.works: deque[Work] = deque()
        self.lock = threads.allocate_real_lock()  # nobody ever waits for it


_backlogs: weakref.WeakKeyDictionary[Database, _Backlog] = weakref.WeakKeyDictionary()

# Backlogs without a known thread: none could be started, or it has died.
_left: dict[Database, _Backlog] = {}


def run_later(database: Database, work: Work) -> None:
    """Run a transaction, which may be run twice, as soon as that is possible.

    A thread runs it. If no thread can be started, it is run here. Inside a transaction, or if it
    fails, it is run after the next transaction of this process.
    """
    backlog = _backlogs.setdefault(database, _Backlog())
    try:
        backlog.works.append(work)
        begun = _begin(database, backlog)
    except BaseException:
        _leave(database, backlog)
        raise
    if not begun:
        _leave(database, backlog)
        _catch_up_if_possible()
    elif threads.are_green:
        _leave(database, backlog)  # the running greenlet may never let another run


def _begin(database: Database, backlog: _Backlog) -> bool:
    """Start a thread for it; return whether that was possible."""
    try:
        threads.start(_run, _Errand(database, backlog))
    except (RuntimeError, MemoryError):
        return False
    return True


def _is_in_a_loop() -> bool:
    """Whether this would block an event loop."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


class _Errand:
    """Held by the started thread alone, so that its end is noticed, whatever ended it."""

    is_over = True  # for an interrupted `__init__`

    def __init__(self, database: Database, backlog: _Backlog) -> None:
        self.database = database
        self.backlog = backlog
        self.is_over = False  # True means that another thread does what is left

    def __del__(self) -> None:
        if not self.is_over and self.backlog.works:
            _leave(self.database, self.backlog)
            # The process may wait for just this, and have no other transaction. A thread that ends
            # before its time tries it here: another one might end so, too.
            _catch_up_if_possible(starts_threads=False)


def _run(errand: _Errand) -> None:
    database, backlog = errand.database, errand.backlog
    # The thread at work may have seen the queue empty before the newest work came, so look again.
    while backlog.works and backlog.lock.acquire(blocking=False):
        try:
            _work_off(database, backlog.works)
        finally:
            backlog.lock.release()
    errand.is_over = True
    # This may be the database of a loop that has ended. Then nobody else closes what was opened
    # here.
    with contextlib.suppress(LocalGCLError):  # the next caller gets the error
        database.close(clock.now() + _CLOSE_SECONDS)


def _leave(database: Database, backlog: _Backlog) -> None:
    """Have it done after a later transaction."""
    _left[database] = backlog
    afterwards[:] = [_catch_up]


_catching_up = threads.allocate_real_lock()
_not_before = 0.0


def _catch_up_if_possible(*, starts_threads: bool = True) -> None:
    if not _is_in_a_loop() and not sys.is_finalizing():
        _catch_up(starts_threads=starts_threads)


def _catch_up(*, starts_threads: bool = True) -> None:
    """Start a thread for each backlog that has none, or do its work here."""
    global _not_before
    if _thread.get_ident() in threads.inside or clock.now() < _not_before:
        return  # the interrupted caller does it at the end
    if not _catching_up.acquire(blocking=False):
        return
    try:
        for database, backlog in tuple(_left.items()):
            del _left[database]
            try:
                starts = starts_threads and not threads.are_green
                if not (starts and _begin(database, backlog)) and not _work_off_at_once(
                    database, backlog
                ):
                    _not_before = clock.now() + _FIRST_PAUSE_SECONDS
                    _left[database] = backlog
            except BaseException:
                _left[database] = backlog
                raise
        if not _left:
            afterwards.clear()
        if _left:  # another thread has added some
            afterwards[:] = [_catch_up]
    finally:
        _catching_up.release()


def _work_off_at_once(database: Database, backlog: _Backlog) -> bool:
    """Try each work once, briefly; return whether all is done, or another thread is at it."""
    if not backlog.lock.acquire(blocking=False):
        return True
    deadline = clock.now() + _AT_ONCE_SECONDS
    try:
        for _ in range(len(backlog.works)):
            try:
                database.transact(backlog.works[0], deadline=deadline, create=False)
            except NoDatabaseError:
                pass  # so there is nothing to free
            except (LocalGCLError, GateTimeoutError):
                backlog.works.rotate(-1)
                continue
            backlog.works.popleft()
        return not backlog.works
    finally:
        backlog.lock.release()


def _work_off(database: Database, works: deque[Work]) -> None:
    pause = _FIRST_PAUSE_SECONDS
    while works:
        try:
            database.transact(works[0], create=False)
        except NoDatabaseError:
            pass  # so there is nothing to free
        except Exception:  # a DatabaseError, or a fault that its first caller has seen
            works.rotate(-1)  # one that never succeeds must not block the others
            threads.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            continue
        works.popleft()


def _forget_after_fork() -> None:
    # The child owns nothing that its parent has to undo.
    global _catching_up
    _backlogs.clear()
    _left.clear()
    afterwards.clear()
    _catching_up = threads.allocate_real_lock()


at_fork(after_in_child=_forget_after_fork)
