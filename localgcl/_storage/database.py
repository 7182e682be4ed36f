"""The one door to the database: every transaction goes through `Database.transact`."""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import threading
import weakref
from _thread import get_ident

from localgcl._base import clock, threads
from localgcl._base.forks import at_fork, catch_up
from localgcl._base.threads import holding, inside, make_lock
from localgcl._liveness import identity as _identity
from localgcl._liveness.folder import Folder
from localgcl._liveness.lifeline import existing_lifeline, seems_whole
from localgcl._storage import schema
from localgcl._storage.file import (
    File,
    VanishedError,
    begin,
    drop,
    files_of,
    identity_of,
    newer,
    remaining,
)
from localgcl._storage.gate import GateTimeoutError
from localgcl._storage.problems import explained, is_foreign, strange
from localgcl._storage.transaction import Transaction as Transaction  # for who imports both
from localgcl.errors import DatabaseError, GreenThreadsError, LocalGCLError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar, TypeVarTuple

    from localgcl._liveness.lifeline import Lifeline
    from localgcl._storage.transaction import Ends, Rings

    T = TypeVar("T")
    Args = TypeVarTuple("Args")
    Execute = Callable[..., sqlite3.Cursor]
    Rest = list[Callable[[Transaction], object]]  # what is left for transactions of its own


# What is called after each transaction, outside of it, until it takes itself off: see `_later`.
afterwards: list[Callable[[], None]] = []

_TURN_SECONDS = 0.001

# Of a file that is replaced each time before it is open.
_MAX_OPENINGS = 20


class NoDatabaseError(Exception):
    """There is no file, and the caller has no use for a new one."""


class _InUseError(Exception):
    """Another thread of this process is at a file that all of them have to drop."""


class NestedCallError(RuntimeError):
    """The caller has interrupted a transaction of its own thread."""

    def __init__(self) -> None:
        super().__init__(
            "localgcl was called from inside its own transaction, by a signal handler or a"
            " finalizer that interrupted it; let that set a flag and call from the main program"
        )


class Database:
    """One process's connection to the database at `path`; opened at the first transaction."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = make_lock()
        self._file: File | None = None
        self._folder: Folder | None = None  # of the file that was open last
        self.openings = 0
        self._pid = os.getpid()
        holding(_forking.lock, _databases.add, self)

    def exists(self) -> bool:
        """Whether the file is there; its folder may be missing too."""
        try:
            return identity_of(self.path) is not None
        except OSError as error:
            raise explained(self.path, error) from error

    def transact(
        self,
        work: Callable[[Transaction], T],
        *,
        deadline: float | None = None,
        durable: bool = False,
        create: bool = True,
        rest: Rest | None = None,
    ) -> T:
        """Run `work` in one transaction and return what it returns; the one door.

        `deadline` (boot clock) bounds the wait for the gate, with GateTimeoutError; `durable`
        commits so that a power cut loses nothing; without `create` a missing file is a
        NoDatabaseError. NestedCallError inside a transaction of this thread. What the work has left
        to transactions of their own is run before this returns, or put into `rest`.
        """
        left: Rest = [] if rest is None else rest
        rings: Rings = {}
        ends: Ends = {}
        # A Ctrl-C can strike between any two instructions, in a `finally` too: what must happen
        # (open the gate, unlock, wake) stands in two nested ones each.
        try:
            while True:
                try:
                    result: T = self._alone(
                        deadline, self._inside, work, deadline, durable, create, rings, ends, left
                    )
                    break
                except _InUseError:
                    threads.sleep(_TURN_SECONDS)  # in which the other thread can have its turn
        finally:
            if (rings or ends) and self._folder is not None:
                try:
                    _ring(self._folder, rings, ends)
                except BaseException:
                    _ring(self._folder, rings, ends)
                    raise
            if afterwards:
                for do in tuple(afterwards):
                    do()
        if left and rest is None:
            self._go_on(left)
        return result

    def _go_on(self, rest: Rest) -> None:
        """Do what transactions have left to others, and wake after each."""
        while rest:
            work = rest.pop()
            # What was committed before is not undone by an error here. Those who wait find at their
            # next check that they could be served.
            with contextlib.suppress(LocalGCLError, NoDatabaseError):
                self.transact(work, create=False, rest=rest)

    def _alone(self, deadline: float | None, do: Callable[[*Args], T], *args: *Args) -> T:
        """Keep this process's other threads out; GateTimeoutError if `deadline` comes first.

        NestedCallError inside a transaction of this thread, be it with another database.
        """
        catch_up()
        lock = self._lock
        me = get_ident()
        if me in inside:
            raise NestedCallError
        try:
            inside.add(me)
            if not lock.acquire(blocking=False):
                if deadline is None:
                    lock.acquire()
                elif not lock.acquire(timeout=remaining(deadline)):
                    raise GateTimeoutError
            return do(*args)
        finally:
            try:
                if lock._is_owned():  # type: ignore[attr-defined]
                    lock.release()
                inside.discard(me)
            except BaseException:
                if lock._is_owned():  # type: ignore[attr-defined]
                    lock.release()
                inside.discard(me)
                raise

    def read(
        self,
        work: Callable[[Execute, *Args], T | None],
        *args: *Args,
        patience_seconds: float = 0.0,
    ) -> T | None:
        """Read what is committed, at no gate; None where the file is closed or cannot be read.

        `work` is given `execute`, for SELECTs of which each is of a moment of its own, and `args`.
        It reads what is open, even if that is not the file at the path any more. Whoever gets None
        is to `transact` instead.
        """
        try:
            # Another thread may stand at the gate for long, and whoever calls has a deadline.
            patience = clock.now() + patience_seconds if patience_seconds else -math.inf
            found: T | None = self._alone(patience, self._look, work, args)
            return found
        except (sqlite3.Error, OSError, GateTimeoutError) as error:
            if is_foreign(error):
                raise
            return None

    def _look(self, work: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        file = self._file
        if file is None or not file.has_its_descriptors():
            return None
        return work(file.execute, *args)

    def _inside(
        self,
        work: Callable[[Transaction], T],
        deadline: float | None,
        durable: bool,
        create: bool,
        rings: Rings,
        ends: Ends,
        left: Rest,
    ) -> T:
        try:
            file = self._file_there()
            if file is None:
                if not create and not self.exists():
                    raise NoDatabaseError
                file = self._reopen(deadline)
            execute, gate = file.execute, file.gate
            # Asked and made here, where nobody waits for it.
            whole = seems_whole(file.folder)
            if existing_lifeline(file.folder) is None:
                _identity.look_up()
            tx = Transaction(file, rings, ends)
            try:
                gate.enter(deadline)
                if durable:
                    execute("PRAGMA synchronous = FULL")
                begin(execute, deadline)
                if (version := execute("PRAGMA user_version").fetchone()[0]) != schema.VERSION:
                    raise newer(self.path, version)
                if not whole and (ours := existing_lifeline(file.folder)) is not None:
                    ours.mend()  # lest this process take itself for dead
                tx.now = clock.now()
                result = work(tx)
                execute("COMMIT")
                if tx.rest is not None:
                    left.append(tx.rest)
                return result
            finally:
                try:
                    if file.connection.in_transaction:
                        execute("ROLLBACK")
                    if durable:
                        execute("PRAGMA synchronous = NORMAL")
                    gate.leave()
                except BaseException:
                    gate.leave()
                    raise
        except (sqlite3.Error, OSError) as error:
            # Whatever it was, the next call begins with the file as it is then.
            with contextlib.suppress(sqlite3.Error, OSError, _InUseError):  # of the same cause
                self._discard()
            if is_foreign(error):
                raise
            raise explained(self.path, error) from error
        except (MemoryError, ImportError) as error:
            with contextlib.suppress(
                sqlite3.Error, OSError, MemoryError, _InUseError
            ):  # of the same cause
                self._discard()
            raise explained(self.path, error) from error
        except LocalGCLError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            self._explain(error)
            raise

    def _explain(self, error: Exception) -> None:
        """Raise a DatabaseError where a row that makes no sense may be what was stumbled over.

        Any other error is not the file's, but of a signal's handler, say, or a fault of our own.
        """
        from localgcl._storage.rows import senseless  # not on the hot path

        try:
            problem = None if self._file is None else senseless(self._file.execute)
        except (sqlite3.Error, ValueError) as unreadable:  # of bytes that are no text
            problem = str(unreadable)
        if problem is not None:
            raise strange(self.path, problem) from error

    def _file_there(self) -> File | None:
        """Return what is open if it is still what is there."""
        file = self._file
        return None if file is None or not file.is_there() else file

    def _reopen(self, deadline: float | None) -> File:
        if (library := threads.unfit()) is not None:
            raise GreenThreadsError(library)
        threads.be_ready()
        if (identity := identity_of(self.path)) is not None and identity in _crossed:
            raise DatabaseError(
                self.path,
                "it was in use when this process was forked, and could not be closed; start the"
                " process by exec, as subprocess and multiprocessing's spawn do",
            )
        for _ in range(_MAX_OPENINGS):
            self._discard(deadline)
            try:
                self._file = file = File(self.path, deadline)
            except VanishedError:
                continue
            self._folder = file.folder
            self.openings += 1
            if file.is_there():  # or else replaced or emptied while it was opened
                return file
        raise DatabaseError(
            self.path,
            "it, or its log beside it, is replaced again and again; end the program that does so",
        )

    def is_intact(self, openings: int) -> bool:
        """Whether what was open at that count of `openings` is open still, and still there.

        Without a transaction, and so cheap enough for whoever waits to ask every now and then.
        """
        try:
            # A new file may be given the number of the old one.
            return openings == self.openings and self._file_there() is not None
        except OSError as error:
            if is_foreign(error):
                raise
            return False

    def lifeline(self) -> Lifeline | None:
        """Return this process's lifeline here; without one, it owns nothing."""
        return None if self._folder is None else existing_lifeline(self._folder)

    def close(self, deadline: float | None = None) -> None:
        """Close what this process has open; the next transaction opens it again.

        Where another thread is at it until `deadline` (boot clock), it stays open.
        """
        try:
            self._alone(deadline, self._discard, deadline)
        except (GateTimeoutError, _InUseError):
            pass
        except (sqlite3.Error, OSError) as error:
            raise explained(self.path, error) from error

    def _discard(self, deadline: float | None = None) -> None:
        file = self._file
        if file is None:
            return
        if file.is_whole():
            self._file = None
            file.close(deadline)
            return
        others = [one for one in open_databases() if one is not self and one.has_open(file)]
        locked: list[Database] = []
        try:
            for other in others:
                if not other._lock.acquire(blocking=False):
                    raise _InUseError
                locked.append(other)
            drop({file, *files_of(file.identity)})
            self._file = None  # not before: a connection that is collected is closed as usual
            file.close_all_but_connection()
        finally:
            for other in locked:
                other._lock.release()

    def has_open(self, file: File) -> bool:
        """Whether what is open here is the same file as that."""
        return self._file is not None and self._file.identity == file.identity

    def close_before_fork(self, deadline: float) -> None:
        """Close the file, and keep it closed until `go_on_after_fork`."""
        if self._lock._is_owned():  # type: ignore[attr-defined]
            if self not in _forking.databases:
                return  # a signal handler forks, inside a transaction
        else:
            _forking.databases.append(self)
            if not self._lock.acquire(timeout=remaining(deadline)):
                return
        with contextlib.suppress(sqlite3.Error, OSError, _InUseError):  # who looks next finds out
            self._discard(deadline)

    def go_on_after_fork(self) -> None:
        """Let the parent open the file again."""
        if self._lock._is_owned():  # type: ignore[attr-defined]
            self._lock.release()

    def is_free(self) -> bool:
        """Whether no other thread is at it, or was when this process was forked."""
        if not self._lock.acquire(blocking=False):
            return False
        self._lock.release()
        return True

    def forget_after_fork(self) -> None:
        """Begin afresh in a child, which is not to open what was not closed before."""
        if self._pid == os.getpid():
            return
        kept_closed = self in _forking.databases and self._lock._is_owned()  # type: ignore[attr-defined]
        file = self._file
        if file is not None and not _forking.is_busy:
            drop({file, *files_of(file.identity)})  # nobody was in the middle of it
        elif file is not None or not kept_closed:
            with contextlib.suppress(OSError):
                _crossed.add(identity_of(self.path))
            if file is not None:
                file.never_close()
        self._file = None
        self._lock = make_lock()
        self._pid = os.getpid()


def _ring(folder: Folder, rings: Rings, ends: Ends) -> None:
    ours = existing_lifeline(folder)
    while rings:
        ear = next(iter(rings))
        if ours is None or not ours.ring(ear, rings[ear]):
            folder.ring(ear, rings[ear], ends.pop(ear, None))
        del rings[ear]
    while ends:  # what failed before it came to a ring
        os.close(ends.popitem()[1])


_databases: weakref.WeakSet[Database] = weakref.WeakSet()


def open_databases() -> list[Database]:
    """Return the databases that this process has made use of."""
    while True:
        try:
            return list(_databases)
        except RuntimeError:
            continue  # another thread has just added one


# SQLite notes in a table of the process, by inode, which locks it has; the kernel gives a child
# none of them. With a connection that crossed a fork, the child would believe that it has those of
# its parent, and go on in a write-ahead log that others delete
# (https://sqlite.org/howtocorrupt.html, 2.6).
_FORK_PATIENCE_SECONDS = 1.0


class _Forking(threading.local):
    """What this thread keeps from the others while it forks."""

    lock: threading.RLock = make_lock()  # of all threads: no database is to be made meanwhile

    def __init__(self) -> None:
        self.databases: list[Database] = []  # kept closed
        self.is_inside: bool | None = None  # while it forks: whether from inside a transaction
        self.is_busy = False  # in a child: whether its parent was in the middle of one


_forking = _Forking()
_crossed: set[tuple[int, int] | None] = set()  # files that a fork found open


def _close_all_before_fork() -> None:
    deadline = clock.now() + _FORK_PATIENCE_SECONDS
    if not _forking.lock._is_owned():  # type: ignore[attr-defined]
        _forking.lock.acquire()
    me = get_ident()
    if _forking.is_inside is None:
        _forking.is_inside = me in inside
    inside.add(me)  # a finalizer would open again what is its own
    for database in open_databases():
        database.close_before_fork(deadline)


def _go_on_after_fork() -> None:
    for database in _forking.databases:
        database.go_on_after_fork()
    _forking.databases.clear()
    if _forking.is_inside is False:
        inside.discard(get_ident())
    _forking.is_inside = None
    if _forking.lock._is_owned():  # type: ignore[attr-defined]
        _forking.lock.release()


def _forget_all_after_fork() -> None:
    # A thread that queues for the gate, on behalf of others, is at no database.
    _forking.is_busy = not all(database.is_free() for database in open_databases())
    for database in open_databases():
        database.forget_after_fork()
    _forking.databases.clear()
    _forking.is_inside = None
    inside.clear()
    _Forking.lock = make_lock()


at_fork(
    before=_close_all_before_fork,
    after_in_parent=_go_on_after_fork,
    after_in_child=_forget_all_after_fork,
)
