"""Administration: limits are created, read, changed and deleted, and seen as they are."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from localgcl import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    Limiter,
    LimitNotFoundError,
)
from localgcl._engine.decay import HORIZON_SECONDS
from tests.helpers.database import tables
from tests.helpers.flavours import both_flavours
from tests.helpers.played import Clock, Process

Processes = Callable[[], Process]
pytest_generate_tests = both_flavours

LIMIT_KEYS = {
    "id",
    "created",
    "updated",
    "name",
    "active",
    "limit",
    "active_slots",
    "slot_decay_per_second",
    "avg_slot_occupancy_seconds",
    "waiting",
}
HOLDER_KEYS = {
    *("lease", "limit", "slots", "pid", "user", "command", "holder", "since", "held_seconds"),
}
WAITER_KEYS = {
    *("position", "limit", "slots", "pid", "user", "command", "holder", "since", "waited_seconds"),
}


def in_use(limiter: Limiter, name: str) -> int:
    """Return the slots in use of a limit."""
    return limiter.read(name).active_slots


def level(limiter: Limiter, name: str) -> float:
    """Return the level of a decaying limit as it was last written, not rounded."""
    rows = limiter._database.transact(
        lambda tx: tx.execute("SELECT level FROM limits WHERE name = ?", (name,)).fetchall()
    )
    return float(rows[0][0])


# Created and read


def test_create(limiter: Limiter, clock: Clock) -> None:
    """A new limit is active, free, without decay, and told of in full."""
    made = limiter.create("database", 5)
    assert made.name == "database"
    assert made.limit == 5
    assert made.active is True
    assert made.active_slots == 0
    assert made.slot_decay_per_second == 0.0
    assert made.avg_slot_occupancy_seconds == 2.0
    assert made.waiting == 0
    assert made.created == made.updated == datetime.fromtimestamp(clock.wall, UTC)
    assert str(uuid.UUID(made.id)) == made.id
    assert limiter.read("database") == made


@pytest.mark.usefixtures("clock")
def test_create_with_everything(limiter: Limiter) -> None:
    """Each setting can be given at once."""
    made = limiter.create("api", 10, slot_decay_per_second=2, active=False, active_slots=3)
    assert (made.limit, made.slot_decay_per_second) == (10, 2.0)
    assert (made.active, made.active_slots) == (False, 3)
    assert limiter.read("api") == made


def test_read_all_is_by_name(limiter: Limiter) -> None:
    """All limits come in the order of their names."""
    made = [limiter.create(name, 1) for name in ("b", "c", "a")]
    assert [one.name for one in limiter.read_all()] == ["a", "b", "c"]
    assert {one.id for one in limiter.read_all()} == {one.id for one in made}


def test_views_are_frozen(limiter: Limiter) -> None:
    """What was read is a picture, not a handle."""
    made = limiter.create("database", 5)
    with pytest.raises(ValidationError):
        made.limit = 6
    limiter.acquire("database")
    (holder,) = limiter.holders()
    with pytest.raises(ValidationError):
        holder.slots = 6


def test_models_give_the_documented_keys_and_times(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """As JSON, times are RFC 3339 in UTC with microseconds, and the keys as documented."""
    limiter.create("database", 1)
    limiter.acquire("database", holder="nightly")
    processes().ask("database")
    clock.advance(4.5)
    limit = limiter.read("database").model_dump(mode="json")
    (holder,) = [one.model_dump(mode="json") for one in limiter.holders()]
    (waiter,) = [one.model_dump(mode="json") for one in limiter.waiters()]
    assert set(limit) == LIMIT_KEYS
    assert set(holder) == HOLDER_KEYS
    assert set(waiter) == WAITER_KEYS
    assert limit["created"] == limit["updated"] == "2025-06-15T15:06:40.000000Z"
    assert holder["since"] == waiter["since"] == "2025-06-15T15:06:40.000000Z"
    assert holder["held_seconds"] == waiter["waited_seconds"] == 4.5


# Changed


def test_update_changes_what_is_given(limiter: Limiter, clock: Clock) -> None:
    """Each change leaves everything else as it was, and is dated."""
    made = limiter.create("database", 5)
    clock.advance(60)
    changes: list[dict[str, Any]] = [
        {"limit": 7},
        {"slot_decay_per_second": 0.5},
        {"active": False},
        {"active_slots": 2},
        {"new_name": "renamed"},
    ]
    before = made
    for change in changes:
        after = limiter.update(before.name, **change)
        expected = {"name" if key == "new_name" else key: new for key, new in change.items()}
        assert after == before.model_copy(update=expected | {"updated": after.updated})
        before = after
    assert before.updated == made.created + timedelta(seconds=60)
    assert before.created == made.created
    assert limiter.read_all() == [before]


def test_update_to_the_same_name(limiter: Limiter) -> None:
    """A limit may keep its name."""
    limiter.create("database", 5)
    assert limiter.update("database", new_name="database", limit=6).limit == 6


def test_upsert_creates(limiter: Limiter) -> None:
    """A limit that is not there is created."""
    made = limiter.upsert("api", 10, slot_decay_per_second=2.0, active=False, active_slots=4)
    assert (made.limit, made.slot_decay_per_second, made.active) == (10, 2.0, False)
    assert limiter.upsert("other", 1).active_slots == 0


def test_upsert_changes_and_leaves_slots_alone(limiter: Limiter) -> None:
    """A limit that is there keeps its slots and leases, and its identity."""
    made = limiter.create("database", 5)
    lease = limiter.acquire("database", 2)
    after = limiter.upsert("database", 7)
    assert (after.id, after.limit, after.active_slots) == (made.id, 7, 2)
    assert [one.lease for one in limiter.holders()] == [lease.id]


def test_upsert_brings_to_the_values_not_given_too(limiter: Limiter) -> None:
    """What is left out of an upsert goes to its default, unlike in an update."""
    limiter.create("api", 10, slot_decay_per_second=2.0, active=False)
    after = limiter.upsert("api", 10)
    assert (after.slot_decay_per_second, after.active) == (0.0, True)


def test_upsert_sets_slots_when_told(limiter: Limiter) -> None:
    """Given `active_slots`, an upsert frees the leases and sets so many slots in use."""
    limiter.create("database", 5)
    limiter.acquire("database", 2)
    assert limiter.upsert("database", 5, active_slots=4).active_slots == 4
    assert limiter.holders() == []
    assert limiter.upsert("database", 5, active_slots=0).active_slots == 0


@pytest.mark.parametrize("raise_limit", ["update", "upsert"])
def test_a_raised_limit_admits_at_once(
    raise_limit: str, limiter: Limiter, processes: Processes
) -> None:
    """Raising a limit wakes as many as now fit, in order."""
    limiter.create("database", 1)
    process = processes()
    process.ask("database")
    waiting = [processes().ask("database") for _ in range(3)]
    if raise_limit == "update":
        limiter.update("database", limit=3)
    else:
        limiter.upsert("database", 3)
    assert [ask.is_rung for ask in waiting] == [True, True, False]
    for ask in waiting:
        ask.look()
    assert [ask.granted for ask in waiting] == [True, True, False]


def test_a_lowered_limit_leaves_its_holders(limiter: Limiter) -> None:
    """Who holds keeps its slots; nobody is admitted until enough came back."""
    limiter.create("database", 3)
    leases = [limiter.acquire("database") for _ in range(3)]
    assert limiter.update("database", limit=1).active_slots == 3
    for lease in leases[:2]:
        lease.release()
        with pytest.raises(AcquireConcurrencySlotTimeoutError):
            limiter.acquire("database", timeout_seconds=0)
    leases[2].release()
    limiter.acquire("database", timeout_seconds=0)


def test_a_limit_lowered_below_what_is_waited_for(limiter: Limiter, processes: Processes) -> None:
    """A waiter that can never be served any more gets the error for too many slots, at once."""
    limiter.create("database", 3)
    limiter.acquire("database", 3)
    small, large, last = (processes().ask("database", occupy=occupy) for occupy in (1, 3, 1))
    limiter.update("database", limit=2)
    assert [ask.is_rung for ask in (small, large, last)] == [False, True, False]
    assert large.look().reason == "over_limit"
    assert small.look() is small.outcome
    assert limiter.read("database").waiting == 2
    assert small.waits
    assert last.waits


def test_a_disabled_limit_lets_its_waiters_pass(limiter: Limiter, processes: Processes) -> None:
    """An inactive limit is passed by, also by those who already wait, and they take nothing."""
    limiter.create("database", 1)
    limiter.acquire("database")
    waiting = [processes().ask("database") for _ in range(2)]
    limiter.update("database", active=False)
    for ask in waiting:
        ask.look()
        assert ask.granted
    assert limiter.read("database").active_slots == 1
    assert limiter.read("database").waiting == 0


def test_a_limit_enabled_again_counts_who_held(limiter: Limiter) -> None:
    """Leases from before a limit was disabled count when it is enabled again."""
    limiter.create("database", 1)
    limiter.acquire("database")
    limiter.update("database", active=False)
    passing = limiter.acquire("database", occupy=5)
    limiter.update("database", active=True)
    assert limiter.read("database").active_slots == 1
    passing.release()
    assert limiter.read("database").active_slots == 1
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.acquire("database", timeout_seconds=0)


def test_a_change_of_a_limit_whose_waiters_died(limiter: Limiter, processes: Processes) -> None:
    """A process that died while two of its threads waited is in nobody's way."""
    limiter.create("database", 1)
    limiter.acquire("database")
    process = processes()
    process.ask("database")
    process.ask("database")
    process.die()
    assert limiter.update("database", limit=2).waiting == 0
    limiter.acquire("database", timeout_seconds=0)


# Renamed


def test_holders_and_waiters_follow_a_new_name(limiter: Limiter, processes: Processes) -> None:
    """A rename changes how a limit is called, and nobody's place."""
    limiter.create("old", 1)
    lease = limiter.acquire("old")
    waiting = processes().ask("old", strict=True)
    limiter.update("old", new_name="new")
    assert [one.limit for one in limiter.holders("new")] == ["new"]
    assert [(one.limit, one.position) for one in limiter.waiters("new")] == [("new", 1)]
    with pytest.raises(LimitNotFoundError):
        limiter.read("old")
    lease.release()
    waiting.look()
    assert waiting.granted
    assert in_use(limiter, "new") == 1


def test_names_can_be_exchanged(limiter: Limiter) -> None:
    """A name that became free can be taken, and the old holders do not come along."""
    limiter.create("a", 1)
    lease = limiter.acquire("a")
    limiter.update("a", new_name="b")
    limiter.create("a", 1)
    assert (in_use(limiter, "a"), in_use(limiter, "b")) == (0, 1)
    lease.release()
    assert (in_use(limiter, "a"), in_use(limiter, "b")) == (0, 0)


# Slots set by hand


def test_slots_set_by_hand_have_nobody_behind_them(limiter: Limiter) -> None:
    """They are in use like any others, are not shown, and no process's end frees them."""
    limiter.create("database", 3, active_slots=2)
    assert in_use(limiter, "database") == 2
    assert limiter.holders() == []
    limiter.acquire("database", timeout_seconds=0)
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.acquire("database", timeout_seconds=0)
    assert in_use(limiter, "database") == 3


def test_slots_set_by_hand_are_no_lease_to_release(limiter: Limiter) -> None:
    """They go by a reset, a deletion or another number, and by nothing else."""
    limiter.create("database", 3, active_slots=2)
    ((row,),) = limiter._database.transact(
        lambda tx: tx.execute("SELECT lease FROM leases").fetchall()
    )
    assert limiter.release(row) is False
    assert in_use(limiter, "database") == 2


def test_slots_set_by_hand_stand_in_place_of_the_leases(
    limiter: Limiter, processes: Processes
) -> None:
    """Setting them frees every lease of the limit, whose holders release nothing any more."""
    limiter.create("database", 3)
    lease = limiter.acquire("database", 2)
    waiting = [processes().ask("database", occupy=2) for _ in range(2)]
    assert limiter.update("database", active_slots=1).active_slots == 3  # 1, and the first waiter
    waiting[0].look()
    assert waiting[0].granted
    lease.release()
    assert in_use(limiter, "database") == 3
    assert limiter.update("database", active_slots=0).active_slots == 2  # the second waiter
    assert [one.slots for one in limiter.holders()] == [2]


def test_slots_set_by_hand_may_be_more_than_the_limit(limiter: Limiter) -> None:
    """An operator may close a limit for as long as it takes."""
    limiter.create("database", 3)
    assert limiter.update("database", active_slots=100).active_slots == 100
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.acquire("database", timeout_seconds=0)
    limiter.reset("database")
    assert in_use(limiter, "database") == 0


def test_slots_set_by_hand_decay(limiter: Limiter, clock: Clock) -> None:
    """With decay they are a level, which sinks and is read rounded up."""
    limiter.create("api", 5, slot_decay_per_second=0.5, active_slots=3)
    seen = []
    for _ in range(8):
        seen.append(in_use(limiter, "api"))
        clock.advance(1)
    assert seen == [3, 3, 2, 2, 1, 1, 0, 0]


def test_slots_set_by_hand_free_the_leases_of_a_decaying_limit_too(
    limiter: Limiter, clock: Clock
) -> None:
    """What was freed so is not given back again at exit."""
    limiter.create("api", 5, slot_decay_per_second=0.5)
    lease = limiter.acquire("api", 4)
    assert limiter.update("api", active_slots=3).active_slots == 3
    assert limiter.holders() == []
    clock.advance(2)
    lease.release()
    assert in_use(limiter, "api") == 2


def test_slots_set_by_hand_take_one_part_of_a_lease(limiter: Limiter) -> None:
    """A lease over several limits keeps its other parts."""
    limiter.create("a", 1)
    limiter.create("b", 1)
    lease = limiter.acquire(["a", "b"])
    limiter.update("a", active_slots=0)
    assert [one.limit for one in limiter.holders()] == ["b"]
    lease.release()
    assert limiter.holders() == []


# Decay, switched on and off


def test_decay_begins_at_the_slots_in_use(limiter: Limiter, clock: Clock) -> None:
    """Changed from 0, the level begins at the slots in use, set by hand or held."""
    limiter.create("api", 5, active_slots=0)
    limiter.update("api", active_slots=1)
    lease = limiter.acquire("api", 3)
    clock.advance(100)
    assert limiter.update("api", slot_decay_per_second=1.0).active_slots == 4
    clock.advance(1)
    assert in_use(limiter, "api") == 3
    lease.release()  # of its 3, one has decayed since
    assert in_use(limiter, "api") == 1
    clock.advance(1)
    assert in_use(limiter, "api") == 0


def test_decay_ends_with_the_leases_that_remain(limiter: Limiter, clock: Clock) -> None:
    """Changed to 0, the slots in use are the leases, whole, and nothing by rate or by hand."""
    limiter.create("api", 10, slot_decay_per_second=1.0, active_slots=2)
    limiter.rate_limit("api", 3)
    lease = limiter.acquire("api", 4)
    clock.advance(3)
    assert in_use(limiter, "api") == 6
    assert limiter.update("api", slot_decay_per_second=0.0).active_slots == 4
    clock.advance(100)
    assert in_use(limiter, "api") == 4
    lease.release()
    assert in_use(limiter, "api") == 0


def test_decay_that_begins_under_waiters(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """Whoever waits already is told, and sets its timer to its own moment or an earlier one."""
    limiter.create("api", 1)
    limiter.acquire("api")
    waiting = [processes().ask("api") for _ in range(4)]
    limiter.update("api", slot_decay_per_second=20.0)
    assert [ask.is_rung for ask in waiting] == [True] * 4
    for number, ask in enumerate(waiting, 1):
        ask.look()
        due = clock.now + number / 20
        assert clock.now < ask.outcome.look_at <= due - HORIZON_SECONDS + 1e-9
    for number, ask in enumerate(waiting, 1):
        clock.now = 1_000 + number / 20
        ask.look()
        assert ask.granted
        assert ask.outcome.at == pytest.approx(clock.now)


def test_decay_off_and_on(limiter: Limiter, clock: Clock) -> None:
    """A lease that lives through both counts from the last change."""
    limiter.create("api", 10, slot_decay_per_second=1.0)
    lease = limiter.acquire("api", 4)
    clock.advance(2)
    limiter.update("api", slot_decay_per_second=0)
    clock.advance(50)
    assert limiter.update("api", slot_decay_per_second=1.0).active_slots == 4
    clock.advance(1)
    lease.release()
    assert level(limiter, "api") == 0


def test_another_rate_counts_from_its_change(limiter: Limiter, clock: Clock) -> None:
    """The level sinks at each rate for its time, and a lease gives back what is then left."""
    limiter.create("api", 10, slot_decay_per_second=1.0)
    limiter.rate_limit("api", 4)
    lease = limiter.acquire("api", 6)
    clock.advance(2)
    assert limiter.update("api", slot_decay_per_second=0.25).active_slots == 8
    clock.advance(4)
    assert in_use(limiter, "api") == 7
    lease.release()  # 6 slots, of which 2 and then 1 have decayed
    assert level(limiter, "api") == 4


@pytest.mark.parametrize("rate", [5e-324, 1e-300, 1e308])
@pytest.mark.parametrize("before", [1.0, 1e308, 0.0])
def test_extreme_rates(rate: float, before: float, limiter: Limiter, clock: Clock) -> None:
    """Any finite rate can follow any other while slots are held."""
    limiter.create("api", 10, slot_decay_per_second=before)
    leases = [limiter.acquire("api", 2, timeout_seconds=0)]
    clock.advance(0.001)
    leases.append(limiter.acquire("api", 2, timeout_seconds=0))
    assert limiter.update("api", slot_decay_per_second=rate).slot_decay_per_second == rate
    clock.advance(1)
    for lease in leases:
        lease.release()
    assert 0 <= in_use(limiter, "api") <= 4


def test_a_rate_switched_off_refuses_who_waits_for_it(
    limiter: Limiter, processes: Processes
) -> None:
    """Who waits by rate gets the error for a limit without decay; who wants to hold waits on."""
    limiter.create("api", 1, slot_decay_per_second=0.01)
    limiter.acquire("api")
    holding = processes().ask("api")
    passing = processes().ask("api", holds=False)
    limiter.update("api", slot_decay_per_second=0)
    assert passing.look().reason == "no_decay"
    assert holding.look() is holding.outcome
    assert holding.waits


# Deleted and reset


def test_delete(limiter: Limiter) -> None:
    """A deleted limit is gone with its leases, whose holders release nothing any more."""
    limiter.create("database", 1)
    limiter.create("other", 1)
    lease = limiter.acquire(["database", "other"])
    assert limiter.delete("database") is None  # type: ignore[func-returns-value]
    assert [one.name for one in limiter.read_all()] == ["other"]
    assert [one.limit for one in limiter.holders()] == ["other"]
    lease.release()
    assert limiter.holders() == []
    with pytest.raises(LimitNotFoundError):
        limiter.delete("database")


def test_delete_and_create_begins_anew(limiter: Limiter) -> None:
    """A new limit of an old name has nothing of the old one."""
    first = limiter.create("database", 1)
    lease = limiter.acquire("database")
    limiter.delete("database")
    second = limiter.create("database", 1)
    assert second.id != first.id
    assert second.active_slots == 0
    mine = limiter.acquire("database", timeout_seconds=0)
    lease.release()
    assert [one.lease for one in limiter.holders()] == [mine.id]


def test_delete_under_strict_waiters(limiter: Limiter, processes: Processes) -> None:
    """A strict waiter gets the error for a missing limit, and leaves its other queues."""
    limiter.create("database", 1)
    limiter.create("other", 1)
    limiter.acquire("database")
    strict = processes().ask("other", "database", strict=True)
    behind = processes().ask("other")
    limiter.delete("database")
    assert strict.look().reason == "missing"
    assert strict.outcome.names == ("database",)
    behind.look()
    assert behind.granted


def test_delete_under_other_waiters(limiter: Limiter, processes: Processes) -> None:
    """The others pass, with a warning of the name that is missing now."""
    limiter.create("database", 1)
    limiter.create("other", 1)
    limiter.acquire("database")
    waiting = processes().ask("other", "database")
    limiter.delete("database")
    waiting.look()
    assert waiting.granted
    assert waiting.outcome.missing == ("database",)
    assert [one.limit for one in limiter.holders()] == ["other"]


def test_delete_under_waiters_that_died(limiter: Limiter, processes: Processes) -> None:
    """A process that died while two of its threads waited is in nobody's way."""
    limiter.create("database", 1)
    limiter.acquire("database")
    process = processes()
    process.ask("database")
    process.ask("database")
    process.die()
    limiter.delete("database")
    assert limiter.read_all() == []


def test_a_waiter_of_a_deleted_limit_stays_clear_of_a_new_one(
    limiter: Limiter, processes: Processes
) -> None:
    """Who still waits at one limit has nothing to do with what follows after another."""
    limiter.create("kept", 1)
    limiter.create("deleted", 1)
    lease = limiter.acquire("kept")
    waiting = processes().ask("deleted", "kept")
    limiter.delete("deleted")
    limiter.create("new", 1)
    lease.release()
    waiting.look()
    assert waiting.granted
    assert in_use(limiter, "new") == 0


def test_a_cancelled_request_of_a_deleted_limit_stays_clear_of_a_new_one(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """What was taken by rate from a limit that is gone is given back to no other."""
    limiter.create("deleted", 1, slot_decay_per_second=1.0)
    taken = processes().ask("deleted", holds=False)
    limiter.delete("deleted")
    limiter.create("new", 1, slot_decay_per_second=1.0, active_slots=1)
    clock.advance(0.25)
    taken.abandon()
    assert in_use(limiter, "new") == 1


def test_reset(limiter: Limiter, processes: Processes) -> None:
    """Every slot is free again, held or set by hand, and whoever waits is admitted."""
    limiter.create("database", 2, active_slots=1)
    lease = limiter.acquire("database")
    waiting = [processes().ask("database") for _ in range(3)]
    limiter.reset("database")
    for ask in waiting:
        ask.look()
    assert [ask.granted for ask in waiting] == [True, True, False]
    lease.release()
    assert in_use(limiter, "database") == 2


def test_reset_of_a_rate(limiter: Limiter, clock: Clock) -> None:
    """A reset empties a level, and a holder gives nothing back after it."""
    limiter.create("api", 4, slot_decay_per_second=0.001)
    lease = limiter.acquire("api", 4)
    limiter.reset("api")
    assert in_use(limiter, "api") == 0
    limiter.rate_limit("api", 4, timeout_seconds=0)
    clock.advance(1)
    lease.release()
    assert in_use(limiter, "api") == 4


def test_reset_takes_one_part_of_a_lease(limiter: Limiter) -> None:
    """A lease over several limits keeps its other parts."""
    limiter.create("a", 1)
    limiter.create("b", 1)
    limiter.acquire(["a", "b"])
    limiter.reset("a")
    assert [one.limit for one in limiter.holders()] == ["b"]


# Who holds and who waits


def test_holders(limiter: Limiter, processes: Processes, clock: Clock) -> None:
    """Each part of a lease has a row, with who holds it and since when."""
    limiter.create("b", 5)
    limiter.create("a", 5, active_slots=1)
    first = limiter.acquire(["b", "a"], 2, holder={"job": "nightly", "run": 7})
    clock.advance(12.5)
    second = processes().ask("a")
    rows = limiter.holders()
    assert [(one.limit, one.lease) for one in rows] == [
        ("a", first.id),
        ("a", second.request.id),
        ("b", first.id),
    ]
    row = rows[0]
    assert (row.slots, row.pid) == (2, os.getpid())
    assert row.holder == '{"job":"nightly","run":7}'
    assert row.held_seconds == 12.5
    assert row.since == datetime.fromtimestamp(clock.wall - 12.5, UTC)
    assert row.since.utcoffset() == timedelta(0)
    assert row.user
    assert "pytest" in row.command
    assert rows[1].holder is None
    assert [one.limit for one in limiter.holders("b")] == ["b"]


def test_waiters(limiter: Limiter, processes: Processes, clock: Clock) -> None:
    """Each place in a queue has a row, in order."""
    limiter.create("a", 2)
    limiter.create("b", 1)
    limiter.acquire(["a", "b"], 1)
    processes().ask("a", occupy=2)
    clock.advance(4.5)
    processes().ask("b", "a")
    rows = limiter.waiters()
    assert [(one.limit, one.position, one.slots) for one in rows] == [
        ("a", 1, 2),
        ("a", 2, 1),
        ("b", 1, 1),
    ]
    assert [one.waited_seconds for one in rows] == [4.5, 0, 0]
    assert rows[0].since == datetime.fromtimestamp(clock.wall - 4.5, UTC)
    assert [one.position for one in limiter.waiters("b")] == [1]
    assert (limiter.read("a").waiting, limiter.read("b").waiting) == (2, 1)


def test_a_reader_sees_no_dead(limiter: Limiter, processes: Processes) -> None:
    """Whoever looks clears the dead away first, and admits who fits then."""
    limiter.create("database", 1)
    dead, alive, late = processes(), processes(), processes()
    dead.ask("database")
    waiting = alive.ask("database")
    late.ask("database")
    late.die()
    dead.die()
    limit = limiter.read("database")
    assert (limit.active_slots, limit.waiting) == (1, 0)
    assert [one.lease for one in limiter.holders()] == [waiting.request.id]
    assert limiter.waiters() == []
    assert waiting.is_rung


# Leases freed by an operator


def test_release_frees_all_of_a_lease(limiter: Limiter, processes: Processes) -> None:
    """An operator's release frees every part, whoever holds it, and says whether it was held."""
    limiter.create("a", 1)
    limiter.create("b", 1)
    held = processes().ask("a", "b")
    waiting = processes().ask("b")
    assert limiter.release(held.request.id) is True
    assert limiter.release(held.request.id) is False
    waiting.look()
    assert waiting.granted
    assert (in_use(limiter, "a"), in_use(limiter, "b")) == (0, 1)
    assert held.release() is False


def test_release_does_not_free_who_waits(limiter: Limiter, processes: Processes) -> None:
    """The id of a request that waits is not a lease's yet."""
    limiter.create("database", 1)
    limiter.acquire("database")
    waiting = processes().ask("database")
    assert limiter.release(waiting.request.id) is False
    assert limiter.read("database").waiting == 1


# Without a database


def test_readers_find_a_missing_database_empty_and_make_nothing(
    limiter: Limiter, path: str
) -> None:
    """What only reads does not even make the folder."""
    assert limiter.read_all() == []
    assert limiter.holders() == []
    assert limiter.waiters() == []
    assert limiter.release("unknown") is False
    for read in (limiter.read, limiter.holders, limiter.waiters):
        with pytest.raises(LimitNotFoundError):
            read("database")
    assert not os.path.exists(os.path.dirname(path))


def test_what_writes_makes_the_database(limiter: Limiter, path: str) -> None:
    """A limit can be created where there is nothing yet."""
    limiter.create("database", 1)
    assert os.path.exists(path)
    assert [one.name for one in Limiter(path).read_all()] == ["database"]


def test_a_slot_can_be_asked_for_where_nothing_is(limiter: Limiter, path: str) -> None:
    """The first use makes the database, and finds the limit missing there."""
    with pytest.raises(ConcurrencySlotAcquisitionError):
        limiter.acquire("database", strict=True)
    assert os.path.exists(path)
    assert limiter.read_all() == []


# Open and closed


def test_leases_outlive_close(limiter: Limiter) -> None:
    """`close()` closes what is open and nothing else; the next call opens again."""
    limiter.create("database", 1)
    lease = limiter.acquire("database")
    limiter.close()
    limiter.close()
    assert [one.lease for one in limiter.holders()] == [lease.id]
    limiter.close()
    lease.release()
    limiter.close()
    assert in_use(limiter, "database") == 0


def test_close_leaves_nothing_open_and_no_trace(limiter: Limiter, path: str) -> None:
    """A process that holds nothing and closes has no descriptor, no FIFO and no row left."""
    limiter.create("database", 1)
    before = sorted(os.listdir("/proc/self/fd"))
    limiter.close()
    with limiter:
        limiter.acquire("database").release()
    open_now = [os.path.realpath(f"/proc/self/fd/{one}") for one in os.listdir("/proc/self/fd")]
    assert not [one for one in open_now if one.startswith(path)]
    assert len(os.listdir("/proc/self/fd")) <= len(before)
    assert set(os.listdir(f"{path}-run")) <= {"gate"}
    assert tables(limiter)["owners"] == []
    assert tables(limiter)["leases"] == []


def test_two_limiters_of_one_file_are_one_process(limiter: Limiter, path: str) -> None:
    """Limiters are handles: what one took, the other sees and may free."""
    limiter.create("database", 1)
    other = Limiter(path)
    lease = other.acquire("database")
    other.close()
    assert limiter.release(lease.id) is True
    assert limiter.read("database").active_slots == 0
