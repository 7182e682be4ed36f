"""What the tests of tasks and loops share: a limit of one slot, and no blocking of any loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from localgcl import Limiter
from tests.flavours import DEADLINE_SECONDS, never_blocking


@pytest.fixture(autouse=True)
def _never_blocking() -> Iterator[None]:
    with never_blocking():
        yield


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database that is the default, with a limit of one slot."""
    database = tmp_path / "limits.db"
    monkeypatch.setenv("LOCALGCL_DB", str(database))
    with Limiter(database) as limiter:
        limiter.create("a", 1)
    return database


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
