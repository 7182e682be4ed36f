"""The flow of one request, without I/O: what is done, and in which order, for both flavours.

A flow yields what it wants done, a transaction or a sleep, and is sent what came of it. Two small
loops drive it, a blocking one and an awaiting one; neither decides anything.
"""

from __future__ import annotations

import functools
import math

from localgcl._base import clock
from localgcl._base.checks import (
    check_holder,
    check_max_retries,
    check_names,
    check_timeout,
    check_whole,
)
from localgcl._engine.acquire import acquire, ask_again
from localgcl._engine.request import Granted, Lost, NotGranted, Refused, Request, Waiting
from localgcl._engine.wait import look, withdraw
from localgcl._storage.gate import GateTimeoutError
from localgcl.errors import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    LocalGCLError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping
    from typing import Any

    from localgcl._engine.request import Listener
    from localgcl._storage.database import Transaction
    from localgcl.errors import Refusal

    Flow = Generator["Transact | Sleep", Any, Granted]

# Whoever tries only once still has to get through the gate, which busy neighbours keep for moments
# and a process stopped inside a transaction for longer.
_GATE_PATIENCE_SECONDS = 1.0


class Transact:
    """Run `work` in one transaction, the gate entered before `deadline`."""

    __slots__ = ("deadline", "work")

    def __init__(self, work: Callable[[Transaction], Any], deadline: float | None) -> None:
        self.work = work
        self.deadline = deadline


class Sleep:
    """Sleep until the moment `until`, or until woken, or until one of `ways` ends.

    It is sent the list of those of `ways` that have ended, or what a look made for it has given.
    With no `ways` (None) nothing wakes.
    """

    __slots__ = ("blockers", "until")

    def __init__(self, until: float, blockers: set[str] | None) -> None:
        self.until = until
        self.blockers = blockers


class Terms:
    """The arguments of `concurrency` and `rate_limit`, checked."""

    holds: bool  # until they are released; or else they decay by themselves

    __slots__ = (
        "holder",
        "max_retries",
        "max_waiting",
        "names",
        "occupy",
        "strict",
        "timeout_seconds",
    )

    def __init__(
        self,
        names: str | Iterable[str] | None,
        occupy: int,
        timeout_seconds: float | None,
        max_retries: int | None = None,
        strict: bool = False,
        holder: str | Mapping[str, Any] | None = None,
        max_waiting: int | None = None,
    ) -> None:
        self.names = check_names(names)
        self.occupy = check_whole("occupy", occupy, 1)
        self.timeout_seconds = None if timeout_seconds is None else check_timeout(timeout_seconds)
        self.strict = bool(strict)
        self.max_retries = None if max_retries is None else check_max_retries(max_retries)
        self.holder = None if holder is None else check_holder(holder)
        self.max_waiting = max_waiting  # of `localgcl run` alone: gives up where so many wait

    def request(self) -> Request:
        """Return a new request on these terms."""
        return Request(
            self.names,
            self.occupy,
            holds=self.holds,
            strict=self.strict,
            once=0 in (self.timeout_seconds, self.max_retries, self.max_waiting),
            holder=self.holder,
            max_waiting=self.max_waiting,
        )


# Classes, and not functions that make one, because a function would be one more call to each slot.


class HoldingTerms(Terms):
    """The arguments of `concurrency`: the slots are held."""

    __slots__ = ()
    holds = True


class RateTerms(Terms):
    """The arguments of `rate_limit`: the slots are taken by rate."""

    __slots__ = ()
    holds = False


def flow(terms: Terms, request: Request, listener: Listener) -> Flow:
    """Yield the steps of a request, and return its grant; raise the error of its refusal."""
    began = clock.now()
    timeout, tries = terms.timeout_seconds, terms.max_retries
    deadline = request.until = math.inf if timeout is None else began + timeout
    gate = None if timeout is None else began + (timeout or _GATE_PATIENCE_SECONDS)
    ask = functools.partial(acquire, request=request, listener=listener)
    warned: set[str] = set()
    try_ends, late = math.inf, False
    try:
        try:
            outcome = yield Transact(ask, gate)
        except GateTimeoutError as error:
            request.settled = not error.under_way  # or else nothing was begun
            raise
        except LocalGCLError:
            request.settled = True  # it was rolled back
            raise
        while True:
            if type(outcome) is Granted:
                request.granted = outcome
                if outcome.missing:
                    _warn(outcome.missing, warned)
                if outcome.at > clock.now():
                    yield Sleep(outcome.at, None)
                return outcome
            if isinstance(outcome, Lost):
                again = functools.partial(ask_again, request=request, listener=listener)
                outcome = yield Transact(again, gate)
                continue
            if not isinstance(outcome, Waiting):
                request.settled = True
                break
            _warn(outcome.missing, warned)
            if tries is not None and try_ends == math.inf:
                try_ends = clock.now() + outcome.expected_seconds
            woken = yield Sleep(min(outcome.look_at, deadline, try_ends), outcome.blockers)
            if not isinstance(woken, list):
                outcome = woken  # somebody has looked for it
                continue
            now = clock.now()
            work: Callable[..., Any] = look
            if now >= deadline:
                work, late = withdraw, True
            elif now >= try_ends and tries is not None:
                tries, try_ends = tries - 1, math.inf
                work = look if tries else withdraw
            outcome = yield Transact(
                functools.partial(work, request=request, listener=listener, dead=woken), gate
            )
    except GateTimeoutError:
        outcome, late = NotGranted(), True
    waited = clock.now() - began
    _warn(outcome.missing, warned)
    if isinstance(outcome, Refused):
        raise ConcurrencySlotAcquisitionError(outcome.names, request.occupy, waited, outcome.reason)
    if timeout is not None and (late or waited >= timeout):  # a timer may be early by its rounding
        raise AcquireConcurrencySlotTimeoutError(request.names, request.occupy, waited, timeout)
    reason: Refusal = "retries" if terms.max_waiting is None else "crowded"
    raise ConcurrencySlotAcquisitionError(request.names, request.occupy, waited, reason)


def _warn(missing: tuple[str, ...], warned: set[str]) -> None:
    for name in missing:
        if name not in warned:
            try:
                import logging
            except (OSError, MemoryError, ImportError):
                return  # without descriptors, say; the slots are taken, and the next one is told

            warned.add(name)
            logging.getLogger("localgcl").warning(
                "There is no concurrency limit named '%s': going on without it. Create it with"
                " `localgcl create`, or pass strict=True to have this be an error.",
                name,
            )
