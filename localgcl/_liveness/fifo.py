"""One FIFO of the run folder: its name, its write end, and the hints that are written to it.

A process reads its lifeline for as long as it lives, and a wake-up FIFO for as long as a request
waits there. To open the write end fails with ENXIO when nobody reads, a byte written wakes, and a
write end that is open reports an error the moment the last reader is gone.
"""

from __future__ import annotations

# Without the enumerations of `signal`, through which whoever is woken would wait.
import _signal  # type: ignore[import-not-found]
import contextlib
import errno
import os
import select
import stat

from localgcl._base import threads
from localgcl._base.descriptors import Kept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NAME_LENGTH = 32

_WRITE = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
_NONE_LEFT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

HINT_LENGTH = 8  # bytes; select.PIPE_BUF, up to which writes are not mixed, is a multiple
HINT_AT_ALL = 0  # no ticket: where there are more than one write can name
HINT_AT_NONE = 2**64 - 1  # by the process itself, to have its own thread look at other things


def is_fifo_name(name: object) -> bool:
    """Whether `name` is a lifeline's or a wake-up FIFO's, which a row may not tell truly."""
    if not isinstance(name, str):
        return False
    lifeline, _, number = name.partition(".")
    return len(lifeline) == NAME_LENGTH and lifeline.isalnum() and (not number or number.isdigit())


def lifeline_of(wake_fifo: str) -> str:
    """Return the name of the lifeline that a wake-up FIFO belongs to."""
    return wake_fifo.partition(".")[0]


def open_write_end(name: str, folder: int) -> int:
    """Return the write end of a FIFO in a folder; OSError with ENXIO where nobody reads it."""
    descriptor = os.open(name, _WRITE, dir_fd=folder)
    status = os.fstat(descriptor)
    if not stat.S_ISFIFO(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise OSError(errno.ENXIO, "not a FIFO of this folder", name)
    return descriptor


def unlink_fifo(name: str, folder: int) -> bool:
    """Remove a FIFO that has no other name, and nothing else; return whether there was one."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISFIFO(status.st_mode) or status.st_nlink > 1:
            return False
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    return True


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
    """Write hints at these requests to the write end of a wake-up FIFO."""
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


# A descriptor to be closed where a wake-up needs one and this process has no more to open: whoever
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


def give_up_spare() -> bool:
    """Close the spare descriptor; return whether there was one."""
    try:
        return _spares.pop().close()
    except IndexError:
        return False
