"""The keys of templates: a key is a limit that exists while it is in use.

A limit whose name ends in an asterisk is a template. A request for a name that no limit has makes a
limit of that name by the template with the longest matching prefix. When the key is idle, its row
goes: no slots in use, and nobody waits.
"""

from __future__ import annotations

import os

from localgcl._engine import decay, window

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from localgcl._engine.transaction import Transaction

# Of all templates, the last one in the order of prefixes that does not come after the name. If it
# does not match, a shorter part of the name is tried.
_TEMPLATE = (
    "SELECT (SELECT owners.key FROM owners WHERE lifeline = ?), prefix, key, name, active, slots,"
    " decay, window, paused FROM settings WHERE prefix <= ? ORDER BY prefix DESC LIMIT 1"
)
_MAKE = (
    "INSERT INTO settings (key, name, active, slots, decay, window, paused, template, created,"
    " updated) SELECT ?, ?, active, slots, decay, window, paused, key, created, updated"
    " FROM settings WHERE key = ?"
)
_FORGET = (
    "DELETE FROM settings WHERE key = ? AND template IS NOT NULL AND EXISTS (SELECT 1 FROM ledger"
    " WHERE limit_key = ? AND owner = -1 AND lease = '' AND NOT slots AND NOT waiting"
    f" AND level <= {decay.DUST} + decay * max(0, ? - level_at))"
)

# Keys with a rate or a window are idle some time after their last request, when nobody looks. Each
# new key looks at this many others, so that there are never many more rows than keys in use.
_LOOKED_AT = 4


def new_number() -> int:
    """Return a number for a new limit: random, since a deleted one's may still be in use."""
    return int.from_bytes(os.urandom(6)) + 1


def prefix_of(name: str) -> str | None:
    """Return the prefix of a template, None for any other limit's name.

    >>> prefix_of("customer:*"), prefix_of("database")
    ('customer:', None)
    """
    return name[:-1] if name.endswith("*") else None


def template_of(tx: Transaction, name: str) -> tuple[int, str] | None:
    """Return key and name of the template with the longest prefix of this name; None without."""
    row = _find(tx, name, None)
    return None if row is None else (row[2], row[3])


def _find(tx: Transaction, name: str, ours: str | None) -> Any:
    part = name
    while (row := tx.execute(_TEMPLATE, (ours, part)).fetchone()) is not None:
        prefix: str = row[1]
        if name.startswith(prefix):
            return row
        same = next(n for n, letter in enumerate(prefix) if name[n : n + 1] != letter)
        part = prefix[:same]
    return None


def id_of_key(template: str, name: str) -> str:
    """Return the id of a key, for which no row has one: always the same, from its template's."""
    import uuid

    return str(uuid.uuid5(uuid.UUID(template), name))


def make(tx: Transaction, name: str, ours: str | None) -> tuple[Any, ...] | None:
    """Make the key of this name; None if no template matches it.

    Return its columns as `LimitRow` takes them; the first is the owner at the address `ours`.
    """
    found = _find(tx, name, ours)
    if found is None:
        return None
    owner, _, template, _, active, slots, rate, seconds, paused = found
    key = -new_number()
    tx.execute(_MAKE, (key, name, template))
    if rate or seconds:
        _look_at_others(tx, key)
    return owner, None, key, name, active, slots, 0, 0, 0, rate, seconds, paused, 0.0, 0.0


def _look_at_others(tx: Transaction, key: int) -> None:
    # The number is random, and so are those that follow it.
    for (other,) in tx.execute(
        "SELECT key FROM settings WHERE key > ? AND key < 0 LIMIT ?", (key, _LOOKED_AT)
    ).fetchall():
        forget_if_idle(tx, other)


def forget_if_idle(tx: Transaction, key: int, *, plain: bool = False) -> None:
    """Remove a key if it is idle; a `plain` one has neither rate nor window."""
    if not plain:
        row = tx.execute("SELECT window FROM settings WHERE key = ?", (key,)).fetchone()
        if row is not None and row[0]:
            window.drop_passed(tx, key, row[0], tx.now)
    tx.execute(_FORGET, (key, key, tx.now))


def forget_idle(tx: Transaction, keys: Iterable[int]) -> None:
    """Remove those keys that are idle."""
    for key in keys:
        if key < 0:
            forget_if_idle(tx, key)


def keys_of(tx: Transaction, template: int) -> list[int]:
    """Return the keys of a template that are in use, or were not yet found to be idle."""
    rows = tx.execute("SELECT key FROM settings WHERE key < 0 AND template = ?", (template,))
    return [key for (key,) in rows.fetchall()]


def sweep(tx: Transaction) -> None:
    """Remove all keys that are idle."""
    rows = tx.execute("SELECT key FROM limits WHERE key < 0 AND NOT used AND NOT waiting")
    for (key,) in rows.fetchall():
        forget_if_idle(tx, key)
