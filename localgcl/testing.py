"""For tests of code that uses localgcl: limits of their own, no limits, and a clock that jumps."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

from localgcl._base import clock
from localgcl._drivers import blocking
from localgcl._drivers.flow import Sleep, Terms
from localgcl._drivers.session import Session
from localgcl._engine.request import Request
from localgcl._storage.database import Database
from localgcl.sync import Limiter

# How long a wait that only a release ends is left to take, before the clock jumps to its timeout:
# somebody in another thread or task may be about to release. Waits for a moment alone need to see
# only whether another is to come earlier.
_RELEASE_SECONDS = 0.05
_OTHERS_SECONDS = 0.001


class Settings(TypedDict, total=False):
    """What `Limiter.create` takes, beside the name."""

    limit: int
    slot_decay_per_second: float
    rate: str
    window_seconds: float
    active: bool
    active_slots: int


@contextlib.contextmanager
def temporary_database(limits: Mapping[str, int | Settings] | None = None) -> Iterator[Limiter]:
    """Have LOCALGCL_DB name a new database with these limits, and yield its Limiter.

    It is in a temporary folder, and gone at the end. Of each limit give the number of slots, or
    what `Limiter.create` takes. Errors are those of `create`.

    >>> with temporary_database({"db": 2, "api": {"limit": 1, "rate": "100/min"}}) as limiter:
    ...     [limit.name for limit in limiter.read_all()]
    ['api', 'db']
    """
    folder = tempfile.mkdtemp(prefix="localgcl-")
    before = os.environ.get("LOCALGCL_DB")
    try:
        os.environ["LOCALGCL_DB"] = path = os.path.join(folder, "limits.db")
        with Limiter(path) as limiter:
            for name, settings in (limits or {}).items():
                if isinstance(settings, Mapping):
                    limiter.create(name, **settings)
                else:
                    limiter.create(name, settings)
            yield limiter
    finally:
        if before is None:
            os.environ.pop("LOCALGCL_DB", None)
        else:
            os.environ["LOCALGCL_DB"] = before
        shutil.rmtree(folder, ignore_errors=True)  # a process of the test may still be writing


@contextlib.contextmanager
def unlimited() -> Iterator[None]:
    """Have every request of this process granted immediately, without touching any database.

    The names and numbers that are given are checked nevertheless.

    >>> with unlimited():
    ...     Limiter().acquire("database", occupy=10**6, timeout_seconds=0).slots
    {'database': 1000000}
    """
    before, Terms.unlimited = Terms.unlimited, True
    try:
        yield
    finally:
        Terms.unlimited = before


class VirtualTime:
    """The clock of this process inside `virtual_time()`."""

    def __init__(self) -> None:
        self._real = clock.now
        self._ahead = 0.0
        self._began = self._real()
        self._lock = threading.Lock()
        self._targets: list[float] = []  # the moments that sleepers wait for
        self._awake = 0  # how many transactions are under way, after which others may sleep

    @property
    def elapsed_seconds(self) -> float:
        """How far the clock has advanced since the beginning, in seconds."""
        return self.now() - self._began

    def advance(self, seconds: float) -> None:
        """Put the clock ahead by so many seconds (0 or more, or ValueError).

        >>> with virtual_time() as time:
        ...     time.advance(60)
        ...     round(time.elapsed_seconds)
        60
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"seconds is a finite number of 0 or more, not {seconds!r}")
        with self._lock:
            self._ahead += seconds

    def now(self) -> float:
        """Return the time on this clock, which runs on by itself as the real one does."""
        return self._real() + self._ahead

    @contextlib.contextmanager
    def _sleeping(self, target: float) -> Iterator[None]:
        """Have no other sleeper jump beyond a moment, while somebody sleeps until then."""
        with self._lock:
            self._targets.append(target)
        try:
            yield
        finally:
            with self._lock:
                self._targets.remove(target)

    @contextlib.contextmanager
    def _being_awake(self) -> Iterator[None]:
        """Have nobody jump meanwhile."""
        with self._lock:
            self._awake += 1
        try:
            yield
        finally:
            with self._lock:
                self._awake -= 1

    def _jump(self, target: float) -> None:
        """Jump to a moment, unless another sleeper's comes earlier, or may do so."""
        with self._lock:
            if not self._awake and target <= min(self._targets):
                self._ahead += max(0.0, target - self.now())

    def _plan(self, request: Request, step: Sleep) -> tuple[float, float]:
        """Return to which moment a sleeper may jump, and after how many real seconds."""
        if step.blockers is None or clock.now() < request.due < math.inf:
            return step.until, _OTHERS_SECONDS
        return max(step.until, request.until), _RELEASE_SECONDS


# Only one of them is in force at a time, as there is one clock.
_in_use: list[VirtualTime] = []


@contextlib.contextmanager
def virtual_time() -> Iterator[VirtualTime]:
    """Have this process's waits for rates, windows, timeouts and pauses take no real time.

    The clock jumps to the moment that would have been waited for, of several the earliest. A wait
    for a slot that others hold is given a moment, and then jumps to its timeout; without a timeout
    it lasts as long as they hold the slot. What other processes wait for takes its time. Use it
    with a `temporary_database`: what it writes there is of the future. RuntimeError inside another.

    >>> with temporary_database({"api": {"rate": "1/min"}}), virtual_time() as time:
    ...     for _ in range(3):
    ...         Limiter().rate_limit("api")
    ...     round(time.elapsed_seconds)
    120
    """
    if _in_use:
        raise RuntimeError("virtual_time() is in use already")
    time = VirtualTime()
    real, block, wait = clock.now, blocking.Listener.sleep, Session.sleep
    transact_in_thread, transact_in_loop = Database.transact, Session.transact

    def sleep(self: blocking.Listener, step: Sleep) -> list[str]:
        assert self._request is not None
        target, seconds = time._plan(self._request, step)
        with time._sleeping(target):
            while True:
                part = Sleep(min(step.until, clock.now() + seconds), step.blockers)
                dead = block(self, part)
                if dead or self.woken or clock.now() < part.until or clock.now() >= step.until:
                    return dead
                if target < math.inf:
                    time._jump(target)

    async def sleep_in_loop(self: Session, request: Request, step: Sleep) -> Any:
        target, seconds = time._plan(request, step)
        with time._sleeping(target):
            while True:
                await asyncio.sleep(0)  # the other tasks first
                part = Sleep(min(step.until, clock.now() + seconds), step.blockers)
                outcome = await wait(self, request, part)
                if outcome or clock.now() < part.until or clock.now() >= step.until:
                    return outcome
                if target < math.inf:
                    time._jump(target)

    def transact(self: Database, *args: Any, **options: Any) -> Any:
        with time._being_awake():
            return transact_in_thread(self, *args, **options)

    async def transact_for_task(self: Session, *args: Any, **options: Any) -> Any:
        with time._being_awake():
            return await transact_in_loop(self, *args, **options)

    _in_use.append(time)
    clock.now = time.now
    blocking.Listener.sleep = sleep  # type: ignore[method-assign]
    Session.sleep = sleep_in_loop  # type: ignore[method-assign]
    Database.transact = transact  # type: ignore[method-assign]
    Session.transact = transact_for_task  # type: ignore[method-assign]
    try:
        yield time
    finally:
        clock.now = real
        blocking.Listener.sleep = block  # type: ignore[method-assign]
        Session.sleep = wait  # type: ignore[method-assign]
        Database.transact = transact_in_thread  # type: ignore[method-assign]
        Session.transact = transact_in_loop  # type: ignore[method-assign]
        _in_use.remove(time)
