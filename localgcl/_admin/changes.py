"""What administration does inside a transaction: limits are inserted, changed and removed."""

from __future__ import annotations

import math
import os
import sys
import uuid

from localgcl._admin.creation import insert_row
from localgcl._base import clock
from localgcl._engine import decay, owners
from localgcl._engine import window as windows
from localgcl._engine.grant import leave_queues, refuse
from localgcl._engine.keys import keys_of, make, prefix_of, template_of
from localgcl._engine.queue import promote, try_grant_each
from localgcl._engine.tables import COUNTERS
from localgcl._engine.watchers import wake_all
from localgcl._storage.database import Transaction
from localgcl.errors import LimitAlreadyExistsError, LimitNotFoundError
from localgcl.models import Changes, Settings


def find(tx: Transaction, name: str) -> int | None:
    """Return a limit's key, None where there is none; the key of a template is no limit here."""
    row = tx.execute(
        "SELECT key FROM settings WHERE name = ? AND template IS NULL", (name,)
    ).fetchone()
    return None if row is None else int(row[0])


def key_of(tx: Transaction, name: str) -> int:
    """Return a limit's key; LimitNotFoundError where there is none."""
    key = find(tx, name)
    if key is None:
        raise LimitNotFoundError(name, _template_of(tx, name))
    return key


def limit_or_key(tx: Transaction, name: str) -> int | None:
    """As `key_of`, also for a template's key; None for one that is idle."""
    key = _row_called(tx, name)
    if key is None and template_of(tx, name) is None:
        raise LimitNotFoundError(name)
    return key


def _row_called(tx: Transaction, name: str) -> int | None:
    """Return the key of a limit, or of a template's key that is in use, by its name."""
    row = tx.execute("SELECT key FROM settings WHERE name = ?", (name,)).fetchone()
    return None if row is None else int(row[0])


def _template_of(tx: Transaction, name: str) -> str | None:
    """Return the name of the template to which a key belongs, None if it is no key."""
    row = tx.execute(
        "SELECT template.name FROM settings JOIN settings AS template"
        " ON template.key = settings.template WHERE settings.name = ?",
        (name,),
    ).fetchone()
    if row is None:
        row = (template_of(tx, name) or (0, None))[1:]
    return None if row[0] is None else str(row[0])


def insert(tx: Transaction, name: str, settings: Settings) -> int:
    """Insert a new limit, and return its key.

    If a template has a key of that name, the key becomes the limit, with all that is in use.
    """
    key = _row_called(tx, name)
    if key is None:
        return insert_row(
            tx,
            name,
            settings.limit,
            decay=settings.slot_decay_per_second,
            window=settings.window_seconds,
            active=settings.active,
        )
    wall = clock.wall()
    tx.execute(
        "UPDATE settings SET template = NULL, paused = 0, id = ?, prefix = ?, created = ?,"
        " updated = ? WHERE key = ?",
        (str(uuid.uuid4()), prefix_of(name), wall, wall, key),
    )
    change(tx, key, Changes(**settings.model_dump()))
    return key


def change(tx: Transaction, key: int, changes: Changes) -> None:
    """Change a limit; waiters are affected immediately, and so are those of a template's keys."""
    ((was_active, prefix, decay_before, window_before),) = tx.execute(
        "SELECT active, prefix, decay, window FROM settings WHERE key = ?", (key,)
    ).fetchall()
    if changes.name is not None:
        if _row_called(tx, changes.name) not in (None, key):
            raise LimitAlreadyExistsError(changes.name)
        tx.execute(
            "UPDATE settings SET name = ?, prefix = ? WHERE key = ?",
            (changes.name, prefix_of(changes.name), key),
        )
        prefix = prefix_of(changes.name)
    if changes.active_slots is not None:
        check_has_own_slots(prefix)
    all_keys = [key, *keys_of(tx, key)]
    rate, window = changes.slot_decay_per_second, changes.window_seconds
    if rate is not None or window is not None:
        # Setting the one replaces the other.
        now_decay = rate if rate is not None else (0.0 if window else decay_before)
        now_window = window if window is not None else (0.0 if rate else window_before)
        for one in all_keys:
            set_rule(tx, one, now_decay, now_window)
        tx.execute(
            "UPDATE settings SET decay = ?, window = ? WHERE key = ?", (now_decay, now_window, key)
        )
    for column, value in (
        ("slots", changes.limit),
        ("active", changes.active),
        ("updated", clock.wall()),
    ):
        if value is not None:
            tx.execute(f"UPDATE settings SET {column} = ? WHERE key = ?", (value, key))
    if changes.active_slots is not None:
        set_slots(tx, key, changes.active_slots)
    promote(tx, all_keys, all_of_them=True)
    if changes.active and not was_active:
        for one in all_keys:
            wake_all(tx, one)


def check_has_own_slots(prefix: str | None) -> None:
    """Raise ValueError for a template: the slots that it has in use are those of its keys."""
    if prefix is not None:
        raise ValueError("active_slots of a template are the sum over its keys; set those of a key")


def set_pause(tx: Transaction, key: int, seconds: float | None) -> None:
    """Have nothing granted at a limit for that many seconds, 0 to resume, None until it resumes."""
    until = math.inf if seconds is None else tx.now + seconds if seconds else 0.0
    all_keys = [key, *keys_of(tx, key)]
    tx.execute(
        "UPDATE settings SET paused = ?, updated = ? WHERE key = ?", (until, clock.wall(), key)
    )
    promote(tx, all_keys, all_of_them=True)


def adjust(tx: Transaction, name: str, slots: int) -> None:
    """Have that many more slots of a rate or a window in use, or fewer; the key may be idle."""
    key = limit_or_key(tx, name)
    if key is None:
        made = make(tx, name, None)
        assert made is not None  # a template matches
        key = int(made[2])
    ((prefix, rate, window, level, then),) = tx.execute(
        "SELECT prefix, decay, window, level, level_at FROM limits WHERE key = ?", (key,)
    ).fetchall()
    if prefix is not None:
        raise ValueError(f"{name!r} is a template; adjust one of its keys")
    if window:
        windows.drop_passed(tx, key, window, tx.now)
        if slots > 0:
            windows.take(tx, key, tx.now, os.urandom(16).hex(), slots)
        else:
            windows.lower(tx, key, -slots)
    elif rate:
        at = max(tx.now, then)
        level = max(0.0, decay.level_at(level, then, rate, at) + slots)
        tx.execute(f"UPDATE ledger SET level = ?, level_at = ? WHERE {COUNTERS}", (level, at, key))
    else:
        raise ValueError(f"the limit {name!r} has neither a rate nor a window to adjust")
    promote(tx, [key], all_of_them=True)


def set_rule(tx: Transaction, key: int, rate: float, window: float) -> None:
    """Carry over what is in use to another decay or window, just before that is set."""
    before, window_before = tx.execute(
        "SELECT decay, window FROM settings WHERE key = ?", (key,)
    ).fetchone()
    if (rate, window) == (before, window_before):
        return
    if window_before:
        windows.drop_passed(tx, key, window_before, tx.now)
        if window:
            return
    used, level, then = tx.execute(
        "SELECT used, level, level_at FROM limits WHERE key = ?", (key,)
    ).fetchone()
    at = max(tx.now, then) if before else tx.now
    in_use = (
        decay.level_at(level, then, before, at)
        if before
        else float(level)
        if window_before  # of which `level` is the sum, also of what is granted for a moment ahead
        else float(used)
    )
    if rate:
        _lease_decay(tx, key, before, rate, window_before)
    leases = tx.execute(
        "SELECT owner, lease, slots, decays_from FROM ledger WHERE limit_key = ? AND owner > 0"
        " ORDER BY since DESC, lease",
        (key,),
    ).fetchall()
    if rate or window:
        # Slots set by hand become part of the level, which has no holder either.
        tx.execute("DELETE FROM ledger WHERE limit_key = ? AND owner = 0", (key,))
    tx.execute("DELETE FROM taken WHERE limit_key = ?", (key,))
    tx.execute(
        f"UPDATE ledger SET level = ?, level_at = ? WHERE {COUNTERS}",
        (in_use if rate else 0.0, at, key),
    )
    if window:
        left = decay.whole(in_use)
        for owner, lease, slots, since in leases:
            part = min(left, decay.whole(decay.given_back(slots, before, at - since)))
            tx.execute(
                "UPDATE ledger SET decays_from = ? WHERE limit_key = ? AND owner = ? AND lease = ?",
                (tx.now, key, owner, lease),
            )
            if part:
                windows.take(tx, key, tx.now, lease, part)
            left -= part
        if left:
            windows.take(tx, key, tx.now, os.urandom(16).hex(), left)


def _lease_decay(
    tx: Transaction, key: int, before: float, rate: float, window_before: float
) -> None:
    """Have leases count as lost at the new rate what they have lost so far."""
    if window_before:
        # What the window has given back of a lease is lost, the rest is not.
        tx.execute(
            "UPDATE ledger SET decays_from = iif(EXISTS (SELECT 1 FROM taken"
            " WHERE taken.limit_key = ledger.limit_key AND at = decays_from AND request = lease),"
            " ?, ? - slots / ?) WHERE limit_key = ? AND owner > 0",
            (tx.now, tx.now, rate, key),
        )
        return
    tx.execute(
        "UPDATE ledger SET decays_from = ? - ? * max(0, ? - decays_from)"
        " WHERE limit_key = ? AND owner > 0",
        (tx.now, min(before / rate, sys.float_info.max), tx.now, key),
    )


def set_slots(tx: Transaction, key: int, slots: int) -> None:
    """Set that number of slots in use with no holder, in place of every lease."""
    _free(tx, key)
    ((rate, window),) = tx.execute(
        "SELECT decay, window FROM settings WHERE key = ?", (key,)
    ).fetchall()
    level = float(slots) if rate else 0.0
    tx.execute("DELETE FROM taken WHERE limit_key = ?", (key,))
    tx.execute(f"UPDATE ledger SET level = ?, level_at = ? WHERE {COUNTERS}", (level, tx.now, key))
    if not slots or rate:
        return
    if window:
        windows.take(tx, key, tx.now, os.urandom(16).hex(), slots)
    else:
        tx.execute(
            "INSERT INTO ledger (lease, limit_key, owner, slots, since, decays_from)"
            " VALUES (?, ?, 0, ?, ?, ?)",
            (os.urandom(16).hex(), key, slots, tx.now, tx.now),
        )


def reset(tx: Transaction, key: int) -> None:
    """Free every slot of a limit, of a template those of all its keys."""
    all_keys = [key, *keys_of(tx, key)]
    for one in all_keys:
        set_slots(tx, one, 0)
    promote(tx, all_keys)


def _free(tx: Transaction, key: int) -> None:
    """Free every lease of a limit."""
    clients = owners.clients_at(tx, key)
    tx.execute("DELETE FROM ledger WHERE limit_key = ? AND owner >= 0", (key,))
    owners.revoke(tx, clients)


def remove(tx: Transaction, key: int, name: str) -> None:
    """Delete a limit, a template with its keys.

    Strict waiters are refused, the others ignore it from now on.
    """
    for one in keys_of(tx, key):
        ((own,),) = tx.execute("SELECT name FROM settings WHERE key = ?", (one,)).fetchall()
        remove(tx, one, own)
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
