"""The decision on one waiter: it is granted, refused, too late, dead, or it keeps waiting.

It is granted if it fits at all of its limits and nobody blocks it at any of them. `grant_next` is
the common case of `try_grant` in fewer statements. It decides as `try_grant` would.
"""

from __future__ import annotations

from localgcl._base.checks import MAX_SLOTS
from localgcl._base.text import lifeline_of
from localgcl._engine import decay, owners
from localgcl._engine.admission import (
    LEASE,
    LIMIT_COLUMNS,
    LimitRow,
    count_refusal,
    count_timeout,
    opening,
    refusal,
    take,
)
from localgcl._engine.order import count_overtaken, passed_by
from localgcl._engine.tables import keys_in, text_of
from localgcl._engine.watchers import WATCHERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from typing import Any

    from localgcl._engine.order import Rooms
    from localgcl._engine.transaction import Transaction
    from localgcl.errors import Refusal

_TELL_GRANT = "UPDATE waiters SET verdict = 'granted', at = ?, taken = ? WHERE ticket = ?"
_FORGET = "DELETE FROM waiters WHERE ticket = ?"
# The first column says who is first, the last one what the waiter wants.
_AT_LIMIT = (
    f"SELECT (SELECT min(ticket) FROM waits WHERE limit_key = ?), {LIMIT_COLUMNS}, waits.slots"
    " FROM limits JOIN waits ON limit_key = key WHERE key = ? AND ticket = ?"
)
_LEAVE = "DELETE FROM waits WHERE limit_key = ? AND ticket = ?"
_BEHIND = (
    "SELECT watches, ticket, wakes FROM waits JOIN waiters USING (ticket)"
    " WHERE limit_key = ? AND ticket > ? ORDER BY ticket LIMIT 1"
)

# The first waiter of a queue, if it waits at no other limit and fits once the given number of slots
# is freed. The last columns tell whether it leaves nothing for anybody else there, whether those
# behind it that must watch do so already, and how many there wait at other limits, too.
_NEXT = """
SELECT
    ticket, request, owner, wakes, waits.slots, holder, since,
    used - ? + waits.slots = limits.slots OR limits.waiting = 1,
    NOT EXISTS (
        SELECT 1 FROM waits AS behind
        WHERE limit_key = key AND NOT watches AND ticket > waits.ticket AND ticket <= ifnull(
            (SELECT ticket FROM waits WHERE limit_key = ? ORDER BY ticket LIMIT 1 OFFSET ?), ?
        )
    ),
    limits.mixed
FROM limits JOIN waits ON limit_key = key JOIN waiters USING (ticket)
WHERE key = ? AND active AND NOT decay AND NOT window AND paused <= ?
AND used - ? + waits.slots <= limits.slots
AND ticket = (SELECT min(ticket) FROM waits WHERE limit_key = ?)
AND holds AND waiters.limits = ? AND until >= ? AND passed = ''
"""


def grant_next(tx: Transaction, key: int, concerned: set[int]) -> tuple[bool, int] | None:
    """Grant to the first waiter of a queue in the common case; None if it is not that case.

    Return whether nobody else there can be granted now, and the slots taken if others there wait at
    other limits, too. The decision is that of `try_grant`. The limit is added to `concerned` if
    other waiters must watch from now on.
    """
    found = next_waiter(tx, key)
    if found is None:
        return None
    ticket, request, owner, wakes, slots, holder, since, is_last, all_watch, mixed = found
    tx.execute(LEASE, (key, owner, request, slots, tx.now, tx.now, holder, since))
    tell_by_lease(tx, key, ticket, wakes)
    tx.share -= 1
    if not all_watch:
        concerned.add(key)
    return bool(is_last), slots if mixed else 0


def next_waiter(tx: Transaction, key: int, freed: int = 0) -> Any:
    """Return what `_NEXT` selects with `freed` more slots free; None without a living waiter."""
    values = (freed, key, WATCHERS, MAX_SLOTS, key, tx.now, freed, key, str(key), tx.now)
    found = tx.execute(_NEXT, values).fetchone()
    return found if found is not None and tx.can_wake(found[3]) else None


def tell_by_lease(tx: Transaction, key: int, ticket: int, wakes: str) -> None:
    """Take a waiter of one limit out of the queue and wake it; its lease tells it the rest."""
    tx.execute(_LEAVE, (key, ticket))
    tx.execute(_FORGET, (ticket,))
    tx.wake(wakes, ticket)


class Tried:
    """What came of a try: the limits whose queues were left, and those where slots were taken.

    The value of each queue says whether the next waiter there may fit now.
    """

    __slots__ = ("left", "taken")

    def __init__(self, left: dict[int, bool] | None = None, taken: Iterable[LimitRow] = ()) -> None:
        self.left = {} if left is None else left
        self.taken = taken


def try_grant(
    tx: Transaction,
    ticket: int,
    rooms: Rooms,
    here: int | None = None,
    passed_here: Collection[int] = (),
) -> Tried:
    """Decide on one waiter if it is its turn.

    The caller may know that nobody blocks it at the limit `here`, where it would overtake the
    tickets in `passed_here`.
    """
    waiter = tx.execute(
        "SELECT request, owner, wakes, limits, holds, holder, until, since, passed"
        " FROM waiters WHERE ticket = ? AND verdict IS NULL",
        (ticket,),
    ).fetchone()
    if waiter is None:
        return Tried()  # decided, or reaped, while others were granted
    request, owner, wakes, limits, holds, holder, until, since, passed = waiter
    rows, behind = [], []
    tx.share -= 1
    wanted = keys_in(limits)
    for key in wanted:
        tx.share -= 1
        found = tx.execute(_AT_LIMIT, (key, key, ticket)).fetchone()
        if found is None:
            continue  # deleted while it waited
        row = LimitRow(found[:-1], found[-1])
        row.mixed -= len(wanted) > 1  # it is one of them itself
        rows.append(row)
        if row.active and key != here and found[0] != ticket:
            behind.append(key)
    refused = refusal(rows, holds)
    if refused is not None:
        refuse(tx, ticket, wakes, *refused)
        return Tried(dict.fromkeys(leave_queues(tx, ticket, limits), True))
    if until < tx.now:
        # It would have given up by now if it could run. Nobody should wait until it can.
        tx.execute("UPDATE waiters SET verdict = 'late' WHERE ticket = ?", (ticket,))
        tx.wake(wakes, ticket)
        count_timeout(tx, keys_in(limits))
        return Tried(dict.fromkeys(leave_queues(tx, ticket, limits), True))
    at = opening(tx, rows)
    if at > tx.now + decay.HORIZON_SECONDS or at > until:
        return Tried()
    overtaken = set(passed_here)
    for key in behind:
        before = passed_by(tx, rooms, key, ticket)
        if before is None:
            return Tried()
        overtaken.update(before)
    lifeline = lifeline_of(wakes)
    if not tx.lives(lifeline):
        freed = owners.reap(tx, [lifeline])
        rooms.forget(freed)
        # If the owner has no row any more, the waiter still has one.
        return Tried(dict.fromkeys(freed | leave_queues(tx, ticket, limits), True))
    taken = take(
        tx,
        rows,
        at,
        request=request,
        owner=owner if holds else None,
        holder=holder,
        asked=since,
    )
    count_overtaken(tx, overtaken)
    if holds and taken and not passed:
        tx.execute(_FORGET, (ticket,))  # its leases tell everything
    else:
        tx.execute(_TELL_GRANT, (at, text_of(taken), ticket))
    tx.wake(wakes, ticket)
    left = dict.fromkeys(leave_queues(tx, ticket, limits), True)
    rooms.forget(left)
    for row in rows:
        # The limit is full, so the next waiter there cannot fit. One that asks for more than the
        # limit was refused when the limit changed.
        if row.active and not (row.decay or row.window) and row.used + row.wants >= row.limit:
            left[row.key] = False
    return Tried(left, [row for row in rows if row.active])


def refuse(tx: Transaction, ticket: int, wakes: str, reason: Refusal, names: Iterable[str]) -> None:
    """Tell a waiter that waiting cannot help; the caller then takes it out of the queues."""
    tx.execute(
        "UPDATE waiters SET verdict = ?, names = ? WHERE ticket = ?",
        (reason, "\n".join(names), ticket),
    )
    count_refusal(tx, names)
    tx.wake(wakes, ticket)


def leave_queues(tx: Transaction, ticket: int, limits: str) -> set[int]:
    """Take a waiter out of every queue, and return the limits whose queues it stood in."""
    keys = keys_in(limits)
    for key in keys:
        tx.execute(_LEAVE, (key, ticket))
        behind = tx.execute(_BEHIND, (key, ticket)).fetchone()
        if behind is not None and not behind[0]:
            tx.wake(behind[2], behind[1])  # it watched only this waiter
    return set(keys)
