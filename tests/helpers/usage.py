"""What of a limit is in use."""

from __future__ import annotations

from localgcl import AcquireConcurrencySlotTimeoutError, Limiter


def in_use(limiter: Limiter, name: str) -> int:
    """Return the slots in use of a limit."""
    return limiter.read(name).active_slots


def level(limiter: Limiter, name: str) -> float:
    """Return the level of a decaying limit as it was last written."""
    rows = limiter._database.transact(
        lambda tx: tx.execute("SELECT level FROM limits WHERE name = ?", (name,)).fetchall()
    )
    return float(rows[0][0])


def set_occupancy(limiter: Limiter, name: str, seconds: float) -> None:
    """Set what slots of a limit were held for of late."""
    limiter._database.transact(
        lambda tx: tx.execute(
            "UPDATE ledger SET occupancy = ?"
            " WHERE owner = -1 AND limit_key = (SELECT key FROM limits WHERE name = ?)",
            (seconds, name),
        )
    )


def is_free(limiter: Limiter, name: str, occupy: int = 1) -> bool:
    """Try once, and free again what was taken."""
    try:
        limiter.acquire(name, occupy, timeout_seconds=0).release()
    except AcquireConcurrencySlotTimeoutError:
        return False
    return True
