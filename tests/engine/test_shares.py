"""What concerns many who wait is done in several transactions, none of which takes long."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from localgcl import DatabaseError, Limiter
from localgcl._admin.changes import change, key_of
from localgcl._engine import grant, queue
from localgcl._storage import transaction
from localgcl._storage.database import Database
from localgcl._storage.gate import Gate
from localgcl.models import Changes
from tests.helpers.played import Ask, Clock, Processes

SHARE = 10
WAITING = 35


@pytest.fixture(autouse=True)
def _small_shares(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setattr(transaction, "_SHARE", SHARE)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many were decided on in each transaction."""
    counts: list[int] = []
    try_grant, grant_next, enter = grant.try_grant, grant.grant_next, Gate.enter

    def count(function: Callable[..., object]) -> Callable[..., object]:
        def counting(*args: object) -> object:
            counts[-1] += 1
            return function(*args)

        return counting

    def begin(self: Gate, deadline: float | None) -> None:
        enter(self, deadline)
        counts.append(0)

    monkeypatch.setattr(queue, "try_grant", count(try_grant))
    monkeypatch.setattr(queue, "grant_next", count(grant_next))
    monkeypatch.setattr(Gate, "enter", begin)
    yield counts
    assert max(counts) <= SHARE


@pytest.fixture
def asks(limiter: Limiter, processes: Processes) -> list[Ask]:
    """Those who wait for a limit, and some for another one as well."""
    limiter.create("a", 1)
    limiter.create("b", 100)
    processes().ask("a")
    process = processes()
    asks = [process.ask(*(["a", "b"] if number % 4 == 0 else ["a"])) for number in range(WAITING)]
    assert all(ask.waits for ask in asks)
    return asks


def look(asks: list[Ask]) -> list[str]:
    """Have everybody who was woken look, and return what became of each."""
    for ask in asks:
        if ask.is_woken:
            ask.look()
    return ["granted" if ask.granted else "waits" if ask.waits else "refused" for ask in asks]


def test_a_limit_that_is_raised(limiter: Limiter, asks: list[Ask], served: list[int]) -> None:
    """All are granted by the call, in their order."""
    limiter.update("a", limit=1 + WAITING - 3)
    assert limiter.read("a").active_slots == 1 + WAITING - 3
    assert look(asks) == ["granted"] * (WAITING - 3) + ["waits"] * 3
    assert len(served) >= WAITING / SHARE


def test_a_limit_that_is_lowered(limiter: Limiter, asks: list[Ask], served: list[int]) -> None:
    """All are refused, whoever is first."""
    limiter.update("a", limit=0)
    assert limiter.waiters() == []
    assert look(asks) == ["refused"] * WAITING


def test_a_rate_that_is_taken_away(
    limiter: Limiter, processes: Processes, served: list[int]
) -> None:
    """Who takes by rate is refused; there is no slot that anybody could have instead."""
    limiter.create("api", 1, slot_decay_per_second=0.01, active_slots=1)
    process = processes()
    asks = [process.ask("api", holds=False) for _ in range(WAITING)]
    limiter.update("api", slot_decay_per_second=0, active_slots=1)
    assert look(asks) == ["refused"] * WAITING


def test_a_limit_that_is_deleted(limiter: Limiter, asks: list[Ask], served: list[int]) -> None:
    """All go on without it."""
    limiter.delete("a")
    assert limiter.waiters() == []
    assert look(asks) == ["granted"] * WAITING
    assert limiter.read("b").active_slots == len(asks[::4])


def test_a_limit_that_is_disabled(limiter: Limiter, asks: list[Ask], served: list[int]) -> None:
    """All go on without it."""
    limiter.update("a", active=False)
    assert look(asks) == ["granted"] * WAITING


def test_more_than_one_call_leaves_something(
    limiter: Limiter, asks: list[Ask], served: list[int]
) -> None:
    """What is left is left for both limits."""
    limiter.update("b", active_slots=100)
    asks += [asks[0].process.ask("b") for _ in range(WAITING)]
    limiter.update("a", limit=1 + WAITING)
    limiter.update("b", limit=100 + 2 * WAITING)
    assert look(asks) == ["granted"] * (2 * WAITING)


@pytest.mark.parametrize("what", ["raised", "disabled", "deleted"])
def test_killed_before_all_is_done(
    what: str,
    limiter: Limiter,
    asks: list[Ask],
    served: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who was woken goes on with it, and wakes the next ones."""
    with monkeypatch.context() as patch:
        patch.setattr(Database, "go_on", lambda *_: None)
        if what == "raised":
            limiter.update("a", limit=1 + WAITING)
        elif what == "disabled":
            limiter.update("a", active=False)
        else:
            limiter.delete("a")
        for _ in range(WAITING):
            look(asks)
    assert look(asks) == ["granted"] * WAITING


def test_one_try_that_takes_more_than_a_share(
    limiter: Limiter, processes: Processes, served: list[int]
) -> None:
    """It is made once for each release, and the call that made it returns."""
    names = [f"l{number}" for number in range(3 * SHARE)]
    for name in names:
        limiter.create(name, 1)
    holder, process = processes(), processes()
    held = [holder.ask(name) for name in names[:2]]
    wide = process.ask(*names)
    others = [process.ask(names[1]) for _ in range(3)]
    held[1].release()
    assert wide.waits
    assert look(others) == ["granted", "waits", "waits"]  # the wide one lacks room elsewhere
    held[0].release()
    assert wide.waits
    others[0].release()
    assert look([wide]) == ["granted"]
    assert len(served) < 50


def test_what_is_left_keeps_the_callers_deadline(
    limiter: Limiter, asks: list[Ask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was woken does what it leaves."""
    enter = Gate.enter
    deadlines: list[float | None] = []

    def note(self: Gate, deadline: float | None) -> None:
        deadlines.append(deadline)
        enter(self, deadline)

    monkeypatch.setattr(Gate, "enter", note)
    asks[0].process._database.transact(
        lambda tx: change(tx, key_of(tx, "a"), Changes(limit=1 + WAITING)), deadline=1e9
    )
    assert len(deadlines) > 2
    assert set(deadlines) == {1e9}


def test_what_is_left_and_fails_undoes_nothing(
    limiter: Limiter, asks: list[Ask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call itself has been done, and says so."""
    enter = Gate.enter
    entered: list[None] = []

    def enter_once(self: Gate, deadline: float | None) -> None:
        entered.append(None)
        if len(entered) == 2:
            raise DatabaseError(limiter._database.path, "it is full")
        enter(self, deadline)

    with monkeypatch.context() as patch:
        patch.setattr(Gate, "enter", enter_once)
        assert limiter.update("a", limit=1 + WAITING).limit == 1 + WAITING
    assert len(entered) == 2
    assert 0 < len(limiter.waiters("a")) < WAITING


def test_many_who_died_at_once(limiter: Limiter, processes: Processes) -> None:
    """Each of them is cleared away before anything is shown."""
    limiter.create("a", 100)
    limiter.create("api", 100, slot_decay_per_second=0.001)
    dead = [processes() for _ in range(20)]
    for process in dead:
        process.ask("a", "api")
    for process in dead:
        process.die()
    assert limiter.read("a").active_slots == 0
    reclaimed = "SELECT reclaimed FROM ledger WHERE owner = -1 ORDER BY limit_key"
    counts = limiter._database.transact(lambda tx: tx.execute(reclaimed).fetchall())
    assert counts == [(20,), (20,)]
    assert limiter.read("api").active_slots == 0
