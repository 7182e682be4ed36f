"""The transactions of owners: a process signs in, and the dead are cleared away.

An owner is a process or a client of `localgcl serve`. A process is alive while its lifeline is. A
client is alive until it expires. Neither comes back to life: a client can be renewed only before it
expires.
"""

from __future__ import annotations

from collections import Counter

from localgcl._base.text import MAX_COMMAND_LENGTH
from localgcl._engine.admission import give_back
from localgcl._engine.tables import COUNTERS, keys_in, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from localgcl._engine.transaction import Transaction

KEY_OF_OWNER = "SELECT key FROM owners WHERE lifeline = ?"


def sign_in(tx: Transaction) -> tuple[int, set[int]]:
    """Return this process's owner key, and the limits at which the sign-in freed something.

    The first call in a process inserts its row and clears away what the dead left. It happens again
    if the lifeline or the row was taken away.
    """
    ours = tx.own_address()
    row = tx.execute(KEY_OF_OWNER, (ours,)).fetchone()
    if row is not None:
        return row[0], set()
    freed = sweep(tx)
    return _insert(tx, ours), freed


def _insert(tx: Transaction, ours: str) -> int:
    cursor = tx.execute(
        "INSERT INTO owners (lifeline, pid, user, command, process) VALUES (?, ?, ?, ?, ?)",
        (ours, *tx.own_description()),
    )
    assert cursor.lastrowid is not None  # every INSERT sets it
    return cursor.lastrowid


def show_pid(tx: Transaction, pid: int) -> None:
    """Have `ps` show `pid` for this process: that of the command for which it holds slots."""
    ours = tx.own_address_if_any()
    if ours is not None:
        tx.execute("UPDATE owners SET pid = ? WHERE lifeline = ?", (pid, ours))


def sweep(tx: Transaction) -> set[int]:
    """Clear away all dead owners and their files; return the limits at which that freed a slot."""
    alive, dead = set(), {}
    for key, name, expires in tx.execute("SELECT key, lifeline, expires FROM owners").fetchall():
        if tx.lives(name) if expires is None else expires > tx.now:
            alive.add(name)
        else:
            dead[name] = key
    freed = _bury(tx, dead)
    tx.clear_away_others(besides=alive)
    return freed


def reap(tx: Transaction, lifelines: Iterable[str]) -> set[int]:
    """Free what these owners hold, and take them out of the queues; return the limits concerned."""
    found = {name: tx.execute(KEY_OF_OWNER, (name,)).fetchone() for name in lifelines}
    return _bury(tx, {name: None if row is None else row[0] for name, row in found.items()})


def _bury(tx: Transaction, dead: dict[str, int | None]) -> set[int]:
    owners = [key for key in dead.values() if key is not None]
    freed = _clear(tx, owners, died=True) if owners else set()
    for name in dead:
        tx.clear_away(name)
    return freed


def sign_out(tx: Transaction, *, if_idle: bool) -> set[int]:
    """End this process's lifeline and free all that it holds.

    With `if_idle`, do so only if the process holds nothing and nobody in it waits.
    """
    ours = tx.own_address_if_any()
    if ours is None or (if_idle and tx.is_waiting()):
        return set()
    row = tx.execute(KEY_OF_OWNER, (ours,)).fetchone()
    freed: set[int] = set()
    if row is not None:
        if if_idle and _is_busy(tx, row[0]):
            return freed
        freed = _clear(tx, [row[0]])
    tx.end_own_address()
    return freed


def _is_busy(tx: Transaction, owner: int) -> bool:
    ((busy,),) = tx.execute(
        "SELECT EXISTS (SELECT 1 FROM leases WHERE owner = ?)"
        " OR EXISTS (SELECT 1 FROM waiters WHERE owner = ?)",
        (owner, owner),
    ).fetchall()
    return bool(busy)


def _clear(tx: Transaction, owners: Collection[int], *, died: bool = False) -> set[int]:
    # A search by owner reads all rows, however many there are. With an index, every slot would pay
    # for a search that runs once in the life of a process. Most owners leave nothing.
    theirs = f"owner IN ({', '.join(map(str, owners))})"
    leases = tx.execute(
        "SELECT limit_key, ledger.slots, decays_from, lease, decay OR window"
        f" FROM ledger LEFT JOIN settings ON key = limit_key WHERE {theirs}"
    ).fetchall()
    reclaimed = Counter[int]()
    for key, slots, decays_from, lease, by_rate in leases:
        reclaimed[key] += 1
        if by_rate:
            give_back(tx, key, slots, decays_from, lease)
    if died:
        for key, count in reclaimed.items():
            tx.execute(
                f"UPDATE ledger SET reclaimed = reclaimed + ? WHERE {COUNTERS}", (count, key)
            )
    if leases:
        tx.execute(f"DELETE FROM ledger WHERE {theirs}")
    freed = set(reclaimed)
    waiting = tx.execute(f"SELECT ticket, limits FROM waiters WHERE {theirs}").fetchall()
    for ticket, limits in waiting:
        for key in keys_in(limits):
            tx.execute("DELETE FROM waits WHERE limit_key = ? AND ticket = ?", (key, ticket))
            freed.add(key)
    if waiting:
        tx.execute(f"DELETE FROM waiters WHERE {theirs}")
    tx.execute(f"DELETE FROM owners WHERE key IN ({', '.join(map(str, owners))})")
    return freed


# Clients of `localgcl serve`, each with one lease


def _client(lease: str) -> str:
    return f"lease {lease}"  # no FIFO has a name like this


def insert_client(
    tx: Transaction, lease: str, user: str, command: str, seconds: float, limits: Iterable[int]
) -> int:
    """Insert an owner that is alive for `seconds`, or longer if it is renewed; return its key.

    It holds its lease of these `limits`.
    """
    cursor = tx.execute(
        "INSERT INTO owners (lifeline, user, command, expires, lasts, limits)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            _client(lease),
            user,
            command[:MAX_COMMAND_LENGTH],
            tx.now + seconds,
            seconds,
            text_of(limits),
        ),
    )
    assert cursor.lastrowid is not None  # every INSERT sets it
    return cursor.lastrowid


def renew_client(tx: Transaction, lease: str, seconds: float) -> bool:
    """Extend a client's life to `seconds` from now; return False if it has expired or is gone."""
    cursor = tx.execute(
        "UPDATE owners SET expires = ?, lasts = ? WHERE lifeline = ? AND expires > ?",
        (tx.now + seconds, seconds, _client(lease), tx.now),
    )
    return cursor.rowcount > 0


def find_client(tx: Transaction, lease: str) -> tuple[int, list[int]] | None:
    """Return the key of the client that has a lease, and the limits that the lease was of."""
    row = tx.execute(
        "SELECT key, limits FROM owners WHERE lifeline = ?", (_client(lease),)
    ).fetchone()
    return None if row is None else (row[0], keys_in(row[1]))


def remove_client(tx: Transaction, lease: str) -> None:
    """Remove the owner of a lease that is released, if that owner is a client."""
    tx.execute("DELETE FROM owners WHERE lifeline = ?", (_client(lease),))


def clients_at(tx: Transaction, key: int) -> list[int]:
    """Return the clients that hold slots of a limit; called before an operator frees the slots."""
    return [
        owner
        for (owner,) in tx.execute(
            "SELECT DISTINCT owner FROM leases JOIN owners ON owners.key = owner"
            " WHERE limit_key = ? AND expires IS NOT NULL",
            (key,),
        ).fetchall()
    ]


def revoke(tx: Transaction, clients: Collection[int]) -> None:
    """Remove the clients whose lease holds nothing any more, so that they learn of it."""
    if not clients:
        return
    holding = {owner for (owner,) in tx.execute("SELECT DISTINCT owner FROM leases").fetchall()}
    for owner in set(clients) - holding:
        tx.execute("DELETE FROM owners WHERE key = ?", (owner,))
