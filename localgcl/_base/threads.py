"""Our own threads, which never keep a process from ending; and who is inside a transaction.

This module alone decides what a thread is. gevent replaces threads by greenlets: if it has done so
before this import, everything that waits here waits cooperatively. Functions of the standard
library are bound at the import, so that nothing changes under a transaction afterwards.
"""

from __future__ import annotations

# Nothing is imported in a thread: if no descriptor is left, the import would end it at once.
import _signal  # type: ignore[import-not-found]

# `threading` is not used for these: a Ctrl-C in its conditions leaves their locks taken, and a
# finalizer may find them held by the very thread that it runs in.
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
    from collections.abc import Callable, Iterable
    from types import ModuleType
    from typing import Any, TypeVar, TypeVarTuple

    T = TypeVar("T")
    Args = TypeVarTuple("Args")

# The name of a thread that aiosqlite starts for us and that works on behalf of no block. The
# threads of `start` are unknown to `threading`.
NAME = "localgcl"

# What green threads replace, by gevent's names and by eventlet's.
_PARTS = {
    "gevent.monkey": ("is_module_patched", ("_thread", "threading", "time", "select")),
    "eventlet.patcher": ("is_monkey_patched", ("thread", "time", "select")),
}

# How often a greenlet polls if nothing wakes it.
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


# Whether threads are gevent's greenlets: while this one runs, no other does.
are_green = _has_green_threads()


def unfit() -> str | None:
    """Return the library of green threads that localgcl cannot work with, if there is one.

    It has replaced threads after this import, or only what waits in them, or in a way that is
    unknown here.
    """
    library = _replaced_by()
    return None if library == "gevent" and are_green else library


def real(module: ModuleType, name: str) -> Any:
    """Return what a module of the standard library calls by a name, before it was replaced."""
    if not are_green:
        return getattr(module, name)
    return sys.modules["gevent.monkey"].get_original(module.__name__, name)


# Threads in the middle of a transaction, by `_thread.get_ident`. A signal handler or a finalizer
# that interrupts one of them would wait for ever for what its own thread holds.
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
        """As `threading.RLock`, for greenlets of any thread.

        gevent's own lock wakes nobody in another thread. This one is held for longer than a moment
        only while the gate is shut.
        """

        def __init__(self) -> None:
            self._owner: dict[None, int] = {}  # no signal interrupts a dict's methods
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
        """As `select.poll`; another greenlet runs while it waits, and only then.

        gevent's own poll yields to others without a wait, too, and reports no error that was not
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
                    raise  # a signal handler raised it
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
    """Prepare this thread for transactions; to be called now and then."""
    if are_green:
        # gevent's own greenlet may not wait. What a finalizer or a signal handler frees in it is
        # freed by another greenlet.
        inside.add(id(gevent.get_hub()))


def members(those: Iterable[T]) -> list[T]:
    """Return what is in a set that other threads may add to meanwhile."""
    while True:
        try:
            return list(those)
        except RuntimeError:
            continue  # another thread has just added one


def holding(lock: threading.RLock, do: Callable[[*Args], T], *args: *Args) -> T:
    """Call `do(*args)` with a lock, which is free afterwards, whatever a Ctrl-C interrupts.

    A `with` statement does not guarantee that in Python 3.14: a signal that arrives as the lock is
    taken is raised before the release is set up.
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

    RuntimeError (or MemoryError) if no thread can be started, for example while the interpreter
    ends. A thread that was started may still end before it calls the function. Its arguments are
    then dropped, which a `__del__` of theirs can notice.
    """
    if are_green:
        gevent.spawn(function, *arguments)
    else:
        start_real(function, *arguments)


def start_real(function: Callable[..., object], *arguments: object) -> None:
    """Run a function in a kernel thread, which may wait where a wait would stop all greenlets."""
    _start_real(_run, (function, arguments))


_ALL_SIGNALS = _signal.valid_signals()


def _run(function: Callable[..., object], arguments: tuple[object, ...]) -> None:
    # The kernel gives a signal to any thread that does not block it, and `localgcl run` waits for a
    # signal to learn of the end of its command.
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _ALL_SIGNALS)
    if hasattr(os, "sched_setaffinity"):
        # The thread of an event loop, which starts some of these, is bound to a single processor.
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, os.sched_getaffinity(os.getpid()))
    function(*arguments)
