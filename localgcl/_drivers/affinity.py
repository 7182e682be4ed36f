"""Where the thread of an event loop runs: on the loop's processor, which the loop leaves to it.

Between the two each transaction goes there and back. The scheduler would wake the one on another
processor while the other is still about to fall asleep, and a processor that has slept takes longer
to wake than a transaction takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

from localgcl._base import clock, threads

# To leave the processor costs the time of a transaction where nobody else wants it, and others'
# slices where somebody does. Where it has cost so much, it is not left again for so many times as
# long: the others get a hundredth of the loop's time. Nobody's slices take longer than that.
_LONG_SECONDS = 0.001
_LONGEST_SECONDS = 0.1
_TIMES_AS_LONG = 100


def _find() -> Callable[[], int] | None:
    """Return what tells the processor of the calling thread; None where threads cannot be moved."""
    if not hasattr(os, "sched_setaffinity"):  # pragma: no cover - macOS, not tested there
        return None
    if threads.are_green:  # and all of them in one thread
        return None
    try:
        import ctypes

        # It is not worth a release of the interpreter's lock, at which the thread may wait.
        found: Callable[[], int] = ctypes.PyDLL(None).sched_getcpu
    except (ImportError, AttributeError, OSError):  # pragma: no cover - a libc, or none, without
        return None
    return found if found() >= 0 else None


_here = _find()


class Processor:
    """The processor of one event loop, shared with the thread that works for it.

    What a finalizer starts that happens to run in that thread, a process or a thread, inherits that
    it has this one processor.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        self._loop = loop
        self._thread = thread  # as the kernel numbers it
        self._at = -1  # where the thread is to run
        self._anywhere: set[int] = set()  # where it might run before
        self._here = _here  # None where it cannot be shared
        self._is_about_to_leave = False
        self._leaves_again_at = 0.0

    def share(self) -> None:
        """Have the thread run here, and soon; called in the loop, before it is given something.

        It is left the processor once all that is ready in the loop has had its turn.
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
        """Bind the thread to a processor; where that is refused, to none, and return False."""
        try:
            self._anywhere = self._anywhere or os.sched_getaffinity(self._thread)
            os.sched_setaffinity(self._thread, (here,))
        except OSError:  # not allowed here, and all goes on without
            if self._at >= 0:
                with contextlib.suppress(OSError):  # it stays where it is
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
            taken = min(now - began, _LONGEST_SECONDS)  # and not for how long all were stopped
            if taken > _LONG_SECONDS:
                self._leaves_again_at = now + _TIMES_AS_LONG * taken
