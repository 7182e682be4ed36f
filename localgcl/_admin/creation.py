"""The row of a new limit.

This is apart from administration, which loads pydantic: `localgcl run --limit` creates limits too.
"""

from __future__ import annotations

from localgcl._base import clock
from localgcl._engine.keys import new_number, prefix_of, template_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from localgcl._storage.database import Transaction


def insert_row(
    tx: Transaction, name: str, limit: int, *, decay: float, active: bool, window: float = 0.0
) -> int:
    """Insert a new limit under a name that is not taken yet, and return its key."""
    import uuid

    wall = clock.wall()
    key = new_number()
    tx.execute(
        "INSERT INTO settings (key, name, active, slots, decay, window, prefix, id, created,"
        " updated) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            key,
            name,
            active,
            limit,
            decay,
            window,
            prefix_of(name),
            str(uuid.uuid4()),
            wall,
            wall,
        ),
    )
    return key


def insert_missing(tx: Transaction, names: Iterable[str], limit: int) -> None:
    """Insert those of the limits that are not there yet, without decay.

    A name that a template matches is not missing.
    """
    for name in names:
        known = tx.execute("SELECT 1 FROM settings WHERE name = ?", (name,)).fetchone()
        if known is None and template_of(tx, name) is None:
            insert_row(tx, name, limit, decay=0.0, active=True)
