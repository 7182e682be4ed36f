"""The common case of acquire, in one statement: one limit, free, without decay.

It looks for itself whether this is that case, and changes nothing where it is not; what it decides
is what the general way of `acquire` would. The keys that a general acquire has found are kept, as
hints, with the open file.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from localgcl._engine.transaction import Transaction

# Where the subquery finds no row, limit_key is NULL, which NOT NULL refuses and OR IGNORE passes
# over.
_TAKE = """
INSERT OR IGNORE INTO ledger (limit_key, owner, lease, slots, since, decays_from, holder)
VALUES (
    (
        SELECT key FROM limits
        WHERE key = ? AND name = ? AND active AND NOT decay AND NOT waiting AND used + ? <= slots
        AND EXISTS (SELECT 1 FROM owners WHERE key = ? AND lifeline = ?)
    ),
    ?, ?, ?, ?, ?, ?
)
"""


# Names may be many, and made up as they come.
_MAX_KNOWN = 1000


def remember(tx: Transaction, name: str, limit: int, owner: int) -> None:
    """Keep the keys of a limit, and of the owner that this process is, for the next `take`."""
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
    values = (key, name, slots, owner, ours, owner, lease, slots, tx.now, tx.now, holder)
    if tx.execute(_TAKE, values).rowcount:
        return known
    del tx.known[name]  # until the general way has found it free again
    return None
