"""The wake-up FIFO that many waiting threads of a process share.

One of them is at the poll. It polls the FIFO and the lifelines of all their blockers. It reads the
hints, which are tickets, and wakes the threads concerned. Each of the others sleeps on a lock of
its own. If a thread leaves the poll, for whatever reason, another one takes its place.

The threads share no lock here, because a signal might leave it taken. Each thread first announces
itself (it registers, or it asks to be woken) and then looks. So of two threads that meet, one sees
the other.
"""

from __future__ import annotations

import _thread
import contextlib
import select

from localgcl._base import threads
from localgcl._base.descriptors import Descriptor, close_if_ours
from localgcl._drivers.places import Place
from localgcl._liveness.duty import Duty
from localgcl._liveness.fifo import HINT_AT_ALL, HINT_AT_NONE, HINT_LENGTH
from localgcl._liveness.lifeline import WakeFifo, seems_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from localgcl._engine.request import Request
    from localgcl._liveness.folder import Folder
    from localgcl._liveness.lifeline import Lifeline
    from localgcl._storage.database import Database

# How many lifelines are watched before those that block nobody any more are dropped.
_MANY_WATCHED = 32

# Seats are kept in this many sets, by ticket. A ticket may be given out again while its former
# owner leaves. Exactly that one seat is removed from a set, in one step.
_SETS = 64


class Receiver(WakeFifo):
    """A FIFO that wakes many threads."""

    def __init__(self, folder: Folder, name: str) -> None:
        self.poller = Duty()  # the thread at the poll, among those who sleep here
        self._seats: tuple[set[Seat], ...] = tuple(set() for _ in range(_SETS))
        self._arriving: set[Seat] = set()  # others may know their tickets already
        # It has one entry for each reading of hints or of deaths that was begun. An entry that is
        # still here when a new reading begins was interrupted, perhaps by a Ctrl-C. Nobody knows
        # what was lost then.
        self._begun: list[None] = []
        self._replaced: list[Descriptor] = []  # the thread at the poll must close them
        self._many_watched = _MANY_WATCHED
        super().__init__(folder, name)

    def is_used(self) -> bool:
        return bool(any(self._seats) or self._arriving)

    # Waiters

    def expect(self, seat: Seat) -> None:
        """Accept hints for a seat; called before anybody can learn its ticket."""
        self._arriving.add(seat)

    def seat(self, seat: Seat) -> None:
        """Accept hints for a seat, by its ticket."""
        ticket = seat.request.ticket
        if seat.ticket != ticket:
            self._unseat(seat)
            seat.ticket = ticket
        formers = self._seated_by(ticket)
        self._seats[ticket % _SETS].add(seat)
        for former in formers:
            if former is not seat:  # its file was replaced, and it must ask again
                former.told = []
                former.poke()
        self._arriving.discard(seat)

    def _unseat(self, seat: Seat) -> None:
        self._seats[seat.ticket % _SETS].discard(seat)

    def _seated(self) -> list[Seat]:
        return [seat for seats in self._seats for seat in tuple(seats)]

    def _seated_by(self, ticket: int) -> list[Seat]:
        return [seat for seat in tuple(self._seats[ticket % _SETS]) if seat.ticket == ticket]

    def forget(self, seat: Seat) -> None:
        """Accept no more hints for a seat."""
        self._arriving.discard(seat)
        self._unseat(seat)
        if not self.is_used() and self.watch.ends:
            self._watch_less()

    # Hints

    def wake(self, tickets: Iterable[int]) -> bool:
        """Wake threads of this process; only a thread at the poll needs the FIFO for that."""
        arriving = tuple(self._arriving)  # read first: all others have their seats by now
        found: list[Seat] = []
        for ticket in tickets:
            if ticket == HINT_AT_ALL:
                found += arriving
                found += self._seated()
            elif seated := self._seated_by(ticket):
                found += seated
            elif ticket != HINT_AT_NONE:
                found += arriving
        for seat in found:
            seat.hinted = True
            seat.poke()
        return True

    def wake_poller(self) -> None:
        """Make the thread at the poll look round."""
        if not super().wake((HINT_AT_NONE,)):
            self.folder.wake(self.name, (HINT_AT_NONE,))

    def _read(self) -> None:
        self._begun.append(None)
        hints = self.drain()
        tickets = {
            int.from_bytes(hints[start : start + HINT_LENGTH])
            for start in range(0, len(hints), HINT_LENGTH)
        }
        # If the program has closed the FIFO, all are woken. The first one that looks makes it
        # again.
        self.wake(tickets if seems_there(self) else (HINT_AT_ALL,))
        del self._begun[-1:]  # the list may be empty by now

    # The poll

    def listen(self, seat: Seat, seconds: float) -> None:
        """Be at the poll for all, for `seconds` or until something happens."""
        while self._replaced:
            close_if_ours(self._replaced[-1])
            del self._replaced[-1:]
        while self._begun:
            self.wake((HINT_AT_ALL,))
            del self._begun[-1:]
        if len(self.watch.ends) > self._many_watched:
            self._watch_less()
        if seat.stirred:
            return  # others poked it before they could see it at the poll
        fifo = self.descriptor
        watched = self.watch.ends.copy()  # the copy keeps them open meanwhile
        names = {}
        poll = threads.poll()
        poll.register(fifo, select.POLLIN)
        for name, end in watched.items():
            names[end.descriptor] = name
            poll.register(end.descriptor, end.events)
        events = poll.poll(seconds * 1000)
        if self.descriptor >= 0:  # otherwise this is a child that a signal's handler forked
            ended = [names[descriptor] for descriptor, _ in events if descriptor != fifo]
            if len(ended) < len(events):
                self._read()
            if ended:
                self._tell_of_ends(ended)

    # Lifelines

    def watch_for(self, seat: Seat, lifelines: Collection[str]) -> list[str]:
        """Watch these lifelines for a seat; return those that have ended."""
        seat.lifelines = lifelines
        ends = self.watch.ends
        new = [name for name in lifelines if name not in ends]
        if not new:
            seat.unwatched = ()
            return []
        opened, dead = self.folder.open_to_watch(new)
        seat.unwatched = [name for name, end in opened.items() if end is None]
        try:
            ends.update({name: end for name, end in opened.items() if end is not None})
        finally:
            if self.poller.holder() is not None:
                self.wake_poller()
        return dead

    def _tell_of_ends(self, names: Collection[str]) -> None:
        self._begun.append(None)
        for name in names:
            self.watch.ends.pop(name, None)
        # Only opening it by name tells whether the owner has made it again.
        ends, dead = self.folder.open_to_watch(names)
        self.watch.ends.update({name: end for name, end in ends.items() if end is not None})
        lost = {*dead, *(name for name, end in ends.items() if end is None)}
        for seat in self._seated():
            ended = [name for name in seat.lifelines if name in lost]
            if ended:
                seat.told = ended
                seat.poke()
        del self._begun[-1:]  # the list may be empty by now

    def _watch_less(self) -> None:
        """Stop watching the lifelines that block nobody."""
        ends = self.watch.ends
        before = ends.copy()
        try:
            for name in before.keys() - self._wanted():
                ends.pop(name, None)
        finally:
            # A thread that came meanwhile may have relied on a lifeline that was dropped here.
            missed = (self._wanted() & before.keys()) - ends.keys()
            if missed:
                ends.update({name: before[name] for name in missed})
                self.wake_poller()
        self._many_watched = _MANY_WATCHED + 2 * len(ends)

    def _wanted(self) -> set[str]:
        return {name for seat in self._seated() for name in seat.lifelines}

    # The FIFO

    def recreate(self) -> None:
        if self.is_there():
            return
        self._begun.append(None)  # hints may have been in it
        taken = self.renew()
        if taken is not None:
            # The last writer of the old FIFO is gone now, so the thread at the poll wakes.
            self._replaced.append(taken)

    def close(self) -> None:
        super().close()
        for seat in (*self._arriving, *self._seated()):
            seat.told = []
            seat.wake()


class Seat(Place):
    """A place at a receiver."""

    __slots__ = ("_bell", "_receiver", "lifelines", "ticket")

    def __init__(
        self, database: Database, request: Request, lifeline: Lifeline, receiver: Receiver
    ) -> None:
        super().__init__(database, request, lifeline, receiver)
        self.ticket = 0
        self.lifelines: Collection[str] = ()
        self._receiver = receiver
        self._bell = _thread.allocate_lock()
        self._bell.acquire()

    def expect(self) -> None:
        """Accept hints before its ticket is known."""
        self._receiver.expect(self)

    def _watch(self, lifelines: Collection[str]) -> list[str]:
        self._receiver.seat(self)
        return self._receiver.watch_for(self, lifelines)

    def _rest(self, seconds: float) -> None:
        receiver = self._receiver
        # If the thread at the poll is this same thread, it was interrupted there by a signal's
        # handler, which waits as well.
        if receiver.poller.claim(self).thread == self.thread:
            receiver.listen(self, seconds)
        else:
            self._bell.acquire(timeout=seconds)

    def _rise(self) -> None:
        super()._rise()
        poller = self._receiver.poller
        poller.leave(self)
        holder = poller.holder()
        if holder is not None and holder.thread == self.thread:
            self._receiver.wake_poller()  # what came meanwhile may have been for that seat

    def wake(self) -> None:
        """Wake its thread, unless that is at the poll."""
        with contextlib.suppress(RuntimeError):  # it was woken already
            self._bell.release()

    def poke(self) -> None:
        self.stirred = True
        self.wake()
        holder = self._receiver.poller.holder()
        if holder is not None and holder.thread == self.thread != _thread.get_ident():
            self._receiver.wake_poller()

    def close(self) -> None:
        self._receiver.forget(self)
