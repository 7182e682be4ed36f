"""What the statements of several modules need to know about the tables."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# Finds the row of counters of limit `?` in the ledger.
COUNTERS = "limit_key = ? AND owner = -1 AND lease = ''"


def keys_in(text: str) -> list[int]:
    """Return the keys of limits in the text of a column, which separates them by spaces."""
    return [int(key) for key in text.split()]


def text_of(keys: Iterable[int]) -> str:
    """Return keys of limits as the text of a column."""
    return " ".join(map(str, keys))
