"""One FIFO of the run folder: its name, its write end, and the hints that are written to it.

A process reads its lifeline for as long as it lives, and a wake-up FIFO for as long as a request
waits there. Opening the write end fails with ENXIO if nobody reads, and a byte written wakes the
reader. An open write end reports an error as soon as the last reader is gone.
"""

from __future__ import annotations

# `_signal` does without the enumerations of `signal`: the woken process would wait for them.
import _signal  # type: ignore[import-not-found]
import contextlib
import errno
import os
import select
import stat

from localgcl._base import threads
from localgcl._base.descriptors import Kept, mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from localgcl._base.descriptors import Descriptor

NAME_LENGTH = 32

_WRITE = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
_NONE_LEFT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

HINT_LENGTH = 8  # bytes; a divisor of select.PIPE_BUF, up to which writes are not mixed
HINT_AT_ALL = 0  # no ticket: used for more tickets than one write can hold
HINT_AT_NONE = 2**64 - 1  # from the process itself, so that its own thread checks other things


def is_fifo_name(name: object) -> bool:
    """Whether `name` is that of a lifeline or wake-up FIFO; a corrupt row may hold another."""
    if not isinstance(name, str):
        return False
    lifeline, _, number = name.partition(".")
    return len(lifeline) == NAME_LENGTH and lifeline.isalnum() and (not number or number.isdigit())


def open_write_end(name: str, folder: int) -> int:
    """Return the write end of a FIFO in a folder; OSError with ENXIO if nobody reads it."""
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

    Hundreds of waiting threads are often blocked by the same few processes, and share the write
    ends of those lifelines. If nobody reads a lifeline, this may be a pidfd of its process instead.
    """

    __slots__ = ("events",)

    def __init__(self, descriptor: Descriptor, events: int = 0) -> None:
        super().__init__(descriptor)
        self.events = events  # those that report its end, beside errors

    def is_there(self) -> bool:
        """Whether the file still has a name."""
        return not self.is_lost() and os.fstat(self.descriptor).st_nlink > 0

    def has_ended(self) -> bool:
        """Whether nobody reads it any more; its owner may have recreated it under the same name."""
        if self.is_lost():
            return True
        poll = threads.poll()
        poll.register(self.descriptor, self.events)  # errors are always reported
        return bool(poll.poll(0))


def hint(end: int, tickets: Iterable[int]) -> None:
    """Write hints about these requests to the write end of a wake-up FIFO."""
    hints = b"".join([(ticket % 2**64).to_bytes(HINT_LENGTH) for ticket in tickets])
    if len(hints) > select.PIPE_BUF:
        hints = HINT_AT_ALL.to_bytes(HINT_LENGTH)
    with contextlib.suppress(BlockingIOError, BrokenPipeError):
        _write(end, hints)
        os.sched_yield()  # to the woken process: nobody waits for the rest of this one's work


def _write(end: int, hints: bytes) -> None:
    """Write to a FIFO; OSError if its reader has died since it was opened."""
    if _signal.getsignal(_signal.SIGPIPE) != _signal.SIG_DFL:
        os.write(end, hints)
        return
    # The program wants SIGPIPE to end it if nobody reads its own output. This write must not do
    # that.
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, ())
    try:
        _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGPIPE,))
        os.write(end, hints)
    finally:
        try:
            _unblock(before)
        except BaseException:  # a signal handler raised it
            _unblock(before)
            raise


def _unblock(before: set[int]) -> None:
    """Restore the mask of blocked signals, once our own SIGPIPE is taken off the queue."""
    if _signal.SIGPIPE not in before and _signal.SIGPIPE in _signal.sigpending():
        _signal.sigwait((_signal.SIGPIPE,))
    _signal.pthread_sigmask(_signal.SIG_SETMASK, before)


# A descriptor that is closed if a wake-up needs one and this process can open no more. Without it,
# the waiter that was granted a slot would sleep on.
_spares: list[Kept] = []


def keep_spare() -> None:
    """Keep a spare descriptor, if one can be opened."""
    if not _spares:
        try:
            reader, writer = os.pipe()
        except OSError as error:
            if error.errno not in _NONE_LEFT:
                raise
            return
        os.close(reader)
        _spares.append(Kept(mark(writer)))


def give_up_spare() -> bool:
    """Close the spare descriptor; return whether there was one."""
    try:
        return _spares.pop().close()
    except IndexError:
        return False
