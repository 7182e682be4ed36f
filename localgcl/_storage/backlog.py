"""Transactions for which nobody waits: a thread runs them, again and again until they succeed.

They free what a request or a lease has left that could not be undone at once: somebody was stopped
inside a transaction, or the disk is full. The end of the process frees it at the latest.
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

# Without a thread somebody is held up by this who is there for something else.
_AT_ONCE_SECONDS = 0.5


class _Backlog:
    """What is still to be done at one database, and the lock of the one thread that does it."""

    __slots__ = ("lock", "works")

    def __init__(self) -> None:
        self.works: deque[Work] = deque()
        self.lock = threads.allocate_real_lock()  # for which nobody ever waits


_backlogs: weakref.WeakKeyDictionary[Database, _Backlog] = weakref.WeakKeyDictionary()

# Those that no thread is known to be at: none was to be had, or it has died.
_left: dict[Database, _Backlog] = {}


def run_later(database: Database, work: Work) -> None:
    """Run a transaction, which may be run twice, as soon as that is possible.

    A thread runs it. Where none can be had, it is run here, or after the next transaction of this
    process if this is inside of one, or if it fails.
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
        if not _is_in_a_loop() and not sys.is_finalizing():
            _catch_up()
    elif threads.are_green:
        _leave(database, backlog)  # whoever has the processor may never let another greenlet run


def _begin(database: Database, backlog: _Backlog) -> bool:
    """Have a thread work at it; return whether one was to be had."""
    try:
        threads.start(_run, _Errand(database, backlog))
    except (RuntimeError, MemoryError):
        return False
    return True


def _is_in_a_loop() -> bool:
    """Whether this would hold up an event loop."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


class _Errand:
    """What the thread alone has that is begun, so that its end is known of, whatever it died of."""

    is_over = True  # where `__init__` was interrupted

    def __init__(self, database: Database, backlog: _Backlog) -> None:
        self.database = database
        self.backlog = backlog
        self.is_over = False  # or else somebody else is at what is left

    def __del__(self) -> None:
        if not self.is_over and self.backlog.works:
            _leave(self.database, self.backlog)


def _run(errand: _Errand) -> None:
    database, backlog = errand.database, errand.backlog
    # Whoever is at it may have seen the last of the works before the newest came, so look again.
    while backlog.works and backlog.lock.acquire(blocking=False):
        try:
            _work_off(database, backlog.works)
        finally:
            backlog.lock.release()
    errand.is_over = True
    # It may be that of a loop that has ended, and nobody else closes what was opened for this.
    with contextlib.suppress(LocalGCLError):  # whoever looks next finds out
        database.close(clock.now() + _CLOSE_SECONDS)


def _leave(database: Database, backlog: _Backlog) -> None:
    """Have it done after a transaction."""
    _left[database] = backlog
    afterwards[:] = [_catch_up]


_catching_up = threads.allocate_real_lock()
_not_before = 0.0


def _catch_up() -> None:
    """Do what no thread is at, or have one do it if there is one to be had now."""
    global _not_before
    if _thread.get_ident() in threads.inside or clock.now() < _not_before:
        return  # whoever was interrupted does it at the end
    if not _catching_up.acquire(blocking=False):
        return
    try:
        for database, backlog in tuple(_left.items()):
            del _left[database]
            try:
                if (threads.are_green or not _begin(database, backlog)) and not _work_off_at_once(
                    database, backlog
                ):
                    _not_before = clock.now() + _FIRST_PAUSE_SECONDS
                    _left[database] = backlog
            except BaseException:
                _left[database] = backlog
                raise
        if not _left:
            afterwards.clear()
        if _left:  # by now
            afterwards[:] = [_catch_up]
    finally:
        _catching_up.release()


def _work_off_at_once(database: Database, backlog: _Backlog) -> bool:
    """Do each once, in a moment; return whether all is done, or somebody is at it."""
    if not backlog.lock.acquire(blocking=False):
        return True
    deadline = clock.now() + _AT_ONCE_SECONDS
    try:
        for _ in range(len(backlog.works)):
            try:
                database.transact(backlog.works[0], deadline=deadline, create=False)
            except NoDatabaseError:
                pass  # and so nothing to free
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
            pass  # and so nothing to free
        except Exception:  # a DatabaseError, or a fault: its first caller has been told
            works.rotate(-1)  # lest one that never succeeds keep the others from it
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
