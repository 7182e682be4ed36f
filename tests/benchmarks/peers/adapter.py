"""What every peer is to the benchmark: slots of some limits, and a rate, whatever it calls them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Protocol

# On a clock that all processes of the machine share.
now = time.monotonic

PROCESSES = 8

# The limits, and the slots of each.
PLENTY, ONE, KILLED = "plenty", "one", "killed"
SLOTS = {PLENTY: PROCESSES, ONE: 1, KILLED: 1}

# So much is asked for in a second. Some of the peers admit as many at once, and so all are asked
# to.
RATE = 10.0
BURST = 10

Call = Callable[[], object]


class Slot(Protocol):
    """One slot of a limit, taken and freed again and again by one thread."""

    def enter(self) -> None:
        """Wait for it."""

    def leave(self) -> None:
        """Free it."""


class Block:
    """A slot that is a context manager, a new one each time."""

    def __init__(self, make: Callable[[], object]) -> None:
        self._make = make

    def enter(self) -> None:
        self._block = self._make()
        self._block.__enter__()  # type: ignore[attr-defined]

    def leave(self) -> None:
        self._block.__exit__(None, None, None)  # type: ignore[attr-defined]


class Adapter:
    """A peer in one process, run in `environment`; `folder` is where all its processes meet.

    It has slots, or a rate, or both.
    """

    title: str
    distribution: str | None = None  # what has to be installed
    command: str | None = None  # or which command
    settle_seconds = 0.3  # by then whoever was told to enter waits
    has_slots = True
    has_rate = True

    def __init__(self, folder: str) -> None:
        self.folder = folder
        # What is installed is compiled, whatever this environment says of a checkout.
        self.environment = dict(os.environ)
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def prepare(self) -> None:
        """Make the limits; called once, before any other process begins."""

    def slot(self, limit: str) -> Slot:
        """Return a slot of a limit."""
        raise NotImplementedError

    def pair(self, limit: str) -> Call:
        """Return what takes a slot and frees it."""
        slot = self.slot(limit)

        def pair() -> None:
            slot.enter()
            slot.leave()

        return pair

    def rate(self) -> Call:
        """Return what returns when the rate allows."""
        raise NotImplementedError

    def once(self) -> str | list[str]:
        """Return a job that takes one slot, frees it and ends: a program in Python or a command."""
        raise NotImplementedError

    def die(self, say: Callable[[float], None]) -> None:
        """Kill whoever holds a slot here, and say when."""
        say(now())
        os.kill(os.getpid(), signal.SIGKILL)
