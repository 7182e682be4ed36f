"""`concurrency` over functions and blocks, and the functions of the module."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from localgcl import AcquireConcurrencySlotTimeoutError, Limiter, concurrency
from tests.helpers.flavours import Flavour, blocking_alone, both_flavours
from tests.helpers.played import Clock
from tests.helpers.usage import in_use

pytest_generate_tests = both_flavours


@pytest.fixture(autouse=True)
def _time(clock: Clock) -> None:
    """Have every test here move its time itself."""


def test_a_decorator_takes_a_new_lease_at_each_call(limiter: Limiter) -> None:
    """A decorated function holds while it runs, and is itself otherwise."""
    limiter.create("database", 1)
    seen = []

    @limiter.concurrency("database", timeout_seconds=0)
    def query(number: int, *, sign: int = 1) -> int:
        """Answer."""
        (holder,) = limiter.holders("database")
        seen.append(holder.lease)
        return number * sign

    assert limiter.holders() == []
    assert query(20, sign=-1) == -20
    assert query(21) == 21
    assert limiter.holders() == []
    assert len(set(seen)) == 2
    assert query.__name__ == "query"
    assert query.__doc__ == "Answer."


def test_a_decorator_frees_when_the_function_fails(limiter: Limiter) -> None:
    """An exception goes on, and the slot is free."""
    limiter.create("database", 1)

    @limiter.concurrency("database")
    def fail() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert in_use(limiter, "database") == 0


def test_a_decorated_function_may_call_itself(limiter: Limiter) -> None:
    """Each call has a lease of its own."""
    limiter.create("database", 3)

    @limiter.concurrency("database", timeout_seconds=0)
    def descend(depth: int) -> int:
        return descend(depth - 1) if depth else in_use(limiter, "database")

    assert descend(2) == 3
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        descend(3)
    assert in_use(limiter, "database") == 0


def test_one_concurrency_is_entered_once(limiter: Limiter) -> None:
    """Entered again, inside or after, it is a RuntimeError, and its slot is not lost."""
    limiter.create("database", 5)
    once = limiter.concurrency("database")
    with once:
        with pytest.raises(RuntimeError), once:
            pass
        assert in_use(limiter, "database") == 1
    with pytest.raises(RuntimeError):
        once.__enter__()
    assert in_use(limiter, "database") == 0


@blocking_alone
def test_asynchronous_functions_are_refused(limiter: Limiter, path: str) -> None:
    """The blocking flavour over an `async def` is a TypeError when it decorates."""

    async def coroutine() -> None:
        pass

    with pytest.raises(TypeError, match=r"localgcl\.asyncio"):
        limiter.concurrency("database")(coroutine)
    with pytest.raises(TypeError, match=r"localgcl\.asyncio"):
        concurrency("database")(coroutine)
    assert not os.path.exists(path)


def test_functions_use_the_database_of_the_environment(
    flavour: Flavour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`concurrency` and `rate_limit` read LOCALGCL_DB when they are entered."""
    for name in ("one.db", "two.db"):
        monkeypatch.setenv("LOCALGCL_DB", str(tmp_path / name))
        limiter = flavour.limiter()
        limiter.create("database", 1)
        limiter.create("api", 1, slot_decay_per_second=0.001)
        with flavour.concurrency("database", strict=True, timeout_seconds=0) as lease:
            assert [one.lease for one in limiter.holders()] == [lease.id]
        flavour.rate_limit("api", strict=True, timeout_seconds=0)
        with pytest.raises(AcquireConcurrencySlotTimeoutError):
            flavour.rate_limit("api", timeout_seconds=0)


def test_a_function_decorated_at_import_finds_the_database_when_called(
    flavour: Flavour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decorator stands at the top of a module, long before the environment is set."""
    decorated = flavour.concurrency("database", strict=True)(lambda: "done")
    monkeypatch.setenv("LOCALGCL_DB", str(tmp_path / "later.db"))
    Limiter().create("database", 1)
    assert decorated() == "done"
