"""The transactions of the clients of `localgcl serve`, which asks and holds for them.

A client's request waits as one of the server's own, and so it ends with the server. A grant is
assigned to an owner that needs no process, before the client hears of it.
"""

from __future__ import annotations

from localgcl._engine import owners, wait, window
from localgcl._engine.admission import give_back
from localgcl._engine.keys import id_of_key, template_of
from localgcl._engine.queue import promote
from localgcl._engine.release import release_of
from localgcl._engine.tables import COUNTERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from localgcl._engine.request import Request
    from localgcl._engine.transaction import Transaction

_CALLED = (
    "SELECT settings.id, settings.slots, template.id FROM settings"
    " LEFT JOIN settings AS template ON template.key = settings.template WHERE settings.name = ?"
)


class Client:
    """A client of `localgcl serve` that asks, as `ps` shows it."""

    __slots__ = ("command", "holder", "user")

    def __init__(self, user: str, command: str, holder: str | None) -> None:
        self.user = user
        self.command = command
        self.holder = holder


def limits_called(tx: Transaction, names: Iterable[str]) -> list[tuple[str, str, int]]:
    """Return id, name and slots of the limits and keys that exist, in the order of the names."""
    found = []
    for name in names:
        row: Any = tx.execute(_CALLED, (name,)).fetchone()
        if row is None and (template := template_of(tx, name)) is not None:
            # A key that is idle, as one of an inactive template always is.
            row = tx.execute("SELECT NULL, slots, id FROM settings WHERE key = ?", template[:1])
            row = row.fetchone()
        if row is not None:
            identity, slots, of_template = row
            found.append((identity or id_of_key(of_template, name), name, slots))
    return found


def assign_to_client(tx: Transaction, request: Request, client: Client, seconds: float) -> None:
    """Assign a grant to a client, as its lease for `seconds`, which the client can renew.

    Slots that an operator has freed meanwhile are lost. The client learns of it when it renews.
    """
    granted = request.granted
    # The lease is empty if no limit has these names, or if the slots were taken by rate.
    taken = [] if granted is None or not request.holds else granted.taken
    owner = owners.insert_client(tx, request.id, client.user, client.command, seconds, taken)
    if granted is None or not taken:
        return
    moved = 0
    for key in taken:
        moved += tx.execute(
            "UPDATE ledger SET owner = ?, holder = ?"
            " WHERE limit_key = ? AND owner = ? AND lease = ?",
            (owner, client.holder, key, granted.owner, request.id),
        ).rowcount
    if not moved:
        owners.remove_client(tx, request.id)


def renew(tx: Transaction, lease: str, seconds: float) -> bool:
    """Extend a client's lease to `seconds` from now; return False if the client has lost it."""
    return owners.renew_client(tx, lease, seconds)


def release(tx: Transaction, lease: str) -> bool:
    """Free a client's lease, and return whether it held anything."""
    client = owners.find_client(tx, lease)
    if client is None:
        return False  # expired, or an operator has freed it
    owners.remove_client(tx, lease)
    return release_of(tx, lease, *client)


def detach(tx: Transaction, request: Request) -> None:
    """Leave the slots in use without a holder, until `return_slots` or decay gives them back."""
    granted = request.granted
    if granted is None:
        return  # it asked for no limit
    for key in granted.taken:
        place = (key, granted.owner, request.id)
        # Slots of a rate or a window come back by themselves, and their lease has no part in that.
        tx.execute(
            "DELETE FROM ledger WHERE limit_key = ? AND owner = ? AND lease = ?"
            " AND EXISTS (SELECT 1 FROM settings WHERE key = limit_key AND (decay OR window))",
            place,
        )
        tx.execute(
            "UPDATE ledger SET owner = 0, holder = NULL"
            " WHERE limit_key = ? AND owner = ? AND lease = ?",
            place,
        )


def undo(tx: Transaction, request: Request) -> None:
    """Undo a request that was granted, no matter who owns its slots now."""
    granted = request.granted
    freed = [
        key
        for key in ([] if granted is None else granted.taken)
        if tx.execute(
            "DELETE FROM ledger WHERE limit_key = ? AND owner = 0 AND lease = ?", (key, request.id)
        ).rowcount
    ]
    promote(tx, freed)
    release(tx, request.id)
    wait.abandon(tx, request)


def return_slots(
    tx: Transaction, names: Iterable[str], slots: int, occupancy_seconds: float | None
) -> list[tuple[str, str, int]]:
    """Free up to `slots` slots of each limit that have no holder; return the limits.

    Holders keep their slots, whatever a client that holds nothing here asks for.
    """
    found = limits_called(tx, names)
    keys = set()
    for _, name, limit in found:
        row = tx.execute(
            "SELECT key, decay, window, occupancy FROM limits WHERE name = ?", (name,)
        ).fetchone()
        if row is None:
            continue  # a key that is idle
        key, rate, seconds, occupancy = row
        keys.add(key)
        if rate:
            give_back(tx, key, slots, tx.now - (occupancy_seconds or 0.0), "")
        elif seconds:
            window.lower(tx, key, slots)
        else:
            _free_by_hand(tx, key, slots)
        if occupancy_seconds is not None:
            occupancy += (occupancy_seconds - occupancy) / max(1, 2 * limit)
            tx.execute(f"UPDATE ledger SET occupancy = ? WHERE {COUNTERS}", (occupancy, key))
    promote(tx, keys)
    return found


def _free_by_hand(tx: Transaction, key: int, slots: int) -> None:
    rows = tx.execute(
        "SELECT lease, slots, since, decays_from FROM ledger WHERE limit_key = ? AND owner = 0"
        " ORDER BY lease",
        (key,),
    ).fetchall()
    left: tuple[object, ...] = ()  # the rest of the last lease, if only a part of it is freed
    last = ""
    for lease, held, since, decays_from in rows:
        if not slots:
            break
        freed = min(held, slots)
        slots -= freed
        last = lease
        if held > freed:
            left = (key, lease, held - freed, since, decays_from)
    # One statement deletes all of them, as there may be thousands.
    tx.execute("DELETE FROM ledger WHERE limit_key = ? AND owner = 0 AND lease <= ?", (key, last))
    if left:
        tx.execute(
            "INSERT INTO ledger (limit_key, owner, lease, slots, since, decays_from)"
            " VALUES (?, 0, ?, ?, ?, ?)",
            left,
        )
