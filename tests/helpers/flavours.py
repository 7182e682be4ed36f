"""Both flavours behind the same blocking calls, so that one suite holds both to the same behaviour.

The awaitable one is driven through an event loop that runs in a thread of its own: what a test
calls is handed to the loop, and awaited there.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, ParamSpec, Protocol, TypeVar, cast

import pytest
from blockbuster import BlockBuster

import localgcl.asyncio
import localgcl.sync
from localgcl import AsyncLease, AsyncLimiter, Lease, Limiter
from localgcl._storage.database import Database
from tests.helpers.waiting import DEADLINE_SECONDS

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


@contextlib.contextmanager
def never_blocking() -> Iterator[None]:
    """Make it an error where localgcl blocks a running event loop."""
    guard = BlockBuster(scanned_modules=["localgcl"])
    # Of these the path needs no more than the name of the current folder.
    for function in ("os.path.abspath", "os.getcwd"):
        guard.functions[function].can_block_in("localgcl/_storage/location.py", "choose")
    # What the kernel tells of processes in /proc is on no disk.
    for guarded in guard.functions.values():
        guarded.can_block_in("localgcl/_liveness/process.py", {"_namespace", "_started"})
    guard.activate()
    try:
        yield
    finally:
        guard.deactivate()


class Loop:
    """An event loop in a thread, as `asyncio.run` begins and ends one."""

    def __init__(self) -> None:
        self._runs = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._main(),))
        self._thread.start()
        assert self._runs.wait(DEADLINE_SECONDS)

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        self._runs.set()
        await self._stopped.wait()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Have the loop run a coroutine, and wait for what comes of it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(DEADLINE_SECONDS)

    def close(self) -> None:
        """End the loop, with all that has to do with it."""
        self.loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(DEADLINE_SECONDS)
        assert not self._thread.is_alive()


class DrivenLease:
    """An `AsyncLease` with the calls of a `Lease`."""

    def __init__(self, loop: Loop, lease: AsyncLease) -> None:
        assert isinstance(lease, AsyncLease)
        self._loop = loop
        self._lease = lease

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lease, name)

    def __repr__(self) -> str:
        return repr(self._lease)

    def __enter__(self) -> DrivenLease:
        self._loop.run(self._lease.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.run(self._lease.__aexit__(kind, error, traceback))

    def release(self) -> None:
        """As `Lease.release`."""
        self._loop.run(self._lease.release())

    def numbers(self, name: str | None = None) -> list[int]:
        """As `Lease.numbers`."""
        return self._loop.run(self._lease.numbers(name))


class DrivenConcurrency:
    """What the awaitable `concurrency()` returns, for `with` and over a plain function."""

    def __init__(self, loop: Loop, concurrency: Any) -> None:
        self._loop = loop
        self._concurrency = concurrency

    def __enter__(self) -> DrivenLease:
        return DrivenLease(self._loop, self._loop.run(self._concurrency.__aenter__()))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.run(self._concurrency.__aexit__(kind, error, traceback))

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        async def awaited(*args: P.args, **kwargs: P.kwargs) -> R:
            # In a thread, for it may call what has to go through this loop.
            return await asyncio.to_thread(function, *args, **kwargs)

        limited = self._concurrency(awaited)

        @functools.wraps(limited)
        def blocking(*args: P.args, **kwargs: P.kwargs) -> R:
            return cast(R, self._loop.run(limited(*args, **kwargs)))

        return blocking


class DrivenLimiter:
    """An `AsyncLimiter` with the calls of a `Limiter`.

    `_database` is the blocking flavour's, through which tests look into the file and play other
    processes.
    """

    def __init__(self, loop: Loop, path: str) -> None:
        self._loop = loop
        self._limiter = AsyncLimiter(path)
        self._database: Database = Limiter(path)._database

    def __enter__(self) -> DrivenLimiter:
        self._loop.run(self._limiter.__aenter__())
        return self

    def __exit__(self, *error: Any) -> None:
        self._loop.run(self._limiter.__aexit__(*error))
        self._database.close()

    def close(self) -> None:
        """As `Limiter.close`, for what a test has opened by the blocking flavour too."""
        self._loop.run(self._limiter.aclose())
        self._database.close()

    def concurrency(self, *args: Any, **kwargs: Any) -> DrivenConcurrency:
        """As `Limiter.concurrency`."""
        return DrivenConcurrency(self._loop, self._limiter.concurrency(*args, **kwargs))

    def acquire(self, *args: Any, **kwargs: Any) -> DrivenLease:
        """As `Limiter.acquire`."""
        return DrivenLease(self._loop, self._loop.run(self._limiter.acquire(*args, **kwargs)))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._limiter, name)
        assert inspect.iscoroutinefunction(method), f"{name} is not awaited"
        return lambda *args, **kwargs: self._loop.run(method(*args, **kwargs))


class Flavour(Protocol):
    """What a test calls: one flavour's limiter and functions."""

    lease: type

    def limiter(self, path: str | None = None) -> Limiter:
        """Return a limiter of a database, of the environment's where there is no path."""

    def concurrency(self, *args: Any, **kwargs: Any) -> Any:
        """As `localgcl.concurrency`."""

    def rate_limit(self, *args: Any, **kwargs: Any) -> None:
        """As `localgcl.rate_limit`."""

    def rate_limited(self, *args: Any, **kwargs: Any) -> Any:
        """As `localgcl.rate_limited`."""

    def close(self) -> None:
        """End what belongs to the flavour."""


class Blocking:
    """The blocking flavour, as it is."""

    lease: type = Lease
    concurrency = staticmethod(localgcl.sync.concurrency)
    rate_limit = staticmethod(localgcl.sync.rate_limit)
    rate_limited = staticmethod(localgcl.sync.rate_limited)
    limiter = staticmethod(Limiter)

    def close(self) -> None:
        """There is nothing to end."""


class Awaiting:
    """The awaitable flavour, driven."""

    lease: type = DrivenLease

    def __init__(self) -> None:
        self._resources = contextlib.ExitStack()
        self._resources.enter_context(never_blocking())
        self._loop = self._resources.enter_context(contextlib.closing(Loop()))

    def limiter(self, path: str | None = None) -> Limiter:
        """As `AsyncLimiter`; to a test it is a `Limiter`."""
        chosen = AsyncLimiter(path).path
        return cast(Limiter, DrivenLimiter(self._loop, chosen))

    def concurrency(self, *args: Any, **kwargs: Any) -> DrivenConcurrency:
        """As `localgcl.asyncio.concurrency`."""
        return DrivenConcurrency(self._loop, localgcl.asyncio.concurrency(*args, **kwargs))

    def rate_limit(self, *args: Any, **kwargs: Any) -> None:
        """As `localgcl.asyncio.rate_limit`."""
        self._loop.run(localgcl.asyncio.rate_limit(*args, **kwargs))

    def rate_limited(self, *args: Any, **kwargs: Any) -> DrivenConcurrency:
        """As `localgcl.asyncio.rate_limited`."""
        return DrivenConcurrency(self._loop, localgcl.asyncio.rate_limited(*args, **kwargs))

    def close(self) -> None:
        """End the loop."""
        self._resources.close()


FLAVOURS: dict[str, Callable[[], Flavour]] = {"blocking": Blocking, "awaiting": Awaiting}


def both_flavours(metafunc: pytest.Metafunc) -> None:
    """Run the tests of a module over both flavours; to be its `pytest_generate_tests`.

    Those that are about one alone are marked with `blocking_alone`; commands know no other.
    """
    alone = "invoke" in metafunc.fixturenames or any(
        mark == blocking_alone.mark for mark in metafunc.definition.iter_markers()
    )
    if "flavour" in metafunc.fixturenames and not alone:
        metafunc.parametrize("flavour", FLAVOURS, indirect=True)


blocking_alone = pytest.mark.parametrize("flavour", ["blocking"], indirect=True)
