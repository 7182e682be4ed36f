"""The gate: one process at a time between BEGIN and COMMIT, in the order of arrival.

SQLite's own busy handler sleeps up to 100 ms between tries and favours newcomers. Besides, releases
before 3.51.3 can corrupt a WAL database when a commit and a checkpoint overlap
(https://sqlite.org/wal.html#walresetbug), and under the gate none do.
"""

from __future__ import annotations

import _thread
import contextlib
import errno
import fcntl
import math
import os

from localgcl._base import clock, threads
from localgcl._base.descriptors import NONE, Descriptor, close_if_ours, is_ours, mark
from localgcl._base.forks import at_fork
from localgcl._liveness.folder import Folder
from localgcl._storage.location import refuse_unfit_place
from localgcl._storage.rights import others_write_beside
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
_LONGEST_PAUSE_SECONDS = 0.01

# A greenlet that queues stops all others of its thread. So it queues for some transactions' time,
# and lets them run for a while before it does so again.
_GREEN_TURN_SECONDS = 0.01
_GREEN_PAUSE_SECONDS = 0.02

# Without a descriptor, a thread or memory, there is no turn to be had.
_NONE_LEFT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC)

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
        self._entered: Descriptor | None = (
            None  # the descriptor that holds the lock, if a helper got it
        )
        self._turn: _Turn | None = None  # a helper that still queues
        self._noted = ""  # what the file held last, for the next one

    def _open(self) -> Descriptor:
        descriptor = self._folder.open_gate()
        return _keep_in_mind(mark(descriptor))

    def enter(self, deadline: float | None = None) -> None:
        """Wait until the gate is ours; GateTimeoutError if `deadline` (boot clock) comes first."""
        renewed = False
        if not is_ours(self._descriptor):
            self._forget_lost()
            self._descriptor = self._open()
        while True:
            if deadline is None:
                if self._turn is not None:
                    self._turn.give_up()  # a Ctrl-C may have kept it from being given up
                if not _locks_now(self._descriptor) and not self._spins():
                    if threads.are_green:
                        self._enter_before(math.inf)
                    else:
                        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            else:
                self._enter_before(deadline)
            now = clock.now()
            if now - self._seen_at < _CHECK_SECONDS:
                return
            if self._folder.has_gate(self._descriptor):
                self._seen_at = now
                if renewed and os.fstat(self._descriptor).st_size <= 1:
                    self.write_note(self._noted)
                return
            # The file or its folder was taken away: whoever comes now makes and uses another one.
            self.leave()
            self._folder.close()
            # Or another folder was mounted over theirs, in which nobody else would be seen.
            refuse_unfit_place(self._folder.path.removesuffix("-run"), self._folder.database)
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
        try:
            if _locks_now(descriptor) or self._spins() or _locks(descriptor, _TRIES):
                if self._turn is not None:
                    self._turn.give_up()
                return
            if threads.are_green:
                self._take_green_turns(deadline)
            elif not self._takes_turn(max(0.0, deadline - clock.now()), deadline):
                raise GateTimeoutError
        except _ForkedError:
            self._descriptor = NONE
            raise DatabaseError(
                self._folder.path.removesuffix("-run"),
                "this process was forked while its parent waited; ask again in the child",
            ) from None

    def _take_green_turns(self, deadline: float) -> None:
        while not self._takes_turn(
            max(0.0, min(_GREEN_TURN_SECONDS, deadline - clock.now())), deadline
        ):
            if clock.now() >= deadline:
                raise GateTimeoutError
            _pause(_GREEN_PAUSE_SECONDS)

    def _takes_turn(self, seconds: float, deadline: float) -> bool:
        """Queue for so long, or try until `deadline` where nobody can queue.

        Return whether the gate is ours.
        """
        # No flock has a deadline, and polling would starve behind those who queue: so a thread
        # queues, through a descriptor of its own, and what it gets too late it closes again, unless
        # somebody here has come after it by then.
        turn = self._turn
        try:
            if turn is None or not turn.is_wanted_again():
                turn = self._turn = None
                turn = self._new_turn()
                if turn is not None:
                    turn.start()
                    self._turn = turn
            if turn is not None and turn.comes_within(seconds):
                self._entered, self._turn = turn.descriptor, None
                return True
            if turn is not None and not turn.is_over():
                return False
        finally:
            if self._entered is None and turn is not None:
                turn.give_up()
        return self._tries_until(deadline)

    def _new_turn(self) -> _Turn | None:
        """Return a turn that is still to be started; None where there is none to be had."""
        try:
            return _Turn(self._open())
        except MemoryError:
            return None
        except OSError as error:
            if error.errno not in _NONE_LEFT:
                raise
            return None

    def _tries_until(self, deadline: float) -> bool:
        pause = _PAUSE_SECONDS
        while not _locks_now(self._descriptor):
            if clock.now() >= deadline:
                return False
            _pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        return True

    def leave(self) -> None:
        """Open the gate for the next; harmless where it is not ours, and when done twice."""
        entered = self._entered
        if entered is None:
            # What was closed under us meanwhile is unlocked by that.
            if self._descriptor >= 0 and is_ours(self._descriptor):
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

    @property
    def descriptor(self) -> int:
        """The file of the gate, open."""
        return self._descriptor

    def descriptors(self) -> tuple[Descriptor, ...]:
        """Return by which descriptors the file is open."""
        entered = self._entered
        return (self._descriptor,) if entered is None else (self._descriptor, entered)

    def note(self) -> str:
        """Return what was noted in the file; DatabaseError where that is no note of ours."""
        noted = os.pread(self._descriptor, _MAX_NOTE_LENGTH + 1, 0).decode(errors="replace")
        words = noted.split()
        if len(noted) > _MAX_NOTE_LENGTH or not all(map(str.isdigit, words)):
            self._folder.refuse_gate()
        # An empty file is hardly a gate of ours; where others write, it may be root's own.
        if not words and others_write_beside(self._folder.path):
            self._folder.refuse_gate()
        self._noted = noted
        return noted

    def write_note(self, note: str) -> None:
        """Note something in the file, for whoever enters later."""
        self._noted = note
        if self._descriptor >= 0 and is_ours(self._descriptor):
            os.pwrite(self._descriptor, note.encode(), 0)
            os.ftruncate(self._descriptor, len(note))

    def _forget_lost(self) -> None:
        """Leave what the program has closed to whoever has its numbers now."""
        for lost in (self._descriptor, self._entered):
            if lost is not None:
                _forget(lost)
        self._entered = None
        self._seen_at = -math.inf

    def close(self) -> None:
        """Close what is open."""
        entered, self._entered = self._entered, None
        if entered is not None:
            _close(entered)
        # Whoever leaves once more, as an interrupted `with` may, finds nothing to unlock; the
        # number may be another file's by then.
        descriptor, self._descriptor = self._descriptor, NONE
        if descriptor >= 0:
            _close(descriptor)


def is_shut(folder: Folder) -> bool:
    """Whether the gate stays shut for a while, asked without standing in its queue."""
    try:
        descriptor = folder.open_existing_gate()
    except (OSError, DatabaseError):
        return False  # which its next use tells better
    marked = _keep_in_mind(mark(descriptor))
    try:
        return not _locks(marked, _LOOKS)
    finally:
        _close(marked)


def _locks(descriptor: int, tries: int) -> bool:
    """Lock without standing in the queue; return whether one of so many tries did."""
    for _ in range(tries):
        if _locks_now(descriptor):
            return True
        _pause(_PAUSE_SECONDS)
    return False


class _ForkedError(Exception):
    """This is a child now, which has no gate of its parent's."""


def _pause(seconds: float) -> None:
    # All greenlets go on in a child that one of them forks; so does what was interrupted by a
    # signal's handler that forks. The descriptors are closed there, and the numbers others' maybe.
    pid = os.getpid()
    threads.sleep(seconds)
    if pid != os.getpid():
        raise _ForkedError


def _locks_now(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _Turn:
    """A thread that queues for the gate on behalf of somebody who may not wait for ever."""

    def __init__(self, descriptor: Descriptor) -> None:
        self.descriptor = descriptor
        self._lock = _thread.RLock()
        self._has_come = False
        self._is_given_up = False
        self._is_over = False
        self._arrival = threads.allocate_real_lock()
        self._arrival.acquire()

    def start(self) -> None:
        """Begin to queue, unless there is no thread to be had: it is over then.

        This is apart from the constructor, so that an interrupted start is known of.
        """
        try:
            threads.start_real(_queue, _Queueing(self))
        except (RuntimeError, MemoryError):  # the interpreter is ending, say
            self.end()

    def comes_within(self, seconds: float) -> bool:
        """Wait for so long, and return whether the turn has come."""
        self._arrival.acquire(timeout=min(_thread.TIMEOUT_MAX, seconds))
        return self._has_come

    def queue(self) -> None:
        """Come to the gate, and pass it on where that is not wanted any more."""
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)
        threads.holding(self._lock, self._come)

    def _come(self) -> None:
        self._has_come = True
        self._arrival.release()
        self._end_if_unwanted()

    def end(self) -> None:
        """Be over, unless the turn has come; to be called when the thread has ended."""
        threads.holding(self._lock, self._end)

    def _end(self) -> None:
        if not self._has_come and not self._is_over:
            self._is_over = True
            _close(self.descriptor)
            self._arrival.release()

    def is_over(self) -> bool:
        """Whether it never comes any more."""
        return self._is_over

    def give_up(self) -> None:
        """Pass the turn on, whether it has come or not."""
        threads.holding(self._lock, self._give_up)

    def _give_up(self) -> None:
        self._is_given_up = True
        self._end_if_unwanted()

    def is_wanted_again(self) -> bool:
        """Want a turn again that was given up; return whether it is still to be had."""
        return threads.holding(self._lock, self._want_again)

    def _want_again(self) -> bool:
        self._is_given_up = False
        return not self._is_over

    def _end_if_unwanted(self) -> None:
        if self._has_come and self._is_given_up and not self._is_over:
            self._is_over = True
            _close(self.descriptor)


class _Queueing:
    """What the thread of a turn alone has, so that its end is known of, whatever it died of."""

    turn: _Turn | None = None  # where `__init__` was interrupted

    def __init__(self, turn: _Turn) -> None:
        self.turn = turn

    def __del__(self) -> None:
        if self.turn is not None:
            self.turn.end()


def _queue(queueing: _Queueing) -> None:
    turn = queueing.turn
    assert turn is not None
    me = _thread.get_ident()
    threads.inside.add(me)  # a finalizer in this thread would wait for the same gate
    try:
        # Whoever waits for the turn goes on without it, and is told if that fails, too.
        with contextlib.suppress(OSError, MemoryError):
            turn.queue()
    finally:
        threads.inside.discard(me)


_descriptors: dict[int, Descriptor] = {}


def _keep_in_mind(descriptor: Descriptor) -> Descriptor:
    _descriptors[int(descriptor)] = descriptor
    return descriptor


def _forget(descriptor: Descriptor) -> bool:
    """Keep a descriptor in mind no more; return whether it was."""
    if _descriptors.get(descriptor) is not descriptor:
        return False
    del _descriptors[descriptor]
    return True


def _close(descriptor: Descriptor) -> None:
    # A child that was forked in the middle of something has closed it already.
    if _forget(descriptor):
        close_if_ours(descriptor)


def _close_after_fork() -> None:
    # A flock belongs to the open file, which the fork shares: kept open here, the gate would stay
    # shut if the parent died inside a transaction. Closing does not unlock while the parent lives.
    for descriptor in tuple(_descriptors.values()):
        _close(descriptor)


at_fork(after_in_child=_close_after_fork)
