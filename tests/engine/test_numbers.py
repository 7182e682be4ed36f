"""Numbers of slots: each is one lease's alone, and the lowest come first."""

from __future__ import annotations

import pytest

from localgcl import Limiter
from tests.helpers.flavours import both_flavours
from tests.helpers.played import Clock, Processes

pytest_generate_tests = both_flavours


@pytest.fixture(autouse=True)
def _time(clock: Clock) -> None:
    """Have every test here move its time itself."""


def in_rows(limiter: Limiter) -> list[str | None]:
    """Return what the rows of the leases have of their numbers."""
    rows = limiter._database.transact(
        lambda tx: tx.execute("SELECT numbers FROM leases WHERE owner > 0").fetchall()
    )
    return [text for (text,) in rows]


def test_numbers_are_the_lowest_that_are_free(limiter: Limiter) -> None:
    """They stay with the lease, and are free again when it is released."""
    limiter.create("gpu", 4)
    first, second = limiter.acquire("gpu"), limiter.acquire("gpu", 2)
    assert second.numbers() == [0, 1]
    assert first.numbers() == [2]
    third = limiter.acquire("gpu")
    assert third.numbers("gpu") == [3]
    second.release()
    assert first.numbers() == [2]
    with limiter.concurrency("gpu") as lease:
        assert lease.numbers() == lease.numbers() == [0]
    assert limiter.acquire("gpu", 2).numbers() == [0, 1]


def test_nobody_pays_who_does_not_ask(limiter: Limiter) -> None:
    """A lease that never asked has no number in its row."""
    limiter.create("gpu", 2)
    limiter.acquire("gpu").numbers()
    limiter.acquire("gpu")
    assert sorted(in_rows(limiter), key=str) == ["0", None]


def test_each_limit_has_its_own_numbers(limiter: Limiter) -> None:
    """With several limits, a name is required."""
    limiter.create("gpu", 2)
    limiter.create("port", 4)
    limiter.acquire("port").numbers()
    lease = limiter.acquire({"gpu": 1, "port": 3, "none": 1})
    assert lease.numbers("gpu") == [0]
    assert lease.numbers("port") == [1, 2, 3]
    with pytest.raises(ValueError, match="gpu, port"):
        lease.numbers()
    for name in ("none", "db", ""):
        with pytest.raises(ValueError, match="no slots"):
            lease.numbers(name)


def test_no_numbers_without_slots(limiter: Limiter) -> None:
    """A lease without slots has none. A released lease has none either, no matter who freed it."""
    limiter.create("gpu", 1)
    for empty in (limiter.acquire([]), limiter.acquire("none")):
        with pytest.raises(ValueError, match="none"):
            empty.numbers()
    lease = limiter.acquire("gpu")
    lease.numbers()
    lease.release()
    with pytest.raises(ValueError, match="gpu"):
        lease.numbers()
    taken_away = limiter.acquire("gpu")
    assert limiter.release(taken_away.id)
    with pytest.raises(ValueError, match="gpu"):
        taken_away.numbers()


def test_what_is_handed_over_has_no_numbers_yet(limiter: Limiter, processes: Processes) -> None:
    """The next holder gets its own, though it may have the same row."""
    limiter.create("gpu", 1)
    lease = limiter.acquire("gpu")
    assert lease.numbers() == [0]
    waiting = processes().ask("gpu")
    lease.release()
    waiting.look()
    assert waiting.granted
    assert in_rows(limiter) == [None]


def test_numbers_beyond_a_limit_that_was_lowered(limiter: Limiter) -> None:
    """Holders keep theirs, and no two have the same."""
    limiter.create("gpu", 3)
    leases = [limiter.acquire("gpu") for _ in range(3)]
    limiter.update("gpu", limit=1)
    assert sorted(number for lease in leases for number in lease.numbers()) == [0, 1, 2]


def test_numbers_of_a_key(limiter: Limiter) -> None:
    """Each key of a template counts for itself."""
    limiter.create("gpu:*", 2)
    one, other = limiter.acquire("gpu:a/b", 2), limiter.acquire("gpu:c")
    assert one.numbers() == [0, 1]
    assert other.numbers() == [0]
