"""Many processes at once: how many pairs they get through, and how long the unluckiest waits."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from localgcl import Limiter
from tests.benchmarks.figures import Row, Setting, compare, millis, times
from tests.benchmarks.floor import Floor
from tests.benchmarks.team import Line, now, together

# How long a round is, and how many there are. Of the throughput many short ones: what else the
# machine does reaches into few of them. The longest wait of a second is hardly more than it.
_SHORT, _SHORT_ROUNDS = 1.0, 13
_LONG, _LONG_ROUNDS = 2.0, 5
_WARM_UP = 20
RUSH = "rush"
_PLENTY = 1_000_000  # slots, so that nobody waits for one

# What one process found: its number of pairs, and its longest wait.
Found = tuple[int, float]


def localgcl_pairs(line: Line, path: str, seconds: float) -> Found:
    """Acquire and release for so long; the wait is that of an acquire."""
    limiter = Limiter(path)

    def pair() -> float:
        began = now()
        lease = limiter.acquire(RUSH)
        waited = now() - began
        lease.release()
        return waited

    return _count(line, pair, seconds)


def floor_pairs(line: Line, path: str, seconds: float) -> Found:
    """The same at the floor."""
    floor = Floor(path)

    def pair() -> float:
        began = now()
        lease = floor.acquire()
        waited = now() - began
        floor.release(*lease)
        return waited

    return _count(line, pair, seconds)


def _count(line: Line, pair: Callable[[], float], seconds: float) -> Found:
    for _ in range(_WARM_UP):
        pair()
    ends = line.meet() + seconds
    count, longest = 0, 0.0
    while True:
        longest = max(longest, pair())
        if now() > ends:  # it was longer under way than the others count
            return count, longest
        count += 1


class _Both:
    """The two databases, and rounds of `processes` processes on either."""

    def __init__(self, setting: Setting, processes: int, seconds: float) -> None:
        self._floor = setting.path("floor.db")
        self._localgcl = setting.path("localgcl.db")
        self._processes = processes
        self._seconds = seconds * setting.scale
        Floor.make(self._floor)
        with Limiter(self._localgcl) as limiter:
            limiter.create(RUSH, _PLENTY)

    def floor(self) -> list[Found]:
        return together(floor_pairs, [(self._floor, self._seconds)] * self._processes)

    def localgcl(self) -> list[Found]:
        return together(localgcl_pairs, [(self._localgcl, self._seconds)] * self._processes)

    def per_second(self, round_: Callable[[], list[Found]]) -> float:
        return sum(count for count, _ in round_()) / self._seconds

    def longest(self, round_: Callable[[], list[Found]]) -> float:
        return max(wait for _, wait in round_())


def throughput(setting: Setting) -> Iterable[Row]:
    """Pairs per second, 8 processes at once."""
    both = _Both(setting, 8, _SHORT)
    found = compare(
        functools.partial(both.per_second, both.localgcl),
        functools.partial(both.per_second, both.floor),
        _SHORT_ROUNDS,
    )
    yield Row(
        "pairs per second, 8 processes at once",
        f"{found.measured:,.0f}/s",
        f"{found.floor:,.0f}/s",
        times(found.ratio),
        "≥ 0.6x",
        found.ratio >= 0.6,
    )


def longest(setting: Setting) -> Iterable[Row]:
    """Longest acquire, 16 processes at once."""
    both = _Both(setting, 16, _LONG)
    found = compare(
        functools.partial(both.longest, both.localgcl),
        functools.partial(both.longest, both.floor),
        _LONG_ROUNDS,
    )
    yield Row(
        "longest acquire, 16 processes at once",
        millis(found.measured),
        millis(found.floor),
        times(found.ratio),
        "≤ 0.25x",
        found.ratio <= 0.25,
    )
