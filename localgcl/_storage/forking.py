"""The databases that this process uses, and what happens to them when it forks.

SQLite notes its locks in a table of the process, by inode, but the kernel gives a child none of
them. With a connection that crossed a fork, the child would believe that it has its parent's locks.
It would go on in a write-ahead log that others delete (https://sqlite.org/howtocorrupt.html, 2.6).
So all databases are closed before a fork.
"""

from __future__ import annotations

import threading
import weakref
from _thread import get_ident

from localgcl._base import clock
from localgcl._base.forks import at_fork
from localgcl._base.threads import holding, inside, make_lock, members

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class ForkAware(Protocol):
        """A database, as far as a fork concerns it."""

        def close_before_fork(self, deadline: float, kept_closed: list[ForkAware]) -> None:
            """Close the file; stay closed, as one of `kept_closed`, until `go_on_after_fork`."""

        def go_on_after_fork(self) -> None:
            """Let the parent open the file again."""

        def is_free(self) -> bool:
            """Whether no other thread uses it, or used it when this process was forked."""

        def forget_after_fork(self, *, kept_closed: bool, is_busy: bool) -> None:
            """Start again in a child; `is_busy` if its parent was inside a transaction."""


_PATIENCE_SECONDS = 1.0

_databases: weakref.WeakSet[ForkAware] = weakref.WeakSet()
crossed: set[tuple[int, int] | None] = set()  # files that were open during a fork


class _Forking(threading.local):
    """What this thread does to keep others out while it forks."""

    lock: threading.RLock = make_lock()  # shared by all threads: no database is added meanwhile

    def __init__(self) -> None:
        self.kept_closed: list[ForkAware] = []
        self.is_inside: bool | None = None  # during a fork: whether it started inside a transaction


_forking = _Forking()


def register(database: ForkAware) -> None:
    """Have a database informed of every fork."""
    holding(_forking.lock, _databases.add, database)


def registered() -> list[ForkAware]:
    """Return the databases that this process has used."""
    return members(_databases)


def _close_all() -> None:
    deadline = clock.now() + _PATIENCE_SECONDS
    if not _forking.lock._is_owned():  # type: ignore[attr-defined]
        _forking.lock.acquire()
    me = get_ident()
    if _forking.is_inside is None:
        _forking.is_inside = me in inside
    inside.add(me)  # a finalizer would open its database again
    for database in registered():
        database.close_before_fork(deadline, _forking.kept_closed)


def _go_on() -> None:
    for database in _forking.kept_closed:
        database.go_on_after_fork()
    _forking.kept_closed.clear()
    if _forking.is_inside is False:
        inside.discard(get_ident())
    _forking.is_inside = None
    if _forking.lock._is_owned():  # type: ignore[attr-defined]
        _forking.lock.release()


def _forget_all() -> None:
    # A thread that queues for the gate on behalf of others uses no database.
    is_busy = not all(database.is_free() for database in registered())
    for database in registered():
        database.forget_after_fork(kept_closed=database in _forking.kept_closed, is_busy=is_busy)
    _forking.kept_closed.clear()
    _forking.is_inside = None
    inside.clear()
    _Forking.lock = make_lock()


at_fork(before=_close_all, after_in_parent=_go_on, after_in_child=_forget_all)
