"""Acquire + release by one process in a database that is full of others."""

from __future__ import annotations

import functools
import resource
import threading
import time
from collections.abc import Iterable

from localgcl import Limiter
from tests.benchmarks.figures import Row, Setting, compare, micros, times
from tests.benchmarks.pairs import PAIRS, ROUNDS, pair_of, seconds_each
from tests.benchmarks.team import Line, Team

_LIMITS, _LEASES, _WAITERS = 10_000, 1_000, 500
# The leases fill so many of the limits, and the waiters stand in their queues.
_FULL = 100
_WAITING_PROCESSES = 2


def crowded(setting: Setting) -> Iterable[Row]:
    """Acquire + release beside 10,000 limits, 1,000 leases and 500 waiters of other processes."""
    full = setting.path("full.db")
    with Limiter(setting.path("empty.db")) as empty, Limiter(full) as limiter:
        empty.create("own", 1)
        limiter.create("own", 1)
        fill(limiter)
        with Team(hold, [(full,)]) as holders:
            holders.meet()
            share = _WAITERS // _WAITING_PROCESSES
            waiting = [(full, index * share, share) for index in range(_WAITING_PROCESSES)]
            with Team(wait, waiting) as waiters:
                waiters.meet()
                while len(limiter.waiters()) < _WAITERS:
                    time.sleep(0.05)
                assert len(limiter.holders()) == _LEASES
                pairs = setting.count(PAIRS)
                found = compare(
                    functools.partial(seconds_each, pair_of(limiter, "own"), pairs),
                    functools.partial(seconds_each, pair_of(empty, "own"), pairs),
                    ROUNDS,
                )
                assert len(limiter.waiters()) == _WAITERS
    yield Row(
        f"acquire + release, {_LIMITS:,} limits, {_LEASES:,} leases, {_WAITERS} waiting",
        micros(found.measured),
        f"{micros(found.floor)} empty",
        times(found.ratio),
        "≤ 1.3x",
        found.ratio <= 1.3,
    )


def fill(limiter: Limiter) -> None:
    """Create the other limits."""
    for index in range(_LIMITS - 1):
        limiter.create(f"other-{index}", _LEASES // _FULL)


def hold(line: Line, path: str) -> None:
    """Hold every slot of the first limits until the end."""
    limiter = Limiter(path)
    for lease in range(_LEASES):
        limiter.acquire(f"other-{lease % _FULL}")
    line.meet()


def wait(line: Line, path: str, first: int, count: int) -> None:
    """Have `count` threads wait for slots of the limits that are full."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # each thread has a FIFO and a watch
    limiter = Limiter(path)
    for index in range(first, first + count):
        name = f"other-{index % _FULL}"
        threading.Thread(target=limiter.acquire, args=(name,), daemon=True).start()
    line.meet()
