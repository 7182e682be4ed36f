"""What one of several sleeping threads does for all of them, and which of them that is.

No lock is taken here, which a signal might leave taken. Each step is one operation on a dict, which
no other thread can come into the middle of, and the order of the steps does the rest: a thread is
off the list before it asks whether the duty is its own, and it gives the duty up before it looks
for the next one. So it cannot happen that threads sleep and none of them has the duty.
"""

from __future__ import annotations

import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Sleeper(Protocol):
        """A place at which a thread sleeps."""

        thread: int

        def poke(self) -> object:
            """Wake it, to claim the duty."""


class Duty:
    """A duty that one of those who sleep has."""

    __slots__ = ("_asleep", "_holder", "due")

    def __init__(self) -> None:
        self.due = -math.inf  # the moment at which there is something to do
        self._asleep: dict[Sleeper, None] = {}
        self._holder: dict[None, Sleeper] = {}

    def begin(self, sleeper: Sleeper) -> None:
        """Fall asleep with the duty, whoever had it: the last to come often stays the longest."""
        self._asleep[sleeper] = None
        self._holder[None] = sleeper

    def claim(self, sleeper: Sleeper) -> Sleeper:
        """Fall asleep, with the duty where nobody has it; return who has it then."""
        self._asleep[sleeper] = None
        return self._holder.setdefault(None, sleeper)

    def leave(self, sleeper: Sleeper) -> None:
        """Sleep no more, and hand the duty on if nobody else has it."""
        self._asleep.pop(sleeper, None)
        if self._holder.get(None, sleeper) is sleeper:
            self._holder.pop(None, None)
            # It stays on the list until it claims the duty: a Ctrl-C here has this called again.
            if following := list(self._asleep):
                following[-1].poke()

    def holder(self) -> Sleeper | None:
        """Return who has the duty."""
        return self._holder.get(None)

    def asleep(self) -> list[Any]:
        """Return all who sleep."""
        return list(self._asleep)
