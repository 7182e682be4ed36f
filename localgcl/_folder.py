"""The run folder of a database, and the FIFOs by which the kernel tells who is alive.

A process keeps the read end of its lifeline open for as long as it lives, so opening the write end
fails with ENXIO when nobody reads, a byte written wakes, and a write end held open reports an error
the moment the last reader is gone. No pid is involved, hence no reuse of pids, no namespace and no
reboot can mislead it.
"""

from __future__ import annotations

# Without the enumerations of `signal`, through which whoever is woken would wait.
import _signal  # type: ignore[import-not-found]
import contextlib
import errno
import os
import select
import stat
import weakref

from localgcl import _threads
from localgcl._forks import at_fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

# How many one process watches at the most; deaths beyond are found by looking again and again. The
# usual soft limit on open files is 1,024.
MAX_WATCHED = 256

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
_GONE = (errno.ENXIO, errno.ENOENT)
_NONE_LEFT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
NAME_LENGTH = 32

# A cleaner may take a file at any moment, also while it is being made.
_TRIES = 3

HINT_LENGTH = 8  # bytes; select.PIPE_BUF, up to which writes are not mixed, is a multiple
HINT_AT_ALL = 0  # no ticket: where there are more than one write can name


def is_fifo_name(name: object) -> bool:
    """Whether `name` is a lifeline's or an ear's; rows of the database are not to be trusted."""
    if not isinstance(name, str):
        return False
    lifeline, _, number = name.partition(".")
    return len(lifeline) == NAME_LENGTH and lifeline.isalnum() and (not number or number.isdigit())


def lifeline_of(ear: str) -> str:
    """Return the name of the lifeline that an ear belongs to."""
    return ear.partition(".")[0]


def open_for_writing(path: str) -> int:
    """Return the write end of the FIFO at `path`; OSError with ENXIO where nobody reads it."""
    descriptor = os.open(path, _WRITE)
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.ENXIO, "not a FIFO", path)
    return descriptor


class Folder:
    """The run folder of a database: its path, and the mode and group of what is made in it."""

    def __init__(self, path: str, mode: int, group: int) -> None:
        self.path = path
        self.mode = mode
        self.group = group

    def make(self) -> bool:
        """Make the folder unless it is there; return whether it was made."""
        try:
            os.mkdir(self.path, 0o700)
        except FileExistsError:
            return False
        # Where a file may be read, its folder may be entered.
        mode = self.mode | (self.mode & 0o444) >> 2
        os.chmod(self.path, 0o700)  # the umask may have left nothing that could be opened
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            adopt(descriptor, mode, self.group)
        finally:
            os.close(descriptor)
        return True

    def make_fifo(self, name: str) -> int:
        """Make the FIFO `name`, in place of one that may be there, and return its read end."""
        for _ in range(_TRIES):
            with contextlib.suppress(FileNotFoundError):
                return self._make_fifo(name)
        return self._make_fifo(name)

    def _make_fifo(self, name: str) -> int:
        path = f"{self.path}/{name}"
        try:
            os.mkfifo(path, self.mode)
        except FileExistsError:
            os.unlink(path)
            os.mkfifo(path, self.mode)
        except FileNotFoundError:
            self.make()
            os.mkfifo(path, self.mode)
        os.chmod(path, self.mode)  # the umask may have left nothing that could be opened
        descriptor = os.open(path, _READ)
        try:
            adopt(descriptor, self.mode, self.group)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def fifos(self, besides: Collection[str] = ()) -> list[str]:
        """Return the names of the lifelines and ears that are there, without those of `besides`."""
        try:
            names = os.listdir(self.path)
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
            return open_for_writing(f"{self.path}/{name}")
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
        """Return the write end of a lifeline, None where it cannot be watched.

        ProcessLookupError where it has ended.
        """
        path = f"{self.path}/{name}"
        watched = _watched.get(path)
        if watched is not None and not watched.has_ended():
            return watched
        descriptor = self.open_end(name)
        if descriptor is None:
            return None  # what cannot be told counts as alive
        if len(_watched) >= MAX_WATCHED:
            os.close(descriptor)
            return None
        watched = _watched[path] = WriteEnd(descriptor)
        return watched

    def discard(self, fifo: str) -> None:
        """Unlink one FIFO if it is there."""
        _unlink(f"{self.path}/{fifo}")

    def remove(self, lifeline: str) -> None:
        """Unlink a lifeline and its ears, which are numbered from 1 without a gap."""
        if not is_fifo_name(lifeline):
            return
        number = 1
        while _unlink(f"{self.path}/{lifeline}.{number}"):
            number += 1
        _unlink(f"{self.path}/{lifeline}")


class WriteEnd:
    """The write end of a FIFO, open for as long as anybody in this process has it.

    Hundreds of threads that wait have the same few processes in their way, and share those of their
    lifelines.
    """

    __slots__ = ("__weakref__", "_end", "_identity", "descriptor")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._identity = _identity_of(descriptor)
        # Not by `__del__`: while that runs, another thread may still find this in `_watched`.
        self._end = weakref.finalize(self, _close_unless_lost, descriptor, self._identity)
        self._end.atexit = False

    def close(self) -> bool:
        """Close it now; return whether there was anything to close."""
        return bool(self._end())

    def is_lost(self) -> bool:
        """Whether the program has closed it, as one does that becomes a daemon.

        Its number may be that of a file of the program's by then.
        """
        return _identity_of(self.descriptor) != self._identity

    def is_there(self) -> bool:
        """Whether the file is still to be found by some name."""
        return os.fstat(self.descriptor).st_nlink > 0

    def has_ended(self) -> bool:
        """Whether nobody reads it any more; its owner may have made it anew, under its name."""
        poll = _threads.poll()
        poll.register(self.descriptor, 0)  # errors are always reported
        return bool(poll.poll(0))


def _identity_of(descriptor: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(descriptor)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return None
    return status.st_dev, status.st_ino


def _close_unless_lost(descriptor: int, identity: tuple[int, int] | None) -> bool:
    if identity is None or _identity_of(descriptor) != identity:
        return False
    os.close(descriptor)
    return True


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
_spares: list[WriteEnd] = []


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
        _spares.append(WriteEnd(writer))


def _give_up_spare() -> bool:
    """Close the spare descriptor; return whether there was one."""
    try:
        return _spares.pop().close()
    except IndexError:
        return False


# Those of this process, by path.
_watched: weakref.WeakValueDictionary[str, WriteEnd] = weakref.WeakValueDictionary()


def adopt(descriptor: int, mode: int, group: int) -> None:
    """Give a file of ours the mode and the group that everything of the database has."""
    status = os.fstat(descriptor)
    if status.st_gid != group:
        try:
            os.fchown(descriptor, -1, group)
        except PermissionError:
            # A user can give away only to groups that it is in; its own group then keeps the
            # file to fewer people than meant, never to more.
            mode &= ~0o070
    if stat.S_IMODE(status.st_mode) != mode:
        os.fchmod(descriptor, mode)


def _unlink(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


# A child opens by itself what it watches.
at_fork(after_in_child=_watched.clear)
