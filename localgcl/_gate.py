"""The gate: one process at a time between BEGIN and COMMIT, in the order of arrival.

SQLite's own busy handler sleeps up to 100 ms between tries and favours newcomers. Besides, releases
before 3.51.3 can corrupt a WAL database when a commit and a checkpoint overlap
(https://sqlite.org/wal.html#walresetbug), and under the gate none do.
"""

from __future__ import annotations

import _thread
import contextlib
import fcntl
import math
import os
import time

from localgcl import _clock, _threads
from localgcl._descriptors import close_if_ours, is_ours, mark
from localgcl._folder import Folder
from localgcl._forks import at_fork
from localgcl.errors import DatabaseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Transactions take some tens of microseconds, and to fall asleep and be woken takes as long as two
# of them. So it is tried for about the length of one, by one process at a time: more of them would
# keep those inside from a processor.
_SPINS = 30

# Tries after that, before a thread is worth its start.
_TRIES = 3
_LOOKS = 200  # to tell a gate that is used much from one that is stuck
_PAUSE_SECONDS = 50e-6

# How often it is asked whether a cleaner took the file; meanwhile SQLite's own lock stands alone.
_CHECK_SECONDS = 0.05

_MAX_NOTE_LENGTH = 200


class GateTimeoutError(Exception):
    """The gate stayed shut until the deadline: a process was stopped inside a transaction.

    Where the transaction is `under_way` all the same, in a thread, what it did has to be undone.
    """

    def __init__(self, *, under_way: bool = False) -> None:
        super().__init__()
        self.under_way = under_way


class Gate:
    """An exclusive `flock` on a file in the run folder, which is never unlinked by us."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._descriptor = self._open()
        self._seen_at = -math.inf  # when the file was last known to be the one that others use
        self._entered: int | None = None  # the descriptor that holds the lock, if a helper got it
        self._turn: _Turn | None = None  # a helper that still queues
        self._noted = ""  # what the file held last, for the next one

    def _open(self) -> int:
        descriptor = self._folder.open_gate()
        mark(descriptor)
        _descriptors.add(descriptor)
        return descriptor

    def enter(self, deadline: float | None = None) -> None:
        """Wait until the gate is ours; GateTimeoutError if `deadline` (boot clock) comes first."""
        renewed = False
        if not is_ours(self._descriptor):
            self._forget()
            self._descriptor = self._open()
        while True:
            if deadline is None:
                if self._turn is not None:
                    self._turn.give_up()  # a Ctrl-C may have kept it from being given up
                if not _locks_now(self._descriptor) and not self._spins():
                    fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            else:
                self._enter_before(deadline)
            now = _clock.now()
            if now - self._seen_at < _CHECK_SECONDS:
                return
            if self._folder.has_gate(self._descriptor):
                self._seen_at = now
                if renewed and not os.fstat(self._descriptor).st_size:
                    self.write_note(self._noted)
                return
            # The file or its folder was taken away: whoever comes now makes and uses another one.
            self.leave()
            self._folder.close()
            taken, self._descriptor = self._descriptor, self._open()
            _close(taken)
            renewed = True

    def _spins(self) -> bool:
        """Lock without queueing; return whether that was possible in a moment."""
        descriptor = self._descriptor
        # Who spins is told by a lock of the other kind, beside the gate's. It may be lost or had by
        # two, and a process that is stopped with it keeps the others from spinning: no harm.
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        try:
            for _ in range(_SPINS):
                if _locks_now(descriptor):
                    return True
        finally:
            fcntl.lockf(descriptor, fcntl.LOCK_UN)
        return False

    def _enter_before(self, deadline: float) -> None:
        descriptor = self._descriptor
        if _locks_now(descriptor) or self._spins() or _locks(descriptor, _TRIES):
            if self._turn is not None:
                self._turn.give_up()
            return
        # No flock has a deadline, and polling would starve behind those who queue: so a thread
        # queues, through a descriptor of its own, and what it gets too late it closes again, unless
        # somebody here has come after it by then.
        turn = self._turn
        try:
            if turn is None or not turn.is_wanted_again():
                turn = _Turn(self._open())
                turn.start()
                self._turn = turn
            if turn.comes_within(max(0.0, deadline - _clock.now())):
                self._entered, self._turn = turn.descriptor, None
        except RuntimeError:
            # There is no thread to be had: the interpreter is ending, or the machine has too many.
            while not _locks(self._descriptor, 1):
                if _clock.now() >= deadline:
                    raise GateTimeoutError from None
            return
        finally:
            if self._entered is None and turn is not None:
                turn.give_up()
        if self._entered is None:
            raise GateTimeoutError

    def leave(self) -> None:
        """Open the gate for the next; harmless where it is not ours, and when done twice."""
        entered = self._entered
        if entered is None:
            # What was closed under us meanwhile is unlocked by that.
            if is_ours(self._descriptor):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        else:
            self._entered = None
            if is_ours(entered):
                fcntl.flock(entered, fcntl.LOCK_UN)
            _close(entered)

    @contextlib.contextmanager
    def entered(self, deadline: float | None = None) -> Iterator[None]:
        """Enter and leave, where it is done rarely; the hot path does both by hand."""
        try:
            self.enter(deadline)
            yield
        finally:
            self.leave()

    def note(self) -> str:
        """Return what was noted in the file; DatabaseError where that is no note of ours."""
        noted = os.pread(self._descriptor, _MAX_NOTE_LENGTH + 1, 0).decode(errors="replace")
        if len(noted) > _MAX_NOTE_LENGTH or not all(word.isdigit() for word in noted.split()):
            self._folder.refuse_gate()
        self._noted = noted
        return noted

    def write_note(self, note: str) -> None:
        """Note something in the file, for whoever enters later."""
        self._noted = note
        if is_ours(self._descriptor):
            os.pwrite(self._descriptor, note.encode(), 0)
            os.ftruncate(self._descriptor, len(note))

    def _forget(self) -> None:
        """Leave what the program has closed to whoever has its numbers now."""
        for lost in (self._descriptor, self._entered):
            if lost is not None:
                _descriptors.discard(lost)
        self._entered = None
        self._seen_at = -math.inf

    def close(self) -> None:
        """Close what is open."""
        entered, self._entered = self._entered, None
        if entered is not None:
            _close(entered)
        # Whoever leaves once more, as an interrupted `with` may, finds nothing to unlock; the
        # number may be another file's by then.
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            _close(descriptor)


def is_shut(folder: Folder) -> bool:
    """Whether the gate stays shut for a while, asked without standing in its queue."""
    try:
        descriptor = folder.open_existing_gate()
    except (OSError, DatabaseError):
        return False  # which its next use tells better
    mark(descriptor)
    _descriptors.add(descriptor)
    try:
        return not _locks(descriptor, _LOOKS)
    finally:
        _close(descriptor)


def _locks(descriptor: int, tries: int) -> bool:
    """Lock without standing in the queue; return whether one of so many tries did."""
    for _ in range(tries):
        if _locks_now(descriptor):
            return True
        time.sleep(_PAUSE_SECONDS)
    return False


def _locks_now(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _Turn:
    """A thread that queues for the gate on behalf of somebody who may not wait for ever."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._lock = _thread.RLock()
        self._has_come = False
        self._is_given_up = False
        self._is_over = False
        self._arrival = _thread.allocate_lock()
        self._arrival.acquire()

    def start(self) -> None:
        """Begin to queue; apart from the constructor, so that an interrupted start is known of."""
        try:
            _threads.start(self._queue)
        except RuntimeError:
            self._is_over = True
            _close(self.descriptor)
            raise

    def comes_within(self, seconds: float) -> bool:
        """Wait for so long, and return whether the turn has come."""
        return self._arrival.acquire(timeout=min(_thread.TIMEOUT_MAX, seconds))

    def _queue(self) -> None:
        me = _thread.get_ident()
        _threads.inside.add(me)  # a finalizer in this thread would wait for the same gate
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            _threads.holding(self._lock, self._come)
        finally:
            _threads.inside.discard(me)

    def _come(self) -> None:
        self._has_come = True
        self._arrival.release()
        self._end_if_unwanted()

    def give_up(self) -> None:
        """Pass the turn on, whether it has come or not."""
        _threads.holding(self._lock, self._give_up)

    def _give_up(self) -> None:
        self._is_given_up = True
        self._end_if_unwanted()

    def is_wanted_again(self) -> bool:
        """Want a turn again that was given up; return whether it is still to be had."""
        return _threads.holding(self._lock, self._want_again)

    def _want_again(self) -> bool:
        self._is_given_up = False
        return not self._is_over

    def _end_if_unwanted(self) -> None:
        if self._has_come and self._is_given_up and not self._is_over:
            self._is_over = True
            _close(self.descriptor)


_descriptors: set[int] = set()


def _close(descriptor: int) -> None:
    _descriptors.discard(descriptor)
    close_if_ours(descriptor)


def _close_after_fork() -> None:
    # A flock belongs to the open file, which the fork shares: kept open here, the gate would stay
    # shut if the parent died inside a transaction. Closing does not unlock while the parent lives.
    for descriptor in tuple(_descriptors):
        _close(descriptor)


at_fork(after_in_child=_close_after_fork)
