"""The flow of one request, without I/O: what is done, and in which order, for both flavours.

A flow yields what it wants done, a transaction or a sleep, and is sent the result. Two small loops
drive it, a blocking one and an awaiting one. Neither of them decides anything.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterable, Mapping

from localgcl._base import clock
from localgcl._base.checks import (
    MAX_SLOTS,
    check_holder,
    check_max_retries,
    check_names,
    check_timeout,
    check_weights,
    check_whole,
    name_fault,
)
from localgcl._drivers import blocks
from localgcl._engine.acquire import acquire, ask_again
from localgcl._engine.request import Granted, Lost, NotGranted, Refused, Request, Waiting
from localgcl._engine.wait import look, look_unless_own, withdraw
from localgcl._storage.gate import GateTimeoutError
from localgcl.errors import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    LocalGCLError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from localgcl._base.checks import HeldBy, Names, NamesOfCall
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
    unlimited = False  # inside `localgcl.testing.unlimited()`

    __slots__ = (
        "holder",
        "max_retries",
        "max_waiting",
        "names",
        "names_of",
        "occupy",
        "strict",
        "timeout_seconds",
        "weights",
    )

    def __init__(
        self,
        names: NamesOfCall,
        occupy: int,
        timeout_seconds: float | None,
        max_retries: int | None = None,
        strict: bool = False,
        holder: HeldBy = None,
        max_waiting: int | None = None,
    ) -> None:
        self.weights: dict[str, int] | None = None
        if type(occupy) is not int or not 0 < occupy <= MAX_SLOTS:
            check_whole("occupy", occupy, 1)
        if type(names) is str and name_fault(names) is None:  # the common case, in fewer calls
            self.names: tuple[str, ...] = (names,)
            self.occupy: int | None = occupy
        else:
            self._take_names(names, occupy)
        self.timeout_seconds = None if timeout_seconds is None else check_timeout(timeout_seconds)
        self.strict = bool(strict)
        self.max_retries = None if max_retries is None else check_max_retries(max_retries)
        self.holder = None if holder is None else check_holder(holder)
        self.max_waiting = max_waiting  # only `localgcl run` has it: it gives up if this many wait

    def _take_names(self, names: NamesOfCall, occupy: int) -> None:
        # Where there are no names, this is what they are made by at each call, if anything.
        self.names_of: Callable[..., Names] | None = None
        self.occupy = occupy
        if isinstance(names, Mapping):
            weights = check_weights(names, occupy)
            self.names = tuple(weights)
            if len(set(weights.values())) > 1:
                self.occupy, self.weights = None, weights
            elif weights:
                self.occupy = weights[self.names[0]]
        elif callable(names) and not isinstance(names, Iterable):
            self.names, self.names_of = (), names
        else:
            self.names = check_names(names)

    def of_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Terms:
        """Return the terms for one call of a decorated function, whose arguments make the names."""
        assert self.names_of is not None
        assert self.occupy is not None
        terms = object.__new__(type(self))
        for attribute in Terms.__slots__:
            setattr(terms, attribute, getattr(self, attribute))
        terms._take_names(self.names_of(*args, **kwargs), self.occupy)
        terms.check_nothing()
        return terms

    def check_nothing(self) -> None:
        """Raise TypeError if there are no names because no call has made them."""
        if not self.names and self.names_of is not None:
            raise TypeError(
                f"names is {self.names_of!r}, which makes names from the arguments of a call: only"
                " a decorator can call it, and it returns no other callable"
            )

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
    """Yield the steps of a request, and return its grant; raise an error if it is refused.

    `path` is that of the database.
    """
    began = request.began = clock.now()
    timeout, tries = terms.timeout_seconds, terms.max_retries
    deadline = request.until = math.inf if timeout is None else began + timeout
    gate = None if timeout is None else began + (timeout or _GATE_PATIENCE_SECONDS)
    ask = functools.partial(acquire, request=request, listener=listener)
    try_ends, late = math.inf, False
    own: dict[str, str] | None = None  # the leases of the blocks around it, and where these began
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
                if outcome.awaited and outcome.at > clock.now():
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
            if own is None:
                own = blocks.leases_around()
                if own:
                    check = functools.partial(
                        look_unless_own, request=request, listener=listener, leases=own
                    )
                    outcome = yield Transact(check, gate)
                    continue
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
    _warn(outcome.missing, path)
    if isinstance(outcome, Refused):
        where = path if outcome.reason == "missing" else (own or {}).get(outcome.lease)
        raise ConcurrencySlotAcquisitionError(
            outcome.names, request.occupy, waited, outcome.reason, where
        )
    if timeout is not None and (late or waited >= timeout):  # rounding may make a timer early
        at = outcome.at
        raise AcquireConcurrencySlotTimeoutError(
            request.names,
            request.occupy,
            waited,
            timeout,
            None if at == math.inf else max(0.0, at - clock.now()),
        )
    reason: Refusal = "retries" if terms.max_waiting is None else "crowded"
    raise ConcurrencySlotAcquisitionError(request.names, request.occupy, waited, reason)


# What was warned of: process, database and name. A child that is forked is another process.
_warned: set[tuple[int, str, str]] = set()
_MAX_WARNED = 100_000  # a program may make names up as it goes


def _warn(missing: tuple[str, ...], path: str) -> None:
    for name in missing:
        warning = os.getpid(), path, name
        if warning not in _warned:
            try:
                import logging
            except (OSError, MemoryError, ImportError):
                # For example, no descriptor is free. The slots are taken, and the next request
                # warns.
                return

            if len(_warned) >= _MAX_WARNED:
                _warned.clear()
            _warned.add(warning)
            logging.getLogger("localgcl").warning(
                "There is no concurrency limit named '%s' in %s: going on without it. Create it"
                " with `localgcl create`, or pass strict=True to have this be an error.",
                name,
                path,
            )
