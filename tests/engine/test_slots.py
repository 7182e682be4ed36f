"""Slots, taken and freed, in time that the tests move; blocked callers sleep in that time too."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from localgcl import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    Limiter,
)
from tests.helpers.database import tables
from tests.helpers.flavours import Flavour, both_flavours
from tests.helpers.played import Clock, Processes
from tests.helpers.usage import in_use, is_free, level

pytest_generate_tests = both_flavours


@pytest.fixture(autouse=True)
def _time(clock: Clock) -> None:
    """Have every test here move its time itself."""


# Taken and freed


def test_a_block_holds_its_slots(limiter: Limiter) -> None:
    """Slots are in use for as long as the block runs, and no longer."""
    limiter.create("database", 2)
    with limiter.concurrency("database"):
        assert in_use(limiter, "database") == 1
        with limiter.concurrency("database"):
            assert in_use(limiter, "database") == 2
            assert not is_free(limiter, "database")
        assert in_use(limiter, "database") == 1
    assert in_use(limiter, "database") == 0


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_block_that_fails_frees_its_slots(limiter: Limiter, error: type[BaseException]) -> None:
    """However a block ends, its slots are free, and its exception goes on."""
    limiter.create("database", 1)
    with pytest.raises(error), limiter.concurrency("database"):
        raise error
    assert in_use(limiter, "database") == 0


def test_a_lease_tells_what_it_is(flavour: Flavour, limiter: Limiter) -> None:
    """A lease has its id, the names as asked without repeats, the slots and the wait."""
    limiter.create("a", 5)
    limiter.create("b", 5)
    with limiter.concurrency(["b", "a", "b"], occupy=2) as lease:
        assert isinstance(lease, flavour.lease)
        assert lease.names == ("b", "a")
        assert lease.occupy == 2
        assert lease.waited_seconds == 0.0
        assert isinstance(lease.id, str)
        assert {one.lease for one in limiter.holders()} == {lease.id}
        assert lease.id in repr(lease)
    with limiter.concurrency("a") as other:
        assert other.id != lease.id


def test_names_as_asked_include_those_passed_by(limiter: Limiter) -> None:
    """A lease keeps the names of the missing and the inactive."""
    limiter.create("a", 1)
    limiter.create("asleep", 1, active=False)
    lease = limiter.acquire(["missing", "asleep", "a"])
    assert lease.names == ("missing", "asleep", "a")
    assert [one.limit for one in limiter.holders()] == ["a"]


def test_repeats_count_once(limiter: Limiter) -> None:
    """Naming a limit twice takes its slots once."""
    limiter.create("database", 1)
    with limiter.concurrency(["database", "database"], timeout_seconds=0):
        assert in_use(limiter, "database") == 1


def test_occupy(limiter: Limiter) -> None:
    """So many slots are taken from each name, and as many are freed."""
    limiter.create("a", 5)
    limiter.create("b", 3)
    with limiter.concurrency(["a", "b"], occupy=3):
        assert (in_use(limiter, "a"), in_use(limiter, "b")) == (3, 3)
        assert is_free(limiter, "a", 2)
        assert not is_free(limiter, "a", 3)
    assert (in_use(limiter, "a"), in_use(limiter, "b")) == (0, 0)


def test_release_twice_frees_nothing_else(limiter: Limiter) -> None:
    """A second release frees neither somebody else's slot nor anything again."""
    limiter.create("database", 1)
    first = limiter.acquire("database")
    first.release()
    second = limiter.acquire("database")
    first.release()
    assert [one.lease for one in limiter.holders()] == [second.id]


def test_release_inside_the_block(limiter: Limiter) -> None:
    """A block may free its slots early."""
    limiter.create("database", 1)
    with limiter.concurrency("database") as lease:
        lease.release()
        other = limiter.acquire("database", timeout_seconds=0)
    assert [one.lease for one in limiter.holders()] == [other.id]


def test_release_after_an_operator(limiter: Limiter) -> None:
    """What an operator has freed already is nobody's to free again."""
    limiter.create("database", 1)
    lease = limiter.acquire("database")
    assert limiter.release(lease.id)
    other = limiter.acquire("database", timeout_seconds=0)
    lease.release()
    assert [one.lease for one in limiter.holders()] == [other.id]


def test_a_holder_is_shown(limiter: Limiter) -> None:
    """A text is kept as it is, a mapping as compact JSON."""
    limiter.create("database", 2)
    limiter.acquire("database", holder="nightly run")
    limiter.acquire("database", holder={"job": "nightly", "run": 7})
    assert {one.holder for one in limiter.holders()} == {
        "nightly run",
        '{"job":"nightly","run":7}',
    }


def test_arguments_of_prefect_change_nothing(limiter: Limiter) -> None:
    """`lease_duration` and its sibling are accepted, whatever they are."""
    limiter.create("database", 1)
    with limiter.concurrency(
        "database", 1, 5.0, None, 0.001, True, None, raise_on_lease_renewal_failure=True
    ):
        assert in_use(limiter, "database") == 1


# All or nothing


@pytest.mark.parametrize("names", [["a", "b", "full"], ["full", "a", "b"], ["a", "full", "b"]])
def test_all_or_nothing(limiter: Limiter, names: list[str]) -> None:
    """Where one limit is full, nothing is taken of the others."""
    for name in ("a", "b", "full"):
        limiter.create(name, 1)
    limiter.acquire("full")
    with pytest.raises(AcquireConcurrencySlotTimeoutError) as caught:
        limiter.acquire(names, timeout_seconds=0)
    assert caught.value.names == tuple(names)
    assert (in_use(limiter, "a"), in_use(limiter, "b")) == (0, 0)
    assert is_free(limiter, "a")
    assert tables(limiter)["waiters"] == []


def test_all_or_nothing_over_a_rate(limiter: Limiter) -> None:
    """A refused request takes nothing of a rate either."""
    limiter.create("api", 3, slot_decay_per_second=0.001)
    limiter.create("full", 1, slot_decay_per_second=0.001, active_slots=1)
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.rate_limit(["api", "full"], timeout_seconds=0)
    assert level(limiter, "api") == 0
    with pytest.raises(ConcurrencySlotAcquisitionError):
        limiter.acquire(["api", "full"], occupy=2)
    assert level(limiter, "api") == 0


def test_two_requests_in_opposite_orders_cannot_deadlock(
    limiter: Limiter, processes: Processes
) -> None:
    """Whoever waits for two limits holds neither."""
    limiter.create("a", 1)
    limiter.create("b", 1)
    lease = limiter.acquire("b")
    one, other = processes().ask("a", "b"), processes().ask("b", "a")
    assert in_use(limiter, "a") == 0
    lease.release()
    one.look()
    assert one.granted
    one.release()
    other.look()
    assert other.granted


# Missing, inactive, none


def test_strict_names_all_that_are_missing(limiter: Limiter) -> None:
    """Nothing is taken, and the error names every missing name."""
    limiter.create("a", 1)
    with pytest.raises(ConcurrencySlotAcquisitionError) as caught:
        limiter.acquire(["x", "a", "y"], strict=True)
    assert caught.value.names == ("x", "y")
    assert caught.value.occupy == 1
    assert caught.value.waited_seconds == 0
    assert in_use(limiter, "a") == 0
    with pytest.raises(ConcurrencySlotAcquisitionError):
        limiter.rate_limit(["x"], strict=True)


def test_missing_names_are_logged_and_passed_by(
    limiter: Limiter, caplog: pytest.LogCaptureFixture
) -> None:
    """Each missing name is one warning of the process, and the names that exist are enforced."""
    limiter.create("a", 1)
    for _ in range(2):
        with limiter.concurrency(["x", "a", "y", "x"]):
            assert in_use(limiter, "a") == 1
    limiter.rate_limit("x")
    assert [record.name for record in caplog.records] == ["localgcl"] * 2
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert ["'x'" in message for message in caplog.messages] == [True, False]
    assert ["'y'" in message for message in caplog.messages] == [False, True]
    limiter.rate_limit("z")
    assert len(caplog.records) == 3


def test_missing_names_are_logged_once_for_each_database(
    flavour: Flavour, limiter: Limiter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning says which database it is; another one may lack the same name."""
    other = flavour.limiter(str(tmp_path / "other.db"))
    for one in (limiter, other, limiter, other):
        one.acquire("x").release()
    assert len(caplog.records) == 2
    for one, message in zip((limiter, other), caplog.messages, strict=True):
        assert one._database.path in message


def test_a_call_that_fails_has_logged_its_missing_names(
    limiter: Limiter, caplog: pytest.LogCaptureFixture
) -> None:
    """However long a call waits, its warning stands once; and it stands when the call fails."""
    limiter.create("a", 1)
    limiter.acquire("a")
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.acquire(["a", "x"], timeout_seconds=10)
    assert len(caplog.records) == 1
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.acquire(["a", "y"], timeout_seconds=0)
    assert len(caplog.records) == 2
    with pytest.raises(ConcurrencySlotAcquisitionError):
        limiter.acquire(["a", "z"], occupy=2)
    assert len(caplog.records) == 3


def test_a_decorator_warns_at_its_first_call(
    limiter: Limiter, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is looked up when a function is decorated."""
    decorated = limiter.concurrency("x")(lambda: None)
    assert caplog.records == []
    decorated()
    decorated()
    assert len(caplog.records) == 1


@pytest.mark.parametrize("strict", [True, False])
def test_inactive_limits_are_passed_by(
    limiter: Limiter, strict: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """An inactive limit takes nothing, refuses nothing and warns of nothing."""
    limiter.create("asleep", 1, active=False, active_slots=1)
    with limiter.concurrency("asleep", occupy=100, strict=strict, timeout_seconds=0):
        assert in_use(limiter, "asleep") == 1
    limiter.rate_limit("asleep", occupy=100, strict=strict, timeout_seconds=0)
    assert in_use(limiter, "asleep") == 1
    assert limiter.holders() == []
    assert caplog.records == []


@pytest.mark.parametrize("names", ["", [], None, ()])
def test_no_names_take_nothing(limiter: Limiter, path: str, names: Any) -> None:
    """No names give a lease of nothing, and the database is not touched."""
    with limiter.concurrency(names, strict=True) as lease:
        assert lease.names == ()
        assert lease.id
    lease.release()
    limiter.acquire(names).release()
    limiter.rate_limit(names, strict=True)
    assert not os.path.exists(os.path.dirname(path))


# Refused at once


def test_more_than_the_limit_is_refused_at_once(limiter: Limiter) -> None:
    """The error names those limits that are too small, and nobody waits."""
    limiter.create("small", 1)
    limiter.create("large", 5)
    with pytest.raises(ConcurrencySlotAcquisitionError) as caught:
        limiter.acquire(["large", "small"], occupy=2)
    assert caught.value.names == ("small",)
    assert caught.value.occupy == 2
    assert in_use(limiter, "large") == 0


def test_rate_limit_needs_decay(limiter: Limiter) -> None:
    """Every active limit named needs decay, or nothing is taken."""
    limiter.create("api", 5, slot_decay_per_second=1.0)
    limiter.create("database", 5)
    limiter.create("asleep", 5, active=False)
    with pytest.raises(ConcurrencySlotAcquisitionError) as caught:
        limiter.rate_limit(["api", "database", "asleep"])
    assert caught.value.names == ("database",)
    assert in_use(limiter, "api") == 0
    limiter.rate_limit(["api", "asleep"], timeout_seconds=0)
    assert in_use(limiter, "api") == 1
