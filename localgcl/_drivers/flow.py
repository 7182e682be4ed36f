"""The flow of one request, without I/O: what is done, and in which order, for both flavours.

A flow yields what it wants done, a transaction or a sleep, and is sent the result. Two small loops
drive it, a blocking one and an awaiting one. Neither of them decides anything.
"""

from __future__ import annotations

import functools
import math
import os

from localgcl._base import clock
from localgcl._base.checks import (
    check_holder,
    check_max_retries,
    check_names,
    check_timeout,
    check_whole,
)
from localgcl._drivers.blocks import own_leases, waits_for_itself
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
    from typing import Any, TypeAlias

    from localgcl._engine.request import Listener
    from localgcl._storage.database import Transaction
    from localgcl.errors import Refusal

    Flow = Generator["Transact | Sleep", Any, Granted]
    Names = str | Iterable[str] | Mapping[str, int] | None
    AnyTerms: TypeAlias = "Terms | TermsOfCalls"

# A request that tries only once still has to get through the gate. Busy neighbours keep the gate
# for moments. A process that is stopped inside a transaction keeps it for longer.
_GATE_PATIENCE_SECONDS = 1.0


class Transact:
    """Run `work` in one transaction; the gate must be entered before `deadline`.

    Its result is what has become of the request, if it `decides` on that.
    """

    __slots__ = ("deadline", "decides", "work")

    def __init__(
        self, work: Callable[[Transaction], Any], deadline: float | None, *, decides: bool = True
    ) -> None:
        self.work = work
        self.deadline = deadline
        self.decides = decides


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

    holds: bool  # until they are released; otherwise they come back by themselves

    __slots__ = (
        "holder",
        "max_retries",
        "max_waiting",
        "names",
        "occupy",
        "strict",
        "timeout_seconds",
        "weights",
    )

    def __init__(
        self,
        names: Names,
        occupy: int,
        timeout_seconds: float | None,
        max_retries: int | None = None,
        strict: bool = False,
        holder: Any = None,
        max_waiting: int | None = None,
    ) -> None:
        self.names, weights = check_names(names)
        self.occupy: int | None = check_whole("occupy", occupy, 1)
        self.weights = None
        if weights is not None:
            self.occupy, self.weights = _weighted(weights, occupy)
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
            weights=self.weights,
        )

    def of_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Terms:
        """Return the terms of one call of a decorated function, with these arguments."""
        return self


def _weighted(weights: dict[str, int], occupy: int) -> tuple[int | None, dict[str, int] | None]:
    """Return the slots of each name if they are the same, and otherwise the weights."""
    if occupy != 1:
        raise ValueError("names with their slots leave no room for occupy: give one of them")
    different = set(weights.values())
    return (different.pop(), None) if len(different) == 1 else (None, weights)


class TermsOfCalls:
    """Terms of a decorator whose `names` is a function of the arguments of each call."""

    __slots__ = ("_kind", "_names", "_rest")

    def __init__(self, kind: type[Terms], names: Callable[..., Names], *rest: Any) -> None:
        self._kind = kind
        self._names = names
        self._rest = rest
        kind(None, *rest)  # checks them

    def of_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Terms:
        """Return the terms of one call of the decorated function."""
        return self._kind(self._names(*args, **kwargs), *self._rest)

    def request(self) -> Request:
        """Refuse: there is no call whose arguments could give the names."""
        raise TypeError(
            "names may be a function only in a decorator, which has the arguments of each call;"
            " pass the names themselves here"
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


def flow(terms: Terms, request: Request, listener: Listener, path: str) -> Flow:
    """Yield the steps of a request, and return its grant; raise an error if it is refused."""
    began = clock.now()
    timeout, tries = terms.timeout_seconds, terms.max_retries
    deadline = request.until = math.inf if timeout is None else began + timeout
    gate = None if timeout is None else began + (timeout or _GATE_PATIENCE_SECONDS)
    ask = functools.partial(acquire, request=request, listener=listener)
    checked = False  # whether it waits for itself
    try_ends, late = math.inf, False
    work: Callable[..., Any]
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
                    _warn(outcome.missing, path)
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
            _warn(outcome.missing, path)
            if not checked:
                checked = True
                if leases := own_leases():
                    work = functools.partial(waits_for_itself, request=request, leases=leases)
                    own = yield Transact(work, gate, decides=False)
                    if own is not None:
                        waited = clock.now() - began
                        raise ConcurrencySlotAcquisitionError(
                            (own[0],), request.occupy, waited, "own_block", own[1]
                        )
            if tries is not None and try_ends == math.inf:
                try_ends = clock.now() + outcome.expected_seconds
            woken = yield Sleep(min(outcome.look_at, deadline, try_ends), outcome.blockers)
            if not isinstance(woken, list):
                outcome = woken  # a look was made for it
                continue
            now = clock.now()
            work = look
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
    _warn(outcome.missing, path)
    if isinstance(outcome, Refused):
        raise ConcurrencySlotAcquisitionError(outcome.names, request.occupy, waited, outcome.reason)
    if timeout is not None and (late or waited >= timeout):  # rounding may make a timer early
        retry = None if outcome.at == math.inf else max(0.0, outcome.at - clock.now())
        raise AcquireConcurrencySlotTimeoutError(
            request.names, request.occupy, waited, timeout, retry
        )
    reason: Refusal = "retries" if terms.max_waiting is None else "crowded"
    raise ConcurrencySlotAcquisitionError(request.names, request.occupy, waited, reason)


# The names that were missing once, with the process and the database.
_warned: set[tuple[int, str, str]] = set()


def _warn(missing: tuple[str, ...], path: str) -> None:
    for name in missing:
        which = os.getpid(), path, name
        if which not in _warned:
            try:
                import logging
            except (OSError, MemoryError, ImportError):
                # For example, no descriptor is free. The slots are taken, and the next request
                # warns.
                return

            _warned.add(which)
            logging.getLogger("localgcl").warning(
                "There is no concurrency limit named '%s' in %s: going on without it. Create it"
                " with `localgcl create`, or pass strict=True to have this be an error.",
                name,
                path,
            )
