"""Where a waiting thread sleeps, and what one of these threads looks after for all of them.

The first few waiting threads of a process have a wake-up FIFO each. They sleep in the kernel, which
wakes them as soon as somebody writes to the FIFO. All others share one FIFO, see `receiver`.
"""

from __future__ import annotations

import select
from _thread import get_ident

from localgcl._base import clock, threads
from localgcl._drivers.recheck import concerned
from localgcl._liveness.fifo import HINT_AT_NONE
from localgcl._liveness.lifeline import seems_there, seems_whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from localgcl._engine.request import Request
    from localgcl._liveness.lifeline import Lifeline, WakeFifo
    from localgcl._storage.database import Database

# How often one of the waiting threads checks, for all of them, what no event tells.
PERIOD_SECONDS = 1.0

# How long the other threads sleep at a stretch. Poll takes no infinity.
_LONGEST_SECONDS = 60.0

# The byte that HINT_AT_NONE consists of. No ticket begins with it.
_AT_NONE = b"\xff"


class Place:
    """Where one thread sleeps while its request waits."""

    __slots__ = (
        "database",
        "hinted",
        "lifeline",
        "openings",
        "request",
        "stirred",
        "thread",
        "told",
        "until",
        "unwatched",
        "wake_fifo",
    )

    def __init__(
        self, database: Database, request: Request, lifeline: Lifeline, wake_fifo: WakeFifo
    ) -> None:
        self.database = database
        self.request = request
        self.lifeline = lifeline
        self.wake_fifo = wake_fifo
        self.thread = get_ident()
        self.openings = 0  # of the database, when it last had the request's row
        self.until = 0.0  # the moment at which its sleep ends
        self.unwatched: Collection[str] = ()  # lifelines whose end no event tells
        # Other threads of this process set these before they `poke` it:
        self.hinted = False  # it was woken since it last looked
        self.told: list[str] | None = None  # it must look; these lifelines have ended
        self.stirred = False  # it was poked

    def sleep(self, until: float, lifelines: Collection[str]) -> list[str]:
        """Sleep until woken, or until one of these lifelines ends; return those that have."""
        self.until = until
        keeper = self.lifeline.keeper
        try:
            dead = self._watch(lifelines)
            if dead:
                return dead
            self.stirred = False
            keeper.begin(self)
            keeps = True
            while not self.hinted and self.told is None:
                now = clock.now()
                if now >= until:
                    break
                if keeps and now >= keeper.due:
                    keeps = keeper.claim(self) is self
                    if keeps:
                        keeper.due = now + PERIOD_SECONDS
                        look_round(keeper.asleep())
                    continue
                self._rest(min(until - now, keeper.due - now if keeps else _LONGEST_SECONDS))
                if self.stirred:
                    self.stirred = False
                    keeps = keeper.claim(self) is self
            told, self.told = self.told, None
            return told or []
        finally:
            try:
                self._rise()
            except BaseException:
                self._rise()
                raise

    def _watch(self, lifelines: Collection[str]) -> list[str]:
        """Watch these lifelines during the sleep; return those that have ended."""
        raise NotImplementedError

    def _rest(self, seconds: float) -> None:
        """Sleep for `seconds`, or until something happens."""
        raise NotImplementedError

    def _rise(self) -> None:
        self.lifeline.keeper.leave(self)

    def poke(self) -> None:
        """Wake it."""
        raise NotImplementedError

    def settle(self) -> None:
        """Discard the hints before a look, so that none is missed."""

    def close(self) -> None:
        """Give back what was borrowed."""
        raise NotImplementedError


class OwnPlace(Place):
    """A place with a wake-up FIFO of its own."""

    __slots__ = ("_lifelines", "_poll")

    def _watch(self, lifelines: Collection[str]) -> list[str]:
        wake_fifo = self.wake_fifo
        self._lifelines = lifelines
        dead = wake_fifo.watch.turn_to(wake_fifo.folder, lifelines)
        self.unwatched = wake_fifo.watch.unwatched
        if not dead:
            poll = self._poll = threads.poll()
            poll.register(wake_fifo.descriptor, select.POLLIN)
            for end in wake_fifo.watch.ends.values():
                poll.register(end.descriptor, end.events)
        return dead

    def _rest(self, seconds: float) -> None:
        wake_fifo = self.wake_fifo
        for descriptor, _ in self._poll.poll(seconds * 1000):
            if descriptor != wake_fifo.descriptor:
                self.told = wake_fifo.watch.turn_to(wake_fifo.folder, self._lifelines)
            # Mostly it is a hint, which is read and discarded when the FIFO is used again.
            elif not self.stirred or (self.told is None and wake_fifo.drain().strip(_AT_NONE)):
                self.hinted = True

    def poke(self) -> None:
        self.stirred = True
        if not self.wake_fifo.wake((HINT_AT_NONE,)):
            self.wake_fifo.folder.wake(self.wake_fifo.name, (HINT_AT_NONE,))

    def settle(self) -> None:
        self.wake_fifo.drain()

    def close(self) -> None:
        self.lifeline.return_wake_fifo(self.wake_fifo)


def look_round(places: list[Place]) -> None:
    """Check what no event tells, once for all who sleep, and wake those concerned.

    Was the file replaced, or a FIFO removed? Did somebody die who could not be watched? Was a
    process killed after its commit and before its wake-ups? Was a sleep due to end while the
    machine was suspended and no timer counted?
    """
    now, me = clock.now(), get_ident()
    whole = all(seems_whole(folder) for folder in {place.lifeline.folder for place in places})
    waiting: dict[Database, list[Request]] = {}
    for place in places:
        waiting.setdefault(place.database, []).append(place.request)
    changed = {database for database in waiting if not database.is_intact(database.openings)}
    unheard = {
        request
        for database, requests in waiting.items()
        if database not in changed
        for request in concerned(database, requests)
    }
    missing = {
        wake_fifo
        for wake_fifo in {place.wake_fifo for place in places}
        if not seems_there(wake_fifo)
    }
    dead = {
        (folder, name)
        for folder, name in {
            (place.lifeline.folder, name) for place in places for name in place.unwatched
        }
        if not folder.is_alive(name)
    }
    for place in places:
        ended = [name for name in place.unwatched if (place.lifeline.folder, name) in dead]
        if (
            ended
            or not whole
            or place.until <= now
            or place.openings != place.database.openings
            or place.database in changed
            or place.wake_fifo in missing
            or place.request in unheard
        ):
            place.told = ended
            if place.thread != me:
                place.poke()
