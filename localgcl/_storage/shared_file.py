"""One open file for all threads of a process: one thread at a time, and none across a fork."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from _thread import get_ident

from localgcl._base import threads
from localgcl._base.clock import remaining
from localgcl._base.forks import catch_up
from localgcl._base.threads import inside, make_lock
from localgcl._liveness.lifeline import existing_lifeline
from localgcl._storage.file import File, VanishedError
from localgcl._storage.forking import crossed, register, registered
from localgcl._storage.gate import GateTimeoutError
from localgcl._storage.location import identity_of
from localgcl._storage.open_files import drop, files_of, is_lost, tied_to
from localgcl._storage.problems import database_error, is_foreign
from localgcl.errors import DatabaseError, GreenThreadsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import TypeVar, TypeVarTuple

    from localgcl._liveness.folder import Folder
    from localgcl._liveness.lifeline import Lifeline
    from localgcl._storage.forking import ForkAware
    from localgcl._storage.open_files import OpenFile

    T = TypeVar("T")
    Args = TypeVarTuple("Args")

# For a file that is replaced each time before it is open.
_MAX_OPENINGS = 20


class InUseError(Exception):
    """Another thread of this process uses a file that all of them have to drop."""


class NestedCallError(RuntimeError):
    """The caller has interrupted a transaction of its own thread."""

    def __init__(self) -> None:
        super().__init__(
            "localgcl was called from inside its own transaction, by a signal handler or a"
            " finalizer that interrupted it; let that set a flag and call from the main program"
        )


class SharedFile:
    """The database at `path`, shared by the threads of a process; opened on the first use."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = make_lock()
        self._file: File | None = None
        self._folder: Folder | None = None  # of the file that was open last
        self.openings = 0
        self._pid = os.getpid()
        register(self)

    def exists(self) -> bool:
        """Whether the file exists; its folder may be missing too."""
        try:
            return identity_of(self.path) is not None
        except OSError as error:
            raise database_error(self.path, error) from error

    def _alone(self, deadline: float | None, do: Callable[[*Args], T], *args: *Args) -> T:
        """Keep this process's other threads out; GateTimeoutError if `deadline` comes first.

        NestedCallError inside a transaction of this thread, even with another database.
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

    def _file_there(self) -> File | None:
        """Return the open file if it is still the one at the path."""
        file = self._file
        return None if file is None or not file.is_there() else file

    def _reopen(self, deadline: float | None) -> File:
        if (library := threads.unfit()) is not None:
            raise GreenThreadsError(library)
        threads.be_ready()
        if (identity := identity_of(self.path)) is not None and identity in crossed:
            raise DatabaseError(
                self.path,
                "it was in use when this process was forked, and could not be closed; start the"
                " process by exec, as subprocess and multiprocessing's spawn do",
            )
        for _ in range(_MAX_OPENINGS):
            self._discard(deadline)
            self._drop_what_is_lost()
            try:
                self._file = file = File(self.path, deadline)
            except VanishedError:
                continue
            self._folder = file.folder
            self.openings += 1
            if file.is_there():  # otherwise it was replaced or emptied while it was opened
                return file
        raise DatabaseError(
            self.path,
            "it, or its log beside it, is replaced again and again; end the program that does so",
        )

    def is_intact(self, openings: int) -> bool:
        """Whether the file that was open at that count of `openings` is still open and in place.

        This needs no transaction, so it is cheap enough for a waiter to check now and then.
        """
        try:
            # A new file may get the inode number of the old one.
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

        If another thread uses it until `deadline` (boot clock), it stays open.
        """
        try:
            self._alone(deadline, self._discard, deadline)
        except (GateTimeoutError, InUseError):
            pass
        except (sqlite3.Error, OSError) as error:
            raise database_error(self.path, error) from error

    def _discard(self, deadline: float | None = None) -> None:
        file = self._file
        if file is None:
            return
        if file.is_whole():
            self._file = None
            file.close(deadline)
            return
        self._drop([file])
        self._file = None  # not before: a connection that is collected is closed normally
        file.close_all_but_connection()

    def _drop_what_is_lost(self) -> None:
        """Drop what this process has open of the file, if its log or a descriptor is lost.

        SQLite has one index of the log for all connections of a process. A new connection would
        read and write the new log by the index of the old one.
        """
        identity = identity_of(self.path)
        if identity is not None and is_lost(identity):
            self._drop(files_of(identity))

    def _drop(self, files: Collection[OpenFile]) -> None:
        """Drop these, and all that has to go with them."""
        tied = tied_to(files)
        others = [one for one in shared_files() if one is not self and one._file in tied]
        locked: list[SharedFile] = []
        try:
            for other in others:
                if not other._lock.acquire(blocking=False):
                    raise InUseError
                locked.append(other)
            if not tied_to(files) <= tied:
                raise InUseError  # another thread has just opened a file with one of the numbers
            drop(tied)
        finally:
            for other in locked:
                other._lock.release()

    def close_before_fork(self, deadline: float, kept_closed: list[ForkAware]) -> None:
        """Close the file; it stays closed, as one of `kept_closed`, until `go_on_after_fork`."""
        if self._lock._is_owned():  # type: ignore[attr-defined]
            if self not in kept_closed:
                return  # a signal handler forks, inside a transaction
        else:
            kept_closed.append(self)
            if not self._lock.acquire(timeout=remaining(deadline)):
                return
        with contextlib.suppress(sqlite3.Error, OSError, InUseError):  # the next caller sees it
            self._discard(deadline)

    def go_on_after_fork(self) -> None:
        """Let the parent open the file again."""
        if self._lock._is_owned():  # type: ignore[attr-defined]
            self._lock.release()

    def is_free(self) -> bool:
        """Whether no other thread uses it, or used it when this process was forked."""
        if not self._lock.acquire(blocking=False):
            return False
        self._lock.release()
        return True

    def forget_after_fork(self, *, kept_closed: bool, is_busy: bool) -> None:
        """Start again in a child, which must not open a file that was not closed before the fork.

        `is_busy` if the parent was in the middle of a transaction with any database.
        """
        if self._pid == os.getpid():
            return
        # If C code forks, nothing was called before. A closed file has then stayed closed unless
        # somebody was about to open it.
        mine = self._lock._is_owned()  # type: ignore[attr-defined]
        stayed_closed = kept_closed if mine else not is_busy
        file = self._file
        if file is not None and not is_busy:
            drop({file, *files_of(file.identity)})  # no thread was in the middle of using it
        elif file is not None or not stayed_closed:
            with contextlib.suppress(OSError):
                crossed.add(identity_of(self.path))
            if file is not None:
                file.never_close()
        self._file = None
        self._lock = make_lock()
        self._pid = os.getpid()


def shared_files() -> list[SharedFile]:
    """Return what this process has used."""
    return [one for one in registered() if isinstance(one, SharedFile)]
