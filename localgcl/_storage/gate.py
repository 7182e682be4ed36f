"""The gate: one process at a time between BEGIN and COMMIT, in the order of arrival.

SQLite's own busy handler sleeps up to 100 ms between tries and favours newcomers. Besides, releases
before 3.51.3 can corrupt a WAL database when a commit and a checkpoint overlap
(https://sqlite.org/wal.html#walresetbug). Under the gate they never overlap.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os

from localgcl._base import clock, threads
from localgcl._base.descriptors import NONE, Descriptor, is_ours, mark
from localgcl._liveness.folder import Folder
from localgcl._storage.location import refuse_unfit_place
from localgcl._storage.locks import (
    PAUSE_SECONDS,
    ForkedError,
    close_and_forget,
    forget,
    keep_in_mind,
    locks_now,
    locks_within,
    pause,
)
from localgcl._storage.rights import others_write_beside
from localgcl._storage.turn import Turn
from localgcl.errors import DatabaseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# A transaction takes some tens of microseconds; falling asleep and being woken takes as long as two
# of them. So a process spins for about the length of one transaction. Only one process spins at a
# time: more of them would keep those inside from a processor.
_SPINS = 30

# Tries after that, before it is worth starting a thread.
_TRIES = 3
_LOOKS = 200  # tells a busy gate from a stuck one
_LONGEST_PAUSE_SECONDS = 0.01

# A greenlet that queues stops all others of its thread. So it queues for the time of some
# transactions, and then lets the others run for a while before it queues again.
_GREEN_TURN_SECONDS = 0.01
_GREEN_PAUSE_SECONDS = 0.02

# Without a descriptor, a thread or memory, no turn can be started.
_NONE_LEFT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC)

# How often this checks whether a cleaner took the file. In between, only SQLite's own lock
# protects.
_CHECK_SECONDS = 0.05

_MAX_NOTE_LENGTH = 200


class GateTimeoutError(Exception):
    """The gate stayed shut until the deadline: a process was stopped inside a transaction.

    If the transaction is `under_way` in a thread nevertheless, its effect has to be undone.
    """

    def __init__(self, *, under_way: bool = False) -> None:
        super().__init__()
        self.under_way = under_way


class Gate:
    """An exclusive `flock` on a file in the run folder; localgcl never unlinks that file."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._descriptor = self._open()
        self._seen_at = -math.inf  # when the file was last known to be the one in use
        self._entered: Descriptor | None = (
            None  # the descriptor that holds the lock, if a helper got it
        )
        self._turn: Turn | None = None  # a helper that still queues
        self._noted = ""  # what the file held last, for a new file

    def _open(self) -> Descriptor:
        descriptor = self._folder.open_gate()
        return keep_in_mind(mark(descriptor))

    def _renew(self) -> None:
        """Open the file that is there now; a turn that still queues would get the former one's."""
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.give_up()
        self._descriptor = self._open()

    def enter(self, deadline: float | None = None) -> None:
        """Wait until the gate is ours; GateTimeoutError if `deadline` (boot clock) comes first."""
        renewed = False
        if not is_ours(self._descriptor):
            self._forget_lost()
            self._renew()
        while True:
            if deadline is None:
                if self._turn is not None:
                    self._turn.give_up()  # a Ctrl-C may have prevented this before
                if not locks_now(self._descriptor) and not self._spins():
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
            # The file or its folder was taken away: everybody who comes now makes and uses another
            # one.
            self.leave()
            self._folder.close()
            # Or another folder was mounted over it, and nobody else would see this one.
            refuse_unfit_place(self._folder.path.removesuffix("-run"), self._folder.database)
            taken = self._descriptor
            self._renew()
            close_and_forget(taken)
            renewed = True

    def _spins(self) -> bool:
        """Lock without queueing; return whether that was possible within a moment."""
        descriptor = self._descriptor
        # A lock of the other kind on the gate's file shows who spins. The lock may get lost, or two
        # may have it, and a process stopped with it keeps the others from spinning. None of this
        # does harm.
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        try:
            for _ in range(_SPINS):
                if locks_now(descriptor):
                    return True
        finally:
            fcntl.lockf(descriptor, fcntl.LOCK_UN)
        return False

    def _enter_before(self, deadline: float) -> None:
        descriptor = self._descriptor
        try:
            if locks_now(descriptor) or self._spins() or locks_within(descriptor, _TRIES):
                if self._turn is not None:
                    self._turn.give_up()
                return
            if threads.are_green:
                self._take_green_turns(deadline)
            elif not self._takes_turn(max(0.0, deadline - clock.now()), deadline):
                raise GateTimeoutError
        except ForkedError:
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
            pause(_GREEN_PAUSE_SECONDS)

    def _takes_turn(self, seconds: float, deadline: float) -> bool:
        """Queue for `seconds`, or try until `deadline` if no helper can queue.

        Return whether the gate is ours.
        """
        # flock has no deadline, and polling would starve behind those who queue. So a thread
        # queues, through a descriptor of its own. If it gets the lock too late, it closes the
        # descriptor again, unless another caller in this process wants the turn by then.
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

    def _new_turn(self) -> Turn | None:
        """Return a turn that has not started yet; None if no turn can be had."""
        try:
            return Turn(self._open())
        except MemoryError:
            return None
        except OSError as error:
            if error.errno not in _NONE_LEFT:
                raise
            return None

    def _tries_until(self, deadline: float) -> bool:
        seconds = PAUSE_SECONDS
        while not locks_now(self._descriptor):
            if clock.now() >= deadline:
                return False
            pause(seconds)
            seconds = min(2 * seconds, _LONGEST_PAUSE_SECONDS)
        return True

    def leave(self) -> None:
        """Open the gate for the next; harmless if it is not ours, and when done twice."""
        entered = self._entered
        if entered is None:
            # If the program has closed the descriptor meanwhile, that has unlocked it.
            if self._descriptor >= 0 and is_ours(self._descriptor):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        else:
            self._entered = None
            if is_ours(entered):
                fcntl.flock(entered, fcntl.LOCK_UN)
            close_and_forget(entered)

    @contextlib.contextmanager
    def entered(self, deadline: float | None = None) -> Iterator[None]:
        """Enter and leave, for rare uses; the hot path does both by hand."""
        try:
            self.enter(deadline)
            yield
        finally:
            self.leave()

    @property
    def descriptor(self) -> int:
        """The open file of the gate."""
        return self._descriptor

    def descriptors(self) -> tuple[Descriptor, ...]:
        """Return the descriptors of the open file."""
        entered = self._entered
        return (self._descriptor,) if entered is None else (self._descriptor, entered)

    def note(self) -> str:
        """Return the note in the file; DatabaseError if it is no note of ours."""
        noted = os.pread(self._descriptor, _MAX_NOTE_LENGTH + 1, 0).decode(errors="replace")
        words = noted.split()
        if len(noted) > _MAX_NOTE_LENGTH or not all(map(str.isdigit, words)):
            self._folder.refuse_gate()
        # An empty file is hardly a gate of ours. If others can write there, root may own it for
        # another purpose.
        if not words and others_write_beside(self._folder.path):
            self._folder.refuse_gate()
        self._noted = noted
        return noted

    def write_note(self, note: str) -> None:
        """Write a note into the file, for processes that enter later."""
        self._noted = note
        if self._descriptor >= 0 and is_ours(self._descriptor):
            os.pwrite(self._descriptor, note.encode(), 0)
            os.ftruncate(self._descriptor, len(note))

    def _forget_lost(self) -> None:
        """Forget descriptors that the program has closed: other files may have their numbers."""
        for lost in (self._descriptor, self._entered):
            if lost is not None:
                forget(lost)
        self._entered = None
        self._seen_at = -math.inf

    def close(self) -> None:
        """Close what is open."""
        entered, self._entered = self._entered, None
        if entered is not None:
            close_and_forget(entered)
        # A second leave, as in an interrupted `with`, finds nothing to unlock. The number may be
        # another file's by then.
        descriptor, self._descriptor = self._descriptor, NONE
        if descriptor >= 0:
            close_and_forget(descriptor)


def is_shut(folder: Folder) -> bool:
    """Whether the gate stays shut for a while, checked without queueing for it."""
    try:
        descriptor = folder.open_existing_gate()
    except (OSError, DatabaseError):
        return False  # the next use of the gate gives a better error
    marked = keep_in_mind(mark(descriptor))
    try:
        return not locks_within(marked, _LOOKS)
    finally:
        close_and_forget(marked)
