"""What it costs to wait: the processor time of a hundred blocked waiters."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from localgcl import Limiter
from tests.benchmarks.figures import NONE, Row, Setting
from tests.benchmarks.team import Line, Team

_PROCESSES, _THREADS = 10, 10
_WAITERS = _PROCESSES * _THREADS
_SETTLE_SECONDS = 2.0
_SECONDS = 6.0


def hold(line: Line, path: str, names: list[str]) -> None:
    """Hold a slot of each until the end."""
    limiter = Limiter(path)
    for name in names:
        limiter.acquire(name)
    line.meet()


def wait(line: Line, path: str, names: list[str]) -> float:
    """Have a thread wait for each of the names; return what that takes between two meetings."""
    limiter = Limiter(path)
    for name in names:
        threading.Thread(target=limiter.acquire, args=(name,), daemon=True).start()
    line.meet()
    # Of all threads, to the nanosecond, where /proc counts in ticks of a hundredth of a second.
    began = time.process_time()
    line.meet()
    return time.process_time() - began


def idle(setting: Setting) -> Iterable[Row]:
    """A hundred blocked waiters, in one queue and in a queue each."""
    for title, limits in (("in one queue", 1), ("in a queue each", _WAITERS)):
        path = setting.path(f"{limits}.db")
        names = [f"full-{index}" for index in range(limits)]
        with Limiter(path) as limiter:
            for name in names:
                limiter.create(name, 1)
            with Team(hold, [(path, names)]) as holders:
                holders.meet()
                used = _used(limiter, _shares(path, names), _SECONDS * setting.scale)
        yield Row(
            f"{_WAITERS} blocked waiters {title}, together",
            f"{used:.2%} of a core",
            NONE,
            NONE,
            "< 1 %",
            used < 0.01,
        )


def _used(limiter: Limiter, shares: list[tuple[str, list[str]]], seconds: float) -> float:
    """Return which part of a core the waiters use."""
    with Team(wait, shares) as team:
        while len(limiter.waiters()) < _WAITERS:
            time.sleep(0.05)
        time.sleep(_SETTLE_SECONDS)
        began = team.meet()
        time.sleep(seconds)
        ended = team.meet()
        return sum(team.results()) / (ended - began)


def _shares(path: str, names: list[str]) -> list[tuple[str, list[str]]]:
    asked = [names[index % len(names)] for index in range(_WAITERS)]
    return [(path, asked[index::_PROCESSES]) for index in range(_PROCESSES)]
