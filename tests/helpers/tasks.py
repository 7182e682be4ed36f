"""What tests of tasks and loops wait for and check."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from localgcl import Limiter
from tests.helpers.waiting import DEADLINE_SECONDS


def nothing_is_left(path: Path) -> None:
    """Check that no slot is taken, nobody waits and no lifeline is left."""
    with Limiter(path) as limiter:
        assert [limit.active_slots for limit in limiter.read_all()] == [0] * len(limiter.read_all())
        assert limiter.waiters() == []
    assert set(os.listdir(f"{path}-run")) == {"gate"}


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that others bring about."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await condition():
            await asyncio.sleep(0.001)
