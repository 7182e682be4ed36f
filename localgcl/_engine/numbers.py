"""The numbers of a lease's slots, which nobody pays for who does not ask for them."""

from __future__ import annotations

import itertools

from localgcl._engine.tables import keys_in, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from localgcl._engine.transaction import Transaction

_OF_LEASE = "SELECT slots, numbers FROM ledger WHERE limit_key = ? AND owner = ? AND lease = ?"
_OF_ALL = "SELECT numbers FROM ledger WHERE limit_key = ? AND numbers IS NOT NULL"
_ASSIGN = "UPDATE ledger SET numbers = ? WHERE limit_key = ? AND owner = ? AND lease = ?"


def assign(tx: Transaction, key: int, owner: int, lease: str) -> list[int]:
    """Return the numbers of a lease's slots of a limit: the lowest that are free at the first call.

    There are none if the lease has no slots of it any more.
    """
    place = key, owner, lease
    found = tx.execute(_OF_LEASE, place).fetchone()
    if found is None:
        return []
    slots, text = found
    if text is not None:
        return keys_in(text)
    taken = {number for (text,) in tx.execute(_OF_ALL, (key,)) for number in keys_in(text)}
    free = (number for number in itertools.count() if number not in taken)
    numbers = list(itertools.islice(free, slots))
    tx.execute(_ASSIGN, (text_of(numbers), *place))
    return numbers
