"""Ctrl-C at every point of a call: nothing stays taken, and nothing stays shut."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import pytest

from localgcl import AcquireConcurrencySlotTimeoutError, Limiter
from localgcl._drivers import blocking
from localgcl._liveness import fifo
from localgcl._storage.database import Database
from localgcl._storage.gate import GateTimeoutError
from tests.helpers.interrupts import PACKAGE, Interrupts

# Between the call that opens something and the name that it gets, Ctrl-C leaves it to Python.
pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed database:ResourceWarning",
    "ignore:unclosed file .*mountinfo:ResourceWarning",
    "ignore:Exception ignored in. <_io.FileIO name='/proc/self/mountinfo'",
)


# Only a fault makes what a thread does take as long.
DEADLINE_SECONDS = 10.0


def interrupt_everywhere(limiter: Limiter, call: Callable[[], object]) -> int:
    """Make a call with a Ctrl-C at each of its points in turn; return how many there are."""
    interrupts = Interrupts()
    for points in itertools.count():
        with contextlib.suppress(KeyboardInterrupt), interrupts:
            call()
        if not interrupts.came:
            return points
        nothing_is_left(limiter)
    raise AssertionError


def nothing_is_left(limiter: Limiter) -> None:
    """Check that all is free and open, at the latest when a thread has seen to it."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (
        gate_is_open(limiter) and limiter.read("a").active_slots == 0 and limiter.waiters() == []
    ):
        assert time.monotonic() < deadline
        time.sleep(0.001)


def gate_is_open(limiter: Limiter) -> bool:
    """Whether another process could enter now."""
    gate = os.open(f"{limiter._database.path}-run/gate", os.O_RDWR)
    try:
        fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(gate)
    return True


def hold(limiter: Limiter, **arguments: Any) -> None:
    """Take a slot in a `with` block."""
    with limiter.concurrency("a", **arguments):
        pass


@pytest.fixture(autouse=True)
def _a_limit_of_one(limiter: Limiter) -> None:
    limiter.create("a", 1)


@pytest.fixture(autouse=True)
def _finalizers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let Ctrl-C strike in a finalizer too, where Python can do no more than tell of it."""
    tell = sys.unraisablehook

    def tell_of_others(unraisable: sys.UnraisableHookArgs) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            tell(unraisable)

    monkeypatch.setattr(sys, "unraisablehook", tell_of_others)
    yield
    gc.collect()  # while the warning of it is ignored


CALLS: dict[str, Callable[[Limiter], object]] = {
    "a slot that is free": lambda limiter: hold(limiter),
    "with a timeout": lambda limiter: hold(limiter, timeout_seconds=5.0),
    "a try": lambda limiter: hold(limiter, timeout_seconds=0),
    "opened and closed": lambda limiter: hold_and_close(limiter),
    "administration": lambda limiter: limiter.update("a", limit=1),
    "the gate is shut for a moment": lambda limiter: in_spite_of_the_gate(limiter, 5.0),
    "the gate is shut for longer": lambda limiter: in_spite_of_the_gate(limiter, 0.0003, 5.0),
    "wait in vain": lambda limiter: wait_in_vain(limiter),
    "wait and be served": lambda limiter: wait_and_be_served(limiter),
    "wait in vain, one of many": lambda limiter: wait_in_vain(limiter, many=True),
    "wait and be served, one of many": lambda limiter: wait_and_be_served(limiter, many=True),
}


@pytest.mark.parametrize("call", CALLS)
def test_interrupted_anywhere(limiter: Limiter, call: str) -> None:
    """A call that is interrupted anywhere leaves no slot taken, no place and no gate shut."""
    assert interrupt_everywhere(limiter, lambda: CALLS[call](limiter)) > 20


class OverError(TimeoutError):
    """What a program raises from the handler of its own alarm."""


def in_code_of_ours(frame: FrameType | None) -> bool:
    """Whether a frame is localgcl's own, and in no finalizer, out of which nothing is raised."""
    assert frame is not None
    ours = frame.f_code.co_filename.startswith(PACKAGE)
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return ours and frame is None


def test_interrupted_anywhere_after_it_came_too_late_to_the_gate(
    limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place in the queue is given up at once, not when Python next looks for cycles."""
    held = limiter.acquire("a")
    enter = Database.transact
    tries = itertools.count()

    def enter_but_once(self: Database, *args: Any, **arguments: Any) -> Any:
        if threading.get_ident() == threading.main_thread().ident and next(tries) == 1:
            raise GateTimeoutError
        return enter(self, *args, **arguments)

    monkeypatch.setattr(Database, "transact", enter_but_once)
    interrupts = Interrupts()
    points = 0
    while True:
        tries = itertools.count()
        gc.disable()
        try:
            with (
                contextlib.suppress(KeyboardInterrupt, AcquireConcurrencySlotTimeoutError),
                interrupts,
            ):
                limiter.acquire("a", timeout_seconds=0.02)
            entered, tries = next(tries), itertools.count(2)
            deadline = time.monotonic() + DEADLINE_SECONDS
            while limiter.waiters():
                assert time.monotonic() < deadline
                time.sleep(0.001)
        finally:
            gc.enable()
        if not interrupts.came:
            break
        points += 1
    assert points > 50
    assert entered > 1, "it was too late the first time already"
    held.release()


def test_a_timeout_of_the_programs_own_comes_out(limiter: Limiter) -> None:
    """Raised by a signal's handler at any point, it is neither swallowed nor taken for a fault."""
    interrupts = Interrupts(OverError, in_code_of_ours)
    for _ in itertools.count():
        came_out = False
        try:
            with interrupts:
                hold(limiter)
        except OverError:
            came_out = True
        assert came_out is interrupts.came
        if not came_out:
            break
        nothing_is_left(limiter)


@pytest.mark.parametrize("is_read", [True, False])
def test_a_ring_interrupted_anywhere_leaves_sigpipe_as_it_was(is_read: bool) -> None:
    """Neither blocked in a program that wants to be ended by it, nor on its way to do so."""
    interrupts = Interrupts()
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        for _ in itertools.count():
            reader, writer = os.pipe()
            if not is_read:
                os.close(reader)
            with contextlib.suppress(KeyboardInterrupt, BrokenPipeError), interrupts:
                fifo._write(writer, b"hints")
            assert signal.SIGPIPE not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
            assert signal.SIGPIPE not in signal.sigpending()
            os.close(writer)
            if is_read:
                os.close(reader)
            if not interrupts.came:
                break
    finally:
        signal.signal(signal.SIGPIPE, before)


def hold_and_close(limiter: Limiter) -> None:
    """Close the file, open it, take a slot, and close the file again."""
    limiter.close()  # whatever an interrupted call has left open: each call is to open it
    hold(limiter)
    limiter.close()


def in_spite_of_the_gate(limiter: Limiter, *timeouts: float) -> None:
    """Try to take a slot while somebody else has the gate for a millisecond."""
    gate = os.open(f"{limiter._database.path}-run/gate", os.O_RDWR)
    fcntl.flock(gate, fcntl.LOCK_EX)
    timer = threading.Timer(0.001, os.close, (gate,))
    timer.start()
    try:
        for timeout in timeouts[:-1]:
            with contextlib.suppress(AcquireConcurrencySlotTimeoutError):
                hold(limiter, timeout_seconds=timeout)
        hold(limiter, timeout_seconds=timeouts[-1])
    finally:
        timer.join()


def wait_in_vain(limiter: Limiter, *, many: bool = False) -> None:
    """Wait for a slot that somebody else has, until the time is over."""
    with (
        somebody_else(limiter),
        places_shared(many),
        contextlib.suppress(AcquireConcurrencySlotTimeoutError),
    ):
        hold(limiter, timeout_seconds=0.002)


def wait_and_be_served(limiter: Limiter, *, many: bool = False) -> None:
    """Wait for a slot that somebody else frees."""
    with somebody_else(limiter) as release, places_shared(many):
        timer = threading.Timer(0.002, release)
        timer.start()
        try:
            hold(limiter, timeout_seconds=5.0)
        finally:
            timer.join()


@contextlib.contextmanager
def places_shared(many: bool) -> Iterator[None]:
    """Have all who wait share a wake-up FIFO, as if there were many."""
    with pytest.MonkeyPatch.context() as patch:
        if many:
            patch.setattr(blocking, "_OWN_FIFOS", 0)
        yield


@contextlib.contextmanager
def somebody_else(limiter: Limiter) -> Iterator[Callable[[], object]]:
    """Take the slot in another thread, which Ctrl-C does not concern; yield what frees it."""
    with ThreadPoolExecutor(1) as pool:
        lease = pool.submit(limiter.acquire, "a").result()
        try:
            yield lease.release
        finally:
            pool.submit(lease.release).result()
