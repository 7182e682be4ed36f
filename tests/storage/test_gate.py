"""The gate: who comes while somebody is inside tries for a moment, and then stands in the queue."""

from __future__ import annotations

import fcntl
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localgcl import DatabaseError, Limiter
from localgcl._base import clock, threads
from localgcl._liveness.access import Access
from localgcl._liveness.folder import Folder
from localgcl._storage import gate as _gate
from localgcl._storage import locks
from localgcl._storage.gate import Gate, GateTimeoutError
from localgcl._storage.turn import Turn
from tests.helpers.descriptors import open_files

# Takes the mark of whoever spins if it is free, says whether it did, and keeps it until told.
_SPINNER = """
import fcntl, os, sys
gate = os.open(sys.argv[1], os.O_RDWR)
try:
    fcntl.lockf(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("took", flush=True)
except OSError:
    print("failed", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """This process's gate."""
    folder = Folder(
        str(tmp_path / "limits.db-run"), Access(os.geteuid(), os.getegid(), 0o600), "limits.db"
    )
    folder.make()
    gate = Gate(folder)
    yield gate
    gate.close()


@pytest.fixture
def other(gate: Gate) -> Iterator[int]:
    """Somebody else inside: a descriptor of its own counts as another process."""
    descriptor = os.open(f"{gate._folder.path}/gate", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def spinner(gate: Gate) -> Iterator[Callable[[], str]]:
    """Have another process try to be the one that spins; return whether it took the mark."""
    started: list[subprocess.Popen[str]] = []

    def start() -> str:
        process = subprocess.Popen(
            [sys.executable, "-c", _SPINNER, f"{gate._folder.path}/gate"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        return process.stdout.readline().strip()

    yield start
    for process in started:
        process.communicate()


def at_try(monkeypatch: pytest.MonkeyPatch, number: int, do: Callable[[], object]) -> list[int]:
    """Do something just before a certain try for the gate; return the tries, as they are made."""
    real, tries = locks.locks_now, list[int]()

    def counted(descriptor: int) -> bool:
        tries.append(descriptor)
        if len(tries) == number:
            do()
        return real(descriptor)

    monkeypatch.setattr(_gate, "locks_now", counted)
    return tries


def is_shut(gate: Gate) -> bool:
    """Whether the gate keeps others out."""
    return _gate.is_shut(gate._folder)


def test_it_opens_while_it_is_tried(
    gate: Gate, other: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody falls asleep for the length of a transaction."""
    tries = at_try(monkeypatch, 5, lambda: fcntl.flock(other, fcntl.LOCK_UN))
    gate.enter()
    assert len(tries) == 5
    assert is_shut(gate)
    gate.leave()
    assert not is_shut(gate)


@pytest.mark.parametrize("spins", [True, False], ids=["spins", "another spins"])
def test_it_stays_shut(
    gate: Gate,
    other: int,
    spinner: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    spins: bool,
) -> None:
    """After its tries, or at once where somebody else is at them, it stands in the queue."""
    if not spins:
        assert spinner() == "took"
    tries = at_try(monkeypatch, 0, lambda: None)
    flock = fcntl.flock

    def opened_for_who_queues(descriptor: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX:
            flock(other, fcntl.LOCK_UN)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", opened_for_who_queues)
    gate.enter()
    assert len(tries) == (1 + _gate._SPINS if spins else 1)
    assert is_shut(gate)
    gate.leave()


def test_interrupted_while_it_is_tried(
    gate: Gate, other: int, spinner: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one may spin."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    at_try(monkeypatch, 3, interrupt)
    with pytest.raises(KeyboardInterrupt):
        gate.enter()
    gate.leave()
    assert spinner() == "took"


@pytest.mark.usefixtures("other")
def test_no_thread_is_to_be_had(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may not wait for ever then tries until it is time, and leaves nothing open."""

    def start(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "_start_real", start)
    before = dict(locks._descriptors)
    for _ in range(3):
        with pytest.raises(GateTimeoutError):
            gate.enter(clock.now() + 0.001)
    assert locks._descriptors == before


def test_a_turn_at_a_gate_that_was_taken_away(
    gate: Gate, other: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not count at the new gate: the process inside there stays alone."""
    with pytest.raises(GateTimeoutError):
        gate.enter(clock.now() + 0.001)  # a turn still queues for it
    os.unlink(f"{gate._folder.path}/gate")
    os.close(gate._descriptor)
    inside = gate._folder.open_gate()
    fcntl.flock(inside, fcntl.LOCK_EX)
    wait = Turn.comes_within

    def comes_within(turn: Turn, seconds: float) -> bool:
        fcntl.flock(other, fcntl.LOCK_UN)
        return wait(turn, seconds)

    monkeypatch.setattr(Turn, "comes_within", comes_within)
    with pytest.raises(GateTimeoutError):
        gate.enter(clock.now() + 0.2)
    os.close(inside)


@pytest.mark.parametrize("how", ["closes", "forks"])
def test_what_lies_in_the_place_of_the_gate_keeps_nobody_from_a_close(
    limiter: Limiter, path: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """SQLite has a lock of its own for it, and a fork is to leave nothing open."""
    limiter.create("a", 1)
    file = limiter._database._file
    assert file is not None
    gate = f"{path}-run/gate"
    os.unlink(gate)
    os.symlink("elsewhere", gate)
    file.gate._seen_at = -math.inf  # it was looked at a while ago
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    if how == "closes":
        limiter.close()
    else:
        child = os.fork()
        if not child:
            os._exit(len(open_files(path)))
        assert os.waitpid(child, 0)[1] == 0
    assert told == []
    assert open_files(path) == []
    with pytest.raises(DatabaseError, match="symbolic link"):
        limiter.read("a")
    os.unlink(gate)
    limiter.acquire("a", timeout_seconds=5).release()


@pytest.fixture
def locked(limiter: Limiter, path: str) -> Iterator[int]:
    """A run folder that somebody has locked and from which a cleaner has taken the gate."""
    limiter.create("a", 1)
    limiter.close()
    os.unlink(f"{path}-run/gate")
    descriptor = os.open(f"{path}-run", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield descriptor
    os.close(descriptor)


def test_a_run_folder_that_somebody_keeps_locked(
    limiter: Limiter, path: str, locked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for, but not without an end; and the lock stays theirs."""
    pauses: list[float] = []
    monkeypatch.setattr(threads, "sleep", pauses.append)
    lease = limiter.acquire("a", timeout_seconds=5)
    assert 0 < sum(pauses) <= 1
    assert limiter.read("a").active_slots == 1
    again = os.open(f"{path}-run", os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(again)
    pauses.clear()
    limiter.close()  # and with a gate that is there nobody asks for that lock
    lease.release()
    assert limiter.read("a").active_slots == 0
    assert pauses == []


def test_a_run_folder_that_was_locked_for_a_moment(
    limiter: Limiter, path: str, locked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits goes on as soon as the lock is gone, and uses the gate that was made meanwhile."""
    pauses: list[float] = []
    made: list[os.stat_result] = []
    theirs = f"{path}-run/gate"

    def end_at_third(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            with open(theirs, "wb") as file:
                file.write(b"0")
                made.append(os.fstat(file.fileno()))
            fcntl.flock(locked, fcntl.LOCK_UN)

    monkeypatch.setattr(threads, "sleep", end_at_third)
    limiter.acquire("a", timeout_seconds=5).release()
    assert len(pauses) == 3
    assert os.path.samestat(os.stat(theirs), made[0])
    assert [one for one in open_files(f"{path}-run") if one.endswith("gate")] == [theirs]
