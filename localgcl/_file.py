"""The file of a database: found or made, opened, verified and closed."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading

from localgcl import _clock, _location, _schema
from localgcl._boot import Boot
from localgcl._folder import Folder
from localgcl._gate import Gate, GateTimeoutError
from localgcl._problems import code_of
from localgcl.errors import DatabaseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Only programs that do not know the gate can make SQLite busy (a shell, a backup). Its handler
# sleeps without seeing signals or deadlines, so it gets short turns and `begin` the patience.
_BUSY_TURN_SECONDS = 0.1
_BUSY_PATIENCE_SECONDS = 60.0

# A commit writes each page that it touched: the smaller, the sooner.
PAGE_SIZE = 1024


class File:
    """An open database: the connection, its gate, its run folder, and which file it is."""

    __slots__ = ("_cursor", "connection", "execute", "folder", "gate", "identity", "known", "path")

    def __init__(self, path: str, deadline: float | None) -> None:
        self.path = path
        self.known: dict[str, tuple[int, int]] = {}  # see `_at_once`
        self.folder = _prepare(path)
        made = self.folder.make()
        self.gate = Gate(self.folder)
        try:
            # In one go, lest the file be replaced between: SQLite finds the log by its name.
            with self.gate.entered(deadline):
                self._replace_if_emptied()
                self.identity = identity_of(path)
                self._drop_stale_log()
                self.connection = _connect(path)
                try:
                    # One cursor for every statement: making one costs a third of a small
                    # statement, and each statement, COMMIT at the last, ends the one before it.
                    self._cursor = self.connection.cursor()
                    self.execute = self._cursor.execute
                    # What a power cut takes from the last moments it also makes void: every
                    # holder died.
                    self.execute("PRAGMA synchronous = NORMAL")
                    current = self._is_current()
                except BaseException:
                    self.connection.close()
                    raise
            try:
                self._verify(current, deadline)
            except BaseException:
                self._close_connection(deadline)
                raise
        except BaseException:
            self.gate.close()
            if made:
                self._leave_no_folder()
            raise

    def is_there(self) -> bool:
        """Whether it is still what is found at its path, and was not emptied."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return False
        return (status.st_dev, status.st_ino) == self.identity and status.st_size > 0

    def close(self, deadline: float | None = None) -> None:
        """Close it, the checkpoint that this means under the gate like any other."""
        try:
            self._close_connection(deadline)
        finally:
            self.gate.close()

    def _close_connection(self, deadline: float | None) -> None:
        # SQLite keeps a file open for as long as a statement is, as one that has failed; and what
        # is open crosses a fork.
        with contextlib.suppress(sqlite3.ProgrammingError):  # the connection is closed already
            self._cursor.close()
        try:
            with contextlib.suppress(GateTimeoutError), self.gate.entered(deadline):
                self._replace_if_emptied()
                self.connection.close()
        finally:
            # Where the gate could not be entered: SQLite makes the checkpoint of a close under a
            # lock of its own, which it does not get while anybody else has the file open.
            self.connection.close()

    def _leave_no_folder(self) -> None:
        # With a file of another program, say, there is to be nothing new beside it.
        with contextlib.suppress(OSError):
            for name in ("gate", "create.lock"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{self.folder.path}/{name}")
            os.rmdir(self.folder.path)

    def never_close(self) -> None:
        """Keep the connection from being closed, even when the interpreter ends."""
        import ctypes

        # A reference that nobody gives back.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.connection))

    def _verify(self, current: bool, deadline: float | None) -> None:
        if not current:
            self._create_or_migrate(deadline)
        with self.gate.entered(deadline):
            self._adopt_companions()
            self._note_log()
            boot, execute = Boot(), self.connection.execute
            if not boot.is_recorded(execute, self.path):
                begin(self.execute, deadline)
                boot.enter(execute, self.path, self.folder.is_alive)
                execute("COMMIT")

    def _is_current(self) -> bool:
        version = _schema.version_of(self.connection)
        if version is None:
            raise DatabaseError(self.path, "it belongs to another program; choose another file")
        if version > _schema.VERSION:
            raise DatabaseError(
                self.path, f"a newer release made it (schema {version}); upgrade localgcl"
            )
        ((journal,),) = self.connection.execute("PRAGMA journal_mode").fetchall()
        return version == _schema.VERSION and journal == "wal"

    def _create_or_migrate(self, deadline: float | None) -> None:
        import filelock

        lock = f"{self.folder.path}/create.lock"
        _location.make_file(lock, self.folder.mode, self.folder.group)
        try:
            with (
                filelock.FileLock(lock, timeout=remaining(deadline), mode=self.folder.mode),
                self.gate.entered(deadline),
            ):
                if not self._is_current():  # or else somebody was first
                    self._bring_up_to_date(deadline)
        except filelock.Timeout:
            raise GateTimeoutError from None

    def _bring_up_to_date(self, deadline: float | None) -> None:
        execute = self.connection.execute
        execute(f"PRAGMA page_size = {PAGE_SIZE}")
        ((journal,),) = execute("PRAGMA journal_mode = WAL").fetchall()
        if journal != "wal":
            raise DatabaseError(
                self.path, f"SQLite keeps its journal in mode {journal} there, not WAL"
            )
        execute("PRAGMA synchronous = FULL")
        begin(self.execute, deadline)
        for statement in _schema.statements_from(_schema.version_of(self.connection) or 0):
            execute(statement)
        execute("COMMIT")
        execute("PRAGMA synchronous = NORMAL")

    def _replace_if_emptied(self) -> None:
        """Put a new file in the place of one that was emptied while somebody had it open.

        Whoever has goes on in its log, would keep everybody else out of the file, and write into it
        what no database begins with.
        """
        real = os.path.realpath(self.path)
        with contextlib.suppress(FileNotFoundError):
            if os.path.getsize(real) == 0 and os.path.exists(f"{real}-wal"):
                os.unlink(real)
                _location.make_file(real, self.folder.mode, self.folder.group)

    def _drop_stale_log(self) -> None:
        """Unlink a write-ahead log that was another file's than the one that is there now.

        Whoever has the other file open goes on in its log, and would keep everybody else out of
        this file; and what is in there must not be replayed into a backup put in its place.
        """
        real = os.path.realpath(self.path)
        log = identity_of(f"{real}-wal")
        noted = self.gate.note().split()
        replaced = noted[:2] != _words(self.identity)
        if log is not None and (
            os.path.getsize(real) == 0 or (replaced and noted[2:] == _words(log))
        ):
            for suffix in ("-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(real + suffix)
        if replaced:
            # At once: the new log may be given the number of the old one.
            self.gate.write_note(" ".join(_words(self.identity)))

    def _note_log(self) -> None:
        """Note at the gate which log is whose."""
        if identity_of(self.path) != self.identity:
            return  # replaced by now, and the log is the other's
        log = identity_of(f"{os.path.realpath(self.path)}-wal")
        note = " ".join([*_words(self.identity), *_words(log)])
        if self.gate.note() != note:
            self.gate.write_note(note)

    def _adopt_companions(self) -> None:
        """Give -wal and -shm the group of the database; SQLite gave them its mode."""
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                path = os.path.realpath(self.path) + suffix
                status = os.stat(path)
                if status.st_gid != self.folder.group and status.st_uid == os.geteuid():
                    with contextlib.suppress(PermissionError):  # not in that group: as in `adopt`
                        os.chown(path, -1, self.folder.group)


def _prepare(path: str) -> Folder:
    """See that the file is there, and return what its run folder is to be."""
    real = os.path.realpath(path)
    if not os.path.exists(real):
        _location.make_parents(real)
        _location.refuse_shared_file_system(real)
        _location.make_file(real, *_location.mode_for_new(real))
    status = os.stat(real)
    if not stat.S_ISREG(status.st_mode):
        raise DatabaseError(path, "it is not a file; choose another path")
    return folder_of(real, status)


def folder_of(real: str, status: os.stat_result) -> Folder:
    """Return what the run folder of the database at `real` is to be."""
    return Folder(f"{real}-run", status.st_mode & 0o666, status.st_gid)


def _connect(path: str) -> sqlite3.Connection:
    # mode=rw: SQLite is not to make a file whose mode and group nobody thought about.
    return sqlite3.connect(
        f"file:{in_address(os.path.realpath(path))}?mode=rw",
        uri=True,
        timeout=_BUSY_TURN_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


def identity_of(path: str) -> tuple[int, int] | None:
    """Return which file is at `path` now: its device and inode, None where there is none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _words(identity: tuple[int, int] | None) -> list[str]:
    return [str(number) for number in identity or ()]


def begin(execute: Callable[[str], object], deadline: float | None) -> None:
    """Begin a transaction that may write; this statement stands nowhere else."""
    patience = None
    while True:
        try:
            execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if code_of(error) != sqlite3.SQLITE_BUSY:
                raise
            now = _clock.now()
            if deadline is not None and now >= deadline:
                raise GateTimeoutError from None
            patience = patience or now + _BUSY_PATIENCE_SECONDS
            if now >= patience:
                raise


def remaining(deadline: float | None) -> float:
    """Return the seconds until `deadline` as a lock takes them: -1 for ever."""
    if deadline is None:
        return -1
    return min(threading.TIMEOUT_MAX, max(0.0, deadline - _clock.now()))


def in_address(path: str) -> str:
    """Return `path` as part of a URI; SQLite gives a meaning to these characters alone."""
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
