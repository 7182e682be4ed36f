"""The common case of acquire and of release, in fewer statements: one limit, free, without decay.

Each statement looks for itself whether this is that case, and changes nothing where it is not; what
it decides is what the general way of `_slots` would. The keys that a general acquire has found are
kept, as hints, with the open file.
"""

from __future__ import annotations

from localgcl._lifeline import lifeline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from localgcl._database import Transaction

    Place = tuple[int, int, str]  # of a lease: the keys of limit and owner, and its id

# What it finds decides: no row, and the lease has no limit, which is ignored.
_TAKE = """
INSERT OR IGNORE INTO leases (limit_key, owner, lease, slots, since, decays_from, holder)
VALUES (
    (
        SELECT key FROM limits
        WHERE key = ? AND name = ? AND active AND NOT decay AND NOT waiting AND used + ? <= slots
        AND EXISTS (SELECT 1 FROM owners WHERE key = ? AND lifeline = ?)
    ),
    ?, ?, ?, ?, ?, ?
)
"""

# As Prefect has it: a running mean over about the last 2 * limit releases.
COUNT_RELEASE = """
UPDATE limits SET
    occupancy = occupancy + (? - occupancy) / max(1, 2 * slots),
    held = held + ?,
    longest_hold = max(longest_hold, ?)
WHERE key = ?
"""
_COUNT_IF_HELD = f"""{COUNT_RELEASE}
AND EXISTS (SELECT 1 FROM leases WHERE limit_key = ? AND owner = ? AND lease = ?)
AND NOT decay
"""
_COUNT_IF_HELD_ALONE = f"{_COUNT_IF_HELD} AND NOT waiting"
FREE = "DELETE FROM leases WHERE limit_key = ? AND owner = ? AND lease = ?"


# Names may be many, and made up as they come.
_MOST_KNOWN = 1000


def remember(tx: Transaction, name: str, limit: int, owner: int) -> None:
    """Keep the keys of a limit, and of the owner that this process is, for the next `take`."""
    if len(tx.known) >= _MOST_KNOWN:
        tx.known.clear()
    tx.known[name] = limit, owner


def take(
    tx: Transaction, name: str, slots: int, lease: str, holder: str | None
) -> tuple[int, int] | None:
    """Take slots of a limit if it is the common case; return the keys of limit and owner."""
    known = tx.known.get(name)
    if known is None:
        return None
    key, owner = known
    ours = lifeline(tx.folder).name
    values = (key, name, slots, owner, ours, owner, lease, slots, tx.now, tx.now, holder)
    if tx.execute(_TAKE, values).rowcount:
        return known
    del tx.known[name]  # until the general way has found it free again
    return None


def free(tx: Transaction, place: Place, seconds: float, *, awaited: bool) -> bool:
    """Free what a lease has held for so long of a limit if it is the common case.

    Where others may wait for it, which is `awaited`, they are still to be served.
    """
    count = _COUNT_IF_HELD if awaited else _COUNT_IF_HELD_ALONE
    if not tx.execute(count, (seconds, seconds, seconds, place[0], *place)).rowcount:
        return False
    tx.execute(FREE, place)
    return True
