"""What is measured along the curves, each beside a database that is all but empty."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from localgcl import Limiter
from localgcl._drivers import departure
from localgcl._storage.database import Transaction
from tests.benchmarks.curves.crowds import ONE, Queue, with_leases, with_limits
from tests.benchmarks.figures import Comparison, Setting, compare, progress
from tests.benchmarks.handover import gaps, take_turns
from tests.benchmarks.pairs import pair_of, seconds_each
from tests.benchmarks.rush import RUSH, localgcl_pairs
from tests.benchmarks.team import together

_LIMITS = (1, 10, 100, 1_000, 10_000, 100_000)
_LEASES = (0, 10, 100, 1_000, 10_000)
_WAITERS = (0, 10, 100, 1_000, 2_000)
_PROCESSES = (1, 2, 4, 8, 16, 32, 64)

_ROUNDS = 21
_ROUNDS_TOGETHER = 5  # where processes are started for each
_PAIRS = 500
_VISITS = 50
_SECONDS = 0.4
HANDING = 8  # processes that hand the slot round, where they are not what is varied

PAIR, HAND_OVER, VISIT = "pair", "hand-over", "visit"


@dataclass
class Point:
    """One value of what is varied; `figures` are seconds, beside those of the smallest value."""

    value: int
    figures: dict[str, Comparison] = field(default_factory=dict)
    bytes: int = 0


@dataclass(frozen=True)
class Curve:
    """What is varied, in words, one of it, and what came of it."""

    name: str
    one: str
    points: list[Point]


def curves(setting: Setting) -> list[Curve]:
    """Measure all of it."""
    found = []
    for name, (one, measure, values) in _CURVES.items():
        points = []
        for value in values:
            progress(f"{value:,} {name}")
            points.append(measure(setting, value))
        found.append(Curve(name, one, points))
    return found


def _empty(setting: Setting) -> str:
    path = setting.path("empty.db")
    with Limiter(path) as limiter:
        limiter.upsert(ONE, 1)
    return path


def _limits(setting: Setting, value: int) -> Point:
    path = setting.path(f"limits-{value}.db")
    with with_limits(path, value):
        return _point(setting, path, value)


def _leases(setting: Setting, value: int) -> Point:
    path = setting.path(f"leases-{value}.db")
    with with_leases(path, value):
        return _point(setting, path, value)


def _point(setting: Setting, path: str, value: int) -> Point:
    empty, point = _empty(setting), Point(value, bytes=bytes_of(path))
    _compare(point, PAIR, functools.partial(_pair, setting), path, empty)
    _compare(point, VISIT, functools.partial(_visit, setting), path, empty)
    _compare(point, HAND_OVER, functools.partial(_hand_over, setting), path, empty)
    return point


def _compare(
    point: Point,
    figure: str,
    measure: Callable[[str], float],
    path: str,
    empty: str,
) -> None:
    point.figures[figure] = compare(
        functools.partial(measure, path),
        functools.partial(measure, empty),
        _ROUNDS_TOGETHER if figure == HAND_OVER else _ROUNDS,
    )


def _waiters(setting: Setting, value: int) -> Point:
    path, empty = setting.path(f"waiters-{value}.db"), _empty(setting)
    few = setting.path(f"waiters-{value}-few.db")
    with Queue(path, value) as queue, Queue(few, HANDING) as short:
        point = Point(value, bytes=bytes_of(path))
        _compare(point, PAIR, functools.partial(_pair, setting), path, empty)
        _compare(point, VISIT, functools.partial(_visit, setting), path, empty)
        if value > 1:
            point.figures[HAND_OVER] = compare(queue.hand_over, short.hand_over, _ROUNDS_TOGETHER)
    return point


def _processes(setting: Setting, value: int) -> Point:
    path = setting.path(f"processes-{value}.db")
    empty = _empty(setting)
    for database in (path, empty):
        with Limiter(database) as limiter:
            limiter.upsert(ONE, 1)
            limiter.upsert(RUSH, value)
    seconds = _SECONDS * setting.scale

    def pair(path: str, processes: int) -> float:
        found = together(localgcl_pairs, [(path, seconds)] * processes)
        return seconds / sum(count for count, _ in found)

    point = Point(value)
    point.figures[PAIR] = compare(
        lambda: pair(path, value), lambda: pair(empty, 1), _ROUNDS_TOGETHER
    )
    if value > 1:
        point.figures[HAND_OVER] = compare(
            functools.partial(_hand_over, setting, path, value),
            functools.partial(_hand_over, setting, empty, 2),
            _ROUNDS_TOGETHER,
        )
    point.bytes = bytes_of(path)
    return point


def _pair(setting: Setting, path: str) -> float:
    with Limiter(path) as limiter:
        pair = pair_of(limiter, ONE)
        pair()
        return seconds_each(pair, setting.count(_PAIRS))


def _visit(setting: Setting, path: str) -> float:
    """Seconds in which a process signs in, takes a slot and frees it, and signs out."""
    with Limiter(path) as limiter:

        def visit() -> None:
            limiter.acquire(ONE).release()
            departure.depart(limiter._database, if_idle=False)

        visit()
        return seconds_each(visit, setting.count(_VISITS))


def _hand_over(setting: Setting, path: str, processes: int = HANDING) -> float:
    found = together(take_turns, [(path, _SECONDS * setting.scale)] * processes)
    return statistics.median(gaps(found))


def bytes_of(path: str) -> int:
    """Return the size of a database once its write-ahead log is in it."""
    with Limiter(path) as limiter:

        def size(tx: Transaction) -> int:
            ((pages,),) = tx.execute("PRAGMA page_count").fetchall()
            ((page,),) = tx.execute("PRAGMA page_size").fetchall()
            return int(pages * page)

        return limiter._database.transact(size)


_CURVES: dict[str, tuple[str, Callable[[Setting, int], Point], tuple[int, ...]]] = {
    "limits": ("limit", _limits, _LIMITS),
    "leases": ("lease", _leases, _LEASES),
    "waiters": ("waiter", _waiters, _WAITERS),
    "processes": ("process", _processes, _PROCESSES),
}
