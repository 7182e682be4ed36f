"""What limits by other rules cost beside a plain one: keys, several limits, windows, groups."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterable

from localgcl import Limiter
from tests.benchmarks.figures import NONE, Row, Setting, compare, micros, times
from tests.benchmarks.pairs import PAIRS, ROUNDS, pair_of, seconds_each
from tests.benchmarks.rate import Found, call
from tests.benchmarks.team import Line, now, together

_WINDOW_SLOTS, _WINDOW_SECONDS, _SECONDS = 100, 1.0, 5.0
_PROCESSES = 8
_GROUPS, _JOBS_OF_EACH, _JOB_SECONDS, _GROUPS_SECONDS = 4, 4, 0.4, 1.9


def beside_a_plain_one(setting: Setting) -> Iterable[Row]:
    """A key of a template, two limits, a slot with a window: each beside a plain pair."""
    pairs = setting.count(PAIRS)
    with Limiter(setting.path("localgcl.db")) as limiter:
        limiter.create("plain", 1)
        limiter.create("other", 1)
        limiter.create("customer:*", 1)
        limiter.create("window", 2**40, window_seconds=0.01)
        numbers = itertools.count()

        def key() -> None:
            with limiter.concurrency(f"customer:{next(numbers)}"):
                pass

        def two() -> None:
            with limiter.concurrency(["plain", "other"]):
                pass

        compared: list[tuple[str, Callable[[], None], float]] = [
            ("acquire + release of a key, another one each time", key, 2.0),
            ("acquire + release of two limits", two, 1.8),
            ("acquire + release, by a limit with a window", pair_of(limiter, "window"), 1.5),
        ]
        plain = pair_of(limiter, "plain")
        for figure, pair, most in compared:
            found = compare(
                functools.partial(seconds_each, pair, pairs),
                functools.partial(seconds_each, plain, pairs),
                ROUNDS,
            )
            yield Row(
                figure,
                micros(found.measured),
                f"{micros(found.floor)} plain",
                times(found.ratio),
                f"≤ {most:g}x",
                found.ratio <= most,
            )


def windows(setting: Setting) -> Iterable[Row]:
    """Eight processes over a window: how much of it they get, and the fullest stretch."""
    seconds = max(2 * _WINDOW_SECONDS, _SECONDS * setting.scale)
    path = setting.path("localgcl.db")
    with Limiter(path) as limiter:
        limiter.create("window", _WINDOW_SLOTS, window_seconds=_WINDOW_SECONDS)
    found = together(call, [(path, "window", seconds)] * _PROCESSES)
    share, fullest = _share_of(found, seconds), _fullest_of(found)
    yield Row(
        f"window: {_PROCESSES} processes, {_WINDOW_SLOTS} in any {_WINDOW_SECONDS:.0f} s,"
        f" {seconds:.0f} s",
        f"{share:.2%} (surely {fullest} at most)",
        NONE,
        NONE,
        "≥ 98 %, never more",
        share >= 0.98 and fullest <= _WINDOW_SLOTS,
    )


def _share_of(found: Found, seconds: float) -> float:
    """Return what was admitted, as a part of what all windows that began allow."""
    every = [admission for admissions in found for admission in admissions]
    ends = min(asked for asked, _ in every) + seconds
    began = int(seconds / _WINDOW_SECONDS)
    return sum(after <= ends for _, after in every) / (_WINDOW_SLOTS * began)


def _fullest_of(found: Found) -> int:
    """Return the most that surely lie in one window, call and return."""
    every = [admission for admissions in found for admission in admissions]
    return max(
        sum(begins <= asked and after < begins + _WINDOW_SECONDS for asked, after in every)
        for begins, _ in every
    )


def job(line: Line, path: str, group: int) -> tuple[float, float]:
    """Do one job of a group; return when it asked, and when it was done."""
    limiter = Limiter(path)
    began = line.meet()
    with limiter.concurrency([f"group {group}", "all"]):
        time.sleep(_JOB_SECONDS)
    return began, now()


def groups(setting: Setting) -> Iterable[Row]:
    """Four groups of one slot under a total of four: no queue keeps the others from theirs."""
    path = setting.path("localgcl.db")
    with Limiter(path) as limiter:
        limiter.create("all", _GROUPS)
        for group in range(_GROUPS):
            limiter.create(f"group {group}", 1)
    jobs = [(path, group) for group in range(_GROUPS) for _ in range(_JOBS_OF_EACH)]
    found = together(job, jobs)
    took = max(done for _, done in found) - min(began for began, _ in found)
    least = _JOBS_OF_EACH * _JOB_SECONDS
    yield Row(
        f"{_GROUPS} groups of limit 1 under a total of {_GROUPS}, {len(jobs)} jobs of"
        f" {_JOB_SECONDS:.1f} s",
        f"{took:.2f} s",
        f"{least:.2f} s asleep",
        times(took / least),
        f"≤ {_GROUPS_SECONDS:.1f} s",
        took <= _GROUPS_SECONDS,
    )
