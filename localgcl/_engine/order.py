"""Who has to wait for whom: requests are granted first come, first served.

At a limit, an earlier request blocks a later one. There is one exception: an earlier request that
lacks room at another of its limits does not block, so that no slot is idle without need. A request
that has been overtaken `MAX_OVERTAKEN` times blocks in any case, so that nobody starves.
"""

from __future__ import annotations

from localgcl._engine import decay
from localgcl._engine.admission import moment, row_of
from localgcl._engine.tables import keys_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from typing import Any

    from localgcl._engine.admission import LimitRow
    from localgcl._engine.transaction import Transaction

MAX_OVERTAKEN = 100

# How many places are read at a time: most often the first one decides.
READ = 64

QUEUE = (
    "SELECT ticket, waits.slots, mixed, limits, weights, overtaken"
    " FROM waits JOIN waiters USING (ticket) WHERE limit_key = ? AND ticket > ?"
    f" ORDER BY ticket LIMIT {READ}"
)


class Rooms:
    """At which limits there is room, as far as a transaction has asked; what changes is forgotten.

    A queue may be long, and its waiters lack room at few limits.
    """

    __slots__ = ("_rows", "_tx")

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._rows: dict[int, LimitRow | None] = {}

    def at(self, key: int) -> LimitRow | None:
        """Return the limit's row, None if it was deleted."""
        if key not in self._rows:
            self._rows[key] = row_of(self._tx, key)
        return self._rows[key]

    def has(self, key: int, slots: int) -> bool:
        """Whether `slots` fit at a limit now; they do where it is inactive or deleted."""
        row = self.at(key)
        if row is None or not row.active:
            return True
        if not (row.decay or row.window or row.paused):  # as `moment`, in short
            return bool(row.used + slots <= row.limit)
        return moment(self._tx, row, slots) <= self._tx.now + decay.HORIZON_SECONDS

    def forget(self, keys: Iterable[int]) -> None:
        """Read these limits again before the next answer: slots were taken or freed there."""
        for key in keys:
            self._rows.pop(key, None)


def wanted_by(place: Any) -> dict[int, int]:
    """Return the slots that a waiter wants of each of its limits, from its row of `QUEUE`."""
    _, slots, _, limits, weights, _ = place
    keys = keys_in(limits)
    return dict(zip(keys, keys_in(weights), strict=True)) if weights else dict.fromkeys(keys, slots)


def lacks_elsewhere(rooms: Rooms, key: int, place: Any) -> bool:
    """Whether a waiter in the queue of a limit lacks room at another limit that it wants."""
    if not place[2]:
        return False
    return any(
        other != key and not rooms.has(other, slots) for other, slots in wanted_by(place).items()
    )


def blocks(rooms: Rooms, key: int, place: Any) -> bool:
    """Whether a waiter blocks those behind it in the queue of a limit."""
    overtaken: int = place[5]
    return overtaken >= MAX_OVERTAKEN or not lacks_elsewhere(rooms, key, place)


def waiting_at(tx: Transaction, key: int, *, mixed: bool = False) -> Iterator[Any]:
    """Yield the rows of `QUEUE` in order; `mixed`: of those who wait at other limits, too."""
    query = QUEUE.replace("WHERE", "WHERE mixed AND") if mixed else QUEUE
    last, number = 0, READ
    while number == READ:
        places = tx.execute(query, (key, last)).fetchall()
        yield from places
        number = len(places)
        if places:
            last = places[-1][0]


def passed_by(tx: Transaction, rooms: Rooms, key: int, ticket: int) -> list[int] | None:
    """Return the tickets that `ticket` would overtake at a limit; None if one of them blocks it."""
    passed: list[int] = []
    for place in waiting_at(tx, key):
        if place[0] >= ticket:
            break
        if blocks(rooms, key, place):
            return None
        passed.append(place[0])
    return passed


def count_overtaken(tx: Transaction, tickets: Collection[int]) -> None:
    """Count that a later request was granted before these waiters."""
    if tickets:
        tx.execute(
            "UPDATE waiters SET overtaken = overtaken + 1"
            f" WHERE ticket IN ({', '.join(map(str, tickets))})"
        )


def first_in_turn(tx: Transaction, rooms: Rooms, key: int) -> tuple[int, int] | None:
    """Return ticket and slots of the first in a queue that does not lack room elsewhere."""
    for place in waiting_at(tx, key):
        if blocks(rooms, key, place):
            return place[0], place[1]
    return None


def slots_ahead(tx: Transaction, rooms: Rooms, key: int, ticket: int) -> int:
    """Return how many slots of a limit the requests before `ticket` will have taken by its turn.

    Those that lack room elsewhere do not count: they may be overtaken.
    """
    slots, mixed = tx.execute(
        "SELECT ifnull(sum(slots), 0), ifnull(sum(mixed), 0) FROM waits"
        " WHERE limit_key = ? AND ticket < ?",
        (key, ticket),
    ).fetchone()
    if mixed:
        for place in waiting_at(tx, key, mixed=True):
            if place[0] >= ticket:
                break
            if not blocks(rooms, key, place):
                slots -= place[1]
    return int(slots)


def neighbours(tx: Transaction, rooms: Rooms, key: int, *, lacking: bool = True) -> set[int]:
    """Return the other limits at which waiters of this one may have ceased to block.

    These are the waiters that lack room here now. `lacking` False: all of them.
    """
    found: set[int] = set()
    for place in waiting_at(tx, key, mixed=True):
        if not lacking or not rooms.has(key, place[1]):
            found.update(keys_in(place[3]))
    found.discard(key)
    return {
        other
        for other in found
        if (row := rooms.at(other)) is not None and row.waiting > 1 and _may_have_room(row)
    }


def _may_have_room(row: LimitRow) -> bool:
    return bool(not row.active or row.decay or row.window or row.used < row.limit)
