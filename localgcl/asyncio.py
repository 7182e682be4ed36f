"""The awaitable flavour: the calls and classes of `localgcl.sync`, for tasks."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any, TypeVar

from localgcl._admin import limits, reading, usage
from localgcl._admin.action import Action
from localgcl._base.checks import check_lease_id
from localgcl._drivers.async_lease import AsyncLease
from localgcl._drivers.awaiting import AsyncBlock, AsyncRateDecorator, obtain
from localgcl._drivers.flow import HoldingTerms, RateTerms
from localgcl._drivers.sessions import session_of
from localgcl._engine import release as _release
from localgcl._storage.database import NoDatabaseError
from localgcl._storage.location import choose
from localgcl.errors import AcquireConcurrencySlotTimeoutError, ConcurrencySlotAcquisitionError
from localgcl.models import Holder, Limit, Waiter

if TYPE_CHECKING:
    from localgcl._base.checks import HeldBy, Names, NamesOfCall

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


class _Concurrency(AsyncBlock):
    """What `concurrency()` returns: an asynchronous context manager, entered once; a decorator."""

    __slots__ = ()
    lease_type = AsyncLease

    if TYPE_CHECKING:

        async def __aenter__(self) -> AsyncLease: ...


class _RateLimited(AsyncRateDecorator):
    """What `rate_limited()` returns."""

    __slots__ = ()
    lease_type = AsyncLease


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

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """As `Limiter.close`, for this loop; leases stay, and the next call opens it again."""
        session = await session_of(self.path)
        await session.close_if_idle()

    # Slots

    def concurrency(
        self,
        names: NamesOfCall,
        occupy: int = 1,
        timeout_seconds: float | None = None,
        max_retries: int | None = None,
        lease_duration: float = 300,
        strict: bool = False,
        holder: HeldBy = None,
        raise_on_lease_renewal_failure: bool | None = None,
    ) -> _Concurrency:
        """As `localgcl.asyncio.concurrency`, on this database."""
        terms = HoldingTerms(names, occupy, timeout_seconds, max_retries, strict, holder)
        return _Concurrency(terms, self.path)

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
        holder: HeldBy = None,
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
        return await self._administer(usage.holders(name))

    async def waiters(self, name: str | None = None) -> list[Waiter]:
        """As `Limiter.waiters`, awaited."""
        return await self._administer(usage.waiters(name))

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
    names: NamesOfCall,
    occupy: int = 1,
    timeout_seconds: float | None = None,
    max_retries: int | None = None,
    lease_duration: float = 300,
    strict: bool = False,
    holder: HeldBy = None,
    raise_on_lease_renewal_failure: bool | None = None,
) -> _Concurrency:
    """As `localgcl.sync.concurrency`, for `async with` and over an `async def`."""
    terms = HoldingTerms(names, occupy, timeout_seconds, max_retries, strict, holder)
    return _Concurrency(terms, None)


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
    names: NamesOfCall,
    occupy: int = 1,
    timeout_seconds: float | None = None,
    strict: bool = False,
) -> _RateLimited:
    """As `localgcl.sync.rate_limited`, over an `async def` or what else returns an awaitable."""
    return _RateLimited(RateTerms(names, occupy, timeout_seconds, strict=strict))
