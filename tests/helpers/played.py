"""Time that a test moves, and processes that it plays: owners with lifelines of their own."""

from __future__ import annotations

import math
import select
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import pytest

from localgcl._base import clock as _clock
from localgcl._drivers import blocking, session
from localgcl._engine import acquire, owners, wait
from localgcl._engine import release as _release
from localgcl._engine import request as _outcomes
from localgcl._engine.queue import promote
from localgcl._liveness import folder as _folder
from localgcl._liveness import lifeline
from localgcl._liveness import process as _process
from localgcl._storage.database import Database, Transaction

T = TypeVar("T")


class Clock:
    """Time that stands still until the test moves it, or a blocked caller sleeps."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.wall = 1_750_000_000.0
        self.boot = "the first boot"

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.wall += seconds

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock, as an operator or NTP does."""
        self.wall += seconds

    def reboot(self, wall_seconds: float) -> None:
        """Start the machine anew, by the wall clock so much later."""
        self.now = 5.0
        self.wall += wall_seconds
        self.boot += ", and one more"

    def sleep(self, step: Any) -> list[str]:
        """Stand in for either flavour's sleep: nobody wakes it, and no time is lost."""
        self.advance(max(0.0, step.until - self.now))
        return []

    async def sleep_awaited(self, step: Any) -> list[str]:
        """The same, for a task."""
        return self.sleep(step)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Have localgcl read this clock."""
        patch.setattr(_clock, "now", lambda: self.now)
        patch.setattr(_clock, "wall", lambda: self.wall)
        patch.setattr(_clock, "boot_id", lambda: self.boot)
        patch.setattr(_process, "_this", (0, None))  # which is told of this boot
        patch.setattr(blocking.Listener, "sleep", lambda _, step: self.sleep(step))
        patch.setattr(session.Session, "sleep", lambda *args: self.sleep_awaited(args[-1]))


class Ask:
    """A request of a played process, with what its thread sleeps on."""

    def __init__(self, process: Process, request: _outcomes.Request) -> None:
        self.process = process
        self.request = request
        self.listener = blocking.Listener(process._database, request)
        self.outcome: Any = None

    @property
    def waits(self) -> bool:
        """Whether the request is in the queue as far as its process knows."""
        return isinstance(self.outcome, _outcomes.Waiting)

    @property
    def granted(self) -> bool:
        """Whether the process was told that it may go on."""
        return isinstance(self.outcome, _outcomes.Granted)

    @property
    def is_woken(self) -> bool:
        """Whether somebody has woken it since it last looked."""
        place = self.listener._place
        if place is None:
            return False
        return place.hinted or bool(select.select([place.wake_fifo.descriptor], [], [], 0)[0])

    @property
    def reported_dead(self) -> list[str]:
        """The lifelines in its way that have ended, as its sleep would report them."""
        place = self.listener._place
        if place is None or not self.waits:
            return []
        return place._watch(self.outcome.blockers)

    def look(self) -> Any:
        """Look at the database, as it does when it wakes."""
        if self.is_woken:
            granted = self.process._database.read(wait.peek, self.request)
            if granted is not None:
                return self._conclude(granted)
        dead = self.reported_dead
        if self.listener._place is not None:
            self.listener._place.hinted = False
            self.listener._place.settle()
        work = partial(wait.look, request=self.request, listener=self.listener, dead=dead)
        return self._conclude(self.process.do(work))

    def ask_again(self) -> Any:
        """Ask anew, as it does when the database knows nothing of it."""
        work = partial(acquire.ask_again, request=self.request, listener=self.listener)
        return self._conclude(self.process.do(work))

    def withdraw(self) -> Any:
        """Look one last time and give up, as it does when its time is over."""
        work = partial(wait.withdraw, request=self.request, listener=self.listener)
        return self._conclude(self.process.do(work))

    def abandon(self) -> None:
        """Undo the request, as a cancellation does."""
        self.process.do(partial(wait.abandon, request=self.request))
        self._conclude(None)

    def release(self) -> bool:
        """Free what was granted, and return whether that was anything."""
        granted = self.request.granted
        if granted is None or granted.owner is None:  # as `Lease._release`
            return False
        work = partial(
            _release.release,
            lease=self.request.id,
            owner=granted.owner,
            slots=self.request.occupy,
            since=granted.at,
            limits=granted.taken,
            awaited=granted.awaited,
        )
        return self.process.do(work)

    def _conclude(self, outcome: Any) -> Any:
        self.outcome = outcome
        if self.granted:
            self.request.granted = outcome
        if not self.waits and self.process.lifeline is not None:
            self.listener.close()
            self.listener = blocking.Listener(self.process._database, self.request)
        return outcome


class Process:
    """Another process, played: to the database it is an owner with a lifeline of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.lifeline: lifeline.Lifeline | None = None

    @property
    def folder(self) -> _folder.Folder:
        """The run folder of the database."""
        assert self._database._folder is not None
        return self._database._folder

    def do(self, work: Callable[[Transaction], T]) -> T:
        """Run a transaction as this process."""

        def as_this_process(tx: Transaction) -> T:
            lifelines = lifeline._lifelines
            ours = lifelines.pop(tx.folder.path, None)
            if self.lifeline is not None:
                self.lifeline.recreate()  # as each transaction does for its own process
                lifelines[tx.folder.path] = self.lifeline
            try:
                return work(tx)
            finally:
                self.lifeline = lifelines.pop(tx.folder.path, None)
                if ours is not None:
                    lifelines[tx.folder.path] = ours

        return self._database.transact(as_this_process)

    def ask(
        self,
        *names: str,
        occupy: int | None = 1,
        weights: dict[str, int] | None = None,
        holds: bool = True,
        strict: bool = False,
        once: bool = False,
        until: float = math.inf,
        holder: str | None = None,
    ) -> Ask:
        """Ask for slots, and wait in the queue if need be."""
        request = _outcomes.Request(
            names,
            occupy,
            weights=weights,
            holds=holds,
            strict=strict,
            once=once,
            holder=holder,
        )
        request.until = until
        request.settled = True  # what becomes of it is the test's business
        ask = Ask(self, request)
        ask._conclude(self.do(partial(acquire.acquire, request=request, listener=ask.listener)))
        return ask

    def die(self) -> None:
        """End as by SIGKILL: the kernel closes what was open, and nobody else does anything."""
        if self.lifeline is not None:
            self.lifeline.drop()
            self.lifeline = None

    def sign_out(self) -> None:
        """End as a process does that is let."""
        self.do(lambda tx: promote(tx, owners.sign_out(tx, if_idle=False)))


Processes = Callable[[], Process]
