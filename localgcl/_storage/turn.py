"""A turn at the gate with a deadline: a thread queues on behalf of a caller.

`flock` has no deadline, so the thread waits for the lock, and the caller for the thread.
"""

from __future__ import annotations

import _thread
import contextlib
import fcntl

from localgcl._base import threads
from localgcl._base.descriptors import Descriptor
from localgcl._storage.locks import close_and_forget


class Turn:
    """A thread that queues for the gate on behalf of a caller that may not wait for ever."""

    def __init__(self, descriptor: Descriptor) -> None:
        self.descriptor = descriptor
        self._lock = _thread.RLock()
        self._has_come = False
        self._is_given_up = False
        self._is_over = False
        self._arrival = threads.allocate_real_lock()
        self._arrival.acquire()

    def start(self) -> None:
        """Start to queue; without a thread, the turn is over.

        This is apart from the constructor, so that the caller knows of an interrupted start.
        """
        try:
            threads.start_real(_queue, _Queueing(self))
        except (RuntimeError, MemoryError):  # the interpreter is ending, for example
            self.end()

    def comes_within(self, seconds: float) -> bool:
        """Wait that long, and return whether the turn has come."""
        self._arrival.acquire(timeout=min(_thread.TIMEOUT_MAX, seconds))
        return self._has_come

    def queue(self) -> None:
        """Take the gate, and pass it on if the turn is not wanted any more."""
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)
        threads.holding(self._lock, self._come)

    def _come(self) -> None:
        self._has_come = True
        self._arrival.release()
        self._end_if_unwanted()

    def end(self) -> None:
        """End the turn, unless it has come; called when the thread has ended."""
        threads.holding(self._lock, self._end)

    def _end(self) -> None:
        if not self._has_come and not self._is_over:
            self._is_over = True
            close_and_forget(self.descriptor)
            self._arrival.release()

    def is_over(self) -> bool:
        """Whether it will never come."""
        return self._is_over

    def give_up(self) -> None:
        """Pass the turn on, whether it has come or not."""
        threads.holding(self._lock, self._give_up)

    def _give_up(self) -> None:
        self._is_given_up = True
        self._end_if_unwanted()

    def is_wanted_again(self) -> bool:
        """Want a turn again that was given up; return whether it can still come."""
        return threads.holding(self._lock, self._want_again)

    def _want_again(self) -> bool:
        self._is_given_up = False
        return not self._is_over

    def _end_if_unwanted(self) -> None:
        if self._has_come and self._is_given_up and not self._is_over:
            self._is_over = True
            close_and_forget(self.descriptor)


class _Queueing:
    """Held by the thread of a turn alone, so that its end is noticed, whatever ended it."""

    turn: Turn | None = None  # for an interrupted `__init__`

    def __init__(self, turn: Turn) -> None:
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
        # The waiting caller goes on without the turn, and gets the error if that fails, too.
        with contextlib.suppress(OSError, MemoryError):
            turn.queue()
    finally:
        threads.inside.discard(me)
