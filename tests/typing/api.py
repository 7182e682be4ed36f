"""The types of the public interface, as a type checker sees them from outside.

Nothing here is run: mypy checks it with the rest. `assert_type` fails where a type is another one,
and `type: ignore` where what it stands for is allowed (`warn_unused_ignores` of `strict`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import Any, assert_type

from pydantic import BaseModel

import localgcl
import localgcl.asyncio
import localgcl.sync
from localgcl import (
    AcquireConcurrencySlotTimeoutError,
    AsyncLease,
    AsyncLimiter,
    ConcurrencySlotAcquisitionError,
    DatabaseError,
    Holder,
    Lease,
    Limit,
    LimitAlreadyExistsError,
    Limiter,
    LimitNotFoundError,
    LocalGCLError,
    Waiter,
    concurrency,
    rate_limit,
    rate_limited,
)

NAMES = ["database", "reports"]


def slots() -> None:
    with concurrency("database") as lease:
        assert_type(lease, Lease)
        assert_type(lease.id, str)
        assert_type(lease.names, tuple[str, ...])
        assert_type(lease.occupy, int | None)
        assert_type(lease.slots, dict[str, int])
        assert_type(lease.waited_seconds, float)
        assert_type(lease.numbers(), list[int])
        assert_type(lease.numbers("database"), list[int])
        lease.release()
    with Limiter().acquire({"database": 1, "memory": 4}) as acquired:
        assert_type(acquired, Lease)
    with concurrency(
        NAMES,
        occupy=2,
        timeout_seconds=1.5,
        max_retries=None,
        lease_duration=60,
        strict=True,
        holder={"type": "flow_run"},
        raise_on_lease_renewal_failure=True,
    ):
        pass
    with concurrency(None), concurrency(("a", "b"), 1, 0):
        pass
    rate_limit("api", occupy=1, timeout_seconds=None, strict=False)
    concurrency({"database": 1, "memory": 4}, holder=Run())
    rate_limit({"requests": 1, "tokens": 1200})
    concurrency(5)  # type: ignore[arg-type]
    concurrency("database", holder=5)  # type: ignore[arg-type]
    rate_limit(lambda: "api")  # type: ignore[arg-type]
    concurrency("database", occupy="1")  # type: ignore[arg-type]
    concurrency("database", timeout="1")  # type: ignore[call-arg]


@concurrency("database")
def report(year: int, *, draft: bool = False) -> str:
    return f"{year} {draft}"


@localgcl.asyncio.concurrency("database")
async def fetch(url: str, *, attempts: int = 3) -> bytes:
    return url.encode() * attempts


@concurrency(lambda order: f"customer:{order}")
def handle(order: int) -> str:
    return str(order)


@rate_limited("api", timeout_seconds=10)
def ask(text: str) -> int:
    return len(text)


@localgcl.asyncio.rate_limited(lambda text: {"requests": 1, "tokens": len(text)})
async def ask_later(text: str) -> int:
    return len(text)


class Later:
    def __call__(self, url: str) -> Awaitable[bytes]:
        return fetch(url)


class Run(BaseModel):
    id: int = 7


async def decorated() -> None:
    assert_type(handle(5), str)
    assert_type(ask("text"), int)
    assert_type(await ask_later("text"), int)
    ask(5)  # type: ignore[arg-type]
    assert_type(await localgcl.asyncio.concurrency("api")(Later())("url"), bytes)
    assert_type(report(2026, draft=True), str)
    report("2026")  # type: ignore[arg-type]
    assert_type(await fetch("https://example.org/", attempts=1), bytes)
    await fetch()  # type: ignore[call-arg]
    of_two: Callable[[int, int], int] = Limiter().concurrency("database")(max)
    of_one: Callable[[str], Coroutine[Any, Any, bytes]] = fetch
    print(of_two, of_one)
    localgcl.asyncio.concurrency("database")(len)  # type: ignore[arg-type]


async def awaited() -> None:
    async with localgcl.asyncio.concurrency(NAMES, timeout_seconds=10) as lease:
        assert_type(lease, AsyncLease)
        assert_type(lease.id, str)
        assert_type(lease.names, tuple[str, ...])
        assert_type(lease.slots, dict[str, int])
        assert_type(await lease.numbers(), list[int])
        await lease.release()
    async with await AsyncLimiter().acquire("database") as acquired:
        assert_type(acquired, AsyncLease)
    await localgcl.asyncio.rate_limit("api")
    with localgcl.asyncio.concurrency("database"):  # type: ignore[attr-defined]
        pass
    async with concurrency("database"):  # type: ignore[attr-defined]
        pass


def administration(limiter: Limiter) -> None:
    with Limiter(Path("limits.db")) as opened:
        assert_type(opened, Limiter)
    limit = limiter.create("api", 10, slot_decay_per_second=2, active=True, active_slots=0)
    assert_type(limit, Limit)
    assert_type(limiter.read("api"), Limit)
    assert_type(limiter.read_all(), list[Limit])
    assert_type(limiter.update("api", new_name="web", limit=5, active=False), Limit)
    assert_type(limiter.upsert("api", 5), Limit)
    assert_type(limiter.acquire("api", 1, timeout_seconds=0), Lease)
    assert_type(limiter.holders(), list[Holder])
    assert_type(limiter.waiters("api"), list[Waiter])
    assert_type(limiter.release("1f0c"), bool)
    limiter.rate_limit(NAMES)
    limiter.reset("api")
    limiter.delete("api")
    limiter.close()
    limiter.create("api", rate="100/min", window_seconds=0.0)
    assert_type(limiter.adjust("api", -5), Limit)
    assert_type(limiter.pause("api", 1.5), Limit)
    assert_type(limiter.resume("api"), Limit)
    limiter.create("api", 10, 2.0)  # type: ignore[call-arg]


async def awaited_administration(limiter: AsyncLimiter) -> None:
    async with AsyncLimiter("limits.db") as opened:
        assert_type(opened, AsyncLimiter)
    assert_type(await limiter.create("api", 10, slot_decay_per_second=2), Limit)
    assert_type(await limiter.read("api"), Limit)
    assert_type(await limiter.read_all(), list[Limit])
    assert_type(await limiter.update("api", limit=5), Limit)
    assert_type(await limiter.upsert("api", 5), Limit)
    assert_type(await limiter.acquire("api"), AsyncLease)
    assert_type(await limiter.holders("api"), list[Holder])
    assert_type(await limiter.waiters(), list[Waiter])
    assert_type(await limiter.release("1f0c"), bool)
    await limiter.rate_limit(NAMES)
    await limiter.reset("api")
    await limiter.delete("api")
    await limiter.aclose()


def models(limit: Limit, holder: Holder, waiter: Waiter) -> None:
    assert_type(limit.id, str)
    assert_type(limit.created, datetime)
    assert_type(limit.name, str)
    assert_type(limit.limit, int)
    assert_type(limit.active, bool)
    assert_type(limit.active_slots, int)
    assert_type(limit.slot_decay_per_second, float)
    assert_type(limit.avg_slot_occupancy_seconds, float)
    assert_type(holder.pid, int | None)
    assert_type(holder.holder, str | None)
    assert_type(holder.since, datetime)
    assert_type(holder.held_seconds, float)
    assert_type(waiter.position, int)
    assert_type(waiter.waited_seconds, float)


def errors() -> None:
    try:
        rate_limit("api", timeout_seconds=1)
    except AcquireConcurrencySlotTimeoutError as error:
        timeout: TimeoutError = error
        assert_type(error.names, tuple[str, ...])
        assert_type(error.retry_after_seconds, float | None)
        print(timeout, error.occupy, error.waited_seconds)
    except ConcurrencySlotAcquisitionError as error:
        assert_type(error.names, tuple[str, ...])
    except LimitNotFoundError as error:
        lookup: LookupError = error
        assert_type(error.name, str)
        print(lookup)
    except LimitAlreadyExistsError as error:
        assert_type(error.name, str)
    except DatabaseError as error:
        assert_type(error.path, str)
    except LocalGCLError as error:
        assert_type(error, LocalGCLError)
