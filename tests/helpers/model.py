"""What limits, leases and waiters come to: a model without SQL, to which the code is compared."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

NAMES = ("a", "b", "c")
# A grant may be made so much ahead of its moment, for the waiter to sleep out the rest.
AHEAD = 0.025
DUST = 1e-9


@dataclass
class Part:
    """What one lease holds of one limit."""

    slots: int
    owner: int
    lost: float  # what decay has freed of it by `since`
    since: float


@dataclass
class Pool:
    """A limit."""

    name: str
    slots: int
    decay: float
    active: bool
    level: float
    level_at: float
    by_hand: int = 0
    parts: dict[str, Part] = field(default_factory=dict)
    excused: float = 0.0  # in use beyond the limit by an operator's doing
    by_rate: dict[str, tuple[float, int]] = field(default_factory=dict)

    @property
    def used(self) -> int:
        """The slots that rows stand for."""
        return self.by_hand + sum(part.slots for part in self.parts.values())

    def level_then(self, moment: float) -> float:
        """The level at a moment."""
        return max(0.0, self.level - self.decay * max(0.0, moment - self.level_at))

    def in_use(self, now: float) -> float:
        """The slots in use."""
        return self.level_then(now) if self.decay else self.used

    def moment(self, slots: int, now: float) -> float:
        """When so many more fit, as far as time alone brings it about."""
        if not self.active:
            return now
        if not self.decay:
            return now if self.used + slots <= self.slots else math.inf
        ahead = self.level_at - now
        if ahead > 0 and self.level + self.decay * ahead + slots <= self.slots + DUST:
            return now
        at = max(now, self.level_at)
        excess = self.level_then(at) + slots - self.slots
        return at if excess <= DUST else at + excess / self.decay

    def lower(self, slots: float, since: float, now: float) -> None:
        """Give back to the level what of these slots has not decayed since."""
        at = max(now, self.level_at)  # a level may lie a moment ahead
        left = max(0.0, slots - self.decay * max(0.0, at - since))
        self.level, self.level_at = max(0.0, self.level_then(at) - left), at

    def free(self, lease: str, now: float) -> bool:
        """Free what a lease holds here: what decay has not freed before."""
        part = self.parts.pop(lease, None)
        if part is None:
            return False
        if self.decay:
            self.lower(part.slots - part.lost, part.since, now)
        return True

    def turn(self, rate: float, now: float) -> None:
        """Change the rate of decay."""
        if rate == self.decay:
            return
        for part in self.parts.values():
            part.lost += self.decay * max(0.0, now - part.since)
            part.since = now
            if not self.decay:
                part.lost = 0.0
        if not self.decay:
            self.level, self.level_at, self.by_hand = float(self.used), now, 0
        elif rate:
            at = max(now, self.level_at)
            self.level, self.level_at = self.level_then(at), at
        else:
            self.level, self.level_at = 0.0, now
        self.decay = rate

    def set_slots(self, slots: int, now: float) -> None:
        """Put slots that nobody holds in place of all leases."""
        self.parts.clear()
        self.by_hand = 0 if self.decay else slots
        self.level, self.level_at = float(slots) if self.decay else 0.0, now

    def forget_rate(self, now: float) -> None:
        """Excuse what an operator has brought about."""
        self.excused = self.in_use(now)
        self.by_rate.clear()


@dataclass(eq=False)
class Place:
    """A request in the queue."""

    id: str
    owner: int
    pools: list[Pool]
    slots: int
    holds: bool
    strict: bool
    missing: list[str]
    taken: int = 0  # from how many limits, once it was granted

    @property
    def active(self) -> list[Pool]:
        """The limits that count for it now."""
        return [pool for pool in self.pools if pool.active]

    def moment(self, now: float) -> float:
        """When it fits everywhere."""
        return max([now, *(pool.moment(self.slots, now) for pool in self.active)])

    @property
    def refusal(self) -> tuple[str, set[str]] | None:
        """Why no wait could help."""
        over = {pool.name for pool in self.active if self.slots > pool.slots}
        if over:
            return "over_limit", over
        plain = {pool.name for pool in self.active if not pool.decay}
        if plain and not self.holds:
            return "no_decay", plain
        return None


class Model:
    """The limits and the queue, and the rules by which slots are granted."""

    def __init__(self) -> None:
        self.pools: dict[str, Pool] = {}
        self.queue: list[Place] = []

    def in_turn(self, place: Place) -> bool:
        """Whether nobody older stands before it anywhere."""
        older = self.queue[: self.queue.index(place)]
        wanted = {id(pool) for pool in place.active}
        return not any(id(pool) in wanted for other in older for pool in other.pools)

    def may_be_granted(self, place: Place, now: float) -> bool:
        """Whether it is its turn and its moment."""
        return self.in_turn(place) and place.moment(now) <= now + AHEAD

    def grant(self, place: Place, at: float) -> None:
        """Take its slots, all at one moment."""
        place.taken = len(place.active)
        for pool in place.active:
            if pool.decay:
                then = max(at, pool.level_at)
                pool.level, pool.level_at = pool.level_then(then) + place.slots, then
            if place.holds:
                pool.parts[place.id] = Part(place.slots, place.owner, 0.0, at)
            else:
                pool.by_rate[place.id] = (at, place.slots)
        self.queue.remove(place)

    def reap(self, owner: int, now: float) -> None:
        """Free what an owner holds, and take it out of the queue."""
        self.queue[:] = [place for place in self.queue if place.owner != owner]
        for pool in self.pools.values():
            for lease in [one for one, part in pool.parts.items() if part.owner == owner]:
                pool.free(lease, now)

    def left_out(self, now: float, *, by_time: bool) -> list[str]:
        """Return who could be served or refused right now; without `by_time` by events alone."""
        served: list[str] = []
        again = True
        while again:
            again = False
            for place in list(self.queue):
                if not by_time and any(pool.decay for pool in place.active):
                    continue
                if place.refusal is not None:
                    self.queue.remove(place)
                elif self.may_be_granted(place, now):
                    self.grant(place, place.moment(now))
                else:
                    continue
                served.append(place.id)
                again = True
        return served
