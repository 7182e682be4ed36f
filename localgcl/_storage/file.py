"""The file of a database: found or made, opened, verified and closed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import stat
import threading
import time
import weakref

from localgcl._base import clock
from localgcl._base.descriptors import (
    Descriptor,
    close_if_ours,
    has_a_mark,
    is_open,
    is_ours,
    mark,
    opened,
)
from localgcl._liveness import identity as _identity
from localgcl._liveness.access import (
    Access,
    access_in,
    access_of,
    correct,
    kind_of,
    make_file,
    refuse_foreign,
)
from localgcl._liveness.folder import Folder, folder_at
from localgcl._liveness.lifeline import existing_lifeline
from localgcl._liveness.process import is_running
from localgcl._storage import schema
from localgcl._storage.boot import Boot
from localgcl._storage.gate import Gate, GateTimeoutError
from localgcl._storage.location import make_parents, real_path, refuse_unfit_place
from localgcl._storage.problems import code_of
from localgcl._storage.rights import of_the_writers
from localgcl.errors import DatabaseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Only programs that do not know the gate can make SQLite busy (a shell, a backup). Its handler
# sleeps without seeing signals or deadlines, so it gets short turns and `begin` the patience.
_BUSY_TURN_SECONDS = 0.1
_BUSY_PATIENCE_SECONDS = 60.0

# A folder's time of change is told in steps of up to 10 ms: what changed just now may change again
# within the same step.
_STEP_NANOSECONDS = 50_000_000

_COMPANIONS = ("-wal", "-shm")

# How long another user has to make the database whose run folder it has made.
_MAKER_SECONDS = 0.5
_MAKER_PAUSE_SECONDS = 0.005


class VanishedError(Exception):
    """The file was taken away or emptied while it was opened; it is opened again."""


class File:
    """An open database: the connection, its gate, its run folder, and which file it is."""

    __slots__ = (
        "__weakref__",
        "_cursor",
        "_descriptors",
        "_found",
        "_is_known",
        "_names",
        "_parent",
        "_unchanged",
        "connection",
        "execute",
        "folder",
        "gate",
        "identity",
        "known",
        "path",
        "real",
    )

    def __init__(self, path: str, deadline: float | None) -> None:
        self.path = path
        self.known: dict[str, tuple[int, int]] = {}  # see `_at_once`
        self.real, self.folder = _prepare(path, deadline)
        self._parent = os.path.dirname(self.real)
        self._names = (path, *(self.real + suffix for suffix in _COMPANIONS))
        self._descriptors: tuple[Descriptor, ...] = ()
        self._is_known = False  # whether the gate tells of this very file
        self._found: tuple[tuple[int, int] | None, ...] = ()  # what was opened, by `_names`
        self._unchanged: tuple[int, int, int] | None = None
        clock.boot_id()  # read here, where nobody waits for it
        made = self.folder.make()
        try:
            self.gate = Gate(self.folder)
            try:
                self._open(deadline)
            except BaseException:
                self.gate.close()
                raise
        except BaseException:
            self.folder.close()
            if made:
                _leave_no_folder(self.folder)
            raise

    def _open(self, deadline: float | None) -> None:
        # In one go, so that the file is not replaced in between: SQLite finds the log by its name.
        with self.gate.entered(deadline):
            self._verify_place()
            if is_lost(self.identity):
                raise VanishedError  # lost just now: what is open is dropped first
            made = self._make_companions()
            before = opened()
            try:
                with of_the_writers(os.stat(self._parent), self.folder.access):
                    journal = self._connect()
            except BaseException:
                _remove(made)
                raise
            try:
                self._find_descriptors(before)
                self._found = tuple(map(identity_of, self._names))
                version = self._version()
                is_current = version == schema.VERSION and journal == "wal"
                self._correct_access()
                if is_current:
                    self._settle(deadline)
            except BaseException:
                self._close_connection()
                _remove(made)
                raise
        if not is_current:
            try:
                self._migrate(deadline)
            finally:
                self.close(deadline)
            raise VanishedError

    def _connect(self) -> str:
        """Connect, with all the files open that SQLite needs, and return the journal's mode."""
        self.connection = _connect(self.real)
        try:
            # One cursor for every statement: making one costs a third of a small statement, and
            # each statement, COMMIT at the last, ends the one before it.
            self._cursor = self.connection.cursor()
            self.execute = self._cursor.execute
            # What a power cut takes from the last moments it also makes void: every holder died.
            self.execute("PRAGMA synchronous = NORMAL")
            journal = self.execute("PRAGMA journal_mode").fetchone()[0]
            self.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except BaseException:
            with contextlib.suppress(AttributeError):  # there is none yet
                self._cursor.close()
            self.connection.close()
            raise
        return str(journal)

    def _verify_place(self) -> None:
        """See that there is one file, which has no other name, and that its log is its own."""
        try:
            status = _status_of_one(self.real)
        except FileNotFoundError:
            raise VanishedError from None
        refuse_foreign(status, None, self.path, self.real)
        if status.st_size == 0:
            raise VanishedError
        self.identity = (status.st_dev, status.st_ino)
        self._drop_stale_log(self.identity)

    def _make_companions(self) -> list[str]:
        """Make those files beside it that are missing, and return their names.

        SQLite would make them with this user's own group, and others would be shut out.
        """
        made = []
        log, index = self._names[1:]
        if not os.path.lexists(log):
            _remove([index])  # of a log that is gone, in which whoever has it open goes on
        for name in (log, index):
            try:
                refuse_foreign(_status_of_one(name), None, self.path, name)
            except FileNotFoundError:
                make_file(name, self.folder.access)
                made.append(name)
        # SQLite looks for one that a crash has left, and would wait for the writer of a FIFO.
        with contextlib.suppress(FileNotFoundError):
            journal = f"{self.real}-journal"
            refuse_foreign(os.lstat(journal), None, self.path, journal)
        return made

    def _correct_access(self) -> None:
        """Give all that belongs to the database its owner, group and mode, where this user may."""
        access = self.folder.access
        opened_ones = [os.fstat(descriptor) for descriptor in self._descriptors]
        for name in (self.real, *self._names[1:]):
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(name)
                if not access.is_that_of(status):
                    correct(name, access, self.path, opened_ones)
        if self._is_known:
            self.folder.correct_access(self.gate.descriptor)

    def _find_descriptors(self, before: set[int]) -> None:
        """Mark the descriptors that SQLite has opened, to know when the program closes them."""
        others = {
            int(one): one
            for file in files_of(self.identity)
            for one in file._descriptors
            if is_ours(one)
        }
        beside = {identity_of(name) for name in self._names[1:]}
        shared = identity_of(self._names[2])  # that of -shm is one for the whole process
        found = []
        for descriptor in opened():
            with contextlib.suppress(OSError):  # of another thread, closed by now
                status = os.fstat(descriptor)
                identity = (status.st_dev, status.st_ino)
                if identity != self.identity and identity not in beside:
                    continue
                other = others.get(descriptor)
                if other is None and descriptor in before and not has_a_mark(descriptor):
                    continue  # the program's own
                if other is None:
                    found.append((identity != self.identity, mark(descriptor)))
                elif identity == shared:
                    found.append((True, other))
        self._descriptors = tuple(descriptor for _, descriptor in sorted(found))
        _open_files.add(self)  # before the next one to open is told apart from this

    def is_there(self) -> bool:
        """Whether what is open is still what is found at its path, with its log, and not emptied.

        Nor may the program have closed it.
        """
        try:
            if not self.has_its_descriptors():
                return False
            # While no name in the folder changes, each leads to what it led to.
            status = os.stat(self._parent)
            seen = status.st_mtime_ns, status.st_ino, status.st_dev
            if seen != self._unchanged:
                if tuple(map(identity_of, self._names)) != self._found:
                    return False
                if (
                    self._descriptors
                    and self.path == self.real
                    and status.st_mtime_ns < time.time_ns() - _STEP_NANOSECONDS
                ):
                    self._unchanged = seen
            if self._descriptors:
                return os.fstat(self._descriptors[0]).st_size > 0
            return os.stat(self.path).st_size > 0
        except (FileNotFoundError, NotADirectoryError):
            return False

    def has_its_descriptors(self) -> bool:
        """Whether the program has closed none of the descriptors that SQLite has opened."""
        for descriptor in self._descriptors:  # noqa: SIM110 - this takes half as long
            if not is_ours(descriptor):
                return False
        return True

    def close(self, deadline: float | None = None) -> None:
        """Close it, the checkpoint that this means under the gate like any other."""
        try:
            with (
                contextlib.suppress(GateTimeoutError, DatabaseError),
                self.gate.entered(deadline),
            ):
                self._close_connection()
        finally:
            # Where the gate could not be entered: SQLite makes the checkpoint of a close under a
            # lock of its own, which it does not get while anybody else has the file open.
            self._close_connection()
            self.gate.close()
            self.folder.close()

    def _close_connection(self) -> None:
        if not self.is_whole():
            drop(tied_to([self]))
            return
        # SQLite keeps a file open for as long as a statement is, as one that has failed; and what
        # is open crosses a fork.
        with contextlib.suppress(sqlite3.ProgrammingError):  # the connection is closed already
            self._cursor.close()
        self._found, self._unchanged = (), None  # a Ctrl-C from here on is no loss of anything
        self.connection.close()
        _open_files.discard(self)  # not before: another would take these descriptors for its own
        self._descriptors = ()

    def _forget_files(self) -> None:
        self._descriptors, self._found, self._unchanged = (), (), None

    def is_whole(self) -> bool:
        """Whether it can be closed as usual, which writes the log into the file and removes it."""
        try:
            return self._found == () or self.is_there()
        except OSError:
            return False

    def never_close(self) -> None:
        """Keep the connection from being closed, even when the interpreter ends."""
        import ctypes

        # A reference that nobody gives back.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.connection))

    def close_all_but_connection(self) -> None:
        """Close gate and folder of a file whose connection was dropped."""
        self.gate.close()
        self.folder.close()

    def _settle(self, deadline: float | None) -> None:
        """Note which log is whose, and bring every time onto this boot's clock."""
        self._note_log()
        boot = Boot()
        if not boot.is_recorded(self.execute, self.path):
            begin(self.execute, deadline)
            boot.enter(self.execute, self.path, self._lives)
            self.execute("COMMIT")
        self._tell_owner(deadline)

    def _tell_owner(self, deadline: float | None) -> None:
        """Tell which process this is where its row is of another file: a backup has brought it."""
        ours = existing_lifeline(self.folder)
        if ours is None:
            return
        process = _identity.process_at(self.identity[1])
        known = (process, ours.name)
        stale = "FROM owners WHERE process IS NOT ? AND lifeline = ?"
        if self.execute(f"SELECT 1 {stale}", known).fetchone() is not None:
            begin(self.execute, deadline)
            self.execute("UPDATE owners SET process = ? WHERE lifeline = ?", known)
            self.execute("COMMIT")

    def _lives(self, lifeline: str, process: str | None) -> bool:
        if self.folder.is_alive(lifeline):
            return True
        told, _, _ = (process if isinstance(process, str) else "").rpartition(" ")
        return told.count(" ") == 3 and is_running(told)

    def _version(self) -> int:
        version = schema.version_of(self.connection)
        if version is None:
            raise DatabaseError(self.path, "it belongs to another program; choose another file")
        if version > schema.VERSION:
            raise newer(self.path, version)
        return version

    def _migrate(self, deadline: float | None) -> None:
        import filelock

        try:
            with (
                self.folder.lock_file() as lock,
                filelock.FileLock(lock, timeout=remaining(deadline), mode=self.folder.access.mode),
                self.gate.entered(deadline),
                of_the_writers(os.stat(self._parent), self.folder.access),
            ):
                self._bring_up_to_date(deadline)
        except filelock.Timeout:
            raise GateTimeoutError from None

    def _bring_up_to_date(self, deadline: float | None) -> None:
        execute = self.execute
        if execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            # It changes one page, for which a journal beside it would be this user's alone.
            execute("PRAGMA journal_mode = OFF")
            ((journal,),) = execute("PRAGMA journal_mode = WAL").fetchall()
            if journal != "wal":
                raise DatabaseError(
                    self.path, f"SQLite keeps its journal in mode {journal} there, not WAL"
                )
        version = self._version()
        if version == schema.VERSION:
            return  # somebody was first
        execute("PRAGMA synchronous = FULL")
        begin(execute, deadline)
        for statement in schema.statements_from(version):
            execute(statement)
        execute("COMMIT")

    def _drop_stale_log(self, identity: tuple[int, int]) -> None:
        """Unlink a write-ahead log that was another file's than the one that is there now.

        Whoever has the other file open goes on in its log, and would keep everybody else out of
        this file; and what is in there must not be replayed into a backup put in its place.
        """
        log = identity_of(f"{self.real}-wal")
        noted = self.gate.note().split()
        replaced = noted[:2] != _words(identity)
        self._is_known = not replaced
        if log is not None and replaced and noted[2:] == _words(log):
            _remove(self._names[1:])
        if replaced:
            # At once: the new log may be given the number of the old one.
            self.gate.write_note(" ".join(_words(identity)))

    def _note_log(self) -> None:
        """Note at the gate which log is whose."""
        if identity_of(self.real) != self.identity:
            return  # replaced by now, and the log is the other's
        log = identity_of(f"{self.real}-wal")
        note = " ".join([*_words(self.identity), *_words(log)])
        if self.gate.note() != note:
            self.gate.write_note(note)


_open_files: weakref.WeakSet[File] = weakref.WeakSet()


def files_of(identity: tuple[int, int]) -> list[File]:
    """Return all that this process has open of a file."""
    return [file for file in _all_open() if file.identity == identity]


def _all_open() -> list[File]:
    while True:
        try:
            return list(_open_files)
        except RuntimeError:
            continue  # another thread has just opened one


def tied_to(files: Iterable[File]) -> set[File]:
    """Return all that has to be dropped with these: all of the same, and who has their numbers.

    The kernel ends the locks that this process has on a file with any descriptor of it, so that a
    database that has opened a number of a lost one does not keep its own.
    """
    tied, more = set[File](), set(files)
    while not more <= tied:
        tied |= more
        identities = {one.identity for one in tied}
        numbers = {int(number) for one in tied for number in one._descriptors}
        more = {
            one
            for one in _all_open()
            if one.identity in identities
            or any(
                number in numbers and is_ours(number)
                for number in (*one._descriptors, *one.gate.descriptors())
            )
        }
    return tied


def is_lost(identity: tuple[int, int]) -> bool:
    """Whether something that this process has open of a file has to be dropped."""
    return not all(file.is_whole() for file in files_of(identity))


def drop(files: Iterable[File]) -> None:
    """Close connections without a word to the files that they had open, or to those of others.

    It is for connections whose log is another file by now, or whose descriptors were closed under
    them: a close would write a stale log into the database, or into a file of the program's. All
    that is `tied_to` one goes at once, since SQLite keeps the locks of a file together.
    Each number is, for this moment, that of a file that cannot be written, which keeps SQLite from
    its checkpoint; whose it is by now gets it back.
    """
    files = [file for file in files if file._found]  # the others are closed as usual
    numbers = {int(one): one for file in files for one in file._descriptors}
    theirs: dict[int, tuple[int, bool]] = {}
    nothing = mark(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    closed = {int(nothing)}  # which may have got the number of a lost one
    try:
        # No copy is to have the number of one that is closed: so these are nothing first.
        for number in numbers.keys() - closed:
            if not is_open(number):
                os.dup2(nothing, number, inheritable=False)
                closed.add(number)
        for number in numbers.keys() - closed:
            if not is_ours(numbers[number]):
                inheritable = os.get_inheritable(number)
                theirs[number] = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3), inheritable
    except BaseException:  # no descriptor is left, say: all stays as it was
        for number in (*closed, *(copy for copy, _ in theirs.values())):
            os.close(number)
        raise
    try:
        for number in numbers.keys() - closed:
            os.dup2(nothing, number, inheritable=False)
        for file in files:
            with contextlib.suppress(sqlite3.Error):
                file._cursor.close()
            file.connection.close()
            _open_files.discard(file)
            file._forget_files()
    finally:
        for number in {*closed, *numbers} - theirs.keys():
            close_if_ours(nothing.called(number))  # what SQLite has not closed
        for number, (copy, inheritable) in theirs.items():
            os.dup2(copy, number, inheritable)
            os.close(copy)


def newer(path: str, version: int) -> DatabaseError:
    """Return the error of a file that a newer release has made or changed."""
    return DatabaseError(path, f"a newer release made it (schema {version}); upgrade localgcl")


def _leave_no_folder(folder: Folder) -> None:
    # With a file of another program, say, nothing new is left beside it.
    with contextlib.suppress(OSError):
        folder.remove_empty()


def _remove(names: Iterable[str]) -> None:
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _status_of_one(real: str) -> os.stat_result:
    """Return the status of a file, without the name under which it was made.

    A process that ended in the middle of `make_file` has left it that.
    """
    status = os.lstat(real)
    if status.st_nlink == 1 or not stat.S_ISREG(status.st_mode):
        return status
    folder, name = os.path.split(real)
    for other in os.listdir(folder):
        end = other.removeprefix(f"{name}.")
        if end != other and len(end) == 16 and end.isalnum():
            path = os.path.join(folder, other)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.lstat(path), status):
                    os.unlink(path)
    return os.lstat(real)


def _prepare(path: str, deadline: float | None) -> tuple[str, Folder]:
    """See that there is a database at `path`; return its path without links, and its run folder."""
    patience = clock.now() + _MAKER_SECONDS
    while True:
        real = real_path(path, path)
        try:
            status = os.lstat(real)
        except FileNotFoundError:
            status = None
        if status is not None and not stat.S_ISREG(status.st_mode):
            problem = f"{real} is {kind_of(status.st_mode)} and not a file; choose another path"
            raise DatabaseError(path, problem)
        if status is not None and status.st_size:
            refuse_unfit_place(real, path)
            return real, folder_of(real, status, path)
        make_parents(real)
        refuse_unfit_place(real, path)
        _create(path, real, status, deadline, is_patient=clock.now() < patience)


def _create(
    path: str,
    real: str,
    empty: os.stat_result | None,
    deadline: float | None,
    *,
    is_patient: bool,
) -> None:
    """Make a new database, or one in the place of an empty file; the run folder comes first.

    Whoever makes the one makes the other. The run folder of somebody else, who is about to make the
    database, is waited for while this `is_patient`, and is then out of the way.
    """
    access = access_in(os.stat(os.path.dirname(real)))
    if empty is not None:
        access = Access(os.geteuid() or empty.st_uid, empty.st_gid, empty.st_mode)
        refuse_foreign(empty, None, path, real)
    folder = folder_at(f"{real}-run", access, path)
    made = folder.make()
    try:
        owner = os.lstat(folder.path).st_uid
        is_foreign = owner not in access.trusted()
        if is_foreign:
            folder.access = Access(owner, access.group, access.mode)
        gate = Gate(folder)
        try:
            # Others' gate may be shut for any time.
            until = clock.now() + _MAKER_SECONDS
            ends = until if deadline is None else min(deadline, until)
            with gate.entered(ends if is_foreign else deadline):
                if _holds_something(real):
                    return  # somebody was first
                if not is_foreign:
                    _remove(real + suffix for suffix in _COMPANIONS)
                    make_file(real, access, schema.new_file(), in_place_of=empty)
                elif not is_patient:
                    os.rename(folder.path, f"{folder.path}.{os.urandom(8).hex()}")
        finally:
            gate.close()
        if is_foreign:
            time.sleep(_MAKER_PAUSE_SECONDS)
    except FileNotFoundError:
        if is_patient:
            return  # it is just being taken away, and all is looked at once more
        raise
    except BaseException:
        if made:
            _leave_no_folder(folder)
        raise
    finally:
        folder.close()


def _holds_something(real: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.lstat(real).st_size > 0
    return False


def folder_of(real: str, status: os.stat_result, database: str) -> Folder:
    """Return what the run folder of the database at `real` is."""
    return folder_at(f"{real}-run", access_of(status), database)


def existing_folder(path: str) -> Folder | None:
    """Return what the run folder of the database at `path` is; None where there is no database."""
    real = real_path(path, path)
    try:
        return folder_of(real, os.lstat(real), path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _connect(real: str) -> sqlite3.Connection:
    # mode=rw: SQLite is not to make a file whose mode and group nobody thought about.
    return sqlite3.connect(
        f"file:{in_address(real)}?mode=rw",
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
            now = clock.now()
            if deadline is not None and now >= deadline:
                raise GateTimeoutError from None
            patience = patience or now + _BUSY_PATIENCE_SECONDS
            if now >= patience:
                raise


def remaining(deadline: float | None) -> float:
    """Return the seconds until `deadline` as a lock takes them: -1 for ever."""
    if deadline is None:
        return -1
    return min(threading.TIMEOUT_MAX, max(0.0, deadline - clock.now()))


def in_address(path: str) -> str:
    """Return `path` as part of a URI; SQLite gives a meaning to these characters alone."""
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
