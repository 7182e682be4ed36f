"""What one event loop is woken by: its ear, and the lifelines that are in the way of its requests.

They are behind one selector, so that the loop has one descriptor to read for all of them.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Iterable

from localgcl import _threads
from localgcl._folder import Folder, WriteEnd
from localgcl._outcomes import Request


class Watch:
    """An ear and other processes' lifelines, heard by an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.is_on = False
        self._loop = loop
        # The loop waits for it, and nobody else.
        self._selector: selectors.DefaultSelector = _threads.real(selectors, "DefaultSelector")()
        self._ear = -1  # the descriptor
        self._ends: dict[str, WriteEnd] = {}  # by lifeline
        self._concerned: dict[str, set[Request]] = {}

    def begin(self, ear: int, woken: Callable[[], None]) -> None:
        """Hear this ear, and have the loop call `woken` when there is something to `hear`."""
        self.is_on = True
        self._ear = ear
        self._selector.register(ear, selectors.EVENT_READ)
        self._loop.add_reader(self._selector.fileno(), woken)

    def turn_to(self, ear: int) -> None:
        """Hear this ear in place of the one before."""
        self._selector.unregister(self._ear)
        self._ear = ear
        self._selector.register(ear, selectors.EVENT_READ)

    def hear(self) -> tuple[bool, list[str]]:
        """Return whether the ear was rung, and the lifelines that have ended."""
        found = [key.data for key, _ in self._selector.select(0)]
        return None in found, [name for name in found if name is not None]

    def add(self, request: Request, folder: Folder, lifelines: Iterable[str]) -> list[str]:
        """Watch these lifelines for a request; where some are dead, none, and return those."""
        for name in lifelines:
            self._concerned.setdefault(name, set()).add(request)
        ends, dead = folder.open_to_watch(name for name in lifelines if name not in self._ends)
        for name, end in ends.items():
            if end is not None:
                self._ends[name] = end
                self._selector.register(end.descriptor, selectors.EVENT_READ, name)
        if dead:
            self.discard(request, lifelines)
        return dead

    def discard(self, request: Request, lifelines: Iterable[str]) -> None:
        """Watch these lifelines no more for a request."""
        for name in lifelines:
            concerned = self._concerned.get(name)
            if concerned is not None:
                concerned.discard(request)
                if not concerned:
                    self.pop(name)

    def pop(self, lifeline: str) -> set[Request]:
        """Watch a lifeline no more, and return the requests for which it was watched."""
        end = self._ends.pop(lifeline, None)
        if end is not None:
            self._selector.unregister(end.descriptor)
        return self._concerned.pop(lifeline, set())

    def close(self) -> None:
        """Hear nothing any more."""
        if self.is_on and not self._loop.is_closed():
            self._loop.remove_reader(self._selector.fileno())
        for name in tuple(self._ends):
            self.pop(name)
        self._selector.close()
