"""Requests of the blocking flavour, in every form, and what they tell the journal."""

from __future__ import annotations

import contextlib
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

import localgcl
from localgcl import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    DatabaseError,
    Lease,
    Limiter,
)
from tests.endurance.actor import Actor
from tests.endurance.wishes import Wish

if TYPE_CHECKING:
    from tests.endurance.perils import Shortage

# How often a release is tried, and how long apart, until the end of the process has to do.
_RELEASES, _APART_SECONDS = 200, 0.05


# What a child says that C has forked in the middle of a transaction of a thread.
_CROSSED = "in use when this process was forked"


class BrokenOffError(BaseException):
    """What a signal handler raises in the midst of a request, as Ctrl-C does."""


class Interrupter:
    """A timer that breaks off what the main thread does."""

    def __init__(self) -> None:
        self._armed = False
        signal.signal(signal.SIGALRM, self._wake)
        sys.unraisablehook = _heed_no_alarm

    def _wake(self, _: int, __: FrameType | None) -> None:
        if self._armed:
            self._armed = False
            raise BrokenOffError

    def arm(self, seconds: float | None) -> None:
        """Break off what follows after so many seconds."""
        if seconds is not None:
            self._armed = True
            signal.setitimer(signal.ITIMER_REAL, seconds)

    def disarm(self) -> None:
        """Let what follows alone."""
        self._armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)


def _heed_no_alarm(what: sys.UnraisableHookArgs) -> None:
    # An alarm that strikes inside a finalizer is told of by Python, and goes no further.
    if what.exc_type is not BrokenOffError:
        sys.__unraisablehook__(what)


@contextlib.contextmanager
def _small_files() -> Iterator[None]:
    """Have every write beyond the first pages of a file fail, for this whole process."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


class Blocking:
    """A thread that asks."""

    def __init__(
        self,
        actor: Actor,
        interrupter: Interrupter | None = None,
        shortage: Shortage | None = None,
    ) -> None:
        self.actor = actor
        self._shortage = shortage
        self._turns = 0
        self.crossed = False  # whether C may have forked it in the middle of a transaction
        self.limiter = Limiter(actor.database)
        self.interrupter = interrupter
        self.lease: Lease | None = None
        self._tag = ""
        self._inside = False

    def ask(
        self, wish: Wish, inside: Callable[[], None] = lambda: None, *, strictly: bool = True
    ) -> None:
        """Make one request to its end; `inside` is called while it holds, or else anyhow."""
        if self._shortage is not None:
            self._turns = self._shortage.turns
        self._tag, self._inside, self.lease = self.actor.asks_for(wish), False, None

        def body() -> None:
            self._disarm()
            self._inside = True
            self.actor.note("in", self._tag)
            inside()
            time.sleep(wish.hold_seconds)
            if wish.holds:
                self.actor.note("out", self._tag)

        try:
            try:
                self._arm(wish.broken_off_after)
                self._make(wish, body)
            finally:
                self._disarm()
        except AcquireConcurrencySlotTimeoutError:
            self.actor.refused(self._tag, "timed out")
        except ConcurrencySlotAcquisitionError as error:
            self.actor.refused(self._tag, error.reason)
        except BrokenOffError:
            self.actor.refused(self._tag, "interrupted")
        except DatabaseError as error:
            self._failed(error)
        else:
            if wish.holds:
                self.actor.note("free", self._tag)
        if not strictly and not self._inside:
            inside()
        time.sleep(wish.pause_seconds)

    def _arm(self, seconds: float | None) -> None:
        if self.interrupter is not None:
            self.interrupter.arm(seconds)

    def _disarm(self) -> None:
        if self.interrupter is not None:
            self.interrupter.disarm()

    def _make(self, wish: Wish, body: Callable[[], None]) -> None:
        if not wish.holds:
            by_rate = localgcl.rate_limit if wish.form == "function" else self.limiter.rate_limit
            by_rate(wish.wanted, wish.occupy, wish.timeout_seconds, strict=True)
            body()
            return
        by_slot = self.limiter.concurrency if wish.form == "with" else localgcl.concurrency
        block = by_slot(
            wish.wanted,
            wish.occupy,
            wish.timeout_seconds,
            wish.max_retries,
            strict=True,
            holder=self._tag,
        )
        if wish.form == "decorator":
            block(body)()
        elif wish.form == "acquire" and self.interrupter is None:
            self.lease = self.limiter.acquire(
                wish.wanted,
                wish.occupy,
                wish.timeout_seconds,
                wish.max_retries,
                strict=True,
                holder=self._tag,
            )
            body()
            self.lease.release()
        else:
            with block as self.lease:
                body()

    def _failed(self, error: DatabaseError) -> None:
        """Try to release again what could not be released, as a user is told to."""
        if self._inside and self.lease is not None:
            for _ in range(_RELEASES):
                time.sleep(_APART_SECONDS)
                with contextlib.suppress(DatabaseError):
                    self.lease.release()
                    self.actor.note("free", self._tag)
                    return
        self._tell(self._tag, error)

    def _tell(self, tag: str, error: DatabaseError) -> None:
        short = self._shortage is not None and self._shortage.has_been_since(self._turns)
        crossed = self.crossed and _CROSSED in str(error)
        self.actor.failed(tag, error, "cramped: " if short or crossed else "")

    def cramped(self, wish: Wish) -> None:
        """Make one request in a process that may not write."""
        tag = self.actor.asks_for(wish)
        error: Exception | None = None
        lease: Lease | None = None
        with _small_files():
            try:
                if wish.holds:
                    lease = self.limiter.acquire(
                        wish.wanted, wish.occupy, 0.05, strict=True, holder=tag
                    )
                else:
                    self.limiter.rate_limit(wish.wanted, wish.occupy, 0.05, strict=True)
            except (localgcl.LocalGCLError, OSError) as caught:
                error = caught
        if isinstance(error, ConcurrencySlotAcquisitionError | AcquireConcurrencySlotTimeoutError):
            self.actor.refused(tag, "refused, cramped")
        elif isinstance(error, DatabaseError):
            self.actor.failed(tag, error, "cramped: ")
        elif error is not None:
            self.actor.journal.write("wrong", f"{tag} raised {error!r}")
        else:
            self.actor.note("in", tag)
            if lease is not None:
                self.actor.note("out", tag)
                lease.release()
                self.actor.note("free", tag)

    def keep(self, wish: Wish) -> None:
        """Take slots and keep them, if they are free."""
        tag = self.actor.asks(wish.names, wish.slots, True, wish.weights)
        try:
            self.lease = self.limiter.acquire(wish.wanted, wish.occupy, 0, strict=True, holder=tag)
        except (ConcurrencySlotAcquisitionError, AcquireConcurrencySlotTimeoutError):
            self.actor.refused(tag, "timed out")
        except DatabaseError as error:
            self._tell(tag, error)
        else:
            self.actor.note("in", tag)

    def sleep(self, name: str, until: float) -> None:
        """Wait for a slot as long as it takes, and then keep it."""
        tag = self.actor.asks([name], 1, True)
        try:
            with self.limiter.concurrency(name, strict=True, holder=tag):
                self.actor.note("in", tag)
                while self.actor.goes_on(until):
                    time.sleep(0.5)
                self.actor.note("out", tag)
        except ConcurrencySlotAcquisitionError as error:
            self.actor.refused(tag, error.reason)
        except DatabaseError as error:
            self.actor.failed(tag, error)
        else:
            self.actor.note("free", tag)
        time.sleep(0.5)
