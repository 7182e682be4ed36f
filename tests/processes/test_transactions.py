"""Processes that are killed, stopped or forked inside a transaction, and disks that are full."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from localgcl import DatabaseError, Limiter
from tests.helpers.actors import Actor
from tests.helpers.waiting import until

pytestmark = pytest.mark.processes
Start = Callable[..., Actor]


def is_sound(path: Path) -> bool:
    """Whether SQLite finds nothing wrong with the file, nor the sums with the rows."""
    with closing(sqlite3.connect(path)) as connection:
        ((verdict,),) = connection.execute("PRAGMA integrity_check").fetchall()
        sums = connection.execute(
            "SELECT key FROM limits WHERE"
            " used != (SELECT total(slots) FROM leases WHERE limit_key = key)"
            " OR waiting != (SELECT count(*) FROM waits WHERE limit_key = key)"
        ).fetchall()
        return verdict == "ok" and not sums


# Killed


def test_killed_while_it_takes_a_slot(limiter: Limiter, actor: Start, path: Path) -> None:
    """The transaction counts for nothing, and whoever stood at the gate comes in."""
    limiter.create("a", 1)
    killed, waiter = actor(), actor()
    killed.tell("stop_inside_acquire", "a")
    killed.until_stopped()
    waiter.tell("acquire", ["a"])
    assert not waiter.has_answered(0.2)
    killed.kill()
    assert isinstance(waiter.answer(), str)
    assert [one.pid for one in limiter.holders("a")] == [waiter.pid]
    assert limiter.read("a").active_slots == 1
    assert is_sound(path)


def test_killed_while_it_frees_a_slot(limiter: Limiter, actor: Start, path: Path) -> None:
    """The slot comes back by the death, once, to whoever waits for it."""
    limiter.create("a", 1)
    killed, waiter, behind = actor(), actor(), actor()
    killed.do("acquire", ["a"])
    waiter.tell("acquire", ["a"])
    assert not waiter.has_answered(0.2)
    killed.tell("stop_inside_release")
    killed.until_stopped()
    behind.tell("acquire", ["a"])
    killed.kill()
    assert isinstance(waiter.answer(), str)
    assert not behind.has_answered(0.2)
    assert [one.pid for one in limiter.holders("a")] == [waiter.pid]
    waiter.do("release")
    assert isinstance(behind.answer(), str)
    assert is_sound(path)


def test_stopped_inside_a_transaction(limiter: Limiter, actor: Start, path: Path) -> None:
    """Others keep their timeouts meanwhile, and nothing is lost once it continues."""
    limiter.create("a", 1)
    stopped, other = actor(), actor()
    other.do("acquire", ["a"])
    other.do("release")
    stopped.tell("stop_inside_acquire", "a")
    stopped.until_stopped()
    for seconds in (0.2, 0):
        refused = other.do("acquire", ["a"], 1, seconds)
        assert refused["error"] in (
            "AcquireConcurrencySlotTimeoutError",
            "ConcurrencySlotAcquisitionError",
        )
    stopped.signal(signal.SIGCONT)
    assert stopped.answer() is None
    assert [one.pid for one in limiter.holders("a")] == [stopped.pid]
    assert is_sound(path)


def test_tries_at_a_gate_that_is_shut(limiter: Limiter, path: Path) -> None:
    """Calls that give up share one thread and one descriptor, which go when the gate opens."""
    limiter.create("a", 1)
    limiter.acquire("a").release()
    before = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
    gate = os.open(f"{path}-run/gate", os.O_RDWR)
    fcntl.flock(gate, fcntl.LOCK_EX)
    for _ in range(50):
        with pytest.raises(TimeoutError):
            limiter.acquire("a", timeout_seconds=0.001)
    now = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
    assert now == (before[0] + 2, before[1] + 1)
    os.close(gate)
    limiter.acquire("a", timeout_seconds=0).release()
    until(lambda: len(os.listdir("/proc/self/task")) == before[1])
    assert len(os.listdir("/proc/self/fd")) == before[0]


# Forked


def test_fork_beside_a_transaction(limiter: Limiter, actor: Start, path: Path) -> None:
    """A fork waits for the transaction of another thread, and harms neither it nor the child."""
    limiter.create("a", 2)
    parent = actor()
    assert parent.do("fork_beside_a_transaction", "a", False) == 0
    assert [one.pid for one in limiter.holders("a")] == [parent.pid]
    assert isinstance(parent.do("acquire", ["a"], 1, 5), str)
    assert limiter.read("a").active_slots == 2
    assert is_sound(path)


def test_fork_beside_a_transaction_that_does_not_end(
    limiter: Limiter, actor: Start, path: Path
) -> None:
    """A fork does not wait for ever; the child then is refused and told why, and admits nobody."""
    limiter.create("a", 2)
    parent = actor()
    assert parent.do("fork_beside_a_transaction", "a", True) == 2
    assert [one.pid for one in limiter.holders("a")] == [parent.pid]
    assert is_sound(path)


@pytest.mark.parametrize("beside", [None, "b"])
def test_a_child_does_not_keep_its_parent_alive(
    beside: str | None, limiter: Limiter, actor: Start
) -> None:
    """What a killed process held is free while its child lives, and the gate is open."""
    limiter.create("a", 1)
    limiter.create("b", 1)
    parent, waiter = actor(), actor()
    parent.do("acquire", ["a"])
    waiter.tell("acquire", ["a"])
    until(lambda: limiter.read("a").waiting == 1)
    child = parent.do("fork_asleep", beside)
    try:
        parent.kill()
        assert isinstance(waiter.answer(), str)
        assert limiter.acquire("b", timeout_seconds=0).names == ("b",)
    finally:
        os.kill(child, signal.SIGKILL)


def test_fork_after_a_timeout_at_a_shut_gate(limiter: Limiter, actor: Start, path: Path) -> None:
    """A file that could not be closed in time is closed as soon as it can be, before a fork too."""
    limiter.create("a", 1)
    assert actor().do("fork_after_a_shut_gate", "a") == 0
    assert limiter.read("a").active_slots == 0
    assert is_sound(path)


def test_a_child_does_not_lose_its_file_with_its_parent(
    limiter: Limiter, actor: Start, path: Path
) -> None:
    """What a child holds is seen by all, though its parent had the file open and closed it since.

    A connection that crosses a fork would have the child write into a log that its parent, the
    last one with locks, deletes when it closes.
    """
    limiter.create("a", 1)
    limiter.close()
    parent = actor()
    child = parent.do("fork_and_close", "a")
    assert [one.pid for one in limiter.holders("a")] == [child]
    with pytest.raises(TimeoutError):
        limiter.acquire("a", timeout_seconds=0)
    parent.kill()
    until(lambda: limiter.holders("a") == [])
    assert is_sound(path)


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write a file for as long as the disk takes it."""
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 512):
                pass
        except OSError:
            return


def test_a_full_disk(small_disk: Path) -> None:
    """It admits nobody, lets a release be tried again, and is over once there is room."""
    limiter = Limiter(small_disk / "limits.db")
    limiter.create("a", 10_000)
    leases = [limiter.acquire("a")]
    fill(small_disk / "filler")
    with pytest.raises(DatabaseError, match=r"limits\.db") as caught:
        while len(leases) < 10_000:
            leases += [limiter.acquire("a", timeout_seconds=0)]
    assert caught.value.path == str(small_disk / "limits.db")
    fill(small_disk / "more")  # what the log gave back
    with pytest.raises(DatabaseError):
        limiter.create("b", 1)
    with pytest.raises(DatabaseError):
        leases[0].release()

    (small_disk / "filler").unlink()
    (small_disk / "more").unlink()
    assert limiter.read("a").active_slots == len(leases)
    assert [limit.name for limit in limiter.read_all()] == ["a"]
    for lease in leases:
        lease.release()
    assert limiter.read("a").active_slots == 0
    limiter.close()
    assert is_sound(small_disk / "limits.db")
