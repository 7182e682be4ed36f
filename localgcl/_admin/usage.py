"""Who holds slots, and who waits for them.

Each function checks its arguments and returns an `Action`, which both flavours can run.
"""

from __future__ import annotations

import math
from typing import Any

from localgcl._admin.action import Action
from localgcl._admin.changes import limit_or_key
from localgcl._admin.reading import absent, look, seconds_until, utc
from localgcl._base import clock
from localgcl._base.checks import check_requested_name
from localgcl._engine import keys
from localgcl._engine.admission import moment
from localgcl._engine.order import QUEUE, Rooms, slots_ahead, wanted_by
from localgcl._engine.wait import opens_at
from localgcl._storage.database import Transaction
from localgcl.models import Holder, Waiter


def holders(name: str | None, *, most: int | None = None) -> Action[list[Holder]]:
    """Read who holds slots, up to `most` holders; of a template, who holds those of its keys."""
    _check_filter(name)

    def work(tx: Transaction) -> Any:
        which = _look_for(tx, name)
        # A part of thousands is read in the order in which the rows are stored.
        order = "name, since, lease" if most is None else "limit_key"
        return tx.now, tx.execute(
            "SELECT lease, name, ledger.slots, pid, user, command, holder, since"
            " FROM ledger JOIN settings ON settings.key = limit_key"
            " JOIN owners ON owners.key = owner"
            f" {which} ORDER BY {order} LIMIT ?",
            (-1 if most is None else most,),
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
    """Read who waits, up to the first `most` of them; of a template, who waits for its keys."""
    _check_filter(name)

    def work(tx: Transaction) -> Any:
        which = _look_for(tx, name)
        rows = tx.execute(
            "SELECT name, waits.slots, pid, user, command, holder, since, limit_key, ticket"
            " FROM waits JOIN waiters USING (ticket)"
            " JOIN settings ON settings.key = limit_key JOIN owners ON owners.key = owner"
            f" {which} ORDER BY name, ticket LIMIT ?",
            (-1 if most is None else most,),
        ).fetchall()
        expected = _Expected(tx)
        return tx.now, [(*row[:-2], expected.of(*row[-2:])) for row in rows]

    def view(result: tuple[float, list[Any]]) -> list[Waiter]:
        now, rows = result
        position: dict[str, int] = {}
        seen = []
        for limit, slots, pid, user, command, holder, since, at in rows:
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
                    expected_seconds=seconds_until(at, now),
                )
            )
        return seen

    return Action(work, view, absent=lambda: _absent_or_empty(name))


class _Expected:
    """When time alone grants to waiters that are asked for in the order of their queues."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._rooms = Rooms(tx)
        self._ahead: dict[int, int] = {}

    def of(self, key: int, ticket: int) -> float:
        row = self._rooms.at(key)
        if row is None:
            return math.inf
        if row.mixed:
            place = self._tx.execute(QUEUE, (key, ticket - 1)).fetchone()
            return opens_at(self._tx, self._rooms, wanted_by(place), ticket)
        if not (row.decay or row.window or row.paused):
            return math.inf  # if it fitted, it would not wait
        ahead = self._ahead.get(key)
        if ahead is None:
            ahead = slots_ahead(self._tx, self._rooms, key, ticket)
        ((slots,),) = self._tx.execute(
            "SELECT slots FROM waits WHERE limit_key = ? AND ticket = ?", (key, ticket)
        ).fetchall()
        self._ahead[key] = ahead + slots
        return moment(self._tx, row, ahead + slots)


def _check_filter(name: str | None) -> None:
    if name is not None:
        check_requested_name(name)


# Inside a transaction


def _look_for(tx: Transaction, name: str | None) -> str:
    """Clear away the dead, and return the condition for rows of one limit, or of all."""
    key = None if name is None else limit_or_key(tx, name)
    look(tx)
    if name is None:
        return ""
    wanted = [] if key is None else [key, *keys.keys_of(tx, key)]
    return f"WHERE limit_key IN ({', '.join(map(str, wanted))})"


# For the caller


def _since(now: float, since: float, seconds: str) -> dict[str, Any]:
    elapsed = max(0.0, now - since)
    return {"since": utc(clock.wall() - elapsed), seconds: elapsed}


def _absent_or_empty(name: str | None) -> list[Any]:
    return [] if name is None else absent(name)
