"""The numbers of slots: a lease may ask which of a limit's slots are its own.

They are assigned when they are first asked for, in a transaction of its own. Who does not ask pays
nothing.
"""

from __future__ import annotations

from localgcl._engine.tables import keys_in, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from localgcl._engine.transaction import Transaction


def numbers_of(tx: Transaction, key: int, owner: int, lease: str) -> tuple[int, ...]:
    """Return as many numbers as a lease has slots of a limit: the lowest that no other lease has.

    They are the same at each call. The result is empty if the lease has no slots there any more.
    """
    found = tx.execute(
        "SELECT slots, numbers FROM ledger WHERE limit_key = ? AND owner = ? AND lease = ?",
        (key, owner, lease),
    ).fetchone()
    if found is None:
        return ()
    slots, numbers = found
    if numbers is not None:
        return tuple(keys_in(numbers))
    taken = {
        number
        for (text,) in tx.execute(
            "SELECT numbers FROM leases WHERE limit_key = ? AND numbers IS NOT NULL", (key,)
        ).fetchall()
        for number in keys_in(text)
    }
    mine: list[int] = []
    number = 0
    while len(mine) < slots:
        if number not in taken:
            mine.append(number)
        number += 1
    tx.execute(
        "UPDATE ledger SET numbers = ? WHERE limit_key = ? AND owner = ? AND lease = ?",
        (text_of(mine), key, owner, lease),
    )
    return tuple(mine)
