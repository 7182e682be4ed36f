"""The run folder of a database, and the FIFOs by which the kernel tells who is alive.

A process keeps the read end of its lifeline open for as long as it lives, so opening the write end
fails with ENXIO when nobody reads, a byte written wakes, and a write end held open reports an error
the moment the last reader is gone. No pid is involved, hence no reuse of pids, no namespace and no
reboot can mislead it.

The folder is opened once, and everything in it is reached from there, without following links:
others who use the database can write in it.
"""

from __future__ import annotations

# Without the enumerations of `signal`, through which whoever is woken would wait.
import _signal  # type: ignore[import-not-found]
import contextlib
import errno
import fcntl
import os
import select
import stat
import weakref

from localgcl._base import threads
from localgcl._base.descriptors import FOLDER_OF_DESCRIPTORS, Kept, mark
from localgcl._base.forks import at_fork
from localgcl._base.text import lifeline_of
from localgcl._liveness.access import (
    adopt,
    by_descriptor,
    kind_of,
    looked_at,
    open_ours,
    user_called,
)
from localgcl._liveness.process import end_of, is_running
from localgcl.errors import DatabaseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from typing import NoReturn

    from localgcl._base.descriptors import Descriptor
    from localgcl._liveness.access import Access

# How many one process watches at the most; deaths beyond are found by looking again and again. The
# usual soft limit on open files is 1,024.
MAX_WATCHED = 256

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
# Nobody reads it, or there is no FIFO by that name: a link or a folder are nobody's lifeline.
_GONE = (errno.ENXIO, errno.ENOENT, errno.ELOOP, errno.EISDIR)
_NONE_LEFT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)
GATE = "gate"
_LOCK = "create.lock"
_NO_NOTE = b"0"  # of a gate that nobody has noted anything in: an empty file is none
NAME_LENGTH = 32

_LOCK_TRIES = 50
_LOCK_PAUSE_SECONDS = 0.01

# A cleaner may take a file at any moment, also while it is being made.
_TRIES = 3

HINT_LENGTH = 8  # bytes; select.PIPE_BUF, up to which writes are not mixed, is a multiple
HINT_AT_ALL = 0  # no ticket: where there are more than one write can name
HINT_AT_NONE = 2**64 - 1  # by the process itself, to have its own thread look at other things


def is_fifo_name(name: object) -> bool:
    """Whether `name` is a lifeline's or an ear's; rows of the database are not to be trusted."""
    if not isinstance(name, str):
        return False
    lifeline, _, number = name.partition(".")
    return len(lifeline) == NAME_LENGTH and lifeline.isalnum() and (not number or number.isdigit())


def _open_for_writing(name: str, folder: int) -> int:
    """Return the write end of a FIFO in a folder; OSError with ENXIO where nobody reads it."""
    descriptor = os.open(name, _WRITE, dir_fd=folder)
    status = os.fstat(descriptor)
    if not stat.S_ISFIFO(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise OSError(errno.ENXIO, "not a FIFO of this folder", name)
    return descriptor


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Identity = tuple[int, int]  # device and inode


def _identity_in(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


class _Directory(Kept):
    """The run folder, open."""

    __slots__ = ("identity",)

    def __init__(self, descriptor: int, status: os.stat_result) -> None:
        super().__init__(descriptor)
        self.identity = _identity_in(status)


class Folder:
    """The run folder of the `database`: its path, and the access to what is made in it.

    A process has one of these for each path; see `folder_at`.
    """

    def __init__(self, path: str, access: Access, database: str) -> None:
        self.path = path
        self.access = access
        self.database = database
        self._directory: _Directory | None = None

    def opened(self) -> _Directory:
        """Return the folder, open; FileNotFoundError where there is none."""
        directory = self._directory
        if directory is None or directory.is_lost():
            directory = self._directory = self._open()
        return directory

    def _open(self) -> _Directory:
        try:
            descriptor = os.open(self.path, _FOLDER)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            kind = kind_of(os.lstat(self.path).st_mode)
            raise DatabaseError(
                self.database,
                f"its run folder {self.path} is {kind} and not a folder; remove it, and the next"
                " use makes the folder",
            ) from None
        try:
            status = os.fstat(descriptor)
            if status.st_uid not in self.access.trusted():
                raise DatabaseError(
                    self.database,
                    f"its run folder {self.path} belongs to {user_called(status.st_uid)}, and"
                    f" neither to root nor to {user_called(self.access.owner)}, whose the database"
                    " is; move it away, with all processes that use the database ended",
                )
            return _Directory(descriptor, status)
        except BaseException:
            os.close(descriptor)
            raise

    @property
    def identity(self) -> Identity:
        """Which folder is open: its device and inode."""
        directory = self._directory
        return (self.opened() if directory is None else directory).identity

    def is_there(self) -> bool:
        """Whether what is open is still what is found at the path."""
        directory = self._directory
        try:
            status = os.lstat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return directory is not None and directory.identity == _identity_in(status)

    def has_gate(self, descriptor: int) -> bool:
        """Whether a file that is open is still the gate that everybody finds here."""
        if not self.is_there():
            return False
        folder = self.opened()  # which another thread may close but for this
        try:
            status = os.stat(GATE, dir_fd=folder.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(status, os.fstat(descriptor))

    def close(self) -> None:
        """Close what is open; the next use opens it again."""
        self._directory = None

    def make(self) -> bool:
        """Make the folder with its gate unless it is there; return whether it was made.

        It is made under another name, so that nobody finds it before it is theirs to use.
        """
        if os.path.lexists(self.path):
            return False
        if not self.access.may_begin():
            owner = user_called(self.access.owner)
            raise DatabaseError(
                self.database,
                f"its run folder {self.path} is missing, and only {owner} or root can make it;"
                f" have {owner} use the database once, for example by `localgcl ls`",
            )
        unfinished = f"{self.path}.{os.urandom(8).hex()}"
        os.mkdir(unfinished, 0o700)
        is_made = False
        try:
            descriptor = _open_made(unfinished, None, _FOLDER)
            try:
                adopt(descriptor, self.access, self.access.folder_mode)
                make_gate(self.access, descriptor)
                os.rename(unfinished, self.path)
                is_made = True
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
            finally:
                if not is_made:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(GATE, dir_fd=descriptor)
                os.close(descriptor)
        finally:
            if not is_made:
                os.rmdir(unfinished)
        self._directory = None
        return is_made

    def correct_access(self, gate: int) -> None:
        """Give the folder and its gate, which is open, their owner, group and mode if need be.

        A folder that holds anything else is not ours to give away, whoever's it is.
        """
        directory, access = self.opened(), self.access
        with contextlib.suppress(PermissionError):
            if not access.is_that_of(os.fstat(gate)):
                adopt(gate, access)
            status = os.fstat(directory.descriptor)
            if not access.is_that_of(status, access.folder_mode) and not self._holds_others(
                directory
            ):
                adopt(directory.descriptor, access, access.folder_mode)

    def _holds_others(self, directory: _Directory) -> bool:
        """Whether there is anything in the folder that localgcl does not make there."""
        for name in os.listdir(directory.descriptor):
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=directory.descriptor, follow_symlinks=False)
                known = name.partition(".")[0] == GATE or name == _LOCK
                if not (
                    stat.S_ISFIFO(status.st_mode)
                    if is_fifo_name(name)
                    else known and stat.S_ISREG(status.st_mode)
                ):
                    return True
        return False

    @contextlib.contextmanager
    def lock_file(self) -> Iterator[str]:
        """Tell the path of the file that is locked while an older file is brought up to date.

        It leads into the folder that is open, whatever is at the path of the folder by now.
        """
        name = _LOCK
        directory = self.opened()
        folder = directory.descriptor
        with contextlib.suppress(FileNotFoundError):
            os.close(open_ours(name, self.access, self.database, f"{self.path}/{name}", folder))
        yield f"{FOLDER_OF_DESCRIPTORS}/{directory.descriptor}/{name}"

    def remove_empty(self) -> None:
        """Remove the folder, in which there is nothing but the gate."""
        folder = self.opened()
        os.unlink(GATE, dir_fd=folder.descriptor)
        os.rmdir(self.path)
        self.close()

    def open_gate(self) -> int:
        """Return the file of the gate, open; where a cleaner took it or the folder, make it."""
        for _ in range(_TRIES):
            try:
                return self.open_existing_gate()
            except FileNotFoundError:
                if self._directory is None or not self.is_there():
                    self._directory = None
                    self.make()
                elif self.access.may_begin():
                    folder = self.opened()
                    if self._holds_others(folder):
                        self._refuse()
                    make_gate(self.access, folder.descriptor)
                else:
                    owner = user_called(self.access.owner)
                    raise DatabaseError(
                        self.database,
                        f"{self.path}/{GATE} is missing, and only {owner} or root can make it; have"
                        f" {owner} use the database once, for example by `localgcl ls`",
                    ) from None
        return self.open_existing_gate()

    def open_existing_gate(self) -> int:
        """Return the file of the gate, open; FileNotFoundError where it or the folder is not."""
        folder = self.opened()
        return self._open_gate(folder.descriptor)

    def _refuse(self) -> NoReturn:
        raise DatabaseError(
            self.database,
            f"{self.path} has no {GATE} and holds what is not localgcl's; move it away, once you"
            " know whose it is",
        )

    def refuse_gate(self) -> NoReturn:
        """Raise DatabaseError for a gate in which another program has written."""
        raise DatabaseError(
            self.database,
            f"{self.path}/{GATE} holds what localgcl did not write there; remove it, with all"
            " processes that use the database ended",
        )

    def _open_gate(self, folder: int) -> int:
        return open_ours(GATE, self.access, self.database, f"{self.path}/{GATE}", folder)

    def make_fifo(self, name: str) -> Descriptor:
        """Make the FIFO `name`, in place of one that may be there, and return its read end."""
        for _ in range(_TRIES):
            try:
                return self._make_fifo(name)
            except FileNotFoundError:  # a cleaner took the file, or the folder
                if not self.is_there():
                    self._directory = None
                    self.make()
        return self._make_fifo(name)

    def _make_fifo(self, name: str) -> Descriptor:
        folder = self.opened()
        try:
            os.mkfifo(name, self.access.mode, dir_fd=folder.descriptor)
        except FileExistsError:
            if not _unlink(name, folder.descriptor):
                raise DatabaseError(
                    self.database, f"{self.path}/{name} is no FIFO; remove it"
                ) from None
            os.mkfifo(name, self.access.mode, dir_fd=folder.descriptor)
        descriptor = _open_made(name, folder.descriptor, _READ)
        try:
            marked = mark(descriptor)
            adopt(descriptor, self.access)
        except BaseException:
            os.close(descriptor)
            raise
        return marked

    def open_for_writing(self, name: str) -> int:
        """Return the write end of a FIFO; OSError with ENXIO where nobody reads it."""
        folder = self.opened()
        return _open_for_writing(name, folder.descriptor)

    def fifos(self, besides: Collection[str] = ()) -> list[str]:
        """Return the names of the lifelines and ears that are there, without those of `besides`."""
        try:
            folder = self.opened()
            names = os.listdir(folder.descriptor)
        except FileNotFoundError:
            return []  # a cleaner took the folder
        # Thousands of threads that wait have an ear each, and most are of a few who live.
        return [one for one in names if lifeline_of(one) not in besides and is_fifo_name(one)]

    def is_alive(self, name: str) -> bool:
        """Whether somebody keeps the FIFO `name` open; what cannot be told counts as alive."""
        watched = _watched.get(f"{self.path}/{name}")
        # What a cleaner took, or its owner removed, counts as dead whoever reads it still.
        if watched is not None and watched.is_there() and not watched.has_ended():
            return True
        try:
            end = self.open_end(name)
        except ProcessLookupError:
            return False
        if end is not None:
            os.close(end)
        return True

    def open_end(self, name: str) -> int | None:
        """Return a write end of the FIFO `name`, None where that cannot be had.

        ProcessLookupError where nobody reads it.
        """
        if not is_fifo_name(name):
            raise ProcessLookupError(name)
        try:
            return self.open_for_writing(name)
        except OSError as error:
            if error.errno in _GONE:
                raise ProcessLookupError(name) from None
            if error.errno is None:
                raise  # what a signal's handler has raised
            return None

    def ring(self, ear: str, tickets: Iterable[int], end: int | None = None) -> None:
        """Wake whoever listens on `ear`, with a hint at which of its requests are concerned.

        `end` is a write end of it that is open already; it is closed.
        """
        # A ring is a hint. Whoever is dead needs none, whoever has its pipe full has hints enough,
        # and where permission is missing the waiter's own safety net has to do.
        try:
            if end is None:
                with contextlib.suppress(ProcessLookupError):
                    end = self.open_end(ear)
                    if end is None and _give_up_spare():
                        end = self.open_end(ear)
            if end is not None:
                hint(end, tickets)
        finally:
            if end is not None:
                os.close(end)
            keep_spare()

    def open_to_watch(self, names: Iterable[str]) -> tuple[dict[str, WriteEnd | None], list[str]]:
        """Return the write ends of these lifelines, None where one cannot be watched; the dead."""
        ends: dict[str, WriteEnd | None] = {}
        dead = []
        for name in names:
            try:
                ends[name] = self._open_to_watch(name)
            except ProcessLookupError:
                dead.append(name)
        return ends, dead

    def _open_to_watch(self, name: str) -> WriteEnd | None:
        """Return what tells of the end of a lifeline, None where it cannot be watched.

        ProcessLookupError where it has ended.
        """
        path = f"{self.path}/{name}"
        watched = _watched.get(path)
        if watched is not None and not watched.has_ended():
            return watched
        try:
            descriptor = self.open_end(name)
            events = 0  # errors are always reported
        except ProcessLookupError:
            process = _unread.get(path)
            if process is None:
                raise
            descriptor = end_of(process)
            events = select.POLLIN
        if descriptor is None:
            return None  # what cannot be told counts as alive
        if len(_watched) >= MAX_WATCHED:
            os.close(descriptor)
            return None
        watched = _watched[path] = WriteEnd(descriptor, events)
        return watched

    def outlives(self, name: str, process: str) -> bool:
        """Whether the process of a lifeline that nobody reads is there all the same.

        It may have closed what it did not open itself. It is watched by its process from then on.
        """
        if not is_running(process):
            return False
        if len(_unread) >= MAX_WATCHED:
            _unread.clear()
        _unread[f"{self.path}/{name}"] = process
        return True

    def discard(self, fifo: str) -> None:
        """Unlink one FIFO if it is there."""
        folder = self.opened()
        _unlink(fifo, folder.descriptor)

    def remove(self, lifeline: str) -> None:
        """Unlink a lifeline and its ears, which are numbered from 1 without a gap."""
        if not is_fifo_name(lifeline):
            return
        try:
            folder = self.opened()
        except FileNotFoundError:
            return  # a cleaner took the folder
        number = 1
        while _unlink(f"{lifeline}.{number}", folder.descriptor):
            number += 1
        _unlink(lifeline, folder.descriptor)


_folders: dict[str, Folder] = {}


def folder_at(path: str, access: Access, database: str) -> Folder:
    """Return this process's way into the run folder at `path`, for which nothing is opened yet."""
    folder = _folders.get(path)
    if folder is None:
        folder = _folders.setdefault(path, Folder(path, access, database))
    folder.access, folder.database = access, database
    return folder


def _open_made(name: str, folder: int | None, flags: int) -> int:
    """Open what this process has just made, whatever the umask has left of its mode.

    OSError where another user has put something in its place.
    """
    try:
        descriptor = os.open(name, flags | os.O_NOFOLLOW, dir_fd=folder)
    except PermissionError:
        with looked_at(name, folder) as (there, status):
            if status.st_uid != os.geteuid():
                raise
            os.chmod(by_descriptor(there), 0o700)
        descriptor = os.open(name, flags | os.O_NOFOLLOW, dir_fd=folder)
    status = os.fstat(descriptor)
    if flags & os.O_DIRECTORY:
        is_made = stat.S_ISDIR(status.st_mode)
    else:
        is_made = stat.S_ISFIFO(status.st_mode) and status.st_nlink == 1
    if not is_made or status.st_uid != os.geteuid():
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "another user has replaced it", name)
    return descriptor


def make_gate(access: Access, folder: int) -> None:
    """Make the file of the gate in the run folder, unless it is there."""
    # Of two that make it at once, each would use its own; but a lock that somebody keeps is not
    # waited for long.
    for _ in range(_LOCK_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        threads.sleep(_LOCK_PAUSE_SECONDS)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.stat(GATE, dir_fd=folder, follow_symlinks=False)
            return
        unfinished = f"{GATE}.{os.urandom(8).hex()}"
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(unfinished, flags, 0o600, dir_fd=folder)
        try:
            os.write(descriptor, _NO_NOTE)
            adopt(descriptor, access)
        finally:
            os.close(descriptor)
        os.rename(unfinished, GATE, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        fcntl.flock(folder, fcntl.LOCK_UN)


class WriteEnd(Kept):
    """The write end of a FIFO, open for as long as anybody in this process has it.

    Hundreds of threads that wait have the same few processes in their way, and share those of their
    lifelines. In place of one that nobody reads it may be the end of a process, by a pidfd.
    """

    __slots__ = ("events",)

    def __init__(self, descriptor: int, events: int = 0) -> None:
        super().__init__(descriptor)
        self.events = events  # by which its end is told, beside errors

    def is_there(self) -> bool:
        """Whether the file is still to be found by some name."""
        return not self.is_lost() and os.fstat(self.descriptor).st_nlink > 0

    def has_ended(self) -> bool:
        """Whether nobody reads it any more; its owner may have made it anew, under its name."""
        if self.is_lost():
            return True
        poll = threads.poll()
        poll.register(self.descriptor, self.events)  # errors are always reported
        return bool(poll.poll(0))


def hint(end: int, tickets: Iterable[int]) -> None:
    """Write hints at these requests to the write end of an ear."""
    hints = b"".join([(ticket % 2**64).to_bytes(HINT_LENGTH) for ticket in tickets])
    if len(hints) > select.PIPE_BUF:
        hints = HINT_AT_ALL.to_bytes(HINT_LENGTH)
    with contextlib.suppress(BlockingIOError, BrokenPipeError):
        _write(end, hints)
        os.sched_yield()  # to whom that has woken: nobody waits for what is left to do here


def _write(end: int, hints: bytes) -> None:
    """Write to a FIFO whose reader may have died since it was opened; OSError then."""
    if _signal.getsignal(_signal.SIGPIPE) != _signal.SIG_DFL:
        os.write(end, hints)
        return
    # The program wants to be ended where its own output is of no use to anybody, and not by this.
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, ())
    try:
        _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGPIPE,))
        os.write(end, hints)
    finally:
        try:
            _unblock(before)
        except BaseException:  # what a signal's handler has raised
            _unblock(before)
            raise


def _unblock(before: set[int]) -> None:
    """Block no more signals than before, once a SIGPIPE of our own is out of the way."""
    if _signal.SIGPIPE not in before and _signal.SIGPIPE in _signal.sigpending():
        _signal.sigwait((_signal.SIGPIPE,))
    _signal.pthread_sigmask(_signal.SIG_SETMASK, before)


# A descriptor to be closed where a ring needs one and this process has no more to open: whoever
# was granted a slot would sleep on it.
_spares: list[Kept] = []


def keep_spare() -> None:
    """Have a spare descriptor, where there is one to be had."""
    if not _spares:
        try:
            reader, writer = os.pipe()
        except OSError as error:
            if error.errno not in _NONE_LEFT:
                raise
            return
        os.close(reader)
        _spares.append(Kept(writer))


def _give_up_spare() -> bool:
    """Close the spare descriptor; return whether there was one."""
    try:
        return _spares.pop().close()
    except IndexError:
        return False


# Those of this process, by path.
_watched: weakref.WeakValueDictionary[str, WriteEnd] = weakref.WeakValueDictionary()


# Lifelines that nobody reads, of processes that run: see `Folder.outlives`.
_unread: dict[str, str] = {}


def _unlink(name: str, folder: int) -> bool:
    """Remove a FIFO that has no other name, and nothing else; return whether there was one."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISFIFO(status.st_mode) or status.st_nlink > 1:
            return False
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    return True


# A child opens by itself what it watches.
at_fork(after_in_child=_watched.clear)
