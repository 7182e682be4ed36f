"""Administration: limits are created, read, changed and deleted, and seen as they are."""

from __future__ import annotations

import os
import uuid
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
from tests.helpers.database import tables
from tests.helpers.flavours import both_flavours
from tests.helpers.played import Clock, Processes
from tests.helpers.usage import in_use

pytest_generate_tests = both_flavours

LIMIT_KEYS = {
    *("id", "created", "updated", "name", "active", "limit", "active_slots", "available_slots"),
    *("next_slot_seconds", "slot_decay_per_second", "rate", "window_seconds", "paused_until"),
    *("avg_slot_occupancy_seconds", "waiting", "template", "keys"),
    *("last_granted", "last_timed_out"),
}
HOLDER_KEYS = {
    *("lease", "limit", "slots", "pid", "user", "command", "holder", "since", "held_seconds"),
}
WAITER_KEYS = {
    *("position", "limit", "slots", "pid", "user", "command", "holder", "since", "waited_seconds"),
    "expected_seconds",
}


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
    # With each change, what follows from it.
    changes: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"limit": 7}, {"available_slots": 7}),
        ({"slot_decay_per_second": 0.5}, {"rate": "30/min"}),
        ({"active_slots": 2}, {"available_slots": 5}),
        ({"slot_decay_per_second": 0.0}, {"rate": None, "active_slots": 0, "available_slots": 7}),
        ({"window_seconds": 60.0}, {}),
        ({"active_slots": 7}, {"available_slots": 0, "next_slot_seconds": 60.0}),
        ({"active": False}, {"next_slot_seconds": 0.0}),
        ({"new_name": "renamed"}, {"name": "renamed"}),
    ]
    before = made
    for change, effect in changes:
        after = limiter.update(before.name, **change)
        expected = {key: new for key, new in change.items() if key != "new_name"} | effect
        told = before.model_copy(update=expected | {"updated": after.updated})
        assert after.model_dump() == told.model_dump()
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
    assert [ask.is_woken for ask in waiting] == [True, True, False]
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
    assert [ask.is_woken for ask in (small, large, last)] == [False, True, False]
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
