"""Requests that take a number of slots of their own from each limit."""

from __future__ import annotations

from typing import Any

import pytest

from localgcl import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    Limiter,
)
from tests.helpers.database import tables
from tests.helpers.flavours import Flavour, both_flavours
from tests.helpers.played import Clock
from tests.helpers.usage import in_use, is_free

pytest_generate_tests = both_flavours


@pytest.fixture(autouse=True)
def _time(clock: Clock) -> None:
    """Have every test here move its time itself."""


def test_each_limit_gives_its_own_number(limiter: Limiter) -> None:
    """All of them are taken at one moment, and all are free afterwards."""
    limiter.create("db", 1)
    limiter.create("ram", 8)
    with limiter.concurrency({"db": 1, "ram": 4}) as lease:
        assert lease.slots == {"db": 1, "ram": 4}
        assert lease.names == ("db", "ram")
        assert lease.occupy is None
        assert (in_use(limiter, "db"), in_use(limiter, "ram")) == (1, 4)
        assert not is_free(limiter, "ram", 5)
        assert is_free(limiter, "ram", 4)
    assert (in_use(limiter, "db"), in_use(limiter, "ram")) == (0, 0)


@pytest.mark.parametrize("names", [{"db": 2, "ram": 2}, {"db": 2}])
def test_equal_weights_are_an_occupy(limiter: Limiter, names: dict[str, int]) -> None:
    """Then there is one number for all, which the lease tells."""
    limiter.create("db", 2)
    limiter.create("ram", 2)
    with limiter.concurrency(names) as lease:
        assert lease.occupy == 2
        assert lease.slots == names


def test_all_or_nothing(limiter: Limiter) -> None:
    """Where one limit lacks room, none gives anything, and the error says what was asked for."""
    limiter.create("db", 1)
    limiter.create("ram", 4)
    limiter.acquire("ram", 2)
    for seconds in (0, 5):
        with pytest.raises(AcquireConcurrencySlotTimeoutError) as caught:
            limiter.acquire({"db": 1, "ram": 3}, timeout_seconds=seconds)
        assert caught.value.names == ("db", "ram")
        assert caught.value.occupy is None
        assert "the slots of 'db', 'ram'" in str(caught.value)
        assert in_use(limiter, "db") == 0
    assert tables(limiter)["waiters"] == []


def test_a_weight_above_its_limit(limiter: Limiter) -> None:
    """Waiting cannot help, and the error names that limit alone."""
    limiter.create("db", 1)
    limiter.create("ram", 4)
    with pytest.raises(ConcurrencySlotAcquisitionError) as caught:
        limiter.acquire({"db": 1, "ram": 5})
    assert caught.value.names == ("ram",)
    assert caught.value.reason == "over_limit"
    assert in_use(limiter, "db") == 0


def test_by_rate(flavour: Flavour, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call takes one request and many tokens."""
    monkeypatch.setenv("LOCALGCL_DB", limiter._database.path)
    limiter.create("requests", 10, slot_decay_per_second=0.001)
    limiter.create("tokens", 2000, slot_decay_per_second=0.001)
    flavour.rate_limit({"requests": 1, "tokens": 1200})
    assert (in_use(limiter, "requests"), in_use(limiter, "tokens")) == (1, 1200)
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.rate_limit({"requests": 1, "tokens": 1200}, timeout_seconds=0)
    limiter.rate_limit({"requests": 1, "tokens": 800}, timeout_seconds=0)


def test_what_is_not_taken_is_not_in_slots(limiter: Limiter) -> None:
    """Missing and inactive names are among the names, and not among the slots."""
    limiter.create("db", 2)
    limiter.create("off", 2, active=False)
    lease = limiter.acquire({"db": 2, "off": 1, "none": 3})
    assert lease.slots == {"db": 2}
    assert lease.names == ("db", "off", "none")
    lease.release()
    assert lease.slots == {"db": 2}  # what was taken
    assert limiter.acquire("none").slots == limiter.acquire("off").slots == {}
    assert limiter.acquire({}).slots == {}


def test_slots_of_one_name(limiter: Limiter) -> None:
    """A lease tells the same whether the slots were taken at once, or in the general way."""
    limiter.create("db", 5)
    for _ in range(3):
        assert limiter.acquire("db", 1).slots == {"db": 1}
    assert limiter.acquire(["db", "db"], 2).slots == {"db": 2}


@pytest.mark.parametrize(
    ("names", "occupy", "error"),
    [
        ({"db": 0}, 1, ValueError),
        ({"db": -1}, 1, ValueError),
        ({"db": 10**30}, 1, ValueError),
        ({"db": True}, 1, TypeError),
        ({"db": 1.0}, 1, TypeError),
        ({"db": 1, "bad\nname": 1}, 1, ValueError),
        ({"db": 1, " ": 1}, 1, ValueError),
        ({"db": 1}, 2, ValueError),
        ({"db": 1}, True, TypeError),
        ({}, 2, ValueError),
        ({1: 1}, 1, TypeError),
    ],
)
@pytest.mark.parametrize("call", ["concurrency", "acquire", "rate_limit"])
def test_bad_weights(
    limiter: Limiter, call: str, names: Any, occupy: Any, error: type[Exception]
) -> None:
    """They are refused at the call, before anything is touched."""
    with pytest.raises(error):
        getattr(limiter, call)(names, occupy)
    assert limiter.read_all() == []
