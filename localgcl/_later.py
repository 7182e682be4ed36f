"""Transactions for which nobody waits: a thread runs them, again and again until they succeed.

They free what a request or a lease has left that could not be undone at once: somebody was stopped
inside a transaction, or the disk is full. The end of the process frees it at the latest.
"""

from __future__ import annotations

import _thread
import contextlib
import time
import weakref
from collections import deque

from localgcl import _clock, _threads
from localgcl._database import NoDatabaseError
from localgcl._forks import at_fork
from localgcl.errors import DatabaseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from localgcl._database import Database, Transaction

    Work = Callable[[Transaction], object]

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_CLOSE_SECONDS = 1.0


class _Backlog:
    """What is still to be done at one database, and the lock of the one thread that does it."""

    __slots__ = ("lock", "works")

    def __init__(self) -> None:
        self.works: deque[Work] = deque()
        self.lock = _thread.allocate_lock()


_backlogs: weakref.WeakKeyDictionary[Database, _Backlog] = weakref.WeakKeyDictionary()


def run_later(database: Database, work: Work) -> None:
    """Run a transaction, which may be run twice, as soon as that is possible."""
    backlog = _backlogs.setdefault(database, _Backlog())
    backlog.works.append(work)
    with contextlib.suppress(RuntimeError):  # at the interpreter's end, which frees everything
        _threads.start(_run, database, backlog)


def _run(database: Database, backlog: _Backlog) -> None:
    # Whoever is at it may have seen the last of the works before the newest came, so look again.
    while backlog.works and backlog.lock.acquire(blocking=False):
        try:
            _work_off(database, backlog.works)
        finally:
            backlog.lock.release()
    # It may be that of a loop that has ended, and nobody else closes what was opened for this.
    with contextlib.suppress(DatabaseError):  # whoever looks next finds out
        database.close(_clock.now() + _CLOSE_SECONDS)


def _work_off(database: Database, works: deque[Work]) -> None:
    pause = _FIRST_PAUSE_SECONDS
    while works:
        try:
            database.transact(works[0], create=False)
        except NoDatabaseError:
            pass  # and so nothing to free
        except Exception:  # a DatabaseError, or a fault: its first caller has been told
            works.rotate(-1)  # lest one that never succeeds keep the others from it
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            continue
        works.popleft()


# The child owns nothing that its parent has to undo.
at_fork(after_in_child=_backlogs.clear)
