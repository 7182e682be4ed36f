"""The rate: how much of it eight processes get, and whether any window ever gets more."""

from __future__ import annotations

import time
from collections.abc import Iterable

from localgcl import Limiter
from tests.benchmarks.figures import NONE, Row, Setting
from tests.benchmarks.team import Line, now, together

_PROCESSES = 8
_RATE = 200.0
_SECONDS = 5.0
_LIMITS = (1, 10)

# One admission: the moment just before the call, and the one just after it.
Admission = tuple[float, float]


def call(line: Line, path: str, name: str, seconds: float) -> list[Admission]:
    """Call `rate_limit` as often as it lets us, and return when it did."""
    limiter = Limiter(path)
    admissions: list[Admission] = []
    ends = line.meet() + seconds
    while True:
        asked = now()
        if asked >= ends:
            return admissions
        limiter.rate_limit(name)
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


def rate(setting: Setting) -> Iterable[Row]:
    """Eight processes at 200/s: what is delivered, and the worst window."""
    seconds = _SECONDS * setting.scale
    path = setting.path("localgcl.db")
    slept = together(sleep, [(index, seconds) for index in range(_PROCESSES)])
    share, excess = _share(slept, 1, seconds), _excess(slept, 1)
    floor = f"{share:.2%} (+{excess:.1f}) asleep"
    for limit in _LIMITS:
        name = f"rate-{limit}"
        with Limiter(path) as limiter:
            limiter.create(name, limit, slot_decay_per_second=_RATE)
        found = together(call, [(path, name, seconds)] * _PROCESSES)
        share, excess = _share(found, limit, seconds), _excess(found, limit)
        strict = _certain_excess(found, limit)
        yield Row(
            f"rate: {_PROCESSES} processes, {_RATE:.0f}/s, limit {limit}, {seconds:.0f} s",
            f"{share:.2%} (+{excess:.1f})",
            floor,
            NONE,
            "99 to 100 %",
            0.99 <= share <= 1 and strict <= 0,
        )


def _share(found: list[list[Admission]], limit: int, seconds: float) -> float:
    raise NotImplementedError


def _excess(found: list[list[Admission]], limit: int) -> float:
    raise NotImplementedError


def _certain_excess(found: list[list[Admission]], limit: int) -> float:
    raise NotImplementedError
