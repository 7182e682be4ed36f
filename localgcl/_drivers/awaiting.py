"""How one task obtains slots: it awaits the transactions of a request, and sleeps between them."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, Protocol, TypeVar

from localgcl._base import clock
from localgcl._drivers.blocks import Entry
from localgcl._drivers.flow import Terms, TermsOfCalls, Transact, flow
from localgcl._drivers.session import LEAST_SECONDS, PATIENCE_SECONDS, Session
from localgcl._drivers.sessions import session_of
from localgcl._engine.request import Granted, Request
from localgcl._storage.gate import GateTimeoutError
from localgcl._storage.location import choose
from localgcl._storage.problems import database_error, is_foreign
from localgcl.errors import LocalGCLError

if TYPE_CHECKING:
    from localgcl._drivers.flow import AnyTerms

L = TypeVar("L")
P = ParamSpec("P")
R = TypeVar("R")


async def obtain(terms: AnyTerms, path: str | None, lease_type: Callable[..., L]) -> L:
    """Drive a new request to its grant, and return its lease.

    `path` None means the database of the environment, or the default.
    """
    request = terms.request()
    if not request.names:
        return lease_type(request)
    assert not isinstance(terms, TermsOfCalls)  # it would have refused
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
                result = await session.transact(
                    step.work, request=request if step.decides else None, deadline=step.deadline
                )
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

    __slots__ = ("_entered", "_entry", "_lease", "_path", "_terms")
    lease_type: Callable[..., Any]

    def __init__(self, terms: AnyTerms, path: str | None) -> None:
        self._terms = terms
        self._path = path
        self._entered = False
        self._lease: AwaitedLease | None = None
        self._entry: Entry | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self._entered:
            raise TypeError("a block that was entered cannot be pickled: its slots stay here")
        return type(self), (self._terms, self._path)

    async def __aenter__(self) -> Any:
        return await self.enter(sys._getframe(1))

    async def enter(self, frame: FrameType) -> Any:
        """Take the slots, for a block that was entered in this frame."""
        if self._entered:
            raise RuntimeError("one concurrency(...) is entered once; call concurrency() again")
        self._entered = True
        lease: AwaitedLease = await obtain(self._terms, self._path, self.lease_type)
        self._lease = lease
        lease._of_block = True
        self._entry = Entry(lease, frame)
        return lease

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._entry is not None:
            self._entry.leave()
        if self._lease is not None:
            await self._lease.release()

    def __enter__(self) -> NoReturn:
        raise TypeError("use `async with`, or concurrency from localgcl.sync in blocking code")

    def __exit__(self, *_: object) -> None:
        """Nothing is entered."""

    def __call__(self, function: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        check_awaitable(function, "concurrency")
        new = type(self)

        @functools.wraps(function)
        async def limited(*args: P.args, **kwargs: P.kwargs) -> R:
            block = new(self._terms.of_call(args, kwargs), self._path)
            await block.enter(sys._getframe())
            try:
                return await awaited(function, function(*args, **kwargs))
            finally:
                await block.__aexit__(None, None, None)

        return limited


def rate_limited_function(
    terms: AnyTerms, path: str | None, function: Callable[P, Awaitable[R]]
) -> Callable[P, Coroutine[Any, Any, R]]:
    """Decorate a function whose every call takes slots by rate."""
    check_awaitable(function, "rate_limited")

    @functools.wraps(function)
    async def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        await obtain(terms.of_call(args, kwargs), path, lambda *_: None)
        return await awaited(function, function(*args, **kwargs))

    return limited


def check_awaitable(function: Callable[..., Any], decorator: str) -> None:
    """Refuse what is known to return no awaitable: only a call of an object shows what it does."""
    if any(map(inspect.iscoroutinefunction, (function, type(function).__call__))):
        return
    if inspect.isroutine(function) or inspect.isclass(function) or not callable(function):
        raise TypeError(
            f"{function!r} is not an async def; decorate it with localgcl.sync.{decorator}"
        )


def awaited(function: Callable[..., Any], result: Awaitable[R]) -> Awaitable[R]:
    """Return what a decorated call has returned; TypeError if it cannot be awaited."""
    if not inspect.isawaitable(result):
        raise TypeError(
            f"the call of {function!r} returned nothing that can be awaited; decorate it with"
            " localgcl.sync.concurrency"
        )
    return result
