"""The common case of acquire, in one statement: one limit, free, without decay or window.

The statement checks for itself whether this is that case. If not, it changes nothing. It decides as
the general `acquire` would. The keys that a general acquire has found are kept with the open file,
as hints.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from localgcl._engine.transaction import Transaction

# If the subquery finds no row, limit_key is NULL. NOT NULL refuses that, and OR IGNORE then skips
# the row.
_TAKE = """
INSERT OR IGNORE INTO ledger (limit_key, owner, lease, slots, since, decays_from, holder)
VALUES (
    (
        SELECT key FROM limits
        WHERE key = ? AND name = ? AND active AND NOT decay AND NOT window AND paused <= ?
        AND NOT waiting AND used + ? <= slots
        AND EXISTS (SELECT 1 FROM owners WHERE key = ? AND lifeline = ?)
    ),
    ?, ?, ?, ?, ?, ?
)
"""


# There may be many names, and a program may make them up as it goes.
_MAX_KNOWN = 1000


def remember(tx: Transaction, name: str, limit: int, owner: int) -> None:
    """Keep the key of a limit and the owner key of this process for the next `take`."""
    if len(tx.known) >= _MAX_KNOWN:
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
    ours = tx.own_address()
    values = (key, name, tx.now, slots, owner, ours, owner, lease, slots, tx.now, tx.now, holder)
    if tx.execute(_TAKE, values).rowcount:
        return known
    del tx.known[name]  # until the general acquire has found it free again
    return None
