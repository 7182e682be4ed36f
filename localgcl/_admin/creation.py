"""The row of a new limit.

This is apart from administration, which loads pydantic: `localgcl run --limit` creates limits too.
"""

from __future__ import annotations

from localgcl._base import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from localgcl._storage.database import Transaction


def insert_row(tx: Transaction, name: str, limit: int, *, decay: float, active: bool) -> None:
    """Insert a new limit under a name that is not taken yet."""
    import uuid

    wall = clock.wall()
    tx.execute(
        "INSERT INTO settings (name, active, slots, decay, id, created, updated)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (name, active, limit, decay, str(uuid.uuid4()), wall, wall),
    )


def insert_missing(tx: Transaction, names: Iterable[str], limit: int) -> None:
    """Insert those of the limits that are not there yet, without decay."""
    for name in names:
        if tx.execute("SELECT 1 FROM settings WHERE name = ?", (name,)).fetchone() is None:
            insert_row(tx, name, limit, decay=0.0, active=True)
