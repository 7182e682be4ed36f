"""What the statements of several modules need to know of the tables."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# Which row of the ledger is the tally of limit `?`.
COUNTERS = "limit_key = ? AND owner = -1 AND lease = ''"


def keys_in(text: str) -> list[int]:
    """Return the keys of limits that a column holds, by spaces."""
    return [int(key) for key in text.split()]


def text_of(keys: Iterable[int]) -> str:
    """Return keys of limits as such a column holds them."""
    return " ".join(map(str, keys))
