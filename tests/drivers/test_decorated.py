"""What a decorator may be put over, and what either flavour says of the other one's."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

import localgcl.asyncio
import localgcl.sync
from localgcl import Limiter
from tests.helpers.usage import in_use

both_decorators = pytest.mark.parametrize("decorator", ["concurrency", "rate_limited"])


@pytest.fixture(autouse=True)
def limiter(path: str, monkeypatch: pytest.MonkeyPatch) -> Limiter:
    """A limit that can be taken by either decorator."""
    monkeypatch.setenv("LOCALGCL_DB", path)
    limiter = Limiter()
    limiter.create("api", 100, slot_decay_per_second=0.001)
    return limiter


def grants(limiter: Limiter) -> int:
    """Return how many requests got slots."""
    ((number,),) = limiter._database.transact(
        lambda tx: tx.execute("SELECT grants FROM limits").fetchall()
    )
    return int(number)


def kind(one: object) -> str:
    """Return the name of a case."""
    return type(one).__name__


def plain(text: str = "a") -> str:
    return text


async def coroutine(text: str = "a") -> str:
    return text


def generator() -> Iterator[str]:
    yield "a"


async def generator_of_tasks() -> AsyncIterator[str]:
    yield "a"


class Flow:
    """As a flow of Prefect: a plain `__call__`, whatever the function is."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.fn = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any) -> Any:
        return self.fn(*args)


class Bare(Flow):
    """An object that does not say what it stands for."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.fn = function


class AsyncCall:
    async def __call__(self, text: str = "a") -> str:
        return text

    async def method(self, text: str = "a") -> str:
        return text


class Later:
    """What can be awaited, and is no coroutine."""

    def __await__(self) -> Iterator[None]:
        yield from asyncio.sleep(0).__await__()

    def __init__(self, text: str = "a") -> None:
        self.text = text


@functools.wraps(coroutine)
def wrapper(*args: Any) -> Awaitable[str]:
    return coroutine(*args)


ASYNCHRONOUS = [
    coroutine,
    functools.partial(coroutine, "a"),
    functools.partial(functools.partial(coroutine), "a"),
    AsyncCall(),
    AsyncCall().method,
    Flow(coroutine),
    Bare(coroutine),
    wrapper,
    functools.partial(wrapper, "a"),
    Later,
]
BLOCKING = [plain, functools.partial(plain, "a"), Flow(plain), Bare(plain), "a".upper, str]
NEVER = [generator, generator_of_tasks]


@both_decorators
@pytest.mark.parametrize("function", ASYNCHRONOUS, ids=kind)
def test_the_asynchronous_flavour(decorator: str, function: Any, limiter: Limiter) -> None:
    """Whatever returns an awaitable when it is called is awaited, with its slots."""
    decorated = getattr(localgcl.asyncio, decorator)("api", strict=True)(function)
    assert asyncio.run(decorated()) in ("a", None)
    assert grants(limiter) == 1


@both_decorators
@pytest.mark.parametrize("function", BLOCKING, ids=kind)
def test_the_blocking_flavour(decorator: str, function: Any, limiter: Limiter) -> None:
    """Whatever returns its result is called."""
    decorated = getattr(localgcl.sync, decorator)("api", strict=True)(function)
    assert decorated() in ("a", "A", "")
    assert grants(limiter) == 1


@both_decorators
@pytest.mark.parametrize("function", ASYNCHRONOUS, ids=kind)
def test_the_blocking_flavour_over_what_is_awaited(decorator: str, function: Any) -> None:
    """It is a TypeError when it decorates, or else at the call, and no coroutine is left over."""
    with pytest.raises(TypeError, match=rf"localgcl\.asyncio\.{decorator}"):
        getattr(localgcl.sync, decorator)("api")(function)()


@pytest.mark.parametrize("function", [coroutine, functools.partial(coroutine), AsyncCall()])
def test_an_async_def_is_refused_at_once(function: Any) -> None:
    """Nobody has to call it to learn that."""
    with pytest.raises(TypeError, match=r"localgcl\.asyncio"):
        localgcl.sync.concurrency("api")(function)


@both_decorators
@pytest.mark.parametrize("function", BLOCKING, ids=kind)
def test_the_asynchronous_flavour_over_what_is_not_awaited(decorator: str, function: Any) -> None:
    """It is a TypeError when it decorates, or else at the call."""

    async def main() -> None:
        await getattr(localgcl.asyncio, decorator)("api")(function)()

    with pytest.raises(TypeError, match=rf"localgcl\.sync\.{decorator}"):
        asyncio.run(main())


@pytest.mark.parametrize("function", [plain, functools.partial(plain), len, Flow(plain), str])
def test_a_plain_function_is_refused_at_once(function: Any) -> None:
    """Nobody has to call it to learn that."""
    with pytest.raises(TypeError, match=r"localgcl\.sync"):
        localgcl.asyncio.concurrency("api")(function)


@both_decorators
@pytest.mark.parametrize("module", [localgcl.sync, localgcl.asyncio])
@pytest.mark.parametrize("function", NEVER)
def test_generators(decorator: str, module: Any, function: Any) -> None:
    """They run after their call has returned, without the slots."""
    with pytest.raises(TypeError):
        getattr(module, decorator)("api")(function)


@pytest.mark.parametrize("function", [None, "api", 5])
@pytest.mark.parametrize("module", [localgcl.sync, localgcl.asyncio])
def test_what_is_no_function(module: Any, function: Any) -> None:
    """It can be decorated by neither."""
    with pytest.raises(TypeError, match="decorates a function"):
        module.concurrency("api")(function)


def test_the_slots_of_a_wrong_call_are_free(limiter: Limiter) -> None:
    """That the function was called does not keep its slots."""
    limiter.create("database", 1)
    with pytest.raises(TypeError):
        limiter.concurrency("database")(Bare(coroutine))()
    assert in_use(limiter, "database") == 0


def test_the_wrong_with(limiter: Limiter) -> None:
    """Each flavour names the other one, and nothing is taken."""
    limiter.create("database", 1)

    async def main() -> None:
        async with limiter.concurrency("database"):  # type: ignore[attr-defined]
            pass

    with pytest.raises(TypeError, match=r"localgcl\.asyncio"):
        asyncio.run(main())
    with (
        pytest.raises(TypeError, match=r"localgcl\.sync"),
        localgcl.asyncio.concurrency("database"),  # type: ignore[attr-defined]
    ):
        pass
    assert in_use(limiter, "database") == 0


def test_outside_of_asyncio() -> None:
    """Another event loop, such as trio's, drives coroutines in its own way: asyncio is needed."""
    coroutine = localgcl.asyncio.concurrency("api").__aenter__()
    with pytest.raises(RuntimeError, match="needs asyncio"):
        coroutine.send(None)


def test_nothing_is_said_of_coroutines_that_nobody_awaited() -> None:
    """A refused call has closed the coroutine that it got."""
    program = """
import localgcl
async def coroutine(): pass
try:
    localgcl.concurrency([])(lambda: coroutine())()
except TypeError:
    print("refused")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("refused\n", "")
