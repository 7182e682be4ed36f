"""`concurrency` over functions and blocks, and the functions of the module."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import localgcl.asyncio
import localgcl.sync
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


class Order:
    """What a function of a user's works on."""

    def __init__(self, customer: str) -> None:
        self.customer = customer


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (lambda order: f"customer:{order.customer}", {"customer:7": 1}),
        (lambda order: [f"customer:{order.customer}", "all"], {"customer:7": 1, "all": 1}),
        (lambda order: {f"customer:{order.customer}": 1, "all": 2}, {"customer:7": 1, "all": 2}),
        (lambda **_: None, {}),
        (lambda **_: "", {}),
    ],
)
def test_names_from_the_arguments(
    limiter: Limiter, names: Callable[..., Any], taken: dict[str, int]
) -> None:
    """A callable makes the names from the arguments of each call."""
    limiter.create("customer:*", 1)
    limiter.create("all", 5)

    @limiter.concurrency(names, timeout_seconds=0)
    def handle(order: Order) -> dict[str, int]:
        return {one.limit: one.slots for one in limiter.holders()}

    assert handle(order=Order("7")) == taken
    assert limiter.holders() == []


def test_each_call_has_its_own_names(limiter: Limiter) -> None:
    """One customer does not wait for another, and all else of the arguments stays."""
    limiter.create("customer:*", 2)

    @limiter.concurrency(lambda name: f"customer:{name}", occupy=2, timeout_seconds=0)
    def handle(name: str) -> None:
        with pytest.raises(AcquireConcurrencySlotTimeoutError) as caught:
            handle(name)
        assert caught.value.names == (f"customer:{name}",)
        assert caught.value.occupy == 2
        if name == "a":
            handle("b/c")

    handle("a")
    assert limiter.holders() == []


def test_what_the_callable_may_not_return(limiter: Limiter) -> None:
    """It is checked as names are, before anything is touched; its own errors go on."""

    def decorated(names: Any, **arguments: Any) -> Callable[[], Any]:
        return limiter.concurrency(lambda: names, **arguments)(lambda: pytest.fail("it ran"))

    for names, error in ((5, TypeError), (["a", 1], TypeError), ("\n", ValueError)):
        with pytest.raises(error):
            decorated(names)()
    with pytest.raises(TypeError, match="no other callable"):
        decorated(lambda: "a")()
    with pytest.raises(ValueError, match="omit occupy"):
        decorated({"a": 1}, occupy=2)()
    with pytest.raises(IndexError):
        limiter.concurrency(lambda: "abc"[7])(lambda: None)()
    assert limiter.read_all() == []


def test_a_callable_is_for_decorators_alone(flavour: Flavour, limiter: Limiter) -> None:
    """Nobody else has arguments that it could be called with."""
    with pytest.raises(TypeError, match="decorator"), limiter.concurrency(lambda: "a"):
        pytest.fail("it was entered")
    with pytest.raises(TypeError, match="decorator"):
        limiter.acquire(lambda: "a")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="decorator"):
        flavour.rate_limit(lambda: "a")
    with pytest.raises(ValueError, match="occupy"):
        limiter.concurrency(lambda: "a", occupy=0)


def test_rate_limited(flavour: Flavour, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call takes slots by rate first, which do not come back at its end."""
    monkeypatch.setenv("LOCALGCL_DB", limiter._database.path)
    limiter.create("api", 2, slot_decay_per_second=0.001)

    @flavour.rate_limited("api", timeout_seconds=0)  # type: ignore[untyped-decorator]
    def fetch(url: str, *, attempts: int = 1) -> str:
        """Fetch."""
        return url * attempts

    assert limiter.read("api").active_slots == 0
    assert fetch("a", attempts=2) == "aa"
    assert limiter.read("api").active_slots == 1
    assert fetch("b") == "b"
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        fetch("c")
    assert fetch.__name__ == "fetch"
    assert fetch.__doc__ == "Fetch."


def test_rate_limited_by_the_arguments(
    flavour: Flavour, limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and weights may come from the arguments, too."""
    monkeypatch.setenv("LOCALGCL_DB", limiter._database.path)
    limiter.create("tokens", 1000, slot_decay_per_second=0.001)
    ask = flavour.rate_limited(lambda text: {"tokens": len(text)}, timeout_seconds=0)(len)
    assert ask("x" * 600) == 600
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        ask("x" * 600)
    assert ask("x" * 400) == 400


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("api", 0), ValueError),
        (("api", True), TypeError),
        (("api", 1, -1), ValueError),
        (("a\nb",), ValueError),
        ((5,), TypeError),
        (({"api": 0},), ValueError),
    ],
)
def test_rate_limited_is_checked_at_once(
    flavour: Flavour, arguments: tuple[Any, ...], error: type[Exception]
) -> None:
    """Bad arguments are refused where the decorator is made."""
    with pytest.raises(error):
        flavour.rate_limited(*arguments)


@pytest.mark.parametrize("decorator", ["concurrency", "rate_limited"])
@pytest.mark.parametrize("module", [localgcl.sync, localgcl.asyncio])
def test_a_decorator_that_was_not_called(module: ModuleType, decorator: str) -> None:
    """`@concurrency` above a function, without names, says what is missing at its first call."""
    decorated = getattr(module, decorator)(len)  # as if `len` made the names
    with pytest.raises(TypeError, match="NAMES"):
        decorated("text")


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
