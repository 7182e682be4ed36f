"""The transactions of clients elsewhere, for whom `localgcl serve` asks and holds.

A client's request waits as the server's own, and so ends with it. What it is granted is handed over
to an owner that needs no process, before the client hears of it.
"""

from __future__ import annotations

from localgcl._engine import owners, wait
from localgcl._engine.queue import promote
from localgcl._engine.release import release_of
from localgcl._engine.tables import COUNTERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from localgcl._engine.request import Request
    from localgcl._engine.transaction import Transaction


class Client:
    """Who asks from elsewhere, as `ps` shows it."""

    __slots__ = ("command", "holder", "user")

    def __init__(self, user: str, command: str, holder: str | None) -> None:
        self.user = user
        self.command = command
        self.holder = holder


def limits_called(tx: Transaction, names: Iterable[str]) -> list[tuple[str, str, int]]:
    """Return id, name and limit of those that are there, in the order of the names."""
    found: list[Any] = [
        tx.execute("SELECT id, name, slots FROM settings WHERE name = ?", (name,)).fetchone()
        for name in names
    ]
    return [row for row in found if row is not None]


def assign_to_client(tx: Transaction, request: Request, client: Client, seconds: float) -> None:
    """Hand what was granted over to a client, as its lease for so many seconds or for as renewed.

    What an operator has freed since is lost: the client finds so as it renews.
    """
    granted = request.granted
    # A lease of nothing is one of names that no limit has, or of what was taken by rate.
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
    """Have a client keep its lease for so many seconds from now; False where it has lost it."""
    return owners.renew_client(tx, lease, seconds)


def release(tx: Transaction, lease: str) -> bool:
    """Free a client's lease, and return whether it held anything."""
    client = owners.find_client(tx, lease)
    if client is None:
        return False  # expired, or an operator has freed it
    owners.remove_client(tx, lease)
    return release_of(tx, lease, *client)


def detach(tx: Transaction, request: Request) -> None:
    """Leave slots in use with nobody behind them, until they are returned or a rate frees them."""
    granted = request.granted
    if granted is None:
        return  # of no limit
    for key in granted.taken:
        place = (key, granted.owner, request.id)
        # What decays comes back by itself, and its lease has no part in that.
        tx.execute(
            "DELETE FROM ledger WHERE limit_key = ? AND owner = ? AND lease = ?"
            " AND EXISTS (SELECT 1 FROM settings WHERE key = limit_key AND decay)",
            place,
        )
        tx.execute(
            "UPDATE ledger SET owner = 0, holder = NULL"
            " WHERE limit_key = ? AND owner = ? AND lease = ?",
            place,
        )


def undo(tx: Transaction, request: Request) -> None:
    """Undo a request that was granted, whoever's its slots are by now."""
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
    """Free up to so many slots of each limit that nobody is behind; return the limits.

    A holder keeps its own, whatever a client that holds nothing here may think.
    """
    found = limits_called(tx, names)
    keys = set()
    for _, name, limit in found:
        key, rate, occupancy = tx.execute(
            "SELECT key, decay, occupancy FROM limits WHERE name = ?", (name,)
        ).fetchone()
        keys.add(key)
        if rate:
            owners.give_back(tx, key, slots, tx.now - (occupancy_seconds or 0.0))
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
    left: tuple[object, ...] = ()  # what is left of the last one, if it is
    last = ""
    for lease, held, since, decays_from in rows:
        if not slots:
            break
        freed = min(held, slots)
        slots -= freed
        last = lease
        if held > freed:
            left = (key, lease, held - freed, since, decays_from)
    # One statement for all of them, of which there may be thousands.
    tx.execute("DELETE FROM ledger WHERE limit_key = ? AND owner = 0 AND lease <= ?", (key, last))
    if left:
        tx.execute(
            "INSERT INTO ledger (limit_key, owner, lease, slots, since, decays_from)"
            " VALUES (?, 0, ?, ?, ?, ?)",
            left,
        )
