"""What administration does inside a transaction: limits are inserted, changed and removed."""

from __future__ import annotations

import os
import sys

from localgcl._admin.creation import insert_row
from localgcl._base import clock
from localgcl._engine import decay, owners
from localgcl._engine.grant import leave_queues, refuse
from localgcl._engine.queue import promote, try_grant_each
from localgcl._engine.tables import COUNTERS
from localgcl._engine.watchers import wake_all
from localgcl._storage.database import Transaction
from localgcl.errors import LimitAlreadyExistsError, LimitNotFoundError
from localgcl.models import Changes, Settings


def find(tx: Transaction, name: str) -> int | None:
    """Return a limit's key, None where there is none."""
    row = tx.execute("SELECT key FROM settings WHERE name = ?", (name,)).fetchone()
    return None if row is None else int(row[0])


def key_of(tx: Transaction, name: str) -> int:
    """Return a limit's key; LimitNotFoundError where there is none."""
    key = find(tx, name)
    if key is None:
        raise LimitNotFoundError(name)
    return key


def insert(tx: Transaction, name: str, settings: Settings) -> None:
    """Insert a new limit."""
    insert_row(
        tx,
        name,
        settings.limit,
        decay=settings.slot_decay_per_second,
        active=settings.active,
    )


def change(tx: Transaction, key: int, changes: Changes) -> None:
    """Change a limit; waiters are affected immediately."""
    if changes.name is not None:
        known = find(tx, changes.name)
        if known not in (None, key):
            raise LimitAlreadyExistsError(changes.name)
    if changes.slot_decay_per_second is not None:
        _set_decay(tx, key, changes.slot_decay_per_second)
    slept = "SELECT 1 FROM settings WHERE key = ? AND NOT active"
    wakes = changes.active and tx.execute(slept, (key,)).fetchone() is not None
    for column, value in (
        ("name", changes.name),
        ("slots", changes.limit),
        ("active", changes.active),
        ("updated", clock.wall()),
    ):
        if value is not None:
            tx.execute(f"UPDATE settings SET {column} = ? WHERE key = ?", (value, key))
    if changes.active_slots is not None:
        set_slots(tx, key, changes.active_slots)
    promote(tx, [key], all_of_them=True)
    if wakes:
        wake_all(tx, key)


def _set_decay(tx: Transaction, key: int, rate: float) -> None:
    before, used, level, then = tx.execute(
        "SELECT decay, used, level, level_at FROM limits WHERE key = ?", (key,)
    ).fetchone()
    if rate == before:
        return
    if rate:
        # Slots set by hand become part of the level, which has no holder either.
        tx.execute("DELETE FROM ledger WHERE limit_key = ? AND owner = 0", (key,))
        at = max(tx.now, then) if before else tx.now
        level = decay.level_at(level, then, before, at) if before else float(used)
        # What a lease has lost by decay so far counts as lost at the new rate too.
        tx.execute(
            "UPDATE ledger SET decays_from = ? - ? * max(0, ? - decays_from)"
            " WHERE limit_key = ? AND owner > 0",
            (tx.now, min(before / rate, sys.float_info.max), tx.now, key),
        )
    else:
        level, at = 0.0, tx.now
    tx.execute("UPDATE settings SET decay = ? WHERE key = ?", (rate, key))
    tx.execute(f"UPDATE ledger SET level = ?, level_at = ? WHERE {COUNTERS}", (level, at, key))


def set_slots(tx: Transaction, key: int, slots: int) -> None:
    """Set that number of slots in use with no holder, in place of every lease."""
    _free(tx, key)
    ((rate,),) = tx.execute("SELECT decay FROM settings WHERE key = ?", (key,)).fetchall()
    level = float(slots) if rate else 0.0
    tx.execute(f"UPDATE ledger SET level = ?, level_at = ? WHERE {COUNTERS}", (level, tx.now, key))
    if slots and not rate:
        tx.execute(
            "INSERT INTO ledger (lease, limit_key, owner, slots, since, decays_from)"
            " VALUES (?, ?, 0, ?, ?, ?)",
            (os.urandom(16).hex(), key, slots, tx.now, tx.now),
        )


def _free(tx: Transaction, key: int) -> None:
    """Free every lease of a limit."""
    clients = owners.clients_at(tx, key)
    tx.execute("DELETE FROM ledger WHERE limit_key = ? AND owner >= 0", (key,))
    owners.revoke(tx, clients)


def remove(tx: Transaction, key: int, name: str) -> None:
    """Delete a limit; strict waiters are refused, the others ignore it from now on."""
    _free(tx, key)
    queued = tx.execute(
        "SELECT ticket, strict, passed, wakes, limits FROM waits JOIN waiters USING (ticket)"
        " WHERE limit_key = ? ORDER BY ticket",
        (key,),
    ).fetchall()
    tx.execute("DELETE FROM waits WHERE limit_key = ?", (key,))
    tx.execute("DELETE FROM settings WHERE key = ?", (key,))
    left: set[int] = set()
    fewer = []  # those that now wait for fewer limits
    for ticket, strict, passed, wakes, limits in queued:
        if strict:
            refuse(tx, ticket, wakes, "missing", [name])
            left |= leave_queues(tx, ticket, limits)
            continue
        passed = f"{passed}\n{name}" if passed else name
        tx.execute("UPDATE waiters SET passed = ? WHERE ticket = ?", (passed, ticket))
        fewer.append(ticket)
    try_grant_each(tx, fewer)
    promote(tx, left)
