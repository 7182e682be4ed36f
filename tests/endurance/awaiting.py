"""Requests of the awaitable flavour: tasks of one event loop, which are cancelled at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from typing import Any

import localgcl.asyncio
from localgcl import (
    AcquireConcurrencySlotTimeoutError,
    AsyncLimiter,
    ConcurrencySlotAcquisitionError,
    DatabaseError,
)
from localgcl.asyncio import AsyncLease
from tests.endurance.actor import Actor
from tests.endurance.wishes import Wish, wish

_TASKS = 10

# How often a release is tried, and how long apart.
_RELEASES, _APART_SECONDS = 200, 0.05


def run(actor: Actor, until: float) -> None:
    """Have tasks ask until the end, in one event loop after another."""
    rng = actor.rng("loops")
    while actor.goes_on(until):
        asyncio.run(_loop(actor, until, rng))


async def _loop(actor: Actor, until: float, rng: random.Random) -> None:
    limiter = AsyncLimiter(actor.database)
    seeds = [rng.random() for _ in range(_TASKS)]
    count = rng.randint(5, 60)
    await asyncio.gather(*(_ask_on(actor, limiter, until, seed, count) for seed in seeds))
    if rng.random() < 0.5:
        await limiter.aclose()


async def _ask_on(
    actor: Actor, limiter: AsyncLimiter, until: float, seed: float, count: int
) -> None:
    rng = random.Random(seed)
    while count and actor.goes_on(until):
        count -= 1
        await asyncio.create_task(_ask(actor, limiter, wish(rng)))


async def _ask(actor: Actor, limiter: AsyncLimiter, wish: Wish) -> None:
    tag = actor.asks_for(wish)
    held = False
    timer: asyncio.TimerHandle | None = None
    task = asyncio.current_task()
    if wish.broken_off_after is not None and task is not None:
        timer = asyncio.get_running_loop().call_later(wish.broken_off_after, task.cancel)

    async def body() -> None:
        nonlocal held
        actor.note("in", tag)
        held = True
        if wish.holds:
            try:
                await asyncio.sleep(wish.hold_seconds)
            finally:
                actor.note("out", tag)

    try:
        await _make(limiter, wish, tag, body)
        if wish.holds:
            actor.note("free", tag)
    except AcquireConcurrencySlotTimeoutError:
        actor.refused(tag, "timed out")
    except ConcurrencySlotAcquisitionError as error:
        actor.refused(tag, error.reason)
    except asyncio.CancelledError:
        if not held:
            actor.refused(tag, "cancelled")
        elif wish.holds:
            # The release goes on where its task does not, and is over a little later.
            actor.refused(tag, "cancelled while held")
    except DatabaseError as error:
        actor.failed(tag, error)
    finally:
        if timer is not None:
            timer.cancel()
    try:
        await asyncio.sleep(wish.pause_seconds)
    except asyncio.CancelledError:
        return  # the timer rang in the very last moment


async def _make(
    limiter: AsyncLimiter, wish: Wish, tag: str, body: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    if not wish.holds:
        by_rate = localgcl.asyncio.rate_limit if wish.form == "function" else limiter.rate_limit
        await by_rate(wish.wanted, wish.occupy, wish.timeout_seconds, strict=True)
        await body()
        return
    asked = (wish.wanted, wish.occupy, wish.timeout_seconds, wish.max_retries)
    if wish.form == "acquire":
        lease = await limiter.acquire(*asked, strict=True, holder=tag)
        try:
            await body()
        finally:
            await _release(lease)
        return
    by_slot = limiter.concurrency if wish.form == "with" else localgcl.asyncio.concurrency
    block = by_slot(*asked, strict=True, holder=tag)
    if wish.form == "decorator":
        await block(body)()
    else:
        async with block:
            await body()


async def _release(lease: AsyncLease) -> None:
    """Release, and try again where that fails, as a user is told to."""
    for _ in range(_RELEASES):
        with contextlib.suppress(DatabaseError):
            await lease.release()
            return
        await asyncio.sleep(_APART_SECONDS)
    await lease.release()
