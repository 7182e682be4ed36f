"""Threads of our own, which keep no process from its end; and who is inside a transaction."""

from __future__ import annotations

# Not by `threading`: a Ctrl-C in its conditions leaves their locks astray, and a finalizer may find
# them held by the very thread that it is in.
import _thread
import contextlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from typing import TypeVar, TypeVarTuple

    T = TypeVar("T")
    Args = TypeVarTuple("Args")

# The name of a thread that aiosqlite starts for us, and that works on behalf of no block; those of
# `start` are unknown to `threading`.
NAME = "localgcl"


# Threads in the middle of a transaction, by `_thread.get_ident`. What interrupts them there, as a
# signal handler or a finalizer does, would wait for ever for what they hold themselves.
inside: set[int] = set()


def holding(lock: threading.RLock, do: Callable[[*Args], T], *args: *Args) -> T:
    """Call `do(*args)` with a lock, which is free afterwards, whatever a Ctrl-C interrupts.

    A `with` statement does not see to that in Python 3.14: a signal that arrives as the lock is
    taken is raised before what would release it is set up.
    """
    try:
        lock.acquire()
        return do(*args)
    finally:
        try:
            if lock._is_owned():  # type: ignore[attr-defined]
                lock.release()
        except BaseException:
            if lock._is_owned():  # type: ignore[attr-defined]
                lock.release()
            raise


def is_ours(thread: threading.Thread) -> bool:
    """Whether a thread that `threading` knows is one of ours."""
    return thread.name.startswith(NAME)


def start(function: Callable[..., object], *arguments: object) -> None:
    """Run a function in a thread; RuntimeError when the interpreter is ending."""
    _thread.start_new_thread(_run, (function, arguments))


def _run(function: Callable[..., object], arguments: tuple[object, ...]) -> None:
    import signal  # not on the hot path

    # The kernel gives a signal to any thread that does not block it. `localgcl run` waits for the
    # end of its command by one.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):  # the thread of a loop, which starts some, has but one
            os.sched_setaffinity(0, os.sched_getaffinity(os.getpid()))
    function(*arguments)
