"""What users test their own code with: a database of its own, no limits, time that jumps."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest

import localgcl
import localgcl.asyncio
from localgcl import AcquireConcurrencySlotTimeoutError, Limiter, LimitNotFoundError
from localgcl.testing import temporary_database, unlimited, virtual_time

pytest_plugins = ("pytester",)


# A database of its own


def test_a_temporary_database(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what calls without a path use, and is gone at the end."""
    monkeypatch.setenv("LOCALGCL_DB", path)
    with temporary_database({"db": 2, "api": {"limit": 1, "rate": "100/min"}}) as limiter:
        inside = os.environ["LOCALGCL_DB"]
        assert inside != path
        assert {one.name: (one.limit, one.rate) for one in limiter.read_all()} == {
            "db": (2, None),
            "api": (1, "100/min"),
        }
        with localgcl.concurrency("db", strict=True):
            assert limiter.read("db").active_slots == 1
        lease = localgcl.Limiter().acquire("db", strict=True)
    assert os.environ["LOCALGCL_DB"] == path
    assert not os.path.exists(os.path.dirname(inside))
    lease.release()  # what was still held is gone with it
    assert not os.path.exists(path)


def test_a_database_that_cannot_be_made_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors are those of `create`, and the environment is as it was."""
    monkeypatch.delenv("LOCALGCL_DB", raising=False)
    with pytest.raises(ValueError, match="rate"), temporary_database({"api": {"rate": "1/aeon"}}):
        pytest.fail("there is no such rate")
    assert "LOCALGCL_DB" not in os.environ


def test_one_inside_another() -> None:
    """Each has limits of its own."""
    with temporary_database({"a": 1}), temporary_database({"b": 1}):
        with pytest.raises(LimitNotFoundError):
            Limiter().read("a")
        assert Limiter().read("b").limit == 1


# No limits


def test_unlimited(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests of every form are granted, and no file is touched."""
    monkeypatch.setenv("LOCALGCL_DB", path)

    @localgcl.concurrency(lambda number: f"customer:{number}", occupy=3)
    def held(number: int) -> int:
        return number

    @localgcl.rate_limited("api")
    def called() -> str:
        return "called"

    async def awaited() -> list[int]:
        await localgcl.asyncio.rate_limit("api", timeout_seconds=0)
        async with localgcl.asyncio.concurrency({"a": 2, "b": 1}) as lease:
            return await lease.numbers("a")

    with unlimited():
        assert held(7) == 7
        assert called() == "called"
        assert asyncio.run(awaited()) == [0, 1]
        with localgcl.concurrency("db", occupy=2, strict=True) as lease:
            assert lease.slots == {"db": 2}
            assert lease.numbers() == [0, 1]
        with pytest.raises(ValueError, match="no slots of 'other'"):
            lease.numbers("other")
        with pytest.raises(ValueError, match="occupy"):
            localgcl.concurrency("db", occupy=0)
    assert not os.path.exists(path)
    with pytest.raises(localgcl.ConcurrencySlotAcquisitionError):
        localgcl.rate_limit("api", strict=True)


# Time that jumps


def test_a_rate_in_virtual_time() -> None:
    """Each request is granted at its moment, which comes at once."""
    with temporary_database({"api": {"rate": "1/min"}}) as limiter, virtual_time() as clock:
        for number in range(5):
            limiter.rate_limit("api")
            assert clock.elapsed_seconds == pytest.approx(60 * number, abs=1)


def test_a_window_in_virtual_time() -> None:
    """No more than its slots in any period."""
    with temporary_database({"api": {"limit": 3, "window_seconds": 60.0}}), virtual_time() as clock:
        for number in range(9):
            localgcl.rate_limit("api")
            assert clock.elapsed_seconds == pytest.approx(number // 3 * 60, abs=1)


def test_a_pause_in_virtual_time() -> None:
    """It ends at its moment."""
    with temporary_database({"db": 1}) as limiter, virtual_time() as clock:
        limiter.pause("db", 300)
        with limiter.concurrency("db"):
            assert clock.elapsed_seconds == pytest.approx(300, abs=1)


def test_a_timeout_in_virtual_time() -> None:
    """It is over without having taken its time, in both flavours."""
    began = time.monotonic()
    with temporary_database({"db": 1}) as limiter, virtual_time() as clock:
        limiter.acquire("db")
        with pytest.raises(AcquireConcurrencySlotTimeoutError):
            limiter.acquire("db", timeout_seconds=7200)
        assert clock.elapsed_seconds == pytest.approx(7200, abs=1)

        async def main() -> None:
            with pytest.raises(AcquireConcurrencySlotTimeoutError):
                await localgcl.asyncio.AsyncLimiter().acquire("db", timeout_seconds=7200)

        asyncio.run(main())
        assert clock.elapsed_seconds == pytest.approx(14400, abs=1)
    assert time.monotonic() - began < 7200


def test_a_slot_that_another_thread_holds() -> None:
    """What the thread does takes its own time, so the clock does not jump."""
    with temporary_database({"db": 1}) as limiter, virtual_time() as clock:
        lease = limiter.acquire("db")
        waits = threading.Thread(target=lambda: limiter.acquire("db").release())
        waits.start()
        while not limiter.waiters():
            time.sleep(0.001)
        lease.release()
        waits.join()
        assert clock.elapsed_seconds < 60


@pytest.mark.parametrize("flavour", ["threads", "tasks"])
def test_many_that_wait_at_once(flavour: str) -> None:
    """The earliest moment comes first, so that none of the rate is lost."""
    count = 12

    async def main() -> None:
        await asyncio.gather(*(localgcl.asyncio.rate_limit("api") for _ in range(count)))

    with temporary_database({"api": {"rate": "1/min"}}), virtual_time() as clock:
        if flavour == "tasks":
            asyncio.run(main())
        else:
            threads = [
                threading.Thread(target=localgcl.rate_limit, args=("api",)) for _ in range(count)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert clock.elapsed_seconds == pytest.approx(60 * (count - 1), abs=10)


def test_time_that_is_put_ahead() -> None:
    """Slots come back for it; one cannot go back, and there is one clock."""
    with temporary_database({"api": {"limit": 2, "rate": "1/min"}}) as limiter:
        with virtual_time() as clock:
            limiter.rate_limit("api", 2)
            clock.advance(60)
            assert limiter.read("api").available_slots == 1
            with pytest.raises(ValueError, match="0 or more"):
                clock.advance(-1)
            with pytest.raises(RuntimeError, match="in use"), virtual_time():
                pytest.fail("two clocks")
        with virtual_time() as clock:
            assert clock.elapsed_seconds < 60


# The fixture


def test_the_fixture(pytester: pytest.Pytester) -> None:
    """It is there without an import, and does not slow down those who do not use it."""
    pytester.makepyfile(
        """
        import os
        import sys

        def test_nothing_was_imported():
            assert "localgcl.sync" not in sys.modules

        def test_limits(localgcl_limiter):
            localgcl_limiter.create("db", 1)
            from localgcl import concurrency
            with concurrency("db", strict=True):
                assert localgcl_limiter.read("db").active_slots == 1
            assert os.environ["LOCALGCL_DB"].endswith("limits.db")

        def test_the_next_has_another(localgcl_limiter):
            assert localgcl_limiter.read_all() == []
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=3)


def test_the_folder_is_closed_to_others() -> None:
    """As temporary folders are."""
    with temporary_database():
        mode = Path(os.environ["LOCALGCL_DB"]).parent.stat().st_mode
    assert mode & 0o077 == 0
