"""The transactions that free a lease.

Mostly the limit has no decay and nobody waits, and two statements do; or else the first of those
who wait wants just what is freed, and is handed it over. Either looks for itself whether it is so,
and changes nothing where it is not; what it does is what the general way would.
"""

from __future__ import annotations

from localgcl._engine import owners
from localgcl._engine.grant import next_waiter, tell_by_lease
from localgcl._engine.queue import promote
from localgcl._engine.watchers import wake_watchers
from localgcl._storage.schema import TALLY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from localgcl._engine.request import Granted
    from localgcl._storage.database import Transaction

# As Prefect has it: a running mean over about the last 2 * limit releases.
_COUNTS_RELEASE = """
    occupancy = occupancy + (? - occupancy)
        / max(1, 2 * (SELECT settings.slots FROM settings WHERE key = limit_key)),
    held = held + ?,
    longest_hold = max(longest_hold, ?)
"""
_COUNT_RELEASE = f"UPDATE ledger SET {_COUNTS_RELEASE} WHERE {TALLY}"
_FREE = "DELETE FROM ledger WHERE limit_key = ? AND owner = ? AND lease = ?"
_FREE_IF_AWAITED = f"{_FREE} AND NOT (SELECT decay FROM settings WHERE key = limit_key)"
_FREE_IF_ALONE = (
    f"{_FREE} AND EXISTS (SELECT 1 FROM limits WHERE key = limit_key AND NOT decay AND NOT waiting)"
)
_UNDECAYED = "SELECT decays_from FROM leases WHERE limit_key = ? AND owner = ? AND lease = ?"
# A lease becomes another one of as many slots, which leaves their sum as it is.
_MOVE = (
    "UPDATE ledger SET owner = ?, lease = ?, since = ?, decays_from = ?, holder = ?, asked = ?"
    " WHERE limit_key = ? AND owner = ? AND lease = ? AND slots = ?"
)
_COUNT_MOVE = (
    f"UPDATE ledger SET {_COUNTS_RELEASE}, grants = grants + 1, waited = waited + ?,"
    f" longest_wait = max(longest_wait, ?) WHERE {TALLY}"
)


def release_by_id(tx: Transaction, lease: str) -> bool:
    """Free a lease of which only the id is known; return whether it held anything."""
    # This reads through the leases and tallies of all limits, for an operator, or where Ctrl-C has
    # hit upon a commit; an index would cost every slot.
    places = tx.execute(
        "SELECT owner, limit_key FROM leases WHERE lease = ? AND owner > 0", (lease,)
    ).fetchall()
    owners.remove_client(tx, lease)
    return bool(places) and release_of(tx, lease, places[0][0], [key for _, key in places])


def release_of(tx: Transaction, lease: str, owner: int, limits: list[int]) -> bool:
    """Free what an owner's lease still holds of these limits; return whether that was anything."""
    for key in limits:
        held = tx.execute(
            "SELECT slots, since FROM ledger WHERE limit_key = ? AND owner = ? AND lease = ?",
            (key, owner, lease),
        ).fetchone()
        if held is not None:
            slots, since = held
            return release(tx, lease, owner, slots, since, limits)
    return False


def release_granted(tx: Transaction, lease: str, slots: int, granted: Granted) -> None:
    """Free what was granted."""
    owner = granted.owner
    if owner is not None:
        release(tx, lease, owner, slots, granted.at, granted.taken, awaited=granted.awaited)


def release(
    tx: Transaction,
    lease: str,
    owner: int,
    slots: int,
    since: float,
    limits: Iterable[int],
    *,
    awaited: bool = False,
) -> bool:
    """Free what a lease holds of these limits, and return whether that was anything.

    `awaited` says that others are likely to wait, which saves time and decides nothing.
    """
    held, seconds = False, max(0.0, tx.now - since)
    queued = []
    for key in limits:
        if awaited and tx.later is None and hand_over(tx, key, owner, lease, slots, seconds):
            held = True
            continue
        place = (key, owner, lease)
        if tx.execute(_FREE_IF_AWAITED if awaited else _FREE_IF_ALONE, place).rowcount:
            held = True
            tx.execute(_COUNT_RELEASE, (seconds, seconds, seconds, key))
            if awaited:
                queued.append(key)
            continue
        limit = tx.execute("SELECT decay, waiting FROM limits WHERE key = ?", (key,)).fetchone()
        if limit is None:
            continue  # deleted
        rate, waiting = limit
        undecayed = tx.execute(_UNDECAYED, place).fetchone() if rate else None
        if not tx.execute(_FREE, place).rowcount:
            continue  # freed by an operator, or in a file that is no longer there
        held = True
        if undecayed is not None:
            owners.give_back(tx, key, slots, *undecayed)
        tx.execute(_COUNT_RELEASE, (seconds, seconds, seconds, key))
        if waiting:
            queued.append(key)
    if queued and tx.later is not None:
        tx.later.update(queued)
    elif queued:
        promote(tx, queued)
    return held


def hand_over(
    tx: Transaction, key: int, owner: int, lease: str, slots: int, seconds: float
) -> bool:
    """Free a lease held for so long, and grant what it had to the first of a queue.

    Return whether that was possible: it is the common case, and the first wants as many slots.
    What it decides is what `promote` would after a release; where it is not possible, nothing has
    changed.
    """
    found = next_waiter(tx, key, slots)
    if found is None:
        return False
    ticket, request, receiver, ear, wanted, holder, since, is_last, all_watch = found
    now = tx.now
    values = (receiver, request, now, now, holder, since, key, owner, lease, wanted)
    if not tx.execute(_MOVE, values).rowcount:
        return False
    tx.execute(_COUNT_MOVE, (seconds, seconds, seconds, now - since, now - since, key))
    tell_by_lease(tx, key, ticket, ear)
    if not is_last:
        promote(tx, [key])
    if not all_watch:
        wake_watchers(tx, key)
    return True
