"""What wakes one event loop: its wake-up FIFO, and the lifelines that block its requests.

They are all behind one selector, so that the loop has only one descriptor to read.
"""

from __future__ import annotations

import asyncio
import selectors
import weakref
from collections.abc import Callable, Iterable

from localgcl._base import threads
from localgcl._base.descriptors import NONE, Descriptor, is_ours, mark
from localgcl._engine.request import Request
from localgcl._liveness.fifo import WriteEnd
from localgcl._liveness.folder import Folder


class LoopWatch:
    """A wake-up FIFO and other processes' lifelines, to which an event loop listens."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.is_on = False
        self._loop = loop
        self._wake_fifo = NONE
        self._woken: Callable[[], None] = _nothing
        self._ends: dict[str, WriteEnd] = {}  # by lifeline
        self._concerned: dict[str, set[Request]] = {}
        self._selector = _Selector(self)

    def begin(self, wake_fifo: Descriptor, woken: Callable[[], None]) -> None:
        """Listen to this wake-up FIFO; the loop calls `woken` when there is something to `hear`."""
        self._wake_fifo = wake_fifo
        self._woken = woken
        if self._selector.is_lost():
            self._selector.close()
            self._selector = _Selector(self)
        self.is_on = True
        self._hear_all()

    def turn_to(self, wake_fifo: Descriptor) -> None:
        """Listen to this wake-up FIFO in place of the one before."""
        self._wake_fifo = wake_fifo
        self._renew()

    def recreate(self) -> None:
        """Listen again if the program has closed what the loop waits for."""
        if self.is_on and self._selector.is_lost():
            self._renew()

    def _renew(self) -> None:
        # The loop forgets the old number first, since the new selector may get the same number.
        self._loop.remove_reader(self._selector.number)
        self._selector.close()
        self._selector = _Selector(self)
        # The ends that are lost are dropped. The check that is made every second finds those
        # deaths.
        self._ends = {name: end for name, end in self._ends.items() if not end.is_lost()}
        self._hear_all()

    def _hear_all(self) -> None:
        register = self._selector.real.register
        if is_ours(self._wake_fifo):  # otherwise it is made again, and `turn_to` is called
            register(self._wake_fifo, selectors.EVENT_READ)
        for name, end in self._ends.items():
            register(end.descriptor, selectors.EVENT_READ, name)
        self._loop.add_reader(self._selector.number, self._woken)

    def hear(self) -> tuple[bool, list[str]]:
        """Return whether the wake-up FIFO was written to, and the lifelines that have ended."""
        if not is_ours(self._selector.number):
            self.recreate()
        found = [key.data for key, _ in self._selector.real.select(0)]
        return None in found, [name for name in found if name is not None]

    def add(self, request: Request, folder: Folder, lifelines: Iterable[str]) -> list[str]:
        """Watch these lifelines for a request; if some are dead, watch none and return the dead."""
        self.recreate()
        for name in lifelines:
            self._concerned.setdefault(name, set()).add(request)
        ends, dead = folder.open_to_watch(name for name in lifelines if name not in self._ends)
        for name, end in ends.items():
            if end is not None:
                self._add(name, end)
        if dead:
            self.discard(request, lifelines)
        return dead

    def _add(self, name: str, end: WriteEnd) -> None:
        try:
            self._selector.real.register(end.descriptor, selectors.EVENT_READ, name)
        except KeyError:  # the program has closed one that had this number
            self._renew()
            self._selector.real.register(end.descriptor, selectors.EVENT_READ, name)
        self._ends[name] = end

    def discard(self, request: Request, lifelines: Iterable[str]) -> None:
        """Stop watching these lifelines for a request."""
        for name in lifelines:
            concerned = self._concerned.get(name)
            if concerned is not None:
                concerned.discard(request)
                if not concerned:
                    self.pop(name)

    def pop(self, lifeline: str) -> set[Request]:
        """Stop watching a lifeline, and return the requests for which it was watched."""
        end = self._ends.pop(lifeline, None)
        if end is not None and is_ours(self._selector.number):
            self._selector.real.unregister(end.descriptor)
        return self._concerned.pop(lifeline, set())

    def close(self) -> None:
        """Stop listening."""
        if self.is_on and not self._loop.is_closed():
            self._loop.remove_reader(self._selector.number)
        self.is_on = False
        for name in tuple(self._ends):
            self.pop(name)
        self._selector.close()


class _Selector:
    """A selector that the loop waits for, and nobody else.

    It belongs to a watch, and is closed with that watch, unless the program has closed it before.
    Its number may then be that of another file. To close the selector, or to drop it, would close
    that file.
    """

    def __init__(self, watch: LoopWatch) -> None:
        self.real: selectors.DefaultSelector = threads.real(selectors, "DefaultSelector")()
        self.number = mark(self.real.fileno())
        self._end = weakref.finalize(watch, _end, self.real, self.number)
        self._end.atexit = False

    def is_lost(self) -> bool:
        """Whether the program has closed it."""
        return not is_ours(self.number)

    def close(self) -> None:
        """Close it unless it is lost."""
        self._end()


def _end(selector: selectors.DefaultSelector, number: Descriptor) -> None:
    if is_ours(number):
        selector.close()
    else:
        _lost.append(selector)


# These selectors are kept: dropping them would close their numbers.
_lost: list[selectors.DefaultSelector] = []


def _nothing() -> None:
    pass
