"""Access to the database: every transaction goes through `Database.transact`."""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3

from localgcl._base import clock, threads
from localgcl._liveness import identity as _identity
from localgcl._liveness.lifeline import existing_lifeline, seems_whole
from localgcl._storage import schema
from localgcl._storage.connection import begin
from localgcl._storage.gate import GateTimeoutError
from localgcl._storage.migration import newer
from localgcl._storage.problems import corrupt_rows_error, database_error, is_foreign
from localgcl._storage.shared_file import InUseError, SharedFile, shared_files
from localgcl._storage.transaction import Transaction as Transaction  # for modules that import both
from localgcl.errors import LocalGCLError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar, TypeVarTuple

    from localgcl._liveness.folder import Folder
    from localgcl._storage.transaction import Ends, Wakeups

    T = TypeVar("T")
    Args = TypeVarTuple("Args")
    Execute = Callable[..., sqlite3.Cursor]
    Rest = list[Callable[[Transaction], object]]  # for transactions of their own


# What is called after each transaction, and outside of it, until it removes itself: see `backlog`.
afterwards: list[Callable[[], None]] = []

_TURN_SECONDS = 0.001


class NoDatabaseError(Exception):
    """There is no file, and the caller does not want a new one."""


class Database(SharedFile):
    """The transactions of one process with the database at `path`."""

    def transact(
        self,
        work: Callable[[Transaction], T],
        *,
        deadline: float | None = None,
        durable: bool = False,
        create: bool = True,
        rest: Rest | None = None,
    ) -> T:
        """Run `work` in one transaction and return its result; the only way to the database.

        `deadline` (boot clock) limits the wait for the gate: GateTimeoutError after it. `durable`
        commits so that a power cut loses nothing. Without `create`, a missing file is a
        NoDatabaseError. NestedCallError inside a transaction of this thread. The work may leave
        parts to transactions of their own. They run before this returns, or are added to `rest`.
        """
        left: Rest = [] if rest is None else rest
        wakeups: Wakeups = {}
        ends: Ends = {}
        # A Ctrl-C can strike between any two instructions, even in a `finally`. So whatever must
        # happen (open the gate, unlock, wake) is written in two nested ones.
        try:
            while True:
                try:
                    result: T = self._alone(
                        deadline, self._inside, work, deadline, durable, create, wakeups, ends, left
                    )
                    break
                except InUseError:
                    if deadline is not None and clock.now() >= deadline:
                        raise GateTimeoutError from None
                    threads.sleep(_TURN_SECONDS)  # time for the other thread's turn
        finally:
            if (wakeups or ends) and self._folder is not None:
                try:
                    _wake(self._folder, wakeups, ends)
                except BaseException:
                    _wake(self._folder, wakeups, ends)
                    raise
            if afterwards:
                for do in tuple(afterwards):
                    do()
        if left and rest is None:
            self.go_on(left, deadline)
        return result

    def go_on(self, rest: Rest, deadline: float | None = None) -> None:
        """Do what transactions have left to others, and send the wake-ups after each."""
        while rest:
            work = rest.pop()
            # An error here does not undo what was committed before, and neither does a deadline.
            # The waiters whom this concerns first are woken already, and go on with it.
            with contextlib.suppress(LocalGCLError, NoDatabaseError, GateTimeoutError):
                self.transact(work, deadline=deadline, create=False, rest=rest)

    def read(
        self,
        work: Callable[[Execute, *Args], T | None],
        *args: *Args,
        patience_seconds: float = 0.0,
    ) -> T | None:
        """Read what is committed, without the gate; None if the file is closed or cannot be read.

        `work` gets `execute`, for SELECTs that each see a moment of their own, and `args`. It reads
        the open file, even if another file is at the path by now. A caller that gets None should
        `transact` instead.
        """
        try:
            # Another thread may wait long at the gate, and the caller has a deadline.
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
        wakeups: Wakeups,
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
            # Checked and looked up here, while nobody waits for it.
            whole = seems_whole(file.folder)
            if existing_lifeline(file.folder) is None:
                _identity.look_up()
            tx = Transaction(file, wakeups, ends)
            try:
                gate.enter(deadline)
                if durable:
                    execute("PRAGMA synchronous = FULL")
                begin(execute, deadline)
                if (version := execute("PRAGMA user_version").fetchone()[0]) != schema.VERSION:
                    raise newer(self.path, version)
                if not whole and (ours := existing_lifeline(file.folder)) is not None:
                    ours.recreate()  # otherwise this process would take itself for dead
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
            # Whatever the error was, the next call starts with the file as it is then.
            with contextlib.suppress(sqlite3.Error, OSError, InUseError):  # for the same reason
                self._discard()
            if is_foreign(error):
                raise
            raise database_error(self.path, error) from error
        except (MemoryError, ImportError) as error:
            with contextlib.suppress(
                sqlite3.Error, OSError, MemoryError, InUseError
            ):  # of the same cause
                self._discard()
            raise database_error(self.path, error) from error
        except LocalGCLError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            self._explain(error)
            raise

    def _explain(self, error: Exception) -> None:
        """Raise a DatabaseError if a corrupt row may be the cause of the error.

        Any other error does not come from the file, but from a signal handler, say, or a fault of
        ours.
        """
        from localgcl._storage.rows import senseless  # not on the hot path

        try:
            if self._file is not None:
                problem = senseless(self._file.execute)
            else:  # SQLite names what it cannot read in the schema, whatever bytes these are
                problem = str(error) if isinstance(error, UnicodeDecodeError) else None
        except (sqlite3.Error, ValueError) as unreadable:  # from bytes that are no text
            problem = str(unreadable)
        if problem is not None:
            raise corrupt_rows_error(self.path, problem) from error


def _wake(folder: Folder, wakeups: Wakeups, ends: Ends) -> None:
    ours = existing_lifeline(folder)
    while wakeups:
        wakes = next(iter(wakeups))
        if ours is None or not ours.wake(wakes, wakeups[wakes]):
            folder.wake(wakes, wakeups[wakes], ends.pop(wakes, None))
        del wakeups[wakes]
    while ends:  # after a failure, before the wake-ups
        os.close(ends.popitem()[1])


def open_databases() -> list[Database]:
    """Return the databases that this process has used."""
    return [one for one in shared_files() if isinstance(one, Database)]
