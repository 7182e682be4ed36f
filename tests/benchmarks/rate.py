"""The rate: how much of it processes get, and whether any window ever gets more."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable

from localgcl import Limiter
from tests.benchmarks.figures import NONE, Row, Setting
from tests.benchmarks.team import Line, now, together

_PROCESSES = 8
_RATE = 200.0
_SECONDS = 5.0
# Processes and slots. One alone asks only after it was let in: of its calls most is certain.
_LEGS = ((8, 1), (8, 10), (1, 1))
# A process may read the clock so late, or as late as one that only sleeps does in the same run.
_LATE_SECONDS = 0.025

# One admission: the moment just before the call, and the one just after it.
Admission = tuple[float, float]
# Those of each process.
Found = list[list[Admission]]


def call(line: Line, path: str, name: str, seconds: float) -> list[Admission]:
    """Call `rate_limit` as often as it lets us, and return when it did."""
    limiter = Limiter(path)
    return call_until(line, functools.partial(limiter.rate_limit, name), seconds)


def call_until(line: Line, limited: Callable[[], object], seconds: float) -> list[Admission]:
    """Call what is limited again and again, and return when it let us."""
    admissions: list[Admission] = []
    ends = line.meet() + seconds
    while True:
        asked = now()
        if asked >= ends:
            return admissions
        limited()
        admissions.append((asked, now()))


def sleep(line: Line, index: int, seconds: float) -> list[Admission]:
    """Wake at every eighth moment of the rate: what sleeping alone makes of it."""
    admissions: list[Admission] = []
    begins = line.meet()
    moment = begins + index / _RATE
    while moment < begins + seconds:
        asked = now()
        time.sleep(max(0.0, moment - asked))
        admissions.append((asked, now()))
        moment += _PROCESSES / _RATE
    return admissions


def rates(setting: Setting) -> Iterable[Row]:
    """Eight processes, and one, at 200/s: what is delivered, and the worst window."""
    seconds = _SECONDS * setting.scale
    path = setting.path("localgcl.db")
    slept = together(sleep, [(index, seconds) for index in range(_PROCESSES)])
    share, excess = share_of(slept, 1, _RATE, seconds), excess_of(slept, 1, _RATE)
    floor = f"{share:.2%} (+{excess:.1f}) asleep"
    allowed = max(_RATE * _LATE_SECONDS, excess)
    for processes, limit in _LEGS:
        who = f"{processes} processes" if processes > 1 else "one process"
        name = f"rate-{limit}-of-{processes}"
        with Limiter(path) as limiter:
            limiter.create(name, limit, slot_decay_per_second=_RATE)
        found = together(call, [(path, name, seconds)] * processes)
        share, excess = share_of(found, limit, _RATE, seconds), excess_of(found, limit, _RATE)
        kept = excess <= allowed and certain_excess_of(found, limit, _RATE) <= 0
        yield Row(
            f"rate: {who}, {_RATE:.0f}/s, limit {limit}, {seconds:.0f} s",
            f"{share:.2%} (+{excess:.1f})",
            floor,
            NONE,
            "99 to 100 %",
            0.99 <= share <= 1 and kept,
        )


def share_of(found: Found, limit: int, rate: float, seconds: float) -> float:
    """Return what was admitted after the first burst, as a part of what the rate allows.

    All is counted from just before the first call, and a reading is never earlier than what it
    reads: not by any delay can this come out above 1 where the rate was kept.
    """
    every = [admission for admissions in found for admission in admissions]
    ends = min(asked for asked, _ in every) + seconds
    return (sum(after <= ends for _, after in every) - limit) / (rate * seconds)


def excess_of(found: Found, limit: int, rate: float) -> float:
    """Return how many slots above `n + r * T` the worst window has, by the readings.

    A reading is as late as its process is given the processor; a late one at the beginning of a
    window makes it look shorter than it was, and that much excess is nobody's fault.
    """
    worst, least = 0.0, 0.0
    readings = sorted(after for admissions in found for _, after in admissions)
    for index, reading in enumerate(readings):
        due = index - rate * (reading - readings[0])
        least = min(least, due)
        worst = max(worst, due + 1 - least - limit)
    return worst


def certain_excess_of(found: Found, limit: int, rate: float) -> float:
    """Return the same over what certainly lies inside a window, call and return: no delay adds."""
    every = sorted((after, asked) for admissions in found for asked, after in admissions)
    worst = 0.0
    for _, begins in every:
        inside = 0
        for after, asked in every:
            if asked >= begins:
                inside += 1
                worst = max(worst, inside - rate * (after - begins) - limit)
    return worst
