"""Administration: create, read, change and delete limits, and show holders and waiters.

Each function checks its arguments and returns an `Action`, which both flavours can run.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from localgcl._admin.action import Action
from localgcl._admin import changes as _changes
from localgcl._admin.changes import change, find, insert, key_of, remove, set_slots
from localgcl._base import clock
from localgcl._base.checks import check_name, check_whole
from localgcl._engine import decay, owners
from localgcl._engine.queue import promote
from localgcl._storage.database import Transaction
from localgcl.errors import LimitAlreadyExistsError, LimitNotFoundError
from localgcl.models import Changes, Holder, Limit, Settings, Waiter

_COLUMNS = (
    "id, created, updated, name, active, slots, used, decay, level, level_at, occupancy, waiting"
)
_VIEW = f"SELECT {_COLUMNS} FROM limits"


def create(
    name: str, limit: int, slot_decay_per_second: float, active: bool, active_slots: int
) -> Action[Limit]:
    """Create a limit."""
    check_name(name)
    settings = Settings(limit=limit, slot_decay_per_second=slot_decay_per_second, active=active)
    check_whole("active_slots", active_slots, 0)

    def work(tx: Transaction) -> Any:
        if find(tx, name) is not None:
            raise LimitAlreadyExistsError(name)
        key = insert(tx, name, settings)
        if active_slots:
            set_slots(tx, key, active_slots)
        return _row(tx, name)

    return Action(work, _limit)


def read(name: str) -> Action[Limit]:
    """Read one limit."""
    check_name(name)

    def work(tx: Transaction) -> Any:
        key_of(tx, name)
        promote(tx, owners.sweep(tx))
        return _row(tx, name)

    return Action(work, _limit, absent=lambda: _absent(name))


def name_of(identity: str) -> Action[str]:
    """Read the name of the limit with this id."""

    def work(tx: Transaction) -> Any:
        row = tx.execute("SELECT name FROM settings WHERE id = ?", (identity,)).fetchone()
        return row[0] if row is not None else _absent(identity)

    return Action(work, str, absent=lambda: _absent(identity))


def read_all() -> Action[list[Limit]]:
    """Read all limits, by name."""

    def work(tx: Transaction) -> Any:
        promote(tx, owners.sweep(tx))
        return [(*row, tx.now) for row in tx.execute(f"{_VIEW} ORDER BY name").fetchall()]

    return Action(work, lambda rows: [_limit(row) for row in rows], absent=list)


def read_part(after: int, most: int) -> Action[tuple[list[Limit], int | None]]:
    """Read up to `most` limits whose key is greater than `after`, and the key of the last.

    The key is None if there are no more. Reading thousands of limits in parts keeps nobody from the
    gate for long. Dead owners are cleared away with the first part.
    """

    def work(tx: Transaction) -> Any:
        if not after:
            promote(tx, owners.sweep(tx))
        rows = tx.execute(
            f"SELECT key, {_COLUMNS} FROM limits WHERE key > ? ORDER BY key LIMIT ?",
            (after, most),
        ).fetchall()
        return [(*row, tx.now) for row in rows]

    def view(rows: list[Any]) -> tuple[list[Limit], int | None]:
        return [_limit(row[1:]) for row in rows], rows[-1][0] if len(rows) == most else None

    return Action(work, view, absent=lambda: ([], None))


def read_page(offset: int, most: int) -> Action[list[Limit]]:
    """Read up to `most` limits, by name, without the first `offset` of them."""

    def work(tx: Transaction) -> Any:
        promote(tx, owners.sweep(tx))
        rows = tx.execute(
            # The rows that are skipped are counted in an index alone.
            f"{_VIEW} WHERE key IN (SELECT key FROM settings ORDER BY name LIMIT ? OFFSET ?)"
            " ORDER BY name",
            (most, offset),
        ).fetchall()
        return [(*row, tx.now) for row in rows]

    return Action(work, lambda rows: [_limit(row) for row in rows], absent=list)


def update(
    name: str,
    new_name: str | None,
    limit: int | None,
    slot_decay_per_second: float | None,
    active: bool | None,
    active_slots: int | None,
) -> Action[Limit]:
    """Change the given settings of a limit."""
    check_name(name)
    changes = Changes(
        name=new_name,
        limit=limit,
        slot_decay_per_second=slot_decay_per_second,
        active=active,
        active_slots=active_slots,
    )
    if changes == Changes():
        raise ValueError(
            "nothing to update: give one of new_name, limit, slot_decay_per_second, active and"
            " active_slots"
        )

    def work(tx: Transaction) -> Any:
        change(tx, key_of(tx, name), changes)
        return _row(tx, changes.name or name)

    return Action(work, _limit)


def upsert(
    name: str,
    limit: int,
    slot_decay_per_second: float,
    active: bool,
    active_slots: int | None,
) -> Action[Limit]:
    """Create a limit or bring it to these values."""
    check_name(name)
    settings = Settings(limit=limit, slot_decay_per_second=slot_decay_per_second, active=active)
    changes = Changes(**settings.model_dump(), active_slots=active_slots)

    def work(tx: Transaction) -> Any:
        if find(tx, name) is None:
            insert(tx, name, settings)
        change(tx, key_of(tx, name), changes)
        return _row(tx, name)

    return Action(work, _limit)


def delete(name: str) -> Action[None]:
    """Delete a limit."""
    check_name(name)
    return Action(lambda tx: remove(tx, key_of(tx, name), name), _nothing)


def reset(name: str) -> Action[None]:
    """Free every slot of a limit."""
    check_name(name)

    def work(tx: Transaction) -> None:
        key = _changes.limit_or_key(tx, name)
        if key is not None:
            _changes.reset(tx, key)

    return Action(work, _nothing)


def holders(name: str | None, *, most: int | None = None) -> Action[list[Holder]]:
    """Read who holds slots, up to `most` holders."""
    _check_filter(name)

    def work(tx: Transaction) -> Any:
        key = _look(tx, name)
        # A part of thousands is read in the order in which the rows are stored.
        order = "name, since, lease" if most is None else "limit_key"
        return tx.now, tx.execute(
            "SELECT lease, name, ledger.slots, pid, user, command, holder, since"
            " FROM ledger JOIN settings ON settings.key = limit_key"
            " JOIN owners ON owners.key = owner"
            f" {_of(key)} ORDER BY {order} LIMIT :most",
            {"key": key, "most": -1 if most is None else most},
        ).fetchall()

    def view(result: tuple[float, list[Any]]) -> list[Holder]:
        now, rows = result
        return [
            Holder(
                lease=lease,
                limit=limit,
                slots=slots,
                pid=pid,
                user=user,
                command=command,
                holder=holder,
                **_since(now, since, "held_seconds"),
            )
            for lease, limit, slots, pid, user, command, holder, since in rows
        ]

    return Action(work, view, absent=lambda: _absent_or_empty(name))


def waiters(name: str | None, *, most: int | None = None) -> Action[list[Waiter]]:
    """Read who waits, up to the first `most` of them."""
    _check_filter(name)

    def work(tx: Transaction) -> Any:
        key = _look(tx, name)
        return tx.now, tx.execute(
            "SELECT name, waits.slots, pid, user, command, holder, since"
            " FROM waits JOIN waiters USING (ticket)"
            " JOIN settings ON settings.key = limit_key JOIN owners ON owners.key = owner"
            f" {_of(key)} ORDER BY name, ticket LIMIT :most",
            {"key": key, "most": -1 if most is None else most},
        ).fetchall()

    def view(result: tuple[float, list[Any]]) -> list[Waiter]:
        now, rows = result
        position: dict[str, int] = {}
        seen = []
        for limit, slots, pid, user, command, holder, since in rows:
            position[limit] = position.get(limit, 0) + 1
            seen.append(
                Waiter(
                    position=position[limit],
                    limit=limit,
                    slots=slots,
                    pid=pid,
                    user=user,
                    command=command,
                    holder=holder,
                    **_since(now, since, "waited_seconds"),
                )
            )
        return seen

    return Action(work, view, absent=lambda: _absent_or_empty(name))


def _check_filter(name: str | None) -> None:
    if name is not None:
        check_name(name)


# Inside a transaction


def _of(key: int | None) -> str:
    """Return the condition for rows of the ledger or of waits: all, or those of one limit."""
    return "" if key is None else "WHERE limit_key = :key"


def _look(tx: Transaction, name: str | None) -> int | None:
    key = None if name is None else key_of(tx, name)
    promote(tx, owners.sweep(tx))
    return key


# For the caller


def _row(tx: Transaction, name: str) -> Any:
    return (*tx.execute(f"{_VIEW} WHERE name = ?", (name,)).fetchone(), tx.now)


def _limit(row: Any) -> Limit:
    (
        identity, created, updated, name, active, slots, used, rate, level, then, occupancy,
        waiting, now,
    ) = row  # fmt: skip
    return Limit(
        id=identity,
        created=_utc(created),
        updated=_utc(updated),
        name=name,
        active=bool(active),
        limit=slots,
        active_slots=decay.whole(decay.level_at(level, then, rate, now)) if rate else used,
        slot_decay_per_second=rate,
        avg_slot_occupancy_seconds=occupancy,
        waiting=waiting,
    )


def _since(now: float, since: float, seconds: str) -> dict[str, Any]:
    elapsed = max(0.0, now - since)
    return {"since": _utc(clock.wall() - elapsed), seconds: elapsed}


def _utc(wall: float) -> datetime:
    return datetime.fromtimestamp(wall, UTC)


def _nothing(_: object) -> None:
    return None


def _absent(name: str) -> Any:
    raise LimitNotFoundError(name)


def _absent_or_empty(name: str | None) -> list[Any]:
    return [] if name is None else _absent(name)
