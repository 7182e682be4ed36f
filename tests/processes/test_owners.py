"""Who holds and who waits, as processes are killed, stopped, forked and interrupted."""

from __future__ import annotations

import fcntl
import itertools
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from localgcl import Limiter
from tests.helpers.actors import Actor
from tests.helpers.waiting import DEADLINE_SECONDS, until

pytestmark = pytest.mark.processes
Start = Callable[[], Actor]


def left_over(path: Path) -> set[str]:
    """Return what lies in the run folder that does not belong there for ever."""
    return set(os.listdir(f"{path}-run")) - {"gate"}


def waiting(limiter: Limiter, name: str, number: int) -> Callable[[], bool]:
    """Return whether so many wait."""
    return lambda: len(limiter.waiters(name)) == number


def test_a_killed_holder_frees_its_slot(limiter: Limiter, actor: Start) -> None:
    """A waiter gets the slot of a holder that was killed, without anybody's help."""
    limiter.create("a", 1)
    holder, waiter = actor(), actor()
    holder.do("acquire", ["a"])
    waiter.tell("acquire", ["a"])
    until(waiting(limiter, "a", 1))
    holder.kill()
    assert isinstance(waiter.answer(), str)


def test_a_killed_holder_is_gone_when_somebody_looks(
    limiter: Limiter, actor: Start, path: Path
) -> None:
    """With nobody waiting, the next look finds the slot free and the folder clean."""
    limiter.create("a", 1)
    holder = actor()
    holder.do("acquire", ["a"])
    assert limiter.read("a").active_slots == 1
    holder.kill()
    assert limiter.read("a").active_slots == 0
    assert limiter.holders() == []
    assert left_over(path) == set()


@pytest.mark.parametrize("intruder", ["a link", "a dangling link", "a folder", "a file"])
def test_what_lies_in_the_place_of_a_lifeline_keeps_nobody_alive(
    limiter: Limiter, actor: Start, path: Path, intruder: str
) -> None:
    """It is no FIFO that somebody reads, and its owner's process is gone."""
    limiter.create("a", 1)
    holder = actor()
    holder.do("acquire", ["a"])
    (lifeline,) = left_over(path)
    place = Path(f"{path}-run", lifeline)
    place.unlink()
    if intruder == "a folder":
        place.mkdir()
    elif intruder == "a file":
        place.touch()
    else:
        place.symlink_to(path if intruder == "a link" else "nothing")
    assert limiter.read("a").active_slots == 1
    holder.kill()
    limiter.acquire("a", timeout_seconds=0).release()
    assert os.path.lexists(place)


def test_os_exit_frees_the_slot(limiter: Limiter, actor: Start) -> None:
    """A process that leaves by `os._exit` frees what it held."""
    limiter.create("a", 1)
    holder = actor()
    holder.do("acquire", ["a"])
    holder.tell("leave")
    holder.process.wait()
    limiter.acquire("a", timeout_seconds=0).release()


def test_a_normal_exit_frees_what_was_not_released(
    limiter: Limiter, actor: Start, path: Path
) -> None:
    """A process that simply ends leaves no lease and no file."""
    limiter.create("a", 1)
    holder = actor()
    holder.do("acquire", ["a"])
    assert holder.end() == 0
    assert left_over(path) == set()
    assert limiter.holders() == []


def test_a_stopped_holder_keeps_its_slot(limiter: Limiter, actor: Start) -> None:
    """SIGSTOP takes nothing away, however long others look and wait."""
    limiter.create("a", 1)
    holder, waiter = actor(), actor()
    holder.do("acquire", ["a"])
    holder.signal(signal.SIGSTOP)
    assert waiter.do("acquire", ["a"], 1, 1.5) == {"error": "AcquireConcurrencySlotTimeoutError"}
    assert [one.pid for one in limiter.holders("a")] == [holder.pid]
    holder.signal(signal.SIGCONT)
    holder.do("release")
    assert isinstance(waiter.do("acquire", ["a"], 1, 5), str)


def test_a_stopped_first_waiter_delays_nobody(limiter: Limiter, actor: Start) -> None:
    """The stopped first one is granted its slot, and the one behind gets the next."""
    limiter.create("a", 2)
    holder, stopped, behind = actor(), actor(), actor()
    holder.do("acquire", ["a"])
    holder.do("acquire", ["a"])
    stopped.tell("acquire", ["a"])
    until(waiting(limiter, "a", 1))
    behind.tell("acquire", ["a"])
    until(waiting(limiter, "a", 2))
    stopped.signal(signal.SIGSTOP)
    holder.do("release")
    holder.do("release")
    assert isinstance(behind.answer(), str)
    assert {one.pid for one in limiter.holders("a")} == {stopped.pid, behind.pid}
    stopped.signal(signal.SIGCONT)
    assert isinstance(stopped.answer(), str)


def test_a_death_behind_a_stopped_watcher_is_noticed(limiter: Limiter, actor: Start) -> None:
    """More than one waiter watches: a stopped first one does not hide a holder's death."""
    limiter.create("a", 2)
    first_holder, second_holder, stopped, behind = actor(), actor(), actor(), actor()
    first_holder.do("acquire", ["a"])
    second_holder.do("acquire", ["a"])
    stopped.tell("acquire", ["a"])
    until(waiting(limiter, "a", 1))
    behind.tell("acquire", ["a"])
    until(waiting(limiter, "a", 2))
    stopped.signal(signal.SIGSTOP)
    first_holder.kill()
    second_holder.kill()
    assert isinstance(behind.answer(), str)


def test_a_dead_waiter_is_passed_by(limiter: Limiter, actor: Start) -> None:
    """A waiter that was killed in the queue holds up nobody."""
    limiter.create("a", 1)
    holder, dead, behind = actor(), actor(), actor()
    holder.do("acquire", ["a"])
    dead.tell("acquire", ["a"])
    until(waiting(limiter, "a", 1))
    behind.tell("acquire", ["a"])
    until(waiting(limiter, "a", 2))
    dead.kill()
    holder.do("release")
    assert isinstance(behind.answer(), str)


def test_order_of_arrival(limiter: Limiter, actor: Start) -> None:
    """Waiters of several processes are served first come, first served."""
    limiter.create("a", 1)
    holder = actor()
    holder.do("acquire", ["a"])
    waiters = [actor() for _ in range(5)]
    for number, waiter in enumerate(waiters, 1):
        waiter.tell("acquire", ["a"])
        until(waiting(limiter, "a", number))
    assert [one.pid for one in limiter.waiters("a")] == [waiter.pid for waiter in waiters]
    previous = holder
    for waiter in waiters:
        previous.do("release")
        assert isinstance(waiter.answer(), str)
        assert [one.pid for one in limiter.holders("a")] == [waiter.pid]
        previous = waiter


def test_a_request_for_all_slots_is_not_starved(limiter: Limiter, actor: Start) -> None:
    """Requests for one slot that come later stay behind one for all slots."""
    limiter.create("a", 3)
    holders = [actor() for _ in range(3)]
    for holder in holders:
        holder.do("acquire", ["a"])
    large, small = actor(), actor()
    large.tell("acquire", ["a"], 3)
    until(waiting(limiter, "a", 1))
    small.tell("acquire", ["a"])
    until(waiting(limiter, "a", 2))
    holders[0].do("release")
    holders[1].do("release")
    assert not small.has_answered(0.2)
    assert holders[0].do("acquire", ["a"], 1, 0) == {"error": "AcquireConcurrencySlotTimeoutError"}
    holders[2].do("release")
    assert isinstance(large.answer(), str)
    large.do("release")
    assert isinstance(small.answer(), str)


def test_fork_inside_a_with_block(limiter: Limiter, actor: Start) -> None:
    """A forked child frees nothing of its parent's, and can take slots of its own."""
    limiter.create("a", 1)
    limiter.create("other", 1)
    parent = actor()
    parent.do("acquire", ["a"])
    assert parent.do("fork") is True
    assert [one.pid for one in limiter.holders("a")] == [parent.pid]
    parent.do("release")
    assert limiter.holders() == []


def test_interrupted_while_holding(limiter: Limiter, actor: Start) -> None:
    """Ctrl-C inside a `with` block frees its slot, and goes on."""
    limiter.create("a", 1)
    holder, waiter = actor(), actor()
    holder.tell("block", "a")
    until(lambda: limiter.read("a").active_slots == 1)
    waiter.tell("acquire", ["a"])
    until(waiting(limiter, "a", 1))
    holder.signal(signal.SIGINT)
    assert holder.answer() == {"error": "KeyboardInterrupt"}
    assert isinstance(waiter.answer(), str)
    waiter.do("release")
    assert limiter.read("a").active_slots == 0


def test_interrupted_while_waiting(limiter: Limiter, actor: Start) -> None:
    """Ctrl-C while waiting leaves no place in the queue."""
    limiter.create("a", 1)
    holder, waiter = actor(), actor()
    holder.do("acquire", ["a"])
    waiter.tell("acquire", ["a"])
    until(waiting(limiter, "a", 1))
    waiter.signal(signal.SIGINT)
    assert waiter.answer() == {"error": "KeyboardInterrupt"}
    assert limiter.waiters("a") == []
    holder.do("release")
    assert limiter.read("a").active_slots == 0


@pytest.mark.parametrize("what", ["lifeline", "files", "folder"])
def test_a_cleaner_takes_the_run_folder(
    limiter: Limiter, actor: Start, path: Path, what: str
) -> None:
    """With its lifeline deleted, or all there is, a waiter still gets its slot, and keeps it.

    Without a lifeline it would count as dead, and whoever looks would take the slot from it.
    """
    limiter.create("a", 1)
    holder, waiter = actor(), actor()
    holder.do("acquire", ["a"])
    others = set(os.listdir(f"{path}-run"))
    waiter.tell("acquire", ["a"])
    until(waiting(limiter, "a", 1))
    for name in os.listdir(f"{path}-run"):
        if what != "lifeline" or (name.isalnum() and name not in others):
            os.unlink(f"{path}-run/{name}")
    if what == "folder":
        os.rmdir(f"{path}-run")
    holder.do("release")
    assert isinstance(waiter.answer(), str)
    assert [one.pid for one in limiter.holders("a")] == [waiter.pid]


def test_stray_bytes_are_only_hints(limiter: Limiter, actor: Start, path: Path) -> None:
    """Bytes written to every FIFO grant nothing and break nothing."""
    limiter.create("a", 1)
    holder, waiter = actor(), actor()
    holder.do("acquire", ["a"])
    waiter.tell("acquire", ["a"])
    until(waiting(limiter, "a", 1))
    for name in left_over(path):
        descriptor = os.open(f"{path}-run/{name}", os.O_WRONLY | os.O_NONBLOCK)
        os.write(descriptor, b"granted!" * 1000)
        os.close(descriptor)
    assert not waiter.has_answered(0.3)
    holder.do("release")
    assert isinstance(waiter.answer(), str)


def test_the_database_is_replaced_under_a_waiter(
    limiter: Limiter, actor: Start, path: Path
) -> None:
    """A waiter notices another file within its safety net and looks for its limit there."""
    limiter.create("a", 1)
    holder, waiter = actor(), actor()
    holder.do("acquire", ["a"])
    waiter.tell("acquire", ["a"])
    until(waiting(limiter, "a", 1))
    # It has its limit from the first moment: the waiter may look at any.
    fresh = path.with_name("fresh.db")
    with Limiter(fresh) as other:
        other.create("a", 1)
    fresh.replace(path)
    assert isinstance(waiter.answer(), str)
    assert holder.do("release") is None
    assert [one.pid for one in limiter.holders("a")] == [waiter.pid]


def test_closed_by_one_thread_while_another_waits_at_a_deleted_file(
    limiter: Limiter, actor: Start, path: Path
) -> None:
    """What a waiting thread sleeps on stays open, and it finds its limit in the new file."""
    limiter.create("a", 1)
    holder = actor()
    holder.do("acquire", ["a"])
    with ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(limiter.acquire, "a", timeout_seconds=DEADLINE_SECONDS)
        until(waiting(limiter, "a", 1))
        for suffix in ("", "-wal", "-shm"):
            os.unlink(f"{path}{suffix}")
        holder.do("create", "a", 1)
        limiter.close()
        waiter.result().release()


def test_an_end_while_the_gate_is_shut(
    limiter: Limiter, actor: Start, path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A process that ends does not wait for ever to sign out, and says nothing about it."""
    limiter.create("a", 1)
    ending = actor()
    ending.do("acquire", ["a"])
    gate = os.open(f"{path}-run/gate", os.O_RDWR)
    fcntl.flock(gate, fcntl.LOCK_EX)
    assert ending.end() == 0
    assert capfd.readouterr().err == ""
    os.close(gate)
    limiter.acquire("a", timeout_seconds=0).release()


def test_a_holder_that_dies_between_others_wakes_the_first(limiter: Limiter, actor: Start) -> None:
    """Each of several deaths in a row hands the slot on to the next in order."""
    limiter.create("a", 1)
    chain = [actor() for _ in range(4)]
    chain[0].do("acquire", ["a"])
    for number, waiter in enumerate(chain[1:], 1):
        waiter.tell("acquire", ["a"])
        until(waiting(limiter, "a", number))
    for dying, following in itertools.pairwise(chain):
        dying.kill()
        assert isinstance(following.answer(), str)


def test_a_timeout_is_kept_while_the_gate_is_shut(
    limiter: Limiter, actor: Start, path: Path
) -> None:
    """A process stopped inside a transaction holds up others no longer than their timeout."""
    limiter.create("a", 1)
    caller = actor()
    caller.do("acquire", ["a"])
    caller.do("release")
    gate = os.open(f"{path}-run/gate", os.O_RDWR)
    fcntl.flock(gate, fcntl.LOCK_EX)
    began = time.monotonic()
    assert caller.do("acquire", ["a"], 1, 0.3) == {"error": "AcquireConcurrencySlotTimeoutError"}
    assert time.monotonic() - began >= 0.3
    os.close(gate)
    assert isinstance(caller.do("acquire", ["a"], 1, 5), str)
    caller.do("release")
    assert limiter.read("a").active_slots == 0
    assert limiter.waiters() == []


def test_a_hand_over_leaves_no_row(limiter: Limiter, actor: Start) -> None:
    """Nothing but its lease tells a waiter of its grant, and nothing once it has released."""
    limiter.create("a", 1)
    holder, waiter = actor(), actor()
    for _ in range(3):
        holder.do("acquire", ["a"])
        waiter.tell("acquire", ["a"])
        until(waiting(limiter, "a", 1))
        holder.do("release")
        assert isinstance(waiter.answer(), str)
        waiter.do("release")
    assert limiter.holders() == []
    rows = limiter._database.transact(lambda tx: tx.execute("SELECT * FROM waiters").fetchall())
    assert rows == []
