"""The awaitable flavour: `AsyncLimiter`, `AsyncLease`, `concurrency` and `rate_limit`."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

from localgcl._admin import limits, reading
from localgcl._admin.action import Action
from localgcl._base.checks import check_lease_id
from localgcl._drivers.awaiting import AsyncBlock, obtain, rate_limited_function
from localgcl._drivers.blocks import Entry
from localgcl._drivers.flow import HoldingTerms, RateTerms, TermsOfCalls
from localgcl._drivers.leases import described, key_of, no_slots, slots_of
from localgcl._drivers.sessions import last_database, session_of
from localgcl._engine import release as _release
from localgcl._engine.numbers import numbers_of
from localgcl._engine.request import Granted, Request
from localgcl._storage.backlog import run_later
from localgcl._storage.database import NoDatabaseError, Transaction
from localgcl._storage.location import choose
from localgcl.errors import AcquireConcurrencySlotTimeoutError, ConcurrencySlotAcquisitionError
from localgcl.models import Holder, Limit, Waiter

if TYPE_CHECKING:
    from localgcl._drivers.flow import AnyTerms, Names

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

__all__ = [
    "AcquireConcurrencySlotTimeoutError",
    "AsyncLease",
    "AsyncLimiter",
    "ConcurrencySlotAcquisitionError",
    "concurrency",
    "rate_limit",
    "rate_limited",
]


class AsyncLease:
    """As `localgcl.Lease`, with `release()` and `numbers()` awaited, and for `async with`."""

    __slots__ = (
        "_entry",
        "_granted",
        "_of_block",
        "_path",
        "_pid",
        "_request",
        "_taken",
        "id",
        "names",
        "occupy",
        "waited_seconds",
    )

    def __init__(
        self,
        request: Request,
        waited_seconds: float = 0.0,
        granted: Granted | None = None,
        path: str = "",
    ) -> None:
        self.id = request.id
        self.names = request.names
        self.occupy = request.occupy
        self.waited_seconds = waited_seconds
        self._request = request
        self._taken = granted
        self._granted = granted  # None: nothing to free
        self._path = path
        self._entry: Entry | None = None
        self._pid = os.getpid()
        self._of_block = False  # whether a block releases it; the last attribute

    def __del__(self) -> None:
        # The collector may find a forgotten task in a thread without a loop that could release it.
        of_block = getattr(self, "_of_block", False)  # missing if `__init__` was interrupted
        if of_block and self._granted is not None and self._pid == os.getpid():
            run_later(last_database(self._path), self._release)

    def __repr__(self) -> str:
        return f"<AsyncLease {self.id} of {described(self._request)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a lease cannot be pickled: its slots belong to this process")

    async def __aenter__(self) -> AsyncLease:
        self._of_block = True
        self._entry = Entry(self, sys._getframe(1))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._entry is not None:
            self._entry.leave()
        await self.release()

    @property
    def slots(self) -> dict[str, int]:
        """As `Lease.slots`."""
        return slots_of(self._request, self._taken)

    async def numbers(self, name: str | None = None) -> tuple[int, ...]:
        """As `Lease.numbers`, awaited."""
        granted = self._granted
        key = key_of(self._request, self._taken, name)
        found: tuple[int, ...] = ()
        if granted is not None and granted.owner is not None:
            work = functools.partial(numbers_of, key=key, owner=granted.owner, lease=self.id)
            session = await session_of(self._path)
            found = await session.transact(work, create=False)
        return found or no_slots(name)

    async def release(self) -> None:
        """As `Lease.release`, awaited; if that is cancelled, it is released nevertheless."""
        granted = self._granted
        if granted is None:
            return
        if self._pid == os.getpid():
            session = await session_of(self._path)
            self._of_block = False  # from here on the session releases it in any case
            with contextlib.suppress(NoDatabaseError):  # so there is nothing to free
                await session.transact(self._release, create=False, retry=True)
        self._granted = None

    def _release(self, tx: Transaction) -> None:
        granted = self._granted
        if granted is not None:
            _release.release_granted(tx, self.id, self.occupy, granted)


class _Concurrency(AsyncBlock):
    """What `concurrency()` returns: an asynchronous context manager, entered once; a decorator."""

    __slots__ = ()
    lease_type = AsyncLease

    if TYPE_CHECKING:

        async def __aenter__(self) -> AsyncLease: ...


class AsyncLimiter:
    """As `localgcl.Limiter`, for tasks: every method is awaited, except `concurrency`.

    It may be created outside of any event loop, and used in several.

    >>> import asyncio
    >>> async def main():
    ...     async with AsyncLimiter("limits.db") as limiter:
    ...         await limiter.upsert("database", 2)
    ...         async with limiter.concurrency("database") as lease:
    ...             return lease.names
    >>> asyncio.run(main())
    ('database',)
    """

    def __init__(self, database: str | os.PathLike[str] | None = None) -> None:
        self.path = choose(database)[0]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path,)

    async def __aenter__(self) -> AsyncLimiter:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """As `Limiter.close`, for this loop; leases stay, and the next call opens it again."""
        session = await session_of(self.path)
        await session.close_if_idle()

    # Slots

    def concurrency(
        self,
        names: Names | Callable[..., Names],
        occupy: int = 1,
        timeout_seconds: float | None = None,
        max_retries: int | None = None,
        lease_duration: float = 300,
        strict: bool = False,
        holder: Any = None,
        raise_on_lease_renewal_failure: bool | None = None,
    ) -> _Concurrency:
        """As `localgcl.asyncio.concurrency`, on this database."""
        rest = (occupy, timeout_seconds, max_retries, strict, holder)
        if callable(names):
            return _Concurrency(TermsOfCalls(HoldingTerms, names, *rest), self.path)
        return _Concurrency(HoldingTerms(names, *rest), self.path)

    async def rate_limit(
        self,
        names: Names,
        occupy: int = 1,
        timeout_seconds: float | None = None,
        strict: bool = False,
    ) -> None:
        """As `localgcl.asyncio.rate_limit`, on this database."""
        terms = RateTerms(names, occupy, timeout_seconds, strict=strict)
        await obtain(terms, self.path, AsyncLease)

    async def acquire(
        self,
        names: Names,
        occupy: int = 1,
        timeout_seconds: float | None = None,
        max_retries: int | None = None,
        strict: bool = False,
        holder: Any = None,
    ) -> AsyncLease:
        """As `Limiter.acquire`, awaited; so is the lease's `release()`.

        >>> import asyncio
        >>> async def main():
        ...     async with AsyncLimiter("limits.db") as limiter:
        ...         lease = await limiter.acquire("database", timeout_seconds=10)
        ...         await lease.release()
        ...         return lease.occupy
        >>> asyncio.run(main())
        1
        """
        terms = HoldingTerms(names, occupy, timeout_seconds, max_retries, strict, holder)
        return await obtain(terms, self.path, AsyncLease)

    # Administration

    async def create(
        self,
        name: str,
        limit: int | None = None,
        *,
        slot_decay_per_second: float = 0.0,
        rate: str | None = None,
        window_seconds: float = 0.0,
        active: bool = True,
        active_slots: int = 0,
    ) -> Limit:
        """As `Limiter.create`, awaited."""
        action = limits.create(
            name, limit, slot_decay_per_second, rate, window_seconds, active, active_slots
        )
        return await self._administer(action)

    async def read(self, name: str) -> Limit:
        """As `Limiter.read`, awaited."""
        return await self._administer(reading.read(name))

    async def read_all(self) -> list[Limit]:
        """As `Limiter.read_all`, awaited."""
        return await self._administer(reading.read_all())

    async def update(
        self,
        name: str,
        *,
        new_name: str | None = None,
        limit: int | None = None,
        slot_decay_per_second: float | None = None,
        rate: str | None = None,
        window_seconds: float | None = None,
        active: bool | None = None,
        active_slots: int | None = None,
    ) -> Limit:
        """As `Limiter.update`, awaited."""
        action = limits.update(
            name,
            new_name,
            limit,
            slot_decay_per_second,
            rate,
            window_seconds,
            active,
            active_slots,
        )
        return await self._administer(action)

    async def upsert(
        self,
        name: str,
        limit: int | None = None,
        *,
        slot_decay_per_second: float = 0.0,
        rate: str | None = None,
        window_seconds: float = 0.0,
        active: bool = True,
        active_slots: int | None = None,
    ) -> Limit:
        """As `Limiter.upsert`, awaited."""
        action = limits.upsert(
            name, limit, slot_decay_per_second, rate, window_seconds, active, active_slots
        )
        return await self._administer(action)

    async def adjust(self, name: str, slots: int) -> Limit:
        """As `Limiter.adjust`, awaited."""
        return await self._administer(limits.adjust(name, slots))

    async def pause(self, name: str, seconds: float | None = None) -> Limit:
        """As `Limiter.pause`, awaited."""
        return await self._administer(limits.pause(name, seconds))

    async def resume(self, name: str) -> Limit:
        """As `Limiter.resume`, awaited."""
        return await self._administer(limits.resume(name))

    async def delete(self, name: str) -> None:
        """As `Limiter.delete`, awaited."""
        await self._administer(limits.delete(name))

    async def reset(self, name: str) -> None:
        """As `Limiter.reset`, awaited."""
        await self._administer(limits.reset(name))

    async def holders(self, name: str | None = None) -> list[Holder]:
        """As `Limiter.holders`, awaited."""
        return await self._administer(reading.holders(name))

    async def waiters(self, name: str | None = None) -> list[Waiter]:
        """As `Limiter.waiters`, awaited."""
        return await self._administer(reading.waiters(name))

    async def release(self, lease_id: str) -> bool:
        """As `Limiter.release`, awaited."""
        work = functools.partial(_release.release_by_id, lease=check_lease_id(lease_id))
        session = await session_of(self.path)
        try:
            return bool(await session.transact(work, alone=True, create=False))
        except NoDatabaseError:
            return False

    async def _administer(self, action: Action[T]) -> T:
        return await action.run_in(await session_of(self.path))


def concurrency(
    names: Names | Callable[..., Names],
    occupy: int = 1,
    timeout_seconds: float | None = None,
    max_retries: int | None = None,
    lease_duration: float = 300,
    strict: bool = False,
    holder: Any = None,
    raise_on_lease_renewal_failure: bool | None = None,
) -> _Concurrency:
    """As `localgcl.sync.concurrency`, for `async with` and over an `async def`."""
    rest = (occupy, timeout_seconds, max_retries, strict, holder)
    if callable(names):
        return _Concurrency(TermsOfCalls(HoldingTerms, names, *rest), None)
    return _Concurrency(HoldingTerms(names, *rest), None)


async def rate_limit(
    names: Names,
    occupy: int = 1,
    timeout_seconds: float | None = None,
    strict: bool = False,
) -> None:
    """As `localgcl.sync.rate_limit`, awaited."""
    terms = RateTerms(names, occupy, timeout_seconds, strict=strict)
    await obtain(terms, None, AsyncLease)


def rate_limited(
    names: Names | Callable[..., Names],
    occupy: int = 1,
    timeout_seconds: float | None = None,
    strict: bool = False,
) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Coroutine[Any, Any, R]]]:
    """As `localgcl.sync.rate_limited`, over an `async def`."""
    terms: AnyTerms
    if callable(names):
        terms = TermsOfCalls(RateTerms, names, occupy, timeout_seconds, None, strict)
    else:
        terms = RateTerms(names, occupy, timeout_seconds, strict=strict)
    return functools.partial(rate_limited_function, terms, None)
