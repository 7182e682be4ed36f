"""The blocks and decorators of the blocking flavour."""

from __future__ import annotations

import functools

# By the time of this import, gevent has replaced it if threads are its greenlets.
from _thread import get_ident
from contextlib import ExitStack
from sys import _getframe, modules

from localgcl._drivers import blocks
from localgcl._drivers.blocking import database_of, obtain
from localgcl._drivers.blocks import entered
from localgcl._storage.location import choose
from localgcl._storage.problems import explaining

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, TracebackType
    from typing import Any, ParamSpec, TypeVar

    from localgcl._drivers.blocking import HeldLease
    from localgcl._drivers.flow import Terms
    from localgcl._storage.database import Database

    P = ParamSpec("P")
    R = TypeVar("R")

blocks.helpers.add(__name__)

# The code that enters blocks on behalf of others: of contextlib, and of what decorates here.
_enter_context = ExitStack.enter_context.__code__
_limited: CodeType | None = None


class Block:
    """Slots that are held while one `with` block runs; also a decorator.

    A block can be entered once. The flavour's own subclass says what its lease is.
    """

    __slots__ = ("_database", "_entered", "_lease", "_terms")
    lease_type: Callable[..., Any]

    def __init__(self, terms: Terms, database: Database | None) -> None:
        self._terms = terms
        self._database = database
        self._entered = False
        self._lease: HeldLease | None = None

    def __enter__(self) -> Any:
        if self._entered:
            raise RuntimeError("one concurrency(...) is entered once; call concurrency() again")
        self._entered = True
        try:
            lease = obtain(self._terms, self._database, self.lease_type, self)
            # As `blocks.enter`, without a call that every slot would pay for.
            frame = _getframe(1)
            code = frame.f_code
            if code is _enter_context or code is _limited:
                frame = blocks.entered_by(frame)
                code = frame.f_code
            asyncio = modules.get("_asyncio")
            task = None
            if asyncio is not None and asyncio._get_running_loop() is not None:
                task = blocks.current_task()
            entered[lease.id] = get_ident(), task, code, frame.f_lasti
            return lease
        except BaseException:
            if self._lease is not None:  # interrupted just after the grant
                entered.pop(self._lease.id, None)
                self._lease.release()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        lease = self._lease
        if lease is not None:
            entered.pop(lease.id, None)
            lease.release()

    if not TYPE_CHECKING:  # a type checker knows already that it is not there

        def __aenter__(self) -> None:
            raise TypeError(
                "this concurrency(...) is the blocking one: use it in a `with`, or use that of"
                " localgcl.asyncio in an `async with`"
            )

        __aexit__ = __aenter__

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        with explaining(choose(None)[0] if self._database is None else self._database.path):
            from localgcl._drivers import decorating
        decorating.check_blocking(function, "concurrency")
        of_call = decorating.terms_of_call(self._terms)
        new = type(self)

        @functools.wraps(function)
        def limited(*args: P.args, **kwargs: P.kwargs) -> R:
            terms = self._terms if of_call is None else of_call(args, kwargs)
            with new(terms, self._database):
                result = function(*args, **kwargs)
                decorating.check_result(function, result, "concurrency")
                return result

        global _limited
        _limited = limited.__code__  # type: ignore[attr-defined]  # a function; always the same
        return limited

    def __reduce__(self) -> tuple[Callable[..., Block], tuple[object, ...]]:
        if self._entered:
            raise TypeError(
                "a concurrency(...) that was entered cannot be pickled: its slots belong to this"
                " process"
            )
        path = None if self._database is None else self._database.path
        return _new_block, (type(self), self._terms, path)


def _new_block(kind: type[Block], terms: Terms, path: str | None) -> Block:
    return kind(terms, None if path is None else database_of(path))


class RateDecorator:
    """What `rate_limited()` returns: a decorator that takes slots by rate before each call."""

    __slots__ = ("_terms",)
    lease_type: Callable[..., Any]

    def __init__(self, terms: Terms) -> None:
        self._terms = terms

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        with explaining(choose(None)[0]):
            from localgcl._drivers import decorating
        decorating.check_blocking(function, "rate_limited")
        of_call = decorating.terms_of_call(self._terms)

        @functools.wraps(function)
        def limited(*args: P.args, **kwargs: P.kwargs) -> R:
            terms = self._terms if of_call is None else of_call(args, kwargs)
            obtain(terms, None, self.lease_type)
            result = function(*args, **kwargs)
            decorating.check_result(function, result, "rate_limited")
            return result

        return limited
