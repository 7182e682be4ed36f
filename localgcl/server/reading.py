"""Reading all limits in parts, so that no request keeps others from the database for long."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from localgcl._admin import reading
from localgcl._admin.action import Action
from localgcl._admin.metrics import Row, counters_part
from localgcl._drivers.sessions import session_of
from localgcl.asyncio import AsyncLimiter
from localgcl.models import Limit

T = TypeVar("T")

# A limit takes some microseconds.
_AT_A_TIME = 200

Part = Callable[[int | None, int], Action[tuple[list[T], int | None]]]


async def all_limits(limiter: AsyncLimiter) -> list[Limit]:
    """Return all limits by name; each is of one moment, but not all of the same one."""
    return sorted(await _in_parts(limiter, reading.read_part), key=lambda limit: limit.name)


async def all_counters(limiter: AsyncLimiter) -> list[Row]:
    """Return the counters of all limits, by name."""
    rows = await _in_parts(limiter, counters_part)
    return sorted(rows, key=lambda row: str(row["name"]))


async def _in_parts(limiter: AsyncLimiter, part: Part[T]) -> list[T]:
    found: list[T] = []
    last: int | None = None
    while True:
        session = await session_of(limiter.path)
        more, last = await part(last, _AT_A_TIME).run_in(session)
        found += more
        if last is None:
            return found
