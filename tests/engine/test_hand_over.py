"""The first of a queue when its slot comes free, in all that may keep it from being served.

Mostly it waits for that one limit, and one short look tells that it fits. What that grants is what
the general way would have granted.
"""

from __future__ import annotations

import pytest

from localgcl import Limiter
from localgcl._engine import queue, release
from localgcl._engine import request as _outcomes
from localgcl._engine.watchers import WATCHERS
from tests.helpers.database import tables
from tests.helpers.played import Ask, Clock, Process, Processes


@pytest.fixture(autouse=True)
def _limits(clock: Clock, limiter: Limiter) -> None:
    """Have a limit of one slot, and another one."""
    limiter.create("database", 1)
    limiter.create("other", 1)


@pytest.fixture(params=["at once", "after others"])
def holder(processes: Processes, request: pytest.FixtureRequest) -> Ask:
    """Have the slot taken, by one who came to it at once or by one who was handed it."""
    holder = processes().ask("database")
    if request.param == "at once":
        return holder
    heir = processes().ask("database")
    assert holder.release()
    heir.look()
    assert heir.granted
    assert heir.request.granted is not None
    assert heir.request.granted.awaited
    return heir


def change(process: Process, statement: str) -> None:
    """Change a row behind the back of all."""
    process.do(lambda tx: tx.execute(statement))


def test_the_first_is_served(limiter: Limiter, holder: Ask, processes: Processes) -> None:
    """It alone, with its place in the queue and its turn at the slot."""
    first, second = processes().ask("database"), processes().ask("database")
    assert holder.release()
    assert [ask.is_woken for ask in (first, second)] == [True, False]
    first.look()
    assert first.granted
    assert limiter.read("database").active_slots == 1
    assert [row[1] for row in tables(limiter)["waits"]] == [second.request.ticket]
    assert first.release()
    second.look()
    assert second.granted


def test_the_lease_is_gone_already(limiter: Limiter, holder: Ask, processes: Processes) -> None:
    """Who releases what an operator has freed hands nothing over."""
    limiter.update("database", active_slots=1)
    first = processes().ask("database")
    assert not holder.release()
    assert not first.is_woken
    assert limiter.read("database").active_slots == 1


def test_what_is_handed_over_may_leave_room_for_others(
    limiter: Limiter, processes: Processes
) -> None:
    """They are served in the same moment; the first of them was in their way until then."""
    limiter.update("database", limit=5)
    holder = processes().ask("database", occupy=4)
    heir = processes().ask("database", occupy=2)
    assert holder.release()
    heir.look()
    assert processes().ask("database", occupy=2).granted
    large, small = processes().ask("database", occupy=2), processes().ask("database")
    assert large.waits
    assert heir.release()
    assert large.is_woken
    assert small.is_woken
    assert limiter.read("database").active_slots == 5


def test_what_is_handed_over_is_all_the_heirs_own(
    limiter: Limiter, holder: Ask, processes: Processes, clock: Clock
) -> None:
    """Its text, since when it is held, and from when it decays should the limit be given a rate."""
    heir = processes().ask("database", holder="the next")
    clock.advance(3)
    assert holder.release()
    heir.look()
    clock.advance(1)
    (shown,) = limiter.holders("database")
    assert shown.holder == "the next"
    assert shown.held_seconds == pytest.approx(1)
    limiter.update("database", slot_decay_per_second=0.5)
    clock.advance(1)
    assert heir.release()
    assert limiter.read("database").active_slots == 0
    level = "SELECT level FROM limits"
    (left,) = limiter._database.transact(lambda tx: tx.execute(level).fetchone())
    assert left == pytest.approx(0.0)


_LEFT = """
SELECT ledger.slots, owner = -1, ? - since, ? - asked, waiting, occupancy, grants, waited,
    longest_wait, held, longest_hold, refusals, timeouts, reclaimed
FROM ledger JOIN settings ON key = limit_key WHERE name = ? AND (owner > 0 OR owner = -1)
"""


@pytest.mark.parametrize("wanted", [1, 2, 3])
def test_what_is_handed_over_is_counted_as_a_release_and_a_grant_are(
    limiter: Limiter,
    processes: Processes,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    wanted: int,
) -> None:
    """Each row is what the general way leaves, whatever the first of the queue wants."""

    def rows_left(name: str) -> list[tuple[object, ...]]:
        limiter.create(name, 3)
        holder = processes().ask(name, occupy=3)
        clock.advance(1)
        heir = processes().ask(name, occupy=2)
        clock.advance(2)
        assert holder.release()
        heir.look()
        clock.advance(4)
        first, second = processes().ask(name, occupy=2), processes().ask(name, occupy=wanted)
        clock.advance(8)
        assert heir.release()
        clock.advance(16)
        first.look()
        assert first.granted
        assert first.release()
        second.look()
        assert second.granted
        values = (clock.now, clock.now, name)
        rows = second.process.do(lambda tx: tx.execute(_LEFT, values).fetchall())
        # Of counters, nothing is since or asked.
        return [row if not row[1] else (*row[:2], None, None, *row[4:]) for row in rows]

    quick = rows_left("quick")
    monkeypatch.setattr(release, "hand_over", lambda *_: False)
    assert quick == rows_left("general")
    assert len(quick) == 2


def test_an_operator_frees_its_lease_before_it_looks(
    limiter: Limiter, holder: Ask, processes: Processes
) -> None:
    """It asks again, since it holds nothing; and is served after whoever has come meanwhile."""
    first, second = processes().ask("database"), processes().ask("database")
    assert holder.release()
    assert limiter.release(first.request.id)
    assert isinstance(first.look(), _outcomes.Lost)
    first.ask_again()
    assert first.waits
    second.look()
    assert second.granted
    assert second.release()
    first.look()
    assert first.granted


def test_it_has_died(limiter: Limiter, holder: Ask, processes: Processes) -> None:
    """The next one is served, and nothing is left of it."""
    dead, second = processes().ask("database"), processes().ask("database")
    dead.process.die()
    assert holder.release()
    assert second.is_woken
    second.look()
    assert second.granted
    assert not tables(limiter)["waits"]


def test_its_ear_was_taken(limiter: Limiter, holder: Ask, processes: Processes) -> None:
    """A cleaner's work is no death: it has the slot when it looks."""
    first, second = processes().ask("database"), processes().ask("database")
    assert first.listener._place is not None
    first.process.folder.discard(first.listener._place.wake_fifo.name)
    assert holder.release()
    second.look()
    first.look()
    assert first.granted
    assert second.waits


def test_it_does_not_fit_yet(limiter: Limiter, holder: Ask, processes: Processes) -> None:
    """Nobody overtakes it, who would fit."""
    limiter.update("database", limit=3)
    others = [processes().ask("database") for _ in range(2)]
    large, small = processes().ask("database", occupy=2), processes().ask("database")
    assert holder.release()
    assert not large.is_woken
    assert not small.is_woken
    assert others[0].release()
    large.look()
    assert large.granted
    assert not small.is_woken


def test_several_fit(limiter: Limiter, processes: Processes) -> None:
    """All of them are served at once."""
    limiter.update("database", limit=3)
    holder = processes().ask("database", occupy=3)
    asks = [processes().ask("database") for _ in range(4)]
    assert holder.release()
    assert [ask.is_woken for ask in asks] == [True] * 3 + [False]


def test_it_waits_for_another_limit_too(holder: Ask, processes: Processes) -> None:
    """Both, or none."""
    elsewhere = processes().ask("other")
    both = processes().ask("database", "other")
    assert holder.release()
    assert not both.is_woken
    assert elsewhere.release()
    both.look()
    assert both.granted


def test_its_time_is_over(
    limiter: Limiter, holder: Ask, processes: Processes, clock: Clock
) -> None:
    """It could not use the slot, even if it cannot run to say so."""
    late = processes().ask("database", until=clock.now + 1)
    second = processes().ask("database")
    clock.advance(1.5)
    assert holder.release()
    second.look()
    assert second.granted
    late.look()
    assert not late.granted
    assert limiter.read("database").active_slots == 1


def test_whoever_comes_to_the_front_is_told_to_watch(holder: Ask, processes: Processes) -> None:
    """Beside the one that is served."""
    asks = [processes().ask("database") for _ in range(WATCHERS + 2)]
    assert holder.release()
    assert [ask.is_woken for ask in asks] == [True] + [False] * (WATCHERS - 1) + [True, False]


def test_the_queue_behind_it_is_not_searched(
    holder: Ask, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left for anybody there, however many they are."""
    asks = [processes().ask("database") for _ in range(WATCHERS + 2)]
    searched: list[int] = []
    search = queue._Promotion._try_in_turn

    def searches(self: queue._Promotion, key: int, asked: int) -> None:
        searched.append(key)
        search(self, key, asked)

    monkeypatch.setattr(queue._Promotion, "_try_in_turn", searches)
    assert holder.release()
    assert asks[0].is_woken
    assert not searched


def test_the_limit_was_disabled_behind_its_back(
    limiter: Limiter, holder: Ask, processes: Processes
) -> None:
    """A limit that is inactive is passed by, and none of its slots taken."""
    first = processes().ask("database")
    change(first.process, "UPDATE settings SET active = 0")
    assert holder.release()
    first.look()
    assert first.granted
    assert limiter.read("database").active_slots == 0


def test_the_limit_has_lost_its_rate_behind_its_back(
    limiter: Limiter, processes: Processes
) -> None:
    """Who came for a rate is refused, and leaves no lease that nobody would free."""
    limiter.create("api", 1, slot_decay_per_second=0.001)
    holder = processes().ask("api")
    first = processes().ask("api", holds=False)
    assert first.waits
    change(first.process, "UPDATE settings SET decay = 0")
    assert holder.release()
    first.look()
    assert not first.granted
    assert limiter.read("api").active_slots == 0
