"""Acquire + release by one process that is alone."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Iterable

from localgcl import Limiter
from localgcl._storage.schema import PAGE_SIZE
from tests.benchmarks.figures import NONE, Row, Setting, compare, micros, times
from tests.benchmarks.floor import Floor

ROUNDS = 15
PAIRS = 2000  # in a round, several checkpoints of the write-ahead log among them


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


def floor_seconds(setting: Setting) -> float:
    """Return the median time of a pair at the floor, for the figures that are multiples of it."""
    path = setting.path("floor.db")
    Floor.make(path)
    floor = Floor(path)
    try:
        return statistics.median(seconds_each(floor.pair, setting.count(PAIRS)) for _ in range(5))
    finally:
        floor.close()


def alone(setting: Setting) -> Iterable[Row]:
    """Acquire + release, nobody else there."""
    Floor.make(setting.path("floor.db"))
    floor = Floor(setting.path("floor.db"))
    Floor.make(setting.path("small.db"), page_size=PAGE_SIZE)
    small = Floor(setting.path("small.db"))
    with Limiter(setting.path("localgcl.db")) as limiter:
        limiter.create("alone", 1)
        pair = pair_of(limiter, "alone")
        pairs = setting.count(PAIRS)
        found = compare(
            functools.partial(seconds_each, pair, pairs),
            functools.partial(seconds_each, floor.pair, pairs),
            ROUNDS,
        )
    of_floors = compare(
        functools.partial(seconds_each, small.pair, pairs),
        functools.partial(seconds_each, floor.pair, pairs),
        ROUNDS,
    )
    floor.close()
    small.close()
    yield Row(
        "acquire + release, nobody else there",
        micros(found.measured),
        micros(found.floor),
        times(found.ratio),
        "≤ 1.5x",
        found.ratio <= 1.5,
    )
    yield Row(
        f"the floor itself, with localgcl's pages of {PAGE_SIZE} bytes",
        micros(of_floors.measured),
        micros(of_floors.floor),
        times(of_floors.ratio),
        NONE,
        True,
    )
