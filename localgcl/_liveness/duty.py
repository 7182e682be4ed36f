"""What one of several sleeping threads does for all of them, and which thread that is.

No lock is taken here, since a signal might leave it locked. Each step is one operation on a dict,
which no other thread can interrupt. The order of the steps does the rest: a thread leaves the list
before it asks whether it has the duty, and it gives up the duty before it looks for the next one.
So it cannot happen that threads sleep and none of them has the duty.
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
    """A duty that one of the sleeping threads has."""

    __slots__ = ("_asleep", "_holder", "due")

    def __init__(self) -> None:
        self.due = -math.inf  # the time at which there is something to do
        self._asleep: dict[Sleeper, None] = {}
        self._holder: dict[None, Sleeper] = {}

    def begin(self, sleeper: Sleeper) -> None:
        """Fall asleep with the duty, taken from any other: the last to come often stays longest."""
        self._asleep[sleeper] = None
        self._holder[None] = sleeper

    def claim(self, sleeper: Sleeper) -> Sleeper:
        """Fall asleep, with the duty if nobody has it; return who has it then."""
        self._asleep[sleeper] = None
        return self._holder.setdefault(None, sleeper)

    def leave(self, sleeper: Sleeper) -> None:
        """Stop sleeping, and hand the duty on if nobody else has it."""
        self._asleep.pop(sleeper, None)
        if self._holder.get(None, sleeper) is sleeper:
            self._holder.pop(None, None)
            # The next one stays on the list until it claims the duty: after a Ctrl-C here, this is
            # called again.
            if following := list(self._asleep):
                following[-1].poke()

    def holder(self) -> Sleeper | None:
        """Return who has the duty."""
        return self._holder.get(None)

    def asleep(self) -> list[Any]:
        """Return all who sleep."""
        return list(self._asleep)
