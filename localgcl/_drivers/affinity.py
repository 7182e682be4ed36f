"""Where the thread of an event loop runs: on the loop's processor, which the loop leaves to it.

Each transaction goes from the loop to the thread and back. Left to itself, the scheduler would wake
one of the two on another processor, while the other is still about to fall asleep. A processor that
has slept takes longer to wake than a transaction takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

from localgcl._base import clock, threads

# If nobody else wants the processor, leaving it costs the time of a transaction. If others want it,
# leaving it costs their time slices. After a leave that took longer than _LONG_SECONDS, the loop
# stays for _TIMES_AS_LONG times that time, so the others get a hundredth of the loop's time.
# Nobody's slices take longer than _LONGEST_SECONDS.
_LONG_SECONDS = 0.001
_LONGEST_SECONDS = 0.1
_TIMES_AS_LONG = 100


def _find() -> Callable[[], int] | None:
    """Return a function that tells the caller's processor; None if threads cannot be moved."""
    if not hasattr(os, "sched_setaffinity"):  # pragma: no cover - macOS, not tested there
        return None
    if threads.are_green:  # all of them are in one thread
        return None
    try:
        import ctypes

        # PyDLL does not release the interpreter's lock. The call is too short for that, and after
        # it the thread might have to wait for the lock.
        found: Callable[[], int] = ctypes.PyDLL(None).sched_getcpu
    except (ImportError, AttributeError, OSError):  # pragma: no cover - no libc, or one without it
        return None
    return found if found() >= 0 else None


_here = _find()


class Processor:
    """The processor of one event loop, shared with the thread that works for it.

    If a finalizer happens to run in that thread and starts a process or a thread, that inherits the
    binding to this one processor.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        self._loop = loop
        self._thread = thread  # its number in the kernel
        self._at = -1  # the processor that the thread is bound to
        self._anywhere: set[int] = set()  # the processors that it was allowed before
        self._here = _here  # None where it cannot be shared
        self._is_about_to_leave = False
        self._leaves_again_at = 0.0

    def share(self) -> None:
        """Make the thread run here, and soon; called in the loop, before the thread is given work.

        The loop leaves the processor to the thread once all that is ready in the loop has had its
        turn.
        """
        if self._here is None:
            return
        here = self._here()
        if here != self._at and not self._bring_to(here):
            self._here = None
            return
        if not self._is_about_to_leave:
            self._is_about_to_leave = True
            self._loop.call_soon(self._leave)

    def _bring_to(self, here: int) -> bool:
        """Bind the thread to a processor; if that is refused, unbind it and return False."""
        try:
            self._anywhere = self._anywhere or os.sched_getaffinity(self._thread)
            os.sched_setaffinity(self._thread, (here,))
        except OSError:  # not allowed here; everything works without it
            if self._at >= 0:
                with contextlib.suppress(OSError):  # it stays bound
                    os.sched_setaffinity(self._thread, self._anywhere)
            return False
        self._at = here
        return True

    def _leave(self) -> None:
        self._is_about_to_leave = False
        began = clock.now()
        if began >= self._leaves_again_at:
            os.sched_yield()
            now = clock.now()
            taken = min(now - began, _LONGEST_SECONDS)  # not the time in which all were stopped
            if taken > _LONG_SECONDS:
                self._leaves_again_at = now + _TIMES_AS_LONG * taken
