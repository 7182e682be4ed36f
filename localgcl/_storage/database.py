"""The one door to the database: every transaction goes through `Database.transact`."""

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
from localgcl._storage.transaction import Transaction as Transaction  # for who imports both
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
    Rest = list[Callable[[Transaction], object]]  # what is left for transactions of its own


# What is called after each transaction, outside of it, until it takes itself off: see `backlog`.
afterwards: list[Callable[[], None]] = []

_TURN_SECONDS = 0.001


class NoDatabaseError(Exception):
    """There is no file, and the caller has no use for a new one."""


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
        """Run `work` in one transaction and return what it returns; the one door.

        `deadline` (boot clock) bounds the wait for the gate, with GateTimeoutError; `durable`
        commits so that a power cut loses nothing; without `create` a missing file is a
        NoDatabaseError. NestedCallError inside a transaction of this thread. What the work has left
        to transactions of their own is run before this returns, or put into `rest`.
        """
        left: Rest = [] if rest is None else rest
        wakeups: Wakeups = {}
        ends: Ends = {}
        # A Ctrl-C can strike between any two instructions, in a `finally` too: what must happen
        # (open the gate, unlock, wake) stands in two nested ones each.
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
                    threads.sleep(_TURN_SECONDS)  # in which the other thread can have its turn
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
            # Asked and made here, where nobody waits for it.
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
                    ours.recreate()  # lest this process take itself for dead
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
            with contextlib.suppress(sqlite3.Error, OSError, InUseError):  # of the same cause
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
        """Raise a DatabaseError where a row that makes no sense may be what was stumbled over.

        Any other error is not the file's, but of a signal's handler, say, or a fault of our own.
        """
        from localgcl._storage.rows import senseless  # not on the hot path

        try:
            problem = None if self._file is None else senseless(self._file.execute)
        except (sqlite3.Error, ValueError) as unreadable:  # of bytes that are no text
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
    while ends:  # what failed before it came to a wake-up
        os.close(ends.popitem()[1])


def open_databases() -> list[Database]:
    """Return the databases that this process has made use of."""
    return [one for one in shared_files() if isinstance(one, Database)]
