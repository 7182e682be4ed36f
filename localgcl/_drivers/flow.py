"""The flow of one request, without I/O: what is done, and in which order, for both flavours.

A flow yields what it wants done, a transaction or a sleep, and is sent the result. Two small loops
drive it, a blocking one and an awaiting one. Neither of them decides anything.
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

# A request that tries only once still has to get through the gate. Busy neighbours keep the gate
# for moments. A process that is stopped inside a transaction keeps it for longer.
_GATE_PATIENCE_SECONDS = 1.0


class Transact:
    """Run `work` in one transaction; the gate must be entered before `deadline`."""

    __slots__ = ("deadline", "work")

    def __init__(self, work: Callable[[Transaction], Any], deadline: float | None) -> None:
        self.work = work
        self.deadline = deadline


class Sleep:
    """Sleep until the moment `until`, or until woken, or until one of the `blockers` ends.

    The flow is sent the list of the blockers that have ended, or the outcome of a look that was
    made for it. If `blockers` is None, nothing wakes it.
    """

    __slots__ = ("blockers", "until")

    def __init__(self, until: float, blockers: set[str] | None) -> None:
        self.until = until
        self.blockers = blockers


class Terms:
    """The arguments of `concurrency` and `rate_limit`, checked."""

    holds: bool  # until they are released; otherwise they decay by themselves

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
        self.max_waiting = max_waiting  # only `localgcl run` has it: it gives up if this many wait

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


# These are classes, not functions that make one: a function would add a call to every slot.


class HoldingTerms(Terms):
    """The arguments of `concurrency`: the slots are held."""

    __slots__ = ()
    holds = True


class RateTerms(Terms):
    """The arguments of `rate_limit`: the slots are taken by rate."""

    __slots__ = ()
    holds = False


def flow(terms: Terms, request: Request, listener: Listener) -> Flow:
    """Yield the steps of a request, and return its grant; raise an error if it is refused."""
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
            request.settled = not error.under_way  # nothing was begun unless it is under way
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
                outcome = woken  # a look was made for it
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
    if timeout is not None and (late or waited >= timeout):  # rounding may make a timer early
        raise AcquireConcurrencySlotTimeoutError(request.names, request.occupy, waited, timeout)
    reason: Refusal = "retries" if terms.max_waiting is None else "crowded"
    raise ConcurrencySlotAcquisitionError(request.names, request.occupy, waited, reason)


def _warn(missing: tuple[str, ...], warned: set[str]) -> None:
    for name in missing:
        if name not in warned:
            try:
                import logging
            except (OSError, MemoryError, ImportError):
                # For example, no descriptor is free. The slots are taken, and the next request
                # warns.
                return

            warned.add(name)
            logging.getLogger("localgcl").warning(
                "There is no concurrency limit named '%s': going on without it. Create it with"
                " `localgcl create`, or pass strict=True to have this be an error.",
                name,
            )
