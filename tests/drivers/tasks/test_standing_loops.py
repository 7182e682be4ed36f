"""A blocking call that waits in a thread whose event loop is running: it is warned of."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import pytest

from localgcl import AcquireConcurrencySlotTimeoutError, Limiter, concurrency


@pytest.fixture(autouse=True)
def _never_blocking() -> None:
    """Here the loop is blocked, and that is what is looked at."""


@pytest.fixture
def limiter(path: Path) -> Limiter:
    """A limiter whose only slot is taken by nobody's block."""
    limiter = Limiter(path)
    limiter.acquire("a")
    return limiter


def wait(limiter: Limiter) -> None:
    """Wait in vain, on a line of this file."""
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.acquire("a", timeout_seconds=0.01)


def test_one_warning_for_each_line(limiter: Limiter, caplog: pytest.LogCaptureFixture) -> None:
    """It names file and line of the caller, and comes once for each."""

    async def main() -> None:
        for _ in range(3):
            wait(limiter)
        with pytest.raises(AcquireConcurrencySlotTimeoutError), concurrency("a", 1, 0.01):
            pass

    asyncio.run(main())
    asyncio.run(main())
    assert [(one.name, one.levelno) for one in caplog.records] == [
        ("localgcl", logging.WARNING)
    ] * 2
    first, second = caplog.messages
    assert f"{__file__}:{wait.__code__.co_firstlineno + 3} " in first
    assert f"{__file__}:{main.__code__.co_firstlineno + 3} " in second
    assert "localgcl.asyncio" in first


def test_no_warning_without_a_wait(limiter: Limiter, caplog: pytest.LogCaptureFixture) -> None:
    """What is granted at once, or tries once, holds up nobody."""

    async def main() -> None:
        limiter.acquire([]).release()
        with pytest.raises(AcquireConcurrencySlotTimeoutError):
            limiter.acquire("a", timeout_seconds=0)

    asyncio.run(main())
    assert caplog.records == []


def test_no_warning_where_no_loop_stands_still(
    limiter: Limiter, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in a thread without a loop, though another thread has one, and not for tasks."""

    async def main() -> None:
        await asyncio.to_thread(wait, limiter)

    asyncio.run(main())
    thread = threading.Thread(target=wait, args=(limiter,))
    thread.start()
    thread.join()
    wait(limiter)
    assert caplog.records == []
