"""What limits, leases and waiters come to: a model without SQL, to which the code is compared."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

NAMES = ("a", "b", "c", "d")
# A grant may be made so much ahead of its moment, for the waiter to sleep out the rest.
AHEAD = 0.025
DUST = 1e-9
# A request that has been overtaken this often is not overtaken again.
MAX_OVERTAKEN = 100


@dataclass
class Part:
    """What one lease holds of one limit."""

    slots: int
    owner: int
    lost: float  # what decay has freed of it by `since`
    since: float
    asked: float = 0.0  # when it was granted


@dataclass
class Pool:
    """A limit."""

    name: str
    slots: int
    decay: float
    active: bool
    level: float
    level_at: float
    id: str = ""
    by_hand: int = 0
    parts: dict[str, Part] = field(default_factory=dict)
    excused: float = 0.0  # in use beyond the limit by an operator's doing
    by_rate: dict[str, tuple[float, int]] = field(default_factory=dict)
    window: float = 0.0
    taken: dict[str, tuple[float, int]] = field(default_factory=dict)  # where there is a window
    paused: float = 0.0
    made: int = 0  # how many rows of `taken` have no lease

    @property
    def used(self) -> int:
        """The slots that rows stand for."""
        return self.by_hand + sum(part.slots for part in self.parts.values())

    def level_then(self, moment: float) -> float:
        """The level at a moment."""
        return max(0.0, self.level - self.decay * max(0.0, moment - self.level_at))

    def in_use(self, now: float) -> float:
        """The slots in use."""
        if self.window:
            return sum(slots for at, slots in self.taken.values() if at <= now < at + self.window)
        return self.level_then(now) if self.decay else self.used

    def in_use_soon(self, now: float) -> float:
        """The slots in use, with those that are granted for a moment ahead."""
        if self.window:
            return sum(slots for at, slots in self.taken.values() if at + self.window > now)
        return self.in_use(now)

    def moment(self, slots: int, now: float) -> float:
        """When so many more fit, as far as time alone brings it about."""
        return max(self._moment(slots, now), self.paused) if self.active else now

    def _moment(self, slots: int, now: float) -> float:
        if self.window:
            back = sorted(
                (at + self.window, taken)
                for at, taken in self.taken.values()
                if at + self.window > now
            )
            excess: float = sum(taken for _, taken in back) + slots - self.slots
            fits_at = now
            for back_at, coming_back in back:
                if excess <= 0:
                    break
                excess -= coming_back
                fits_at = back_at
            return fits_at
        if not self.decay:
            return now if self.used + slots <= self.slots else math.inf
        ahead = self.level_at - now
        if ahead > 0 and self.level + self.decay * ahead + slots <= self.slots + DUST:
            return now
        at = max(now, self.level_at)
        excess = self.level_then(at) + slots - self.slots
        return at if excess <= DUST else at + excess / self.decay

    def take(self, lease: str, slots: int, at: float) -> None:
        """Take slots by time."""
        if self.decay:
            then = max(at, self.level_at)
            self.level, self.level_at = self.level_then(then) + slots, then
        elif self.window:
            self.taken[lease] = (at, slots)

    def take_for_nobody(self, slots: int, now: float) -> None:
        """Take slots of a window for nobody."""
        self.made += 1
        if slots:
            self.taken[f"nobody's {self.made}"] = (now, slots)

    def give_back(self, request: str, now: float) -> None:
        """Give back what a request has taken by rate."""
        if request in self.by_rate:
            at, slots = self.by_rate.pop(request)
            self.taken.pop(request, None)
            if self.decay:
                self.lower(slots, at, now)

    def adjust(self, slots: int, now: float) -> None:
        """Have so many more in use, or fewer, the newest first."""
        if self.decay:
            at = max(now, self.level_at)
            self.level, self.level_at = max(0.0, self.level_then(at) + slots), at
        elif slots > 0:
            self.take_for_nobody(slots, now)
        else:
            left = -slots
            for lease in sorted(self.taken, key=lambda one: self.taken[one][0], reverse=True):
                at, taken = self.taken[lease]
                part = min(left, taken)
                left -= part
                self.taken[lease] = (at, taken - part)
                if part == taken:
                    del self.taken[lease]

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
        self.taken.pop(lease, None)
        if self.decay:
            self.lower(part.slots - part.lost, part.since, now)
        return True

    def turn(self, rate: float, window: float, now: float) -> None:
        """Change the rate of decay or the window, of which one at most is there."""
        if (rate, window) == (self.decay, self.window):
            return
        if window and self.window:
            self.taken = {
                lease: (at, slots)
                for lease, (at, slots) in self.taken.items()
                if at + self.window > now
            }
            self.window = window
            return
        at = max(now, self.level_at) if self.decay else now
        in_use = self.level_then(at) if self.decay else float(self.used)
        if self.window:
            in_use = self.in_use_soon(now)
        left = math.ceil(in_use - DUST)
        parts = sorted(self.parts.items(), key=lambda item: (-item[1].asked, item[0]))
        for lease, part in parts:
            if self.window:  # all of it, or nothing
                counts = lease in self.taken and self.taken[lease][0] + self.window > now
                part.lost = 0.0 if counts else float(part.slots)
            elif self.decay:
                part.lost += self.decay * max(0.0, at - part.since)
            else:
                part.lost = 0.0
            part.since = now
        self.taken.clear()
        self.level, self.level_at = (in_use if rate else 0.0), at
        if rate or window:
            self.by_hand = 0
        self.decay, self.window = rate, window
        if window:
            for lease, part in parts:
                share = min(left, math.ceil(max(0.0, part.slots - part.lost) - DUST))
                left -= share
                if share:
                    self.taken[lease] = (now, share)
            self.take_for_nobody(left, now)

    def set_slots(self, slots: int, now: float) -> None:
        """Put slots that nobody holds in place of all leases."""
        self.parts.clear()
        self.taken.clear()
        self.by_hand = 0 if self.decay or self.window else slots
        self.level, self.level_at = float(slots) if self.decay else 0.0, now
        if self.window:
            self.take_for_nobody(slots, now)

    def forget_rate(self, now: float) -> None:
        """Excuse what an operator has brought about."""
        self.excused = self.in_use_soon(now)
        self.by_rate.clear()


@dataclass(eq=False)
class Place:
    """A request in the queue."""

    id: str
    owner: int
    pools: list[Pool]
    wants: dict[str, int]  # by the id of the pool, which may be renamed
    holds: bool
    strict: bool
    missing: list[str]
    taken: int = 0  # from how many limits, once it was granted
    overtaken: int = 0

    def wanted(self, pool: Pool) -> int:
        """The slots that it wants of one of its limits."""
        return self.wants[pool.id]

    @property
    def active(self) -> list[Pool]:
        """The limits that count for it now."""
        return [pool for pool in self.pools if pool.active]

    def moment(self, now: float) -> float:
        """When it fits everywhere."""
        return max([now, *(pool.moment(self.wanted(pool), now) for pool in self.active)])

    @property
    def refusal(self) -> tuple[str, set[str]] | None:
        """Why no wait could help."""
        over = {pool.name for pool in self.active if self.wanted(pool) > pool.slots}
        if over:
            return "over_limit", over
        plain = {pool.name for pool in self.active if not pool.decay and not pool.window}
        if plain and not self.holds:
            return "no_decay", plain
        return None


class Model:
    """The limits and the queue, and the rules by which slots are granted."""

    def __init__(self) -> None:
        self.pools: dict[str, Pool] = {}
        self.queue: list[Place] = []

    def blocks(self, older: Place, pool: Pool, now: float) -> bool:
        """Whether a request has to wait for this older one at a limit that both want."""
        lacks_elsewhere = any(
            other is not pool and other.moment(older.wanted(other), now) > now + AHEAD
            for other in older.active
        )
        return older.overtaken >= MAX_OVERTAKEN or not lacks_elsewhere

    def in_turn(self, place: Place, now: float) -> bool:
        """Whether nobody older blocks it anywhere."""
        return not any(
            self.blocks(older, pool, now)
            for older in self.queue[: self.queue.index(place)]
            for pool in place.active
            if any(pool is one for one in older.pools)
        )

    def may_be_granted(self, place: Place, now: float) -> bool:
        """Whether it is its turn and its moment."""
        return self.in_turn(place, now) and place.moment(now) <= now + AHEAD

    def grant(self, place: Place, at: float) -> None:
        """Take its slots, all at one moment."""
        place.taken = len(place.active)
        for older in self.queue[: self.queue.index(place)]:
            older.overtaken += any(pool is one for pool in place.active for one in older.pools)
        for pool in place.active:
            slots = place.wanted(pool)
            pool.take(place.id, slots, at)
            if place.holds:
                pool.parts[place.id] = Part(slots, place.owner, 0.0, at, at)
            else:
                pool.by_rate[place.id] = (at, slots)
        self.queue.remove(place)

    def reap(self, owner: int, now: float) -> None:
        """Free what an owner holds, and take it out of the queue."""
        self.queue[:] = [place for place in self.queue if place.owner != owner]
        for pool in self.pools.values():
            for lease in [one for one, part in pool.parts.items() if part.owner == owner]:
                pool.free(lease, now)

    def left_out(self, now: float, *, by_time: bool, besides: Collection[int] = ()) -> list[str]:
        """Return who could be served or refused right now; without `by_time` by events alone.

        Time brings nothing to the owners `besides`.
        """
        served: list[str] = []
        again = True
        while again:
            again = False
            for place in list(self.queue):
                if (not by_time or place.owner in besides) and any(
                    pool.decay or pool.window or pool.paused for pool in place.active
                ):
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
