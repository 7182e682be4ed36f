"""What a decorator may be put over, and how each call gets its terms.

The asynchronous flavour is for whatever returns an awaitable when it is called, the blocking one
for everything else. What can be told when a function is decorated is told then. The rest shows at
the call.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

    from localgcl._drivers.flow import Terms


def check_blocking(function: object, what: str) -> None:
    """Raise TypeError if a function is for the asynchronous flavour, or if it is none."""
    _check_callable(function, what)
    for code in (function, type(function).__call__):
        if inspect.iscoroutinefunction(code) or inspect.isasyncgenfunction(code):
            _refuse_asynchronous(function, what)
        if inspect.isgeneratorfunction(code):
            _refuse_generator(function)


def check_result(function: object, result: object, what: str) -> None:
    """Raise TypeError if a call of the blocking flavour's function has returned an awaitable."""
    if hasattr(type(result), "__await__"):
        if inspect.iscoroutine(result):
            result.close()  # nobody will await it
        _refuse_asynchronous(function, what)


def check_awaitable(function: Any, what: str) -> None:
    """Raise TypeError if a function certainly returns no awaitable, or if it is none."""
    _check_callable(function, what)
    while isinstance(function, functools.partial):
        function = function.func
    wrapped = inspect.unwrap(function)
    for code in (function, type(function).__call__, wrapped):
        if inspect.iscoroutinefunction(code):
            return
        if inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code):
            _refuse_generator(function)
    # An object, such as a flow of Prefect, may return anything, unless it says what it stands for.
    returns_itself = isinstance(function, type) and not hasattr(function, "__await__")
    if inspect.isroutine(wrapped) or returns_itself:
        _refuse_blocking(function, what)


def check_awaited(function: object, result: object, what: str) -> None:
    """Raise TypeError if a call of the asynchronous flavour's function returned no awaitable."""
    if not inspect.isawaitable(result):
        _refuse_blocking(function, what)


def terms_of_call(terms: Terms) -> Callable[..., Terms] | None:
    """Return what makes the terms of each call from its arguments; None if they are always these.

    >>> from localgcl._drivers.flow import HoldingTerms
    >>> terms_of_call(HoldingTerms("database", 1, None))
    >>> terms_of_call(HoldingTerms(lambda name: name, 1, None))(("reports",), {}).names
    ('reports',)
    """
    return None if terms.names or terms.names_of is None else terms.of_call


def _check_callable(function: object, what: str) -> None:
    if not callable(function):
        raise TypeError(
            f"{what}(...) decorates a function, not {type(function).__name__}; write"
            f" @{what}(NAMES) above the function"
        )


def _refuse_asynchronous(function: object, what: str) -> NoReturn:
    raise TypeError(f"{function!r} is asynchronous; decorate it with localgcl.asyncio.{what}")


def _refuse_blocking(function: object, what: str) -> NoReturn:
    raise TypeError(f"{function!r} is not an async def; decorate it with localgcl.sync.{what}")


def _refuse_generator(function: object) -> NoReturn:
    raise TypeError(
        f"{function!r} is a generator, which runs after its call has returned; use a `with` block"
        " inside it"
    )
