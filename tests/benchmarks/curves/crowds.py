"""What a database is full of: limits, leases and waiters, for as long as it is measured."""

from __future__ import annotations

import contextlib
import functools
import itertools
import resource
import statistics
import threading
import time
from collections.abc import Iterator

from localgcl import Limiter
from localgcl._admin.creation import insert_missing
from tests.benchmarks.team import Line, Team, now

# The limit that is measured has one slot to spare, in every database.
ONE = "one"
# The limit in whose queue the waiters stand.
QUEUE = "queue"

_WAITING_PROCESSES = 4
# A queue is watched for this long while the slot goes round in it.
_SECONDS = 0.5
_LEAST = 20  # times, for a median; where the machine is busy with others, in more rounds than one
_MOST_ROUNDS = 20


def with_limits(path: str, count: int) -> contextlib.AbstractContextManager[None]:
    """Make a database of so many limits."""
    with Limiter(path) as limiter:
        limiter.create(ONE, 1)
        names = [f"other-{index}" for index in range(count - 1)]
        # One transaction for all: each of its own would wait for the disk.
        limiter._database.transact(functools.partial(insert_missing, names=names, limit=1))
    return contextlib.nullcontext()


@contextlib.contextmanager
def with_leases(path: str, count: int) -> Iterator[None]:
    """Make a database in which a process holds so many leases of the limit that is measured."""
    with Limiter(path) as limiter:
        limiter.create(ONE, count + 1)
    with Team(_hold, [(path, count)] if count else []) as team:
        team.meet()
        yield


def _hold(line: Line, path: str, count: int) -> None:
    limiter = Limiter(path)
    for _ in range(count):
        limiter.acquire(ONE)
    line.meet()


class Queue:
    """A database in which so many threads of other processes wait for the slot of a limit.

    They sleep, but when the slot is sent round: each has it for no time, and waits again.
    """

    def __init__(self, path: str, count: int) -> None:
        with Limiter(path) as limiter:
            limiter.create(ONE, 1)
            limiter.create(QUEUE, 1)
        shares = [count // _WAITING_PROCESSES] * _WAITING_PROCESSES
        shares[0] += count % _WAITING_PROCESSES
        self._path = path
        self._count = count
        self._team = Team(_wait, [(path, share) for share in shares if share])

    def __enter__(self) -> Queue:
        self._team.__enter__()
        self._team.meet()
        with Limiter(self._path) as limiter:
            while limiter.read(QUEUE).waiting < self._count - 1:  # and one has the slot
                time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._team.__exit__(None, None, None)

    def hand_over(self) -> float:
        """Send the slot round; return the seconds that it takes from one to the next, p50."""
        gaps: list[float] = []
        for _ in range(_MOST_ROUNDS):
            gaps += self._round()
            if len(gaps) >= _LEAST:
                return statistics.median(gaps)
        raise TimeoutError(f"the slot was handed over {len(gaps)} times in {_MOST_ROUNDS} rounds")

    def _round(self) -> list[float]:
        self._team.meet()
        turns: list[tuple[float, float]] = []
        for index in range(len(self._team.processes)):
            turns += self._team.hear(index)
        turns.sort()
        return [entered - left for (_, left), (entered, _) in itertools.pairwise(turns)]


class _Round:
    """What the threads of one process know: whether the slot goes round, and what they saw."""

    def __init__(self) -> None:
        self.goes = threading.Event()
        self.turns: list[tuple[float, float]] = []


def _wait(line: Line, path: str, count: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # each thread has a FIFO and a watch
    limiter, round_ = Limiter(path), _Round()
    for _ in range(count):
        threading.Thread(target=_go_round, args=(limiter, round_), daemon=True).start()
    line.meet()
    while True:
        ends = line.meet() + _SECONDS
        round_.turns = []
        round_.goes.set()
        time.sleep(max(0.0, ends - now()))
        round_.goes.clear()
        line.say(round_.turns)


def _go_round(limiter: Limiter, round_: _Round) -> None:
    while True:
        lease = limiter.acquire(QUEUE)
        entered = now()
        if not round_.goes.is_set():
            round_.goes.wait()
            entered = now()
        left = now()
        round_.turns.append((entered, left))
        lease.release()
