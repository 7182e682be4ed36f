"""The arithmetic of levels: how full a decaying limit is, and when it has room again.

A limit with decay `rate` (slots per second) keeps a `level` (slots in use, a float) and the moment
`then` at which that level was true. The level sinks at the rate until it is zero. This is the
"leaky bucket as a meter" (https://en.wikipedia.org/wiki/Leaky_bucket#As_a_meter). It equals GCRA
with an emission interval of `1 / rate`. Nothing is rounded. All times are seconds on one clock.

`then` may lie a moment ahead of now, because slots can be granted for a moment that is about to
come (see `HORIZON_SECONDS`). Until that moment, the level counts as if it had come already.
"""

from __future__ import annotations

import math

# Sums of floats are off in their last bits. Slots are whole, so a difference this small is never a
# slot.
DUST = 1e-9

# A waiter may be granted its slot this long before the slot's moment. It sleeps until that moment.
# A process that wakes a little late loses a little of its own time, and the rate loses nothing. A
# busy machine wakes a process 10 to 20 ms late.
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
        return now  # it fits even on top of what has yet to decay until `then`
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
