"""Many processes at once, counted by a witness outside localgcl."""

from __future__ import annotations

import functools
import multiprocessing
import os
import queue
import random
import resource
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pytest

from localgcl import AcquireConcurrencySlotTimeoutError, Limiter
from localgcl._admin import limits
from localgcl._admin.action import together
from tests.helpers.actors import Actor
from tests.helpers.waiting import DEADLINE_SECONDS, until

pytestmark = pytest.mark.processes

_MANY = 2_000  # threads, which have a small stack each


class Witness:
    """Counts who is inside, in shared memory: a place for each, whence the dead can be taken."""

    def __init__(self, context: BaseContext, processes: int) -> None:
        self.inside = context.RawArray("i", processes)
        self.worst = context.RawArray("i", processes)
        self.turns = context.RawArray("i", processes)

    def enter(self, number: int) -> None:
        """Note that a process has its slot, and how many are inside."""
        self.turns[number] += 1
        self.inside[number] = 1
        self._count(number)

    def leave(self, number: int) -> None:
        """Note that a process is about to leave."""
        self._count(number)
        self.inside[number] = 0

    def _count(self, number: int) -> None:
        # While one counts, somebody may leave that is counted, and another come that is counted
        # too. Where nobody's turn has begun meanwhile, all of them have slots at the same time.
        turns = list(self.turns)
        inside = sum(self.inside)
        if list(self.turns) == turns:
            self.worst[number] = max(self.worst[number], inside)


def hold_again_and_again(path: Path, number: int, witness: Witness, seconds: float) -> None:
    """Hold a slot of `a` for moments, until the time is over."""
    limiter = Limiter(path)
    end = time.monotonic() + seconds
    rng = random.Random(number)
    while time.monotonic() < end:
        try:
            with limiter.concurrency("a", timeout_seconds=rng.choice([None, 0.001, 5.0])):
                witness.enter(number)
                time.sleep(rng.choice([0, 0, 0.001]))
                witness.leave(number)
        except AcquireConcurrencySlotTimeoutError:
            pass


def run_crowd(context: BaseContext, target: Any, arguments: list[tuple[Any, ...]]) -> list[Any]:
    """Start a process for each tuple of arguments."""
    processes = [context.Process(target=target, args=one) for one in arguments]  # type: ignore[attr-defined]
    for process in processes:
        process.start()
    return processes


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_never_too_many(path: Path, method: str) -> None:
    """Eight processes never have more than three inside, and none fails."""
    context = multiprocessing.get_context(method)
    Limiter(path).create("a", 3)
    witness = Witness(context, 8)
    crowd = run_crowd(context, hold_again_and_again, [(path, n, witness, 1.5) for n in range(8)])
    for process in crowd:
        process.join(DEADLINE_SECONDS)
        assert process.exitcode == 0
    assert max(witness.worst) <= 3
    assert min(witness.turns) > 0
    assert Limiter(path).read("a").active_slots == 0
    assert set(os.listdir(f"{path}-run")) == {"gate"} | {
        name for name in os.listdir(f"{path}-run") if name.startswith(own_lifeline(path))
    }


def own_lifeline(path: Path) -> str:
    """Return the name of this process's lifeline."""
    from localgcl._liveness.access import Access
    from localgcl._liveness.folder import Folder
    from localgcl._liveness.lifeline import existing_lifeline

    access = Access(os.geteuid(), os.getegid(), 0o600)
    ours = existing_lifeline(Folder(f"{path}-run", access, str(path)))
    return "none" if ours is None else ours.name


def test_killed_at_random_moments(path: Path) -> None:
    """Processes are killed while they wait, hold and commit; afterwards all capacity is there."""
    context = multiprocessing.get_context("spawn")
    limiter = Limiter(path)
    limiter.create("a", 3)
    rng = random.Random(7)
    witness = Witness(context, 6)
    crowd = run_crowd(
        context, hold_again_and_again, [(path, number, witness, 60.0) for number in range(6)]
    )
    until(lambda: min(witness.turns) > 0)
    killed = 0
    end = time.monotonic() + 6.0
    while time.monotonic() < end:
        time.sleep(rng.uniform(0.0, 0.05))
        number = rng.randrange(6)
        # Stopped, it can no longer say that it is inside; its slot is free only once it is dead.
        os.kill(crowd[number].pid, signal.SIGSTOP)
        os.waitpid(crowd[number].pid, os.WUNTRACED)
        witness.inside[number] = 0
        os.kill(crowd[number].pid, signal.SIGKILL)
        crowd[number].join(DEADLINE_SECONDS)
        killed += 1
        (crowd[number],) = run_crowd(context, hold_again_and_again, [(path, number, witness, 60.0)])
    for process in crowd:
        process.kill()
        process.join(DEADLINE_SECONDS)
    assert killed > 10
    assert max(witness.worst) <= 3
    leases = [limiter.acquire("a", timeout_seconds=0) for _ in range(3)]
    assert limiter.waiters() == []
    for lease in leases:
        lease.release()
    assert limiter.read("a").active_slots == 0


def take_two(path: Path, names: list[str], turns: int) -> None:
    """Take two limits at once, again and again."""
    limiter = Limiter(path)
    for _ in range(turns):
        limiter.acquire(names, timeout_seconds=DEADLINE_SECONDS).release()


def test_opposite_orders_of_names(path: Path) -> None:
    """Two processes that ask for the same two limits in opposite orders never block each other."""
    context = multiprocessing.get_context("spawn")
    limiter = Limiter(path)
    limiter.create("a", 1)
    limiter.create("b", 1)
    crowd = run_crowd(context, take_two, [(path, ["a", "b"], 200), (path, ["b", "a"], 200)] * 2)
    for process in crowd:
        process.join(DEADLINE_SECONDS)
        assert process.exitcode == 0
    assert [limit.active_slots for limit in limiter.read_all()] == [0, 0]


def create_and_take(path: Path, go: Any, number: int) -> None:
    """Use a database that may not be there yet."""
    go.wait()
    limiter = Limiter(path)
    limiter.upsert("a", 100)
    limiter.create(f"own-{number}", 1)
    with limiter.concurrency(["a", f"own-{number}"], strict=True):
        pass


def test_ten_processes_create_one_database(path: Path) -> None:
    """Ten processes that start at once make one database, and nothing is lost."""
    context = multiprocessing.get_context("spawn")
    deep = path.parent / "not" / "there" / "yet.db"
    go = context.Event()
    crowd = run_crowd(context, create_and_take, [(deep, go, number) for number in range(10)])
    go.set()
    for process in crowd:
        process.join(DEADLINE_SECONDS)
        assert process.exitcode == 0
    assert len(Limiter(deep).read_all()) == 11


def wait_in_many_threads(path: Path, names: list[str], all_wait: Any, results: Any) -> None:
    """Wait in a thread for each of these names, with few descriptors; tell the order.

    A thread begins once the one before it sleeps.
    """
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    threading.stack_size(128 * 1024)
    limiter = Limiter(path)
    served: list[int] = []
    failed: list[str] = []

    def wait(number: int) -> None:
        try:
            with limiter.concurrency(names[number], strict=True):
                served.append(number)
        except Exception as error:
            failed.append(repr(error))

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(len(names))]
    for begun, thread in enumerate(threads, 1):
        thread.start()
        while asleep(limiter) + len(failed) < begun:
            time.sleep(0.0002)
    all_wait.set()
    for thread in threads:
        thread.join()
    results.put((served, failed[:3]))


def asleep(limiter: Limiter) -> int:
    """Return how many threads of this process sleep."""
    ours = limiter._database.lifeline()
    return 0 if ours is None else len(ours.keeper.asleep())


@pytest.mark.parametrize("end", ["release", "kill"])
def test_many_threads_with_few_descriptors(
    path: Path, actor: Callable[..., Actor], end: str
) -> None:
    """Two thousand wait with 256, and are served in order once another process ends its lease."""
    holder = actor()
    holder.do("create", "a", 1)
    holder.do("acquire", ["a"])
    context = multiprocessing.get_context("spawn")
    all_wait, results = context.Event(), context.Queue()
    (process,) = run_crowd(
        context, wait_in_many_threads, [(path, ["a"] * _MANY, all_wait, results)]
    )
    assert all_wait.wait(2 * DEADLINE_SECONDS)
    if end == "kill":
        holder.kill()
    else:
        holder.do("release")
    served, failed = results.get(timeout=2 * DEADLINE_SECONDS)
    process.join(DEADLINE_SECONDS)
    assert failed == []
    assert served == list(range(_MANY))


def test_many_threads_with_a_limit_each(path: Path) -> None:
    """All are served as soon as another process frees the slots: one by one, and all at once."""
    names = [f"a-{number}" for number in range(_MANY)]
    with Limiter(path) as limiter:
        transact = limiter._database.transact
        create = functools.partial(
            limits.create,
            limit=1,
            slot_decay_per_second=0.0,
            rate=None,
            window_seconds=0.0,
            active=True,
            active_slots=1,
        )
        transact(together(*[create(name) for name in names]).work)
        context = multiprocessing.get_context("spawn")
        all_wait, results = context.Event(), context.Queue()
        (process,) = run_crowd(context, wait_in_many_threads, [(path, names, all_wait, results)])
        assert all_wait.wait(2 * DEADLINE_SECONDS)
        for name in names[:50]:
            limiter.reset(name)
            until(lambda name=name: limiter.read(name).active_slots == 0)  # type: ignore[misc]
        transact(together(*[limits.reset(name) for name in names[50:]]).work)
        served, failed = results.get(timeout=2 * DEADLINE_SECONDS)
        process.join(DEADLINE_SECONDS)
    assert failed == []
    assert served[:50] == list(range(50))
    assert sorted(served) == list(range(_MANY))


def take_by_rate(path: Path, moments: Any, number: int, seconds: float) -> None:
    """Note the moment of each operation that the rate allows."""
    limiter = Limiter(path)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        limiter.rate_limit("api")
        moments.put((time.monotonic(), number))


@pytest.mark.parametrize("limit", [1, 5])
def test_a_rate_shared_by_processes(path: Path, limit: int) -> None:
    """Four processes together get what the rate gives, and no burst above the limit."""
    context = multiprocessing.get_context("spawn")
    Limiter(path).create("api", limit, slot_decay_per_second=50.0)
    moments: Any = context.Queue()
    crowd = run_crowd(context, take_by_rate, [(path, moments, n, 2.0) for n in range(4)])
    seen = []
    while any(process.is_alive() for process in crowd) or not moments.empty():
        try:
            seen.append(moments.get(timeout=0.05)[0])
        except queue.Empty:
            continue
    seen.sort()
    span = seen[-1] - seen[0]
    assert len(seen) <= limit + 50.0 * span + 1
    assert len(seen) >= 50.0 * span * 0.9


def test_the_disk_is_full(path: Path, tmp_path: Path) -> None:
    """A full disk is a DatabaseError, admits nobody, and is over once there is room again."""
    import subprocess
    import sys

    script = f"""
import resource, signal
from localgcl import DatabaseError, Limiter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limiter = Limiter({str(path)!r})
limiter.create("a", 1)
lease = limiter.acquire("a")
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
for attempt in (lambda: limiter.create("b", 1), lambda: limiter.acquire("a", timeout_seconds=0)):
    try:
        attempt()
    except DatabaseError as error:
        assert error.path == {str(path)!r}
    else:
        raise SystemExit("admitted")
try:
    lease.release()
except DatabaseError:
    pass
else:
    raise SystemExit("released")
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
assert limiter.read("a").active_slots == 1
lease.release()
assert limiter.read("a").active_slots == 0
assert limiter.read_all()[0].name == "a" and len(limiter.read_all()) == 1
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )
    assert (done.returncode, done.stderr) == (0, "")
