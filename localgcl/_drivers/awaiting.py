"""How one task obtains slots: it awaits the transactions of a request, and sleeps between them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from localgcl._base import clock
from localgcl._drivers import blocks, decorating
from localgcl._drivers.flow import Terms, Transact, flow
from localgcl._drivers.held import UNLIMITED
from localgcl._drivers.session import LEAST_SECONDS, PATIENCE_SECONDS, Session
from localgcl._drivers.sessions import session_of
from localgcl._engine.request import Granted, Request
from localgcl._storage.gate import GateTimeoutError
from localgcl._storage.location import choose
from localgcl._storage.problems import database_error, is_foreign
from localgcl.errors import LocalGCLError

L = TypeVar("L")
P = ParamSpec("P")
R = TypeVar("R")

blocks.helpers.add(__name__)


async def obtain(terms: Terms, path: str | None, lease_type: Callable[..., L]) -> L:
    """Drive a new request to its grant, and return its lease.

    `path` None means the database of the environment, or the default.
    """
    request = terms.request()
    if not terms.names or terms.unlimited:
        terms.check_nothing()
        return lease_type(request, 0.0, UNLIMITED if terms.names else None)
    if path is None:
        path = choose(None)[0]
    session = await session_of(path)
    began = clock.now()
    granted = await grant(terms, request, session)
    waited = max(0.0, clock.now() - began)
    return lease_type(request, waited, granted if terms.holds else None, path)


async def grant(terms: Terms, request: Request, session: Session) -> Granted:
    """Drive a request to its grant; if it ends otherwise, undo whatever it has left."""
    with session:
        try:
            granted = await _drive(terms, request, session)
        except BaseException as error:
            if request.settled:
                session.forget(request)
                raise
            undone = session.abandon(request)
            # A coroutine that is thrown away cannot wait. A second cancellation need not wait
            # either: the thread undoes the request in any case.
            if not isinstance(error, GeneratorExit):
                late = isinstance(error, LocalGCLError)
                await asyncio.wait([undone], timeout=LEAST_SECONDS if late else PATIENCE_SECONDS)
            raise
        session.forget(request)
        return granted


async def _drive(terms: Terms, request: Request, session: Session) -> Granted:
    steps = flow(terms, request, session.worker, session.path)
    advance: Callable[[Any], Any] = steps.send
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
                result = await session.transact(step.work, request=request, deadline=step.deadline)
            except (LocalGCLError, GateTimeoutError) as error:
                advance, result = steps.throw, error
        else:
            try:
                result = await session.sleep(request, step)
            except OSError as error:
                if is_foreign(error):
                    raise
                raise database_error(session.path, error) from error


class AwaitedLease(Protocol):
    """A lease; its class is the public one."""

    _of_block: bool
    id: str

    async def release(self) -> None:
        """Free the slots."""


class AsyncBlock:
    """Slots that are held while one `async with` block runs; also a decorator.

    A block can be entered once. The flavour's own subclass says what its lease is.
    """

    __slots__ = ("_entered", "_lease", "_path", "_terms")
    lease_type: Callable[..., Any]

    def __init__(self, terms: Terms, path: str | None) -> None:
        self._terms = terms
        self._path = path
        self._entered = False
        self._lease: AwaitedLease | None = None

    async def __aenter__(self) -> Any:
        if self._entered:
            raise RuntimeError("one concurrency(...) is entered once; call concurrency() again")
        self._entered = True
        lease: AwaitedLease = await obtain(self._terms, self._path, self.lease_type)
        self._lease = lease
        lease._of_block = True
        blocks.enter(lease.id)
        return lease

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        lease = self._lease
        if lease is not None:
            blocks.entered.pop(lease.id, None)
            await lease.release()

    if not TYPE_CHECKING:  # a type checker knows already that it is not there

        def __enter__(self) -> None:
            raise TypeError(
                "this concurrency(...) is the asynchronous one: use it in an `async with`, or use"
                " that of localgcl.sync in a `with`"
            )

        __exit__ = __enter__

    def __call__(self, function: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        decorating.check_awaitable(function, "concurrency")
        of_call = decorating.terms_of_call(self._terms)
        new = type(self)

        @functools.wraps(function)
        async def limited(*args: P.args, **kwargs: P.kwargs) -> R:
            terms = self._terms if of_call is None else of_call(args, kwargs)
            async with new(terms, self._path):
                result = function(*args, **kwargs)
                decorating.check_awaited(function, result, "concurrency")
                return await result

        return limited

    def __reduce__(self) -> tuple[type[AsyncBlock], tuple[object, ...]]:
        if self._entered:
            raise TypeError(
                "a concurrency(...) that was entered cannot be pickled: its slots belong to this"
                " process"
            )
        return type(self), (self._terms, self._path)


class AsyncRateDecorator:
    """What `rate_limited()` returns: a decorator that takes slots by rate before each call."""

    __slots__ = ("_terms",)
    lease_type: Callable[..., Any]

    def __init__(self, terms: Terms) -> None:
        self._terms = terms

    def __call__(self, function: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        decorating.check_awaitable(function, "rate_limited")
        of_call = decorating.terms_of_call(self._terms)

        @functools.wraps(function)
        async def limited(*args: P.args, **kwargs: P.kwargs) -> R:
            terms = self._terms if of_call is None else of_call(args, kwargs)
            await obtain(terms, None, self.lease_type)
            result = function(*args, **kwargs)
            decorating.check_awaited(function, result, "rate_limited")
            return await result

        return limited
