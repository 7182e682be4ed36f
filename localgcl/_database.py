"""The file: finding, creating and opening it, and the one door to a transaction."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
import weakref

from localgcl import _clock, _location, _schema
from localgcl._gate import Gate, GateTimeoutError
from localgcl._lifeline import Folder, existing_lifeline
from localgcl.errors import DatabaseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

# Only programs that do not know the gate can make SQLite busy (a shell, a backup). Its handler
# sleeps without seeing signals or deadlines, so it gets short turns and this loop the patience.
_BUSY_TURN_SECONDS = 0.1
_BUSY_PATIENCE_SECONDS = 60.0
_PAGE_SIZE = 1024


class NoDatabaseError(Exception):
    """There is no file, and the caller has no use for a new one."""


class Transaction:
    """What a transaction works with: the connection, the moment, the folder, whom to wake after."""

    __slots__ = ("execute", "folder", "now", "rings")

    def __init__(self, connection: sqlite3.Connection, folder: Folder, rings: list[str]) -> None:
        self.execute = connection.execute
        self.folder = folder
        self.rings = rings
        self.now = _clock.now()


class Database:
    """One process's connection to the database at `path`; opened at the first transaction."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._gate: Gate | None = None
        self._folder: Folder | None = None
        _databases.add(self)

    def exists(self) -> bool:
        """Whether the file is there; its folder may be missing too."""
        try:
            os.stat(self.path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _explained(self.path, error) from error
        return True

    def transact(
        self,
        work: Callable[[Transaction], T],
        *,
        deadline: float | None = None,
        durable: bool = False,
        create: bool = True,
    ) -> T:
        """Run `work` in one transaction and return what it returns; the one door.

        `deadline` (boot clock) bounds the wait for the gate, with GateTimeoutError; `durable`
        commits so that a power cut loses nothing; without `create` a missing file is a
        NoDatabaseError.
        """
        lock = self._lock
        if lock._is_owned():  # type: ignore[attr-defined]
            raise RuntimeError(
                "localgcl was called from inside its own transaction, by a signal handler that"
                " interrupted it; let the handler set a flag and call from the main program"
            )
        rings: list[str] = []
        # A Ctrl-C can strike between any two instructions, in a `finally` too: what must happen
        # (open the gate, unlock, wake) stands in two nested ones each.
        try:
            try:
                if not lock.acquire(timeout=_remaining(deadline)):
                    raise GateTimeoutError
                return self._inside(work, deadline, durable, create, rings)
            finally:
                if lock._is_owned():  # type: ignore[attr-defined]
                    lock.release()
        finally:
            if rings:
                try:
                    self._ring(rings)
                except BaseException:
                    self._ring(rings)
                    raise

    def _ring(self, rings: list[str]) -> None:
        while rings:
            self._folder.ring(rings[-1])
            rings.pop()

    def _inside(
        self,
        work: Callable[[Transaction], T],
        deadline: float | None,
        durable: bool,
        create: bool,
        rings: list[str],
    ) -> T:
        try:
            connection, gate = self._connection, self._gate
            if connection is None or gate is None or self._replaced():
                if not create and not self.exists():
                    raise NoDatabaseError
                connection, gate = self._reopen(deadline)
            try:
                gate.enter(deadline)
                if durable:
                    connection.execute("PRAGMA synchronous = FULL")
                _begin(connection, deadline)
                result = work(Transaction(connection, self._folder, rings))
                connection.execute("COMMIT")
                return result
            finally:
                try:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    if durable:
                        connection.execute("PRAGMA synchronous = NORMAL")
                    gate.leave()
                except BaseException:
                    gate.leave()
                    raise
        except (sqlite3.Error, OSError) as error:
            # Whatever it was, the next call begins with the file as it is then.
            self._discard()
            raise _explained(self.path, error) from error

    # The file

    def _replaced(self) -> bool:
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return True
        return (status.st_dev, status.st_ino) != self._identity

    def _reopen(self, deadline: float | None) -> tuple[sqlite3.Connection, Gate]:
        while True:
            self._discard()
            self._prepare()
            status = os.stat(self.path)
            self._identity = (status.st_dev, status.st_ino)
            self._gate = gate = Gate(self._folder)
            connection = self._connect()
            try:
                self._verify(connection, gate, deadline)
            except BaseException:
                with gate.entered():
                    connection.close()
                raise
            self._connection = connection
            if not self._replaced():  # or else it happened while it was opened
                return connection, gate

    def _prepare(self) -> None:
        """See that the file and the run folder are there."""
        if not os.path.exists(self.path):
            _location.make_parents(self.path)
            _location.refuse_shared_file_system(self.path)
            mode, group = _location.mode_for_new(self.path)
            _location.make_file(os.path.realpath(self.path), mode, group)
        real = os.path.realpath(self.path)
        status = os.stat(real)
        if not stat.S_ISREG(status.st_mode):
            raise DatabaseError(self.path, "it is not a file; choose another path")
        self._folder = Folder(f"{real}-run", status.st_mode & 0o666, status.st_gid)
        self._folder.make()

    def _connect(self) -> sqlite3.Connection:
        # mode=rw: SQLite is not to make a file whose mode and group nobody thought about.
        connection = sqlite3.connect(
            f"file:{_in_address(os.path.realpath(self.path))}?mode=rw",
            uri=True,
            timeout=_BUSY_TURN_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        # What a power cut takes from the last moments it also makes void: every holder died.
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def _verify(
        self, connection: sqlite3.Connection, gate: Gate, deadline: float | None
    ) -> None:
        with gate.entered(deadline):
            current = self._is_current(connection)
        if not current:
            self._create_or_migrate(connection, gate, deadline)
        with gate.entered(deadline):
            self._adopt_companions()
            offset = _clock.wall() - _clock.now()
            recorded = connection.execute("SELECT id, offset FROM boot").fetchall()
            boot = _clock.boot_id()
            if [(boot, True)] != [(one, abs(offset - was) < 1.0) for one, was in recorded]:
                _begin(connection, deadline)
                _schema.enter_boot(connection, boot, offset)
                connection.execute("COMMIT")

    def _is_current(self, connection: sqlite3.Connection) -> bool:
        version = _schema.version_of(connection)
        if version is None:
            raise DatabaseError(self.path, "it belongs to another program; choose another file")
        if version > _schema.VERSION:
            raise DatabaseError(
                self.path, f"a newer release made it (schema {version}); upgrade localgcl"
            )
        ((journal,),) = connection.execute("PRAGMA journal_mode").fetchall()
        return version == _schema.VERSION and journal == "wal"

    def _create_or_migrate(
        self, connection: sqlite3.Connection, gate: Gate, deadline: float | None
    ) -> None:
        import filelock

        lock = f"{self._folder.path}/create.lock"
        _location.make_file(lock, self._folder.mode, self._folder.group)
        try:
            with (
                filelock.FileLock(lock, timeout=_remaining(deadline)),
                gate.entered(deadline),
            ):
                if self._is_current(connection):
                    return  # somebody else was first
                # A commit writes each page that it touched: the smaller, the sooner.
                connection.execute(f"PRAGMA page_size = {_PAGE_SIZE}")
                ((journal,),) = connection.execute("PRAGMA journal_mode = WAL").fetchall()
                if journal != "wal":
                    raise DatabaseError(
                        self.path, f"SQLite keeps its journal in mode {journal} there, not WAL"
                    )
                connection.execute("PRAGMA synchronous = FULL")
                _begin(connection, deadline)
                for statement in _schema.statements_from(_schema.version_of(connection) or 0):
                    connection.execute(statement)
                connection.execute("COMMIT")
                connection.execute("PRAGMA synchronous = NORMAL")
        except filelock.Timeout:
            raise GateTimeoutError from None

    def _adopt_companions(self) -> None:
        """Give -wal and -shm the group of the database; SQLite gave them its mode."""
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                path = os.path.realpath(self.path) + suffix
                status = os.stat(path)
                if status.st_gid != self._folder.group and status.st_uid == os.geteuid():
                    with contextlib.suppress(PermissionError):  # not in that group: as in `adopt`
                        os.chown(path, -1, self._folder.group)

    # The end

    def has_lifeline(self) -> bool:
        """Whether this process may own something here."""
        return self._folder is not None and existing_lifeline(self._folder) is not None

    def close(self, deadline: float | None = None) -> None:
        """Close what this process has open; the next transaction opens it again."""
        try:
            with self._lock:
                self._discard(deadline)
        except (sqlite3.Error, OSError) as error:
            raise _explained(self.path, error) from error

    def _discard(self, deadline: float | None = None) -> None:
        connection, self._connection = self._connection, None
        gate, self._gate = self._gate, None
        if gate is None:
            return
        try:
            if connection is not None:
                with gate.entered(deadline):  # closing checkpoints
                    connection.close()
        except GateTimeoutError:
            _never_close(connection)
        finally:
            gate.close()

    def forget_after_fork(self) -> None:
        """Begin afresh in a child: a connection must not cross a fork, nor be closed beyond it."""
        if self._connection is not None:
            _never_close(self._connection)  # https://sqlite.org/howtocorrupt.html, 2.6
        self._lock = threading.RLock()
        self._connection = self._gate = self._identity = None


def _never_close(connection: sqlite3.Connection | None) -> None:
    """Keep a connection from being closed even when the interpreter ends."""
    import ctypes

    # A reference that nobody gives back. Closing checkpoints, which is not ours to do here.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


_databases: weakref.WeakSet[Database] = weakref.WeakSet()


def open_databases() -> list[Database]:
    """Return the databases that this process has made use of."""
    return list(_databases)


def _forget_all_after_fork() -> None:
    for database in tuple(_databases):
        database.forget_after_fork()


os.register_at_fork(after_in_child=_forget_all_after_fork)


def _remaining(deadline: float | None) -> float:
    """Return the seconds until `deadline` as a lock takes them: -1 for ever."""
    return -1 if deadline is None else max(0.0, deadline - _clock.now())


def _in_address(path: str) -> str:
    """Return `path` as part of a URI; SQLite gives a meaning to these characters alone."""
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _begin(connection: sqlite3.Connection, deadline: float | None) -> None:
    patience = None
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY:
                raise
            now = _clock.now()
            if deadline is not None and now >= deadline:
                raise GateTimeoutError from None
            patience = patience or now + _BUSY_PATIENCE_SECONDS
            if now >= patience:
                raise


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code (https://sqlite.org/rescode.html)."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


_REMEDIES = {
    sqlite3.SQLITE_BUSY: "another program keeps it locked; end that program's transaction",
    sqlite3.SQLITE_FULL: "the disk is full; free some space and try again",
    sqlite3.SQLITE_IOERR: "reading or writing failed; see whether the disk is full or failing",
    sqlite3.SQLITE_CORRUPT: "it is corrupt; restore a backup, or move it away to begin anew",
    sqlite3.SQLITE_NOTADB: "it is not a database; choose another file, or move it away",
}


def _explained(path: str, error: sqlite3.Error | OSError) -> DatabaseError:
    """Return the error for a user: which file, what is wrong, and what to do next."""
    denied = _denied(path)
    if denied is not None:
        return DatabaseError(path, denied)
    if isinstance(error, sqlite3.Error) and _code(error) in _REMEDIES:
        return DatabaseError(path, f"{_REMEDIES[_code(error)]} ({error})")
    return DatabaseError(path, f"{error}; `localgcl doctor` tells more")


def _denied(path: str) -> str | None:
    """Return which file of the database this user may not use, if there is one."""
    real = os.path.realpath(path)
    run = f"{real}-run"
    files = (real, f"{real}-wal", f"{real}-shm", run, f"{run}/gate", f"{run}/create.lock")
    parent = os.path.dirname(real)
    while not os.path.exists(parent):
        parent = os.path.dirname(parent)
    for file in (parent, *files):
        wanted = os.R_OK | os.W_OK | (os.X_OK if os.path.isdir(file) else 0)
        if file == parent and os.path.exists(real):
            wanted = os.X_OK
        if os.path.exists(file) and not os.access(file, wanted):
            mode = stat.filemode(os.stat(file).st_mode)
            return f"no permission to use {file}, whose mode is {mode}; change its mode or its group"
    return None
