"""Acquire + release by one process: in an empty database, and in one that is full of others."""

from __future__ import annotations

import functools
import resource
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from localgcl import Limiter
from tests.benchmarks.figures import Row, Setting, compare, micros, times
from tests.benchmarks.floor import Floor
from tests.benchmarks.team import Line, Team

_ROUNDS = 15
_PAIRS = 2000  # in a round, several checkpoints of the write-ahead log among them

_LIMITS, _LEASES, _WAITERS = 10_000, 1_000, 500
# The leases fill so many of the limits, and the waiters stand in their queues.
_FULL = 100
_WAITING_PROCESSES = 2


def seconds_each(pair: Callable[[], None], pairs: int) -> float:
    """Return how long one of `pairs` pairs took."""
    began = time.perf_counter()
    for _ in range(pairs):
        pair()
    return (time.perf_counter() - began) / pairs


def pair_of(limiter: Limiter, name: str) -> Callable[[], None]:
    """Return what enters and leaves a `with` block over one slot of a limit."""

    def pair() -> None:
        with limiter.concurrency(name):
            pass

    return pair


def floor_seconds(path: str, pairs: int = _PAIRS, rounds: int = 5) -> float:
    """Return the least time of a pair at the floor, for the figures that are multiples of it."""
    Floor.make(path)
    floor = Floor(path)
    try:
        return min(seconds_each(floor.pair, pairs) for _ in range(rounds))
    finally:
        floor.close()


def alone(setting: Setting) -> Iterable[Row]:
    """Acquire + release, nobody else there."""
    Floor.make(setting.path("floor.db"))
    floor = Floor(setting.path("floor.db"))
    with Limiter(setting.path("localgcl.db")) as limiter:
        limiter.create("alone", 1)
        pair = pair_of(limiter, "alone")
        pairs = setting.count(_PAIRS)
        found = compare(
            functools.partial(seconds_each, pair, pairs),
            functools.partial(seconds_each, floor.pair, pairs),
            _ROUNDS,
        )
    floor.close()
    yield Row(
        "acquire + release, nobody else there",
        micros(found.measured),
        micros(found.floor),
        times(found.ratio),
        "≤ 1.5 ×",
        found.ratio <= 1.5,
    )


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
                _until(lambda: len(limiter.waiters()) == _WAITERS)
                assert len(limiter.holders()) == _LEASES
                pairs = setting.count(_PAIRS)
                found = compare(
                    functools.partial(seconds_each, pair_of(limiter, "own"), pairs),
                    functools.partial(seconds_each, pair_of(empty, "own"), pairs),
                    _ROUNDS,
                )
                assert len(limiter.waiters()) == _WAITERS
    yield Row(
        f"acquire + release, {_LIMITS:,} limits, {_LEASES:,} leases, {_WAITERS} waiting",
        micros(found.measured),
        f"{micros(found.floor)} empty",
        times(found.ratio),
        "≤ 1.3 ×",
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
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # each thread has an ear and a watch
    limiter = Limiter(path)
    for index in range(first, first + count):
        name = f"other-{index % _FULL}"
        threading.Thread(target=limiter.acquire, args=(name,), daemon=True).start()
    line.meet()


def _until(condition: Callable[[], bool], patience_seconds: float = 30.0) -> None:
    for _ in _moments(patience_seconds):
        if condition():
            return
    raise TimeoutError("what the benchmark waits for did not come about")


def _moments(seconds: float) -> Iterator[None]:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        yield
        time.sleep(0.05)
