"""Threads of our own, which keep no process from its end; and who is inside a transaction.

Here alone it is decided what a thread is. gevent puts greenlets in the place of threads: where it
has done so before this is imported, what waits here waits cooperatively. Whatever is taken from the
standard library is taken at the import, so that nothing changes under a transaction afterwards.
"""

from __future__ import annotations

# Nothing is imported in a thread: without a descriptor to be had, it would be gone before it began.
import _signal  # type: ignore[import-not-found]

# Not by `threading`: a Ctrl-C in its conditions leaves their locks astray, and a finalizer may find
# them held by the very thread that it is in.
import _thread
import contextlib
import errno
import math
import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any, TypeVar, TypeVarTuple

    T = TypeVar("T")
    Args = TypeVarTuple("Args")

# The name of a thread that aiosqlite starts for us, and that works on behalf of no block; those of
# `start` are unknown to `threading`.
NAME = "localgcl"

# What green threads replace, as gevent names it and as eventlet does.
_PARTS = {
    "gevent.monkey": ("is_module_patched", ("_thread", "threading", "time", "select")),
    "eventlet.patcher": ("is_monkey_patched", ("thread", "time", "select")),
}

# How often a greenlet looks that nobody wakes.
_PAUSE_SECONDS = 0.0005
_LOOK_SECONDS = 0.01


def _replaced_by() -> str | None:
    """Return the library that has replaced threads, or what waits in them, if any."""
    for module, (asked, parts) in _PARTS.items():
        is_patched = getattr(sys.modules.get(module), asked, None)
        if is_patched is not None and any(is_patched(part) for part in parts):
            return module.partition(".")[0]
    return None


def _has_green_threads() -> bool:
    gevent = sys.modules.get("gevent.monkey")
    return gevent is not None and gevent.is_object_patched("_thread", "start_new_thread")


# Whether threads are gevent's greenlets: as long as this runs, one of them runs and no other.
are_green = _has_green_threads()


def unfit() -> str | None:
    """Return the library of green threads with which this cannot work, if there is one.

    That is one that has replaced threads since this was imported, or only what waits in them, or
    in a way that is not known here.
    """
    library = _replaced_by()
    return None if library == "gevent" and are_green else library


def real(module: ModuleType, name: str) -> Any:
    """Return what a module of the standard library has by a name, before it was replaced."""
    if not are_green:
        return getattr(module, name)
    return sys.modules["gevent.monkey"].get_original(module.__name__, name)


# Threads in the middle of a transaction, by `_thread.get_ident`. What interrupts them there, as a
# signal handler or a finalizer does, would wait for ever for what they hold themselves.
inside: set[int] = set()

sleep = time.sleep
allocate_real_lock = real(_thread, "allocate_lock")
_start_real = real(_thread, "start_new_thread")
poll: Any = vars(select).get("poll")  # eventlet leaves none
make_lock: Callable[[], threading.RLock] = _thread.RLock

if are_green:
    import gevent
    import gevent.select

    sleep = gevent.sleep
    _real_poll = real(select, "poll")
    try:
        _epoll = real(select, "epoll")
    except AttributeError:  # pragma: no cover - macOS, not tested there
        _epoll = None

    class _Lock:
        """As `threading.RLock`, for greenlets of whichever thread.

        gevent's own wake nobody in another thread. This one is held for longer than a moment only
        where the gate is shut.
        """

        def __init__(self) -> None:
            self._owner: dict[None, int] = {}  # whose methods no signal comes into the middle of
            self._times = 0

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            me, pause = _thread.get_ident(), _PAUSE_SECONDS
            until = math.inf if timeout < 0 else time.monotonic() + timeout
            while self._owner.setdefault(None, me) != me:
                if not blocking or time.monotonic() >= until:
                    return False
                sleep(pause)
                pause = min(2 * pause, _LOOK_SECONDS)
            self._times += 1
            return True

        def release(self) -> None:
            self._times -= 1
            if self._times <= 0:
                self._times = 0
                self._owner.pop(None, None)

        def _is_owned(self) -> bool:
            return self._owner.get(None) == _thread.get_ident()

    make_lock = _Lock  # type: ignore[assignment]

    class _Poll:
        """As `select.poll`; another greenlet runs where it waits, and only there.

        gevent's own yields to others without a wait, too, and it knows of no error that is not
        asked for.
        """

        def __init__(self) -> None:
            self._poll = _real_poll()
            self._masks: dict[int, int] = {}

        def register(self, descriptor: int, mask: int) -> None:
            self._poll.register(descriptor, mask)
            self._masks[descriptor] = mask

        def poll(self, milliseconds: float) -> list[tuple[int, int]]:
            found: list[tuple[int, int]] = self._poll.poll(0)
            if not found and milliseconds > 0:
                self._wait(milliseconds)
                found = self._poll.poll(0)
            return found

        def _wait(self, milliseconds: float) -> None:
            try:
                if _epoll is None:
                    raise OSError(errno.ENOSYS, "no epoll")
                epoll = _epoll()
            except OSError as error:
                if error.errno is None:
                    raise  # what a signal's handler has raised
                self._look_again_and_again(time.monotonic() + milliseconds / 1000)
                return
            with epoll:
                for descriptor, mask in self._masks.items():
                    epoll.register(descriptor, mask)
                waiting = gevent.select.poll()
                waiting.register(epoll.fileno(), select.POLLIN)
                waiting.poll(milliseconds)

        def _look_again_and_again(self, until: float) -> None:
            while (seconds := until - time.monotonic()) > 0 and not self._poll.poll(0):
                sleep(min(seconds, _LOOK_SECONDS))

    poll = _Poll


def be_ready() -> None:
    """Be ready for transactions in this thread; to be called now and then."""
    if are_green:
        # gevent's own greenlet may not wait: what a finalizer or a signal's handler frees in it is
        # freed by another.
        inside.add(id(gevent.get_hub()))


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
    """Run a function beside the others, in a thread or a greenlet.

    RuntimeError (or MemoryError) where no thread can be had, as when the interpreter is ending.
    One that was begun may still end before the function is called: what it was given is dropped
    then, of which a `__del__` tells.
    """
    if are_green:
        gevent.spawn(function, *arguments)
    else:
        start_real(function, *arguments)


def start_real(function: Callable[..., object], *arguments: object) -> None:
    """Run a function in a thread of the kernel's, which may wait for what stops the others."""
    _start_real(_run, (function, arguments))


_ALL_SIGNALS = _signal.valid_signals()


def _run(function: Callable[..., object], arguments: tuple[object, ...]) -> None:
    # The kernel gives a signal to any thread that does not block it. `localgcl run` waits for the
    # end of its command by one.
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _ALL_SIGNALS)
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):  # the thread of a loop, which starts some, has but one
            os.sched_setaffinity(0, os.sched_getaffinity(os.getpid()))
    function(*arguments)
