"""From one process to the next: a release, and the death of a holder."""

from __future__ import annotations

import itertools
import os
import random
import signal
import statistics
import time
from collections.abc import Iterable
from multiprocessing.connection import wait

from localgcl import Limiter
from tests.benchmarks.figures import Row, Setting, micros, millis, times
from tests.benchmarks.pairs import floor_seconds
from tests.benchmarks.team import Line, Team, now, together

_PROCESSES = 8
_SECONDS = 1.0
_ROUNDS = 7  # a burst of what else the machine does reaches into two or three of them
_LONGEST_HOLD_SECONDS = 0.001
_KILLS = 20
_QUEUE = 3  # who waits while a holder is killed

# One hold: the moment just after entry, and the one just before release.
Hold = tuple[float, float]


def take_turns(line: Line, path: str, seconds: float) -> list[Hold]:
    """Hold the one slot for a moment, again and again, and return when that was."""
    limiter = Limiter(path)
    holds: list[Hold] = []
    ends = line.meet() + seconds
    while now() < ends:
        lease = limiter.acquire("one")
        entered = now()
        time.sleep(random.uniform(0.0, _LONGEST_HOLD_SECONDS))
        holds.append((entered, now()))
        lease.release()
    return holds


def hand_over(setting: Setting) -> Iterable[Row]:
    """From release in one process to entry in another, with a limit of 1."""
    path = setting.path("localgcl.db")
    with Limiter(path) as limiter:
        limiter.create("one", 1)
    medians, floors = [], []
    for _ in range(_ROUNDS):
        floors.append(floor_seconds(setting))
        found = together(take_turns, [(path, _SECONDS * setting.scale)] * _PROCESSES)
        medians.append(statistics.median(gaps(found)))
    measured, floor = statistics.median(medians), statistics.median(floors)
    ratio = statistics.median(m / f for m, f in zip(medians, floors, strict=True))
    yield Row(
        f"hand-over of the only slot among {_PROCESSES} processes, p50",
        micros(measured),
        f"{micros(floor)} a pair",
        times(ratio),
        "≤ 6x",
        ratio <= 6,
    )


def gaps(found: list[list[Hold]]) -> list[float]:
    """Return the times between one process's release and the next one's entry."""
    holds = sorted(
        (entered, left, process) for process, turns in enumerate(found) for entered, left in turns
    )
    gaps = []
    for (_, left, before), (entered, _, after) in itertools.pairwise(holds):
        if entered < left:
            raise AssertionError("two processes held the only slot at once")
        if before != after:
            gaps.append(entered - left)
    return gaps


def hold_until_killed(line: Line, path: str) -> None:
    """Wait for the slot, say when it came, and keep it."""
    limiter = Limiter(path)
    line.say("begins")
    limiter.acquire("one")
    line.say(now())


def killed(setting: Setting) -> Iterable[Row]:
    """From the SIGKILL of a holder to the next one's entry."""
    path = setting.path("localgcl.db")
    limiter = Limiter(path)
    limiter.create("one", 1)
    waits, floors = [], []
    with Team(hold_until_killed, []) as team:
        for _ in range(1 + _QUEUE):
            team.hear(team.start(path))
        team.hear(0)
        for holder in range(setting.count(_KILLS)):
            while len(limiter.waiters("one")) < _QUEUE:
                time.sleep(0.01)
            time.sleep(0.02)  # let them fall asleep
            process = team.processes[holder]
            assert process.pid is not None
            at = now()
            os.kill(process.pid, signal.SIGKILL)
            wait([process.sentinel])
            floors.append(now() - at)
            waits.append(team.hear(holder + 1) - at)
            team.hear(team.start(path))
    limiter.close()
    measured, floor = statistics.median(waits), statistics.median(floors)
    yield Row(
        "a holder is SIGKILLed: until the waiter runs, p50",
        f"{millis(measured)} (longest {millis(max(waits))})",
        f"{millis(floor)} end of process",
        times(measured / floor),
        "≤ 50 ms",
        measured <= 0.05,
    )
