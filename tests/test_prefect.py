"""What people do with Prefect's limits, with the import line changed and nothing else.

The cases are those of its page on how to apply global concurrency and rate limits, in code of our
own; a pool of threads, or a group of tasks, stands for what a flow submits to.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from localgcl import Limiter

AT_ONCE = 2
RATE = 100.0


@pytest.fixture(autouse=True)
def _limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Create what an operator would have created before."""
    monkeypatch.setenv("LOCALGCL_DB", str(tmp_path / "limits.db"))
    with Limiter() as limiter:
        limiter.create("database", AT_ONCE)
        limiter.create("data-processing", 5)
        limiter.create("api", AT_ONCE, slot_decay_per_second=RATE)
        yield
        limits = [limit for limit in limiter.read_all() if not limit.slot_decay_per_second]
        assert [limit.active_slots for limit in limits] == [0, 0]


class Meter:
    """Counts who is inside a block, at once and altogether."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self.most = 0
        self.times = 0

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Count a block."""
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
            self.times += 1
        yield
        with self._lock:
            self._inside -= 1


def no_faster_than_the_rate(number: int, began: float) -> bool:
    """Whether `number` operations since `began` keep to the rate and its burst."""
    return time.monotonic() - began >= (number - AT_ONCE) / RATE


def test_blocking() -> None:
    """Work that a pool of threads runs goes through the limit, at most so many at once."""
    from localgcl.sync import concurrency

    meter = Meter()

    def add(x: int, y: int) -> int:
        with concurrency("database", occupy=1), meter.inside():
            time.sleep(0.005)
            return x + y

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(add, x, x + 1) for x in range(16)]
    assert [future.result() for future in futures] == [2 * x + 1 for x in range(16)]
    assert (meter.times, meter.most <= AT_ONCE) == (16, True)


def test_awaiting() -> None:
    """Tasks of a group go through the limit, at most so many at once."""
    from localgcl.asyncio import concurrency

    meter = Meter()

    async def add(x: int, y: int) -> int:
        async with concurrency("database", occupy=1):
            with meter.inside():
                await asyncio.sleep(0.005)
                return x + y

    async def main() -> list[int]:
        return await asyncio.gather(*[add(x, x + 1) for x in range(16)])

    assert asyncio.run(main()) == [2 * x + 1 for x in range(16)]
    assert (meter.times, meter.most <= AT_ONCE) == (16, True)


def test_limits_are_not_created_by_their_use(caplog: pytest.LogCaptureFixture) -> None:
    """A name that does not exist is a warning, and an error with `strict`."""
    from localgcl.sync import ConcurrencySlotAcquisitionError, concurrency

    with concurrency("misspelt"):
        pass
    assert len(caplog.records) == 1
    with (
        pytest.raises(ConcurrencySlotAcquisitionError, match="misspelt"),
        concurrency("misspelt", strict=True),
    ):
        pytest.fail("nothing was enforced")
    assert [limit.name for limit in Limiter().read_all()] == ["api", "data-processing", "database"]


def test_strict_while_awaiting() -> None:
    """The same, awaited."""
    from localgcl.asyncio import ConcurrencySlotAcquisitionError, concurrency

    async def main() -> None:
        async with concurrency("misspelt", strict=True):
            pytest.fail("nothing was enforced")

    with pytest.raises(ConcurrencySlotAcquisitionError, match="misspelt"):
        asyncio.run(main())


def test_a_timeout() -> None:
    """Who does not get a slot in time gets the error that Prefect's users catch."""
    from localgcl import Limiter
    from localgcl.sync import AcquireConcurrencySlotTimeoutError, concurrency

    lease = Limiter().acquire("database", occupy=AT_ONCE)
    with (
        pytest.raises(AcquireConcurrencySlotTimeoutError),
        concurrency("database", timeout_seconds=0.01, lease_duration=60),
    ):
        pytest.fail("there was no slot")
    lease.release()


def test_rate_limit_in_a_pool() -> None:
    """Requests that a pool makes are spread by the rate."""
    from localgcl.sync import rate_limit

    meter = Meter()

    def request() -> None:
        rate_limit("api")
        with meter.inside():
            pass

    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            pool.submit(request)
    assert meter.times == 10
    assert no_faster_than_the_rate(10, began)


def test_rate_limit_in_tasks() -> None:
    """Requests that tasks make are spread by the rate."""
    from localgcl.asyncio import rate_limit

    async def request() -> None:
        await rate_limit("api")

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(request())

    began = time.monotonic()
    asyncio.run(main())
    assert no_faster_than_the_rate(10, began)


def test_outside_of_a_flow() -> None:
    """A plain loop in a plain `main` keeps to the rate."""
    from localgcl.asyncio import rate_limit

    requests = []

    async def main() -> None:
        for number in range(10):
            await rate_limit("api")
            requests.append(number)

    began = time.monotonic()
    asyncio.run(main())
    assert requests == list(range(10))
    assert no_faster_than_the_rate(10, began)


def test_throttled_submission() -> None:
    """Who submits waits for the rate, and so nothing is submitted faster."""
    from localgcl.sync import rate_limit

    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        futures = []
        for number in range(30):
            rate_limit("api", occupy=1)
            futures.append(pool.submit(abs, -number))
        assert no_faster_than_the_rate(30, began)
    assert [future.result() for future in futures] == list(range(30))


def test_database_connections(tmp_path: Path) -> None:
    """A query takes a slot for as long as it has its connection open."""
    from localgcl import concurrency  # where Prefect's own example has it from

    meter = Meter()

    def query(statement: str) -> object:
        with (
            concurrency("database", occupy=1),
            meter.inside(),
            contextlib.closing(sqlite3.connect(tmp_path / "app.db")) as connection,
        ):
            return connection.execute(statement).fetchone()[0]

    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(query, f"SELECT {number}") for number in range(12)]
    assert [future.result() for future in futures] == list(range(12))
    assert meter.most <= AT_ONCE


def test_batches_of_five() -> None:
    """An async main may use the blocking block around what it awaits, five items at a time."""
    from localgcl.sync import concurrency

    meter = Meter()

    async def process(item: int) -> str:
        with meter.inside():
            await asyncio.sleep(0.001)
            return f"processed {item}"

    async def main() -> list[str]:
        items, processed = list(range(20)), []
        while items:
            with concurrency("data-processing", occupy=5):
                batch = [items.pop() for _ in range(5)]
                processed += await asyncio.gather(*[process(item) for item in batch])
        return processed

    assert asyncio.run(main()) == [f"processed {item}" for item in reversed(range(20))]
    assert meter.most == 5


def test_two_mains_in_batches() -> None:
    """Two such programs at once, here two threads, never have more than five items between them."""
    from localgcl.sync import concurrency

    meter = Meter()

    async def main() -> None:
        for _ in range(5):
            with concurrency("data-processing", occupy=5), meter.inside():
                await asyncio.sleep(0.001)

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (meter.times, meter.most) == (10, 1)
