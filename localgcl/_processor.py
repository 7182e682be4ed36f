"""Where the thread of an event loop runs: on the loop's processor, which the loop leaves to it.

Between the two each transaction goes there and back. The scheduler would wake the one on another
processor while the other is still about to fall asleep, and a processor that has slept takes longer
to wake than a transaction takes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from localgcl import _clock

# To leave the processor costs the time of a transaction where nobody else wants it, and others'
# slices where somebody does. Where it has cost so much, it is not left again for so many times as
# long: the others get a hundredth of the loop's time.
_LONG_SECONDS = 0.001
_TIMES_AS_LONG = 100


def _find() -> Callable[[], int] | None:
    """Return what tells the processor of the calling thread; None where threads cannot be moved."""
    if not hasattr(os, "sched_setaffinity"):  # pragma: no cover - macOS, not tested there
        return None
    try:
        import ctypes

        # It is not worth a release of the interpreter's lock, at which the thread may wait.
        found: Callable[[], int] = ctypes.PyDLL(None).sched_getcpu
    except (ImportError, AttributeError):  # pragma: no cover - an interpreter or a libc without
        return None
    return found


_here = _find()


class Processor:
    """The processor of one event loop, shared with the thread that works for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        self._loop = loop
        self._thread = thread  # as the kernel numbers it
        self._at = -1  # where the thread is to run
        self._can_share = _here is not None
        self._is_about_to_leave = False
        self._leaves_again_at = 0.0

    def share(self) -> None:
        """Have the thread run here, and soon; called by the loop when it gives it something to do.

        It is left the processor once all that is ready in the loop has had its turn.
        """
        if not self._can_share or _here is None:
            return
        here = _here()
        if here != self._at:
            try:
                os.sched_setaffinity(self._thread, (here,))
            except OSError:  # not allowed here, and all goes on without
                self._can_share = False
                return
            self._at = here
        if not self._is_about_to_leave:
            self._is_about_to_leave = True
            self._loop.call_soon(self._leave)

    def _leave(self) -> None:
        self._is_about_to_leave = False
        began = _clock.now()
        if began >= self._leaves_again_at:
            os.sched_yield()
            now = _clock.now()
            if now - began > _LONG_SECONDS:
                self._leaves_again_at = now + _TIMES_AS_LONG * (now - began)
