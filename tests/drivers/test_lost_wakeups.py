"""Wake-ups that are lost: whoever had to write them was killed right after its COMMIT.

Here that is a transaction after which nobody is woken. Who was to be looks at the next check.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from localgcl import Limiter
from localgcl._drivers import recheck
from localgcl._engine.watchers import WATCHERS
from localgcl._storage import database
from localgcl._storage.database import Database
from tests.helpers.played import Ask, Clock, Processes


@contextlib.contextmanager
def killed_after_commit() -> Iterator[None]:
    """Have nobody woken by what is done inside."""

    def lose(_: object, wakeups: dict[str, set[int]], ends: dict[str, int]) -> None:
        wakeups.clear()
        while ends:
            os.close(ends.popitem()[1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_wake", lose)
        yield


class Check:
    """The periodic check of a process of its own, for the requests of several played ones."""

    def __init__(self, path: str) -> None:
        self.database = Database(path)
        self.database.transact(lambda _: None)

    def concerned(self, asks: list[Ask]) -> list[int]:
        """Return the places in `asks` of those who are to look."""
        waiting = [ask.request for ask in asks]
        return [waiting.index(one) for one in recheck.concerned(self.database, waiting)]


@pytest.fixture
def check(limiter: Limiter, clock: Clock) -> Iterator[Check]:
    """A check, of a database with three limits."""
    limiter.create("a", 1)
    limiter.create("b", 1)
    limiter.create("api", 1, slot_decay_per_second=0.01, active_slots=1)
    made = Check(limiter._database.path)
    yield made
    made.database.close()


def settle(check: Check, asks: list[Ask]) -> None:
    """Have everybody who was woken, or is to look, do so, until nobody is."""
    for _ in range(3):
        for ask in asks:
            if ask.waits and ask.is_woken:
                ask.look()
        for place in check.concerned(asks):
            asks[place].look()
    assert check.concerned(asks) == []


# What is done, and which of those that wait for these limits are to look then: 0 and 2 for a, 1 and
# 3 for b, 4 for both, 5 and 6 at the rate.
CALLS: dict[str, tuple[Callable[[Limiter], Any], set[int]]] = {
    "reset": (lambda limiter: limiter.reset("a"), {0}),
    "raise": (lambda limiter: limiter.update("a", limit=2), {0}),
    "lower": (lambda limiter: limiter.update("a", limit=0), {0, 2, 4}),
    "slots": (lambda limiter: limiter.update("b", active_slots=0), {1}),
    "disable": (lambda limiter: limiter.update("b", active=False), {1, 3, 4}),
    "delete": (lambda limiter: limiter.delete("a"), {0, 2, 4}),
    "rate": (lambda limiter: limiter.update("api", slot_decay_per_second=0.5), {5, 6}),
    "rename": (lambda limiter: limiter.update("a", new_name="c"), set()),
    "nothing": (lambda limiter: limiter.read("a"), set()),
    "another limit": (lambda limiter: limiter.create("d", 1), set()),
}


@pytest.fixture
def asks(limiter: Limiter, processes: Processes, check: Check) -> list[Ask]:
    """Those who wait, each in a process of its own."""
    for name in ("a", "b"):
        processes().ask(name)
    asks = [processes().ask(name) for name in ("a", "b", "a", "b")]
    asks.append(processes().ask("a", "b"))
    asks += [processes().ask("api", holds=False) for _ in range(2)]
    assert all(ask.waits for ask in asks)
    settle(check, asks)
    return asks


@pytest.mark.parametrize("name", CALLS)
def test_an_operators_call(name: str, limiter: Limiter, asks: list[Ask], check: Check) -> None:
    """Those whom it concerns look, and then nobody does."""
    call, concerned = CALLS[name]
    with killed_after_commit():
        call(limiter)
    assert not any(ask.is_woken for ask in asks)
    assert set(check.concerned(asks)) == concerned
    for place in concerned:
        asks[place].look()
    settle(check, [ask for ask in asks if ask.waits])


def test_enabled_again(limiter: Limiter, asks: list[Ask], check: Check) -> None:
    """Nobody watched anybody at a limit that was inactive."""
    limiter.update("a", active=False)
    settle(check, [ask for ask in asks if ask.waits])
    left = [ask for ask in asks if ask.waits]
    assert left[:3] == [asks[1], asks[3], asks[4]]
    with killed_after_commit():
        limiter.update("a", active=True)
    assert check.concerned(left) == [2]
    settle(check, left)


def test_disabled_and_enabled_again(
    limiter: Limiter, asks: list[Ask], check: Check, processes: Processes
) -> None:
    """What has been between two checks, and was undone, counts as well."""
    both = asks[4]
    with killed_after_commit():
        limiter.update("a", active=False)
        limiter.update("a", active=True)
    concerned = [asks[place] for place in check.concerned(asks)]
    assert concerned == [asks[0], asks[2], both]
    assert [ask.look() and ask.granted for ask in concerned] == [True, True, False]
    settle(check, [ask for ask in asks if ask.waits])


@pytest.mark.parametrize("how", ["released", "signed out", "reaped", "given up"])
def test_who_makes_room(how: str, limiter: Limiter, processes: Processes, check: Check) -> None:
    """A grant is found by whom it was made to, one place in the queue or a hundred."""
    holder, first = processes(), processes()
    held, waiting = holder.ask("a"), [first.ask("a"), *[processes().ask("a") for _ in range(20)]]
    settle(check, waiting)
    with killed_after_commit():
        if how == "released":
            held.release()
        elif how == "signed out":
            holder.sign_out()
        elif how == "reaped":
            holder.die()
            processes().ask("a", once=True)
        else:
            waiting[0].withdraw()
            held.release()
            waiting.pop(0)
    assert check.concerned(waiting)[0] == 0
    waiting[0].look()
    assert waiting[0].granted
    settle(check, waiting[1:])


def test_who_comes_to_the_front(limiter: Limiter, processes: Processes, check: Check) -> None:
    """Whoever was to watch those in its way begins to, and whoever is behind it watches it."""
    processes().ask("a")
    waiting = [processes().ask("a") for _ in range(WATCHERS + 4)]
    settle(check, waiting)
    with killed_after_commit():
        waiting.pop(3).withdraw()
        waiting.pop(WATCHERS + 1).withdraw()
    assert check.concerned(waiting) == [WATCHERS - 1, WATCHERS + 1]
    settle(check, waiting)


def test_a_rate_that_comes_earlier(
    limiter: Limiter, processes: Processes, clock: Clock, check: Check
) -> None:
    """A timer that is too late by now is set anew."""
    waiting = [processes().ask("api", occupy=1, holds=False) for _ in range(3)]
    settle(check, waiting)
    with killed_after_commit():
        limiter.reset("api")
    assert waiting[0] in [waiting[place] for place in check.concerned(waiting)]
    settle(check, waiting[1:])
    assert waiting[1].outcome.look_at <= clock.now + 100


def test_nobody_else_has_to_do_with_it(
    limiter: Limiter, asks: list[Ask], check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody has committed, no row is read; where others have, nobody looks."""
    read: list[str] = []

    def execute(sql: str, *values: Any) -> Any:
        read.append(sql)
        return check.database._file.execute(sql, *values)  # type: ignore[union-attr]

    waiting = [ask.request for ask in asks]
    look = partial(recheck._concerned, execute, check.database.openings, waiting)
    assert look() == []
    assert read == ["PRAGMA data_version"]
    limiter.upsert("d", 1)
    assert look() == []
    assert len(read) > 2


def test_no_gate_is_entered(limiter: Limiter, asks: list[Ask], check: Check) -> None:
    """A process that was stopped inside a transaction keeps nobody from looking."""
    with killed_after_commit():
        limiter.reset("a")
    inside, ended = threading.Event(), threading.Event()

    def stay(_: object) -> None:
        inside.set()
        ended.wait(30)

    thread = threading.Thread(target=limiter._database.transact, args=(stay,))
    thread.start()
    assert inside.wait(30)
    assert check.concerned(asks) == [0]
    ended.set()
    thread.join()


def test_a_file_that_was_closed(limiter: Limiter, asks: list[Ask], check: Check) -> None:
    """It is nothing that this check tells; when the file is open again, all is looked at."""
    check.database.close()
    with killed_after_commit():
        limiter.reset("a")
    assert check.concerned(asks) == []
    check.database.transact(lambda _: None)
    assert check.concerned(asks) == [0]
