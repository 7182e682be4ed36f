"""The transactions that free a lease.

There are two paths. `release` deletes the lease, gives back what has not decayed, and promotes the
queue if somebody waits. Mostly it needs two statements. `hand_over` turns the lease into a lease of
the first waiter, if that waiter wants exactly what is freed. It checks that itself, and changes
nothing otherwise. Its effect is that of `release`.
"""

from __future__ import annotations

from localgcl._engine import owners
from localgcl._engine.admission import LEVEL, lower
from localgcl._engine.grant import next_waiter, tell_by_lease
from localgcl._engine.keys import forget_if_idle
from localgcl._engine.queue import promote
from localgcl._engine.tables import COUNTERS
from localgcl._engine.watchers import wake_watchers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from localgcl._engine.request import Granted
    from localgcl._engine.transaction import Transaction

# As in Prefect, this is a running mean over about the last 2 * limit releases.
_COUNTS_RELEASE = """
    occupancy = occupancy + (? - occupancy)
        / max(1, 2 * (SELECT settings.slots FROM settings WHERE key = limit_key)),
    held = held + ?,
    longest_hold = max(longest_hold, ?)
"""
_COUNT_RELEASE = f"UPDATE ledger SET {_COUNTS_RELEASE} WHERE {COUNTERS}"
_COUNT_IF_ALONE = f"{_COUNT_RELEASE} AND NOT waiting"
_FREE = "DELETE FROM ledger WHERE limit_key = ? AND owner = ? AND lease = ?"
_FREE_PLAIN = f"{_FREE} AND NOT (SELECT decay OR window FROM settings WHERE key = limit_key)"
_BY_RATE = (
    f"SELECT decays_from, {LEVEL} FROM leases JOIN limits ON key = limit_key"
    " WHERE limit_key = ? AND owner = ? AND lease = ? AND (decay OR window)"
)
_SLOTS = "SELECT slots FROM ledger WHERE limit_key = ? AND owner = ? AND lease = ?"
# One lease turns into another with as many slots. So the sum of the slots stays as it is.
_MOVE = (
    "UPDATE ledger SET owner = ?, lease = ?, since = ?, decays_from = ?, holder = ?, asked = ?,"
    " numbers = NULL WHERE limit_key = ? AND owner = ? AND lease = ? AND slots = ?"
)
_COUNT_MOVE = (
    f"UPDATE ledger SET {_COUNTS_RELEASE}, grants = grants + 1, waited = waited + ?,"
    f" longest_wait = max(longest_wait, ?), granted_at = ? WHERE {COUNTERS}"
)


def release_by_id(tx: Transaction, lease: str) -> bool:
    """Free a lease of which only the id is known; return whether it held anything."""
    # This reads the leases and counters of all limits. It runs for an operator, or after a Ctrl-C
    # during a commit. An index would make it faster, but every slot would pay for the index.
    places = tx.execute(
        "SELECT owner, limit_key FROM leases WHERE lease = ? AND owner > 0", (lease,)
    ).fetchall()
    owners.remove_client(tx, lease)
    return bool(places) and release_of(tx, lease, places[0][0], [key for _, key in places])


def release_of(tx: Transaction, lease: str, owner: int, limits: list[int]) -> bool:
    """Free what an owner's lease still holds of these limits; return whether it held anything."""
    for key in limits:
        held = tx.execute(
            "SELECT since FROM ledger WHERE limit_key = ? AND owner = ? AND lease = ?",
            (key, owner, lease),
        ).fetchone()
        if held is not None:
            return release(tx, lease, owner, None, held[0], limits)
    return False


def release_granted(tx: Transaction, lease: str, slots: int | None, granted: Granted) -> None:
    """Free what was granted."""
    owner = granted.owner
    if owner is not None:
        release(
            tx,
            lease,
            owner,
            slots,
            granted.at,
            granted.taken,
            awaited=granted.awaited,
            by_rate=granted.by_rate,
        )


def release(
    tx: Transaction,
    lease: str,
    owner: int,
    slots: int | None,
    since: float,
    limits: Iterable[int],
    *,
    awaited: bool = False,
    by_rate: bool = False,
) -> bool:
    """Free what a lease holds of these limits; return whether it held anything.

    `slots` are what it has of each of them, None if that may differ. `by_rate` is a hint that they
    have a rate or a window, and `awaited` a hint that others are likely to wait. The hints save
    time and decide nothing.
    """
    held, seconds = False, max(0.0, tx.now - since)
    queued = []
    for key in limits:
        place = (key, owner, lease)
        freed = slots
        if freed is None:
            row = tx.execute(_SLOTS, place).fetchone()
            if row is None:
                continue
            freed = row[0]
        if awaited and tx.later is None and hand_over(tx, key, owner, lease, freed, seconds):
            held = True
            continue
        counted = (seconds, seconds, seconds, key)
        level = tx.execute(_BY_RATE, place).fetchone() if by_rate else None
        if level is None and not tx.execute(_FREE_PLAIN, place).rowcount:
            level = tx.execute(_BY_RATE, place).fetchone()
            if level is None:
                continue  # freed by an operator, deleted with its limit, or lost with its file
        if level is not None:
            tx.execute(_FREE, place)
            since_then, *rule = level
            lower(tx, key, freed, since_then, lease, *rule)
        held = True
        if not tx.execute(_COUNT_IF_ALONE, counted).rowcount:
            tx.execute(_COUNT_RELEASE, counted)
            queued.append(key)
        elif key < 0:
            forget_if_idle(tx, key, plain=level is None)
    if queued and tx.later is not None:
        tx.later.update(queued)
    elif queued:
        promote(tx, queued, freed=0 if slots is None else slots)
    return held


def hand_over(
    tx: Transaction, key: int, owner: int, lease: str, slots: int, seconds: float
) -> bool:
    """Free a lease that was held for `seconds`, and grant its slots to the first waiter.

    Return whether that was possible. It is possible in the common case, if the first waiter wants
    as many slots. Then the decision is that of `promote` after a release. If it is not possible,
    nothing has changed.
    """
    found = next_waiter(tx, key, slots)
    if found is None:
        return False
    ticket, request, receiver, wakes, wanted, holder, since, is_last, all_watch, _ = found
    now = tx.now
    values = (receiver, request, now, now, holder, since, key, owner, lease, wanted)
    if not tx.execute(_MOVE, values).rowcount:
        return False
    tx.execute(_COUNT_MOVE, (seconds, seconds, seconds, now - since, now - since, now, key))
    tell_by_lease(tx, key, ticket, wakes)
    if not is_last:
        promote(tx, [key])
    if not all_watch:
        wake_watchers(tx, key)
    return True
