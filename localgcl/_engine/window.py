"""Limits with a window: no more than `limit` slots are taken in any period of that many seconds.

Each slot comes back exactly that long after it was taken. So every grant is a row in `taken`, and
rows that are older than the window are dropped. A grant for a moment that is about to come counts
from that moment: until then, its slots are both still to come back and already taken.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from localgcl._engine.transaction import Transaction

_OLDEST = "SELECT at, slots FROM taken WHERE limit_key = ? ORDER BY at, request"
# The second condition is exact. The first finds the rows by the index.
_DROP = "DELETE FROM taken WHERE limit_key = ? AND at <= ? AND at + ? <= ?"
_MICROSECOND = 1e-6


def drop_passed(tx: Transaction, key: int, seconds: float, now: float) -> None:
    """Drop the slots that have come back by `now`."""
    tx.execute(_DROP, (key, now - seconds + _MICROSECOND, seconds, now))


def take(tx: Transaction, key: int, at: float, request: str, slots: int) -> None:
    """Record that a request takes slots at the moment `at`."""
    tx.execute("INSERT INTO taken VALUES (?, ?, ?, ?)", (key, at, request, slots))


def give_back(tx: Transaction, key: int, at: float, request: str) -> None:
    """Give back the slots that a request took at the moment `at`, unless they came back before."""
    tx.execute(
        "DELETE FROM taken WHERE limit_key = ? AND at = ? AND request = ?", (key, at, request)
    )


def lower(tx: Transaction, key: int, slots: int) -> None:
    """Give back this many slots, the newest first, or all if there are fewer."""
    newest = "SELECT at, request, slots FROM taken WHERE limit_key = ? ORDER BY at DESC, request"
    for at, request, taken in tx.execute(newest, (key,)).fetchall():
        if taken > slots:
            if slots:
                tx.execute(
                    "UPDATE taken SET slots = ? WHERE limit_key = ? AND at = ? AND request = ?",
                    (taken - slots, key, at, request),
                )
            return
        give_back(tx, key, at, request)
        slots -= taken


def in_use(tx: Transaction, key: int, seconds: float) -> int:
    """Return the slots that are in use now."""
    ((slots,),) = tx.execute(
        "SELECT ifnull(sum(slots), 0) FROM taken WHERE limit_key = ? AND at <= ? AND at + ? > ?",
        (key, tx.now, seconds, tx.now),
    ).fetchall()
    return int(slots)


def moment(
    tx: Transaction, key: int, seconds: float, level: float, limit: int, slots: int
) -> float:
    """Return the first moment, now or later, at which `slots` more fit.

    `level` is the sum of the rows, also of those that have come back since. `slots` may be more
    than the limit, if others come first: then each further `limit` slots take one window more. That
    is exact while requests keep waiting.
    """
    windows, slots = divmod(slots - 1, limit) if limit else (0, slots - 1)
    excess = level + slots + 1 - limit
    at = tx.now
    if excess > 0:
        for then, taken in tx.execute(_OLDEST, (key,)):
            excess -= taken
            if excess <= 0:
                at = max(at, then + seconds)
                break
    return at + windows * seconds
