"""The arithmetic of levels: how full a decaying limit is, and when it has room again.

A limit with decay `rate` (slots per second) keeps a `level` (slots in use, a float) and the moment
`then` at which that was true. The level sinks at the rate until it is empty, which makes it the
"leaky bucket as a meter" (https://en.wikipedia.org/wiki/Leaky_bucket#As_a_meter) and equal to GCRA
with an emission interval of `1 / rate`. Nothing is rounded. All times are seconds on one clock.

`then` may lie a moment ahead of now: slots can be granted for a moment that is about to come (see
`HORIZON_SECONDS`), and until then the level counts as if it had come.
"""

from __future__ import annotations

import math

# Sums of floats are off by their last bits; slots are whole, so this much is never a slot.
DUST = 1e-9

# A waiter's slot may be granted this much ahead of its moment; the waiter sleeps out the rest. A
# process that wakes a little late thereby costs itself a little time, and the rate nothing; a busy
# machine wakes a process 10 to 20 ms late.
HORIZON_SECONDS = 0.025


def level_at(level: float, then: float, rate: float, now: float) -> float:
    """Return the slots still in use at `now`.

    >>> level_at(level=5.0, then=100.0, rate=2.0, now=101.5)
    2.0
    """
    return max(0.0, level - rate * max(0.0, now - then))


def moment(level: float, then: float, rate: float, limit: int, slots: int, now: float) -> float:
    """Return the first moment, `now` or later, at which `slots` more fit under `limit`.

    >>> moment(level=5.0, then=100.0, rate=2.0, limit=5, slots=1, now=100.1)
    100.5
    """
    ahead = then - now
    if ahead > 0 and level + rate * ahead + slots <= limit + DUST:
        return now  # even if all that is in use then were in use already
    at = max(now, then)
    excess = level_at(level, then, rate, at) + slots - limit
    if excess <= DUST:
        return at
    if rate < 0:
        raise ValueError(f"a decay of {rate} slots per second")
    return at + excess / rate


def given_back(slots: int, rate: float, held_seconds: float) -> float:
    """Return how many of a holder's `slots` have not decayed while it held them.

    >>> given_back(slots=5, rate=1.0, held_seconds=2.0)
    3.0
    """
    return max(0.0, slots - rate * max(0.0, held_seconds))


def whole(level: float) -> int:
    """Return the level as whole slots in use, rounded up.

    >>> whole(1.2), whole(1.0 + 1e-12)
    (2, 1)
    """
    return math.ceil(level - DUST)
