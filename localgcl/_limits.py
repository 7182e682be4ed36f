"""Administration: limits are created, read, changed and deleted, and who holds and waits is shown.

Each function checks its arguments and returns an `Action`, which either flavour carries out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from localgcl import _clock, _decay, _owners
from localgcl._checks import check_name, check_whole
from localgcl._creation import insert_row
from localgcl._database import Transaction, strange
from localgcl._queue import leave_queues, promote, refuse, serve
from localgcl.errors import LimitAlreadyExistsError, LimitNotFoundError
from localgcl.models import Changes, Holder, Limit, Settings, Waiter, first_fault

T = TypeVar("T")

_VIEW = (
    "SELECT id, created, updated, name, active, slots, used, decay, level, level_at, occupancy,"
    " waiting FROM limits"
)


class Action(Generic[T]):
    """A transaction, what its caller is given of its result, and what if there is no database."""

    def __init__(
        self,
        work: Callable[[Transaction], Any],
        view: Callable[[Any], T],
        *,
        absent: Callable[[], T] | None = None,
    ) -> None:
        self.work = work
        self.view = view
        self.absent = absent  # None: it writes, so the database is made

    def result(self, path: str, found: Any) -> T:
        """Return what the caller is given; DatabaseError where no release of ours wrote that."""
        try:
            return self.view(found)
        except ValidationError as error:
            raise strange(path, first_fault(error)) from error
        except (ArithmeticError, OSError, TypeError, ValueError) as error:
            raise strange(path, error) from error

    @property
    def durable(self) -> bool:
        """Whether it changes what must outlive a power cut."""
        return self.absent is None


def together(*actions: Action[Any]) -> Action[list[Any]]:
    """Read several things in one transaction, as they are at one moment."""
    return Action(
        lambda tx: [action.work(tx) for action in actions],
        lambda found: [one.view(rows) for one, rows in zip(actions, found, strict=True)],
        absent=lambda: [action.absent() for action in actions if action.absent is not None],
    )


def create(
    name: str, limit: int, *, slot_decay_per_second: float, active: bool, active_slots: int
) -> Action[Limit]:
    """Create a limit."""
    check_name(name)
    settings = Settings(limit=limit, slot_decay_per_second=slot_decay_per_second, active=active)
    check_whole("active_slots", active_slots, 0)

    def work(tx: Transaction) -> Any:
        if _find(tx, name) is not None:
            raise LimitAlreadyExistsError(name)
        insert(tx, name, settings)
        _set_slots(tx, key_of(tx, name), active_slots)
        return _row(tx, name)

    return Action(work, _limit)


def read(name: str) -> Action[Limit]:
    """Read one limit."""
    check_name(name)

    def work(tx: Transaction) -> Any:
        key_of(tx, name)
        promote(tx, _owners.sweep(tx))
        return _row(tx, name)

    return Action(work, _limit, absent=lambda: _absent(name))


def name_of(identity: str) -> Action[str]:
    """Read the name of the limit with this id."""

    def work(tx: Transaction) -> Any:
        row = tx.execute("SELECT name FROM limits WHERE id = ?", (identity,)).fetchone()
        return row[0] if row is not None else _absent(identity)

    return Action(work, str, absent=lambda: _absent(identity))


def read_all() -> Action[list[Limit]]:
    """Read all limits, by name."""

    def work(tx: Transaction) -> Any:
        promote(tx, _owners.sweep(tx))
        return [(*row, tx.now) for row in tx.execute(f"{_VIEW} ORDER BY name").fetchall()]

    return Action(work, lambda rows: [_limit(row) for row in rows], absent=list)


def update(
    name: str,
    *,
    new_name: str | None,
    limit: int | None,
    slot_decay_per_second: float | None,
    active: bool | None,
    active_slots: int | None,
) -> Action[Limit]:
    """Change what is given of a limit."""
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
    *,
    slot_decay_per_second: float,
    active: bool,
    active_slots: int | None,
) -> Action[Limit]:
    """Create a limit or bring it to these values."""
    check_name(name)
    settings = Settings(limit=limit, slot_decay_per_second=slot_decay_per_second, active=active)
    changes = Changes(**settings.model_dump(), active_slots=active_slots)

    def work(tx: Transaction) -> Any:
        if _find(tx, name) is None:
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
        key = key_of(tx, name)
        _set_slots(tx, key, 0)
        promote(tx, [key])

    return Action(work, _nothing)


def holders(name: str | None) -> Action[list[Holder]]:
    """Read who holds slots."""
    _check_filter(name)

    def work(tx: Transaction) -> Any:
        key = _look(tx, name)
        return tx.now, tx.execute(
            "SELECT lease, limits.name, leases.slots, pid, user, command, holder, since"
            " FROM leases JOIN limits ON limits.key = limit_key"
            " JOIN owners ON owners.key = owner"
            f" {_of(key)} ORDER BY limits.name, since, lease",
            {"key": key},
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


def waiters(name: str | None) -> Action[list[Waiter]]:
    """Read who waits."""
    _check_filter(name)

    def work(tx: Transaction) -> Any:
        key = _look(tx, name)
        return tx.now, tx.execute(
            "SELECT limits.name, waits.slots, pid, user, command, holder, since"
            " FROM waits JOIN waiters USING (ticket)"
            " JOIN limits ON limits.key = limit_key JOIN owners ON owners.key = owner"
            f" {_of(key)} ORDER BY limits.name, ticket",
            {"key": key},
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


def _find(tx: Transaction, name: str) -> int | None:
    row = tx.execute("SELECT key FROM limits WHERE name = ?", (name,)).fetchone()
    return None if row is None else int(row[0])


def key_of(tx: Transaction, name: str) -> int:
    """Return a limit's key; LimitNotFoundError where there is none."""
    key = _find(tx, name)
    if key is None:
        raise LimitNotFoundError(name)
    return key


def _of(key: int | None) -> str:
    """Return which rows of leases or waits are meant: all of them, or those of one limit."""
    return "" if key is None else "WHERE limit_key = :key"


def _look(tx: Transaction, name: str | None) -> int | None:
    key = None if name is None else key_of(tx, name)
    promote(tx, _owners.sweep(tx))
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
    """Change a limit, and let those who wait feel it."""
    if changes.name is not None:
        known = _find(tx, changes.name)
        if known not in (None, key):
            raise LimitAlreadyExistsError(changes.name)
    if changes.slot_decay_per_second is not None:
        _set_decay(tx, key, changes.slot_decay_per_second)
    for column, value in (
        ("name", changes.name),
        ("slots", changes.limit),
        ("active", changes.active),
        ("updated", _clock.wall()),
    ):
        if value is not None:
            tx.execute(f"UPDATE limits SET {column} = ? WHERE key = ?", (value, key))
    if changes.active_slots is not None:
        _set_slots(tx, key, changes.active_slots)
    promote(tx, [key], all_of_them=True)


def _set_decay(tx: Transaction, key: int, rate: float) -> None:
    before, used, level, then = tx.execute(
        "SELECT decay, used, level, level_at FROM limits WHERE key = ?", (key,)
    ).fetchone()
    if rate == before:
        return
    if rate:
        # Slots set by hand become part of the level, which is nobody's either.
        tx.execute("DELETE FROM leases WHERE limit_key = ? AND owner = 0", (key,))
        at = max(tx.now, then) if before else tx.now
        level = _decay.level_at(level, then, before, at) if before else float(used)
        # What a lease has lost by decay so far it shall have lost at the new rate too.
        tx.execute(
            "UPDATE leases SET decays_from = ? - ? * max(0, ? - decays_from) WHERE limit_key = ?",
            (tx.now, min(before / rate, sys.float_info.max), tx.now, key),
        )
    else:
        level, at = 0.0, tx.now
    tx.execute(
        "UPDATE limits SET decay = ?, level = ?, level_at = ? WHERE key = ?", (rate, level, at, key)
    )


def _set_slots(tx: Transaction, key: int, slots: int) -> None:
    """Set so many slots in use with nobody behind them, in place of every lease."""
    tx.execute("DELETE FROM leases WHERE limit_key = ?", (key,))
    ((rate,),) = tx.execute("SELECT decay FROM limits WHERE key = ?", (key,)).fetchall()
    level = float(slots) if rate else 0.0
    tx.execute("UPDATE limits SET level = ?, level_at = ? WHERE key = ?", (level, tx.now, key))
    if slots and not rate:
        tx.execute(
            "INSERT INTO leases (lease, limit_key, owner, slots, since, decays_from)"
            " VALUES (?, ?, 0, ?, ?, ?)",
            (os.urandom(16).hex(), key, slots, tx.now, tx.now),
        )


def remove(tx: Transaction, key: int, name: str) -> None:
    """Delete a limit; strict waiters are refused, the others pass it by."""
    tx.execute("DELETE FROM leases WHERE limit_key = ?", (key,))
    queued = tx.execute(
        "SELECT ticket, strict, passed, ear, limits FROM waits JOIN waiters USING (ticket)"
        " WHERE limit_key = ? ORDER BY ticket",
        (key,),
    ).fetchall()
    tx.execute("DELETE FROM waits WHERE limit_key = ?", (key,))
    tx.execute("DELETE FROM limits WHERE key = ?", (key,))
    left: set[int] = set()
    for ticket, strict, passed, ear, limits in queued:
        if strict:
            refuse(tx, ticket, ear, "missing", [name])
            left |= leave_queues(tx, ticket, limits)
        else:
            passed = f"{passed}\n{name}" if passed else name
            tx.execute("UPDATE waiters SET passed = ? WHERE ticket = ?", (passed, ticket))
            left |= serve(tx, ticket).keys()
    promote(tx, left)


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
        active_slots=_decay.whole(_decay.level_at(level, then, rate, now)) if rate else used,
        slot_decay_per_second=rate,
        avg_slot_occupancy_seconds=occupancy,
        waiting=waiting,
    )


def _since(now: float, since: float, seconds: str) -> dict[str, Any]:
    elapsed = max(0.0, now - since)
    return {"since": _utc(_clock.wall() - elapsed), seconds: elapsed}


def _utc(wall: float) -> datetime:
    return datetime.fromtimestamp(wall, UTC)


def _nothing(_: object) -> None:
    return None


def _absent(name: str) -> Any:
    raise LimitNotFoundError(name)


def _absent_or_empty(name: str | None) -> list[Any]:
    return [] if name is None else _absent(name)
