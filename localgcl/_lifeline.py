"""FIFOs in the run folder: who is alive, who is to be woken, and who has just died.

A process keeps the read end of its lifeline open for as long as it lives, so the kernel answers all
three questions: opening the write end fails with ENXIO when nobody reads, a byte written wakes, and
a write end held open reports an error the moment the last reader is gone. No pid is involved, hence
no reuse of pids, no namespace and no reboot can mislead it.

A process has one lifeline for each run folder and, beside it, one ear for each thread (or event
loop) that waits. What is written to an ear is a hint to look at the database, never a message.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

# Watched at most by one process; deaths beyond are found by looking again and again. The usual soft
# limit on open files is 1,024.
MAX_WATCHED = 256
_MAX_WATCHED_IDLE = 16

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
_GONE = (errno.ENXIO, errno.ENOENT)
_NAME_LENGTH = 32

# A cleaner may take a file at any moment, also while it is being made.
_TRIES = 3

HINT_LENGTH = 8  # bytes; select.PIPE_BUF, up to which writes are not mixed, is a multiple


def is_fifo_name(name: object) -> bool:
    """Whether `name` is a lifeline's or an ear's; rows of the database are not to be trusted."""
    if not isinstance(name, str):
        return False
    lifeline, _, number = name.partition(".")
    return len(lifeline) == _NAME_LENGTH and lifeline.isalnum() and (not number or number.isdigit())


def lifeline_of(ear: str) -> str:
    """Return the name of the lifeline that an ear belongs to."""
    return ear.partition(".")[0]


def _open_for_writing(path: str) -> int:
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
        adopt(descriptor, self.mode, self.group)
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
        if not is_fifo_name(name):
            return False
        try:
            os.close(os.open(f"{self.path}/{name}", _WRITE))
        except OSError as error:
            return error.errno not in _GONE
        return True

    def ring(self, ear: str, tickets: Iterable[int]) -> None:
        """Wake whoever listens on `ear`, with a hint at which of its requests are concerned."""
        if not is_fifo_name(ear):
            return
        # A ring is a hint. Whoever is dead needs none, whoever has its pipe full has hints enough,
        # and where permission or descriptors are missing the waiter's own safety net has to do.
        with contextlib.suppress(OSError):
            descriptor = _open_for_writing(f"{self.path}/{ear}")
            try:
                hints = b"".join([(ticket % 2**64).to_bytes(HINT_LENGTH) for ticket in tickets])
                os.write(descriptor, hints[: select.PIPE_BUF])
            finally:
                os.close(descriptor)

    def open_to_watch(self, name: str) -> WriteEnd | None:
        """Return the write end of a lifeline, None where it cannot be watched.

        ProcessLookupError where it has ended.
        """
        path = f"{self.path}/{name}"
        watched = _watched.get(path)
        if watched is not None and not watched.has_ended():
            return watched
        try:
            if not is_fifo_name(name):
                raise FileNotFoundError
            descriptor = os.open(path, _WRITE)
        except OSError as error:
            if error.errno in _GONE or isinstance(error, FileNotFoundError):
                raise ProcessLookupError(name) from None
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
    """The write end of a lifeline, open for as long as anybody in this process watches it.

    Hundreds of threads that wait have the same few processes in their way, and share it.
    """

    __slots__ = ("__weakref__", "descriptor")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def has_ended(self) -> bool:
        """Whether nobody reads it any more; its owner may have made it anew, under its name."""
        poll = select.poll()
        poll.register(self.descriptor, 0)  # errors are always reported
        return bool(poll.poll(0))

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self.descriptor)


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


class _Fifo:
    """A FIFO that this process reads, made again where a cleaner took it away."""

    def __init__(self, folder: Folder, name: str) -> None:
        self.folder = folder
        self.name = name
        self.descriptor = folder.make_fifo(name)

    def is_there(self) -> bool:
        return os.fstat(self.descriptor).st_nlink > 0

    def mend(self) -> None:
        taken = self.renew()
        if taken is not None:
            os.close(taken)

    def renew(self) -> int | None:
        """Make it again where it was taken; return the old end then, for the caller to close."""
        if self.is_there():
            return None
        # The new one is there before the old one ends, lest a watcher see a death.
        taken, self.descriptor = self.descriptor, self.folder.make_fifo(self.name)
        return taken

    def close(self) -> None:
        os.close(self.descriptor)


class Watch:
    """Write ends of other processes' lifelines, held to learn of their deaths at once."""

    def __init__(self) -> None:
        self.ends: dict[str, WriteEnd] = {}
        self.is_whole = True  # or else deaths go unnoticed until `turn_to` is called again

    def turn_to(self, folder: Folder, lifelines: Iterable[str]) -> list[str]:
        """Watch these lifelines and no others; return those that are dead."""
        wanted = list(lifelines)
        for name in (self.ends.keys() - set(wanted)) | self._ended():
            del self.ends[name]
        dead = []
        self.is_whole = True
        for name in wanted:
            if name in self.ends:
                continue
            try:
                end = folder.open_to_watch(name)
            except ProcessLookupError:
                dead.append(name)
                continue
            if end is None:
                self.is_whole = False
            else:
                self.ends[name] = end
        return dead

    def _ended(self) -> set[str]:
        # Whether the owner made it anew, only opening it by name tells.
        if not self.ends:
            return set()
        poll = select.poll()
        for end in self.ends.values():
            poll.register(end.descriptor, 0)
        failed = {descriptor for descriptor, _ in poll.poll(0)}
        return {name for name, end in self.ends.items() if end.descriptor in failed}

    def close(self) -> None:
        """Hold nothing open any more."""
        self.ends.clear()


class Ear(_Fifo):
    """What wakes one waiting thread, or all the tasks of one event loop."""

    def __init__(self, folder: Folder, name: str) -> None:
        super().__init__(folder, name)
        try:
            self._writer = self._open_writer()
        except BaseException:
            super().close()
            raise
        # Kept with the ear: who waits again mostly finds the same processes in its way.
        self.watch = Watch()

    def _open_writer(self) -> int:
        # Once a writer has come and gone, a FIFO without any reports a hang-up for ever.
        return _open_for_writing(f"{self.folder.path}/{self.name}")

    def renew(self) -> int | None:
        taken = super().renew()
        if taken is not None:
            former, self._writer = self._writer, self._open_writer()
            os.close(former)
        return taken

    def close(self) -> None:
        super().close()
        os.close(self._writer)
        self.watch.close()

    def drain(self) -> bytes:
        """Read away the hints, before looking, so that none is missed; return them."""
        hints = b""
        try:
            while chunk := os.read(self.descriptor, select.PIPE_BUF):
                hints += chunk
                if len(chunk) < select.PIPE_BUF:
                    break
        except BlockingIOError:
            pass  # no more
        return hints


class Lifeline(_Fifo):
    """What shows that this process lives, and the ears that its waiters borrow."""

    def __init__(self, folder: Folder) -> None:
        super().__init__(folder, os.urandom(_NAME_LENGTH // 2).hex())
        self.pid = os.getpid()
        self._ears: list[Ear] = []
        self._idle: list[Ear] = []

    def borrow_ear(self) -> Ear:
        """Return an ear that nobody uses; give it back with `return_ear`."""
        if self._idle:
            ear = self._idle.pop()
            ear.mend()
            ear.drain()
        else:
            ear = Ear(self.folder, f"{self.name}.{len(self._ears) + 1}")
            self._ears.append(ear)
        return ear

    def return_ear(self, ear: Ear) -> None:
        if len(ear.watch.ends) > _MAX_WATCHED_IDLE:
            ear.watch.close()
        self._idle.append(ear)

    def is_listening(self) -> bool:
        """Whether somebody waits."""
        return len(self._idle) < len(self._ears)

    def drop(self) -> None:
        """Close every descriptor, and leave the files to whoever finds them."""
        for fifo in (self, *self._ears):
            fifo.close()


_lifelines: dict[str, Lifeline] = {}


def lifeline(folder: Folder) -> Lifeline:
    """Return this process's lifeline in `folder`, mended or made where it has to be.

    To be called inside a transaction: its gate keeps two threads from making two.
    """
    ours = _lifelines.get(folder.path)
    if ours is None:
        ours = _lifelines[folder.path] = Lifeline(folder)
    else:
        ours.mend()
    return ours


def existing_lifeline(folder: Folder) -> Lifeline | None:
    """Return this process's lifeline in `folder` if it has one."""
    return _lifelines.get(folder.path)


def end_lifeline(folder: Folder) -> None:
    """Close this process's lifeline in `folder` and remove its files."""
    ours = _lifelines.pop(folder.path, None)
    if ours is not None:
        ours.drop()
        folder.remove(ours.name)


def _forget_after_fork() -> None:
    _watched.clear()
    # The child is another owner: were it to keep these open, its parent could not be seen to die.
    for ours in _lifelines.values():
        ours.drop()
    _lifelines.clear()


os.register_at_fork(after_in_child=_forget_after_fork)
