"""How one thread drives a request: it runs the transactions, and sleeps between them."""

from __future__ import annotations

import functools
import os
import select

from localgcl import _clock, _slots, _threads
from localgcl._database import NestedCallError, NoDatabaseError
from localgcl._gate import GateTimeoutError
from localgcl._later import run_later
from localgcl._lifeline import lifeline, seems_whole
from localgcl._problems import explained, is_foreign
from localgcl._request import Transact, flow
from localgcl.errors import DatabaseError, GreenThreadsError, LocalGCLError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from localgcl._database import Database, Transaction
    from localgcl._folder import Folder
    from localgcl._lifeline import Ear, Lifeline
    from localgcl._outcomes import Granted, Request
    from localgcl._request import Sleep, Terms

# How often a waiter asks whether the file was replaced, or its own FIFOs taken away.
_TICK_SECONDS = 2.0

# How often a waiter that cannot watch all that are in its way looks whether they live.
_BLIND_SECONDS = 1.0

# How long a clean-up waits for the gate; then a thread waits, and the caller goes on.
_CLEAN_UP_SECONDS = 1.0


class Listener:
    """What one blocked thread sleeps on: an ear, borrowed for as long as its request waits."""

    far_net_seconds = 10.0
    _request: Request | None = None

    def __init__(self, database: Database, request: Request) -> None:
        self.rung = False  # whether the last sleep ended because somebody rang
        self._database = database
        self._openings = 0  # of the database, when its row was last seen there
        self._lifeline: Lifeline | None = None
        self._ear: Ear | None = None
        self._pid = os.getpid()
        self._request = request  # the last, for `__del__`

    def ear(self, folder: Folder) -> str:
        self._openings = self._database.openings
        ours = lifeline(folder)
        if self._ear is None or self._lifeline is not ours:
            self._lifeline = ours
            self._ear = ours.borrow_ear()
        return self._ear.name

    def mend(self) -> None:
        self._openings = self._database.openings  # its row has been found there
        if self._ear is not None:
            self._ear.mend()

    def sleep(self, step: Sleep) -> list[str]:
        self.rung = False
        ear = self._ear
        if step.ways is None or ear is None:
            while (seconds := step.until - _clock.now()) > 0:
                _threads.sleep(seconds)
            return []
        dead = ear.watch.turn_to(ear.folder, step.ways)
        until = step.until if ear.watch.is_whole else min(step.until, _clock.now() + _BLIND_SECONDS)
        if not dead:
            poll = _threads.poll()
            poll.register(ear.descriptor, select.POLLIN)
            for end in ear.watch.ends.values():
                poll.register(end.descriptor, 0)  # errors are always reported
            events: list[tuple[int, int]] = []
            while not events and (seconds := until - _clock.now()) > 0:
                events = poll.poll(min(seconds, _TICK_SECONDS) * 1000)
                if not events and not self._is_intact():
                    break
            for descriptor, _ in events:
                if descriptor == ear.descriptor:
                    self.rung = True
                else:
                    dead = ear.watch.turn_to(ear.folder, step.ways)
        return dead

    def grant(self, request: Request) -> Granted | None:
        """Return the grant that this was rung for, unless it is to be looked for."""
        ear = self._ear
        if ear is None:
            return None
        # Who has its slots need not stand at the gate to learn of it, unless others may take it
        # for dead by now: a transaction mends that.
        if seems_whole(ear.folder):
            granted = self._database.read(_slots.peek, request)
            if granted is not None:
                return granted  # the hints are read away when the ear is borrowed again
        ear.drain()  # before the look, lest one be missed
        return None

    def _is_intact(self) -> bool:
        ear = self._ear
        return (
            ear is not None
            and self._pid == os.getpid()
            and ear.is_there()
            and seems_whole(ear.folder)
            and self._database.is_intact(self._openings)
        )

    def close(self) -> None:
        ear, self._ear = self._ear, None
        if ear is not None and self._lifeline is not None:
            self._lifeline.return_ear(ear)

    def __del__(self) -> None:
        # Ctrl-C upon Ctrl-C can keep a frame from clearing up after itself, but not from ending.
        request = self._request
        if request is not None and not request.settled and self._pid == os.getpid():
            run_later(self._database, functools.partial(_slots.abandon, request=request))
            self.close()


def drive(terms: Terms, request: Request, database: Database, listener: Listener) -> Granted:
    """Take the steps of a request until it is granted; its refusal is raised."""
    steps = flow(terms, request, listener)
    advance: Callable[[Any], Transact | Sleep] = steps.send
    result: Any = None
    while True:
        try:
            step = advance(result)
        except StopIteration as stop:
            granted: Granted = stop.value
            return granted
        advance, result = steps.send, None
        if isinstance(step, Transact):
            try:
                result = database.transact(step.work, deadline=step.deadline)
            except (LocalGCLError, GateTimeoutError) as error:
                advance, result = steps.throw, error
        else:
            if (library := _threads.unfit()) is not None:
                raise GreenThreadsError(library)
            try:
                result = listener.sleep(step)
            except OSError as error:
                if is_foreign(error):
                    raise
                raise explained(database.path, error) from error
            if request.pid != os.getpid():
                raise DatabaseError(
                    database.path,
                    "this process was forked, by a signal's handler, while its parent waited; ask"
                    " anew in the child",
                )
            if listener.rung:
                result = listener.grant(request) or result


def insist(
    database: Database, work: Callable[[Transaction], None], deadline: float | None = None
) -> None:
    """Run a transaction that may be run twice, however often Ctrl-C interrupts it.

    Where this has itself interrupted a transaction of its thread, a thread of ours runs it.
    """
    try:
        database.transact(work, deadline=deadline, create=False)
    except NoDatabaseError:
        pass  # and so nothing to free
    except NestedCallError:
        run_later(database, work)
    except (LocalGCLError, GateTimeoutError):
        raise
    except BaseException:
        insist(database, work, deadline)
        raise


def clean_up(database: Database, request: Request) -> None:
    """Undo a request; later where that fails, or where somebody was stopped in a transaction."""
    work = functools.partial(_slots.abandon, request=request)
    try:
        insist(database, work, _clock.now() + _CLEAN_UP_SECONDS)
    except (LocalGCLError, GateTimeoutError):
        run_later(database, work)
    request.settled = True
