"""Reading limits as they are now; who holds their slots and waits for them is in `usage`.

Each function checks its arguments and returns an `Action`, which both flavours can run.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from localgcl._admin.action import Action
from localgcl._admin.changes import key_of, limit_or_key
from localgcl._base import clock
from localgcl._base.checks import MAX_SLOTS, check_name, check_requested_name
from localgcl._base.rates import rate_text
from localgcl._engine import decay, keys, owners, window
from localgcl._engine.admission import LIMIT_COLUMNS, LimitRow, moment
from localgcl._engine.order import Rooms, slots_ahead
from localgcl._engine.queue import promote
from localgcl._storage.database import Transaction
from localgcl.errors import LimitNotFoundError
from localgcl.models import Limit

# A pause that lasts until somebody resumes the limit.
_FOREVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)

_VIEW = (
    f"SELECT 0, {LIMIT_COLUMNS}, id, created, updated, occupancy, template, granted_at,"
    " timed_out_at FROM limits"
)
_COLUMNS_BEFORE_ID = 14

# Of the keys of each template. There may be ten thousand of them, so they are not read one by one.
_KEYS = "FROM limits WHERE key < 0 AND template IS NOT NULL"
_SUMS_OF_KEYS = (
    "SELECT template, sum(used * NOT (decay OR window)), count(*), sum(waiting), max(granted_at),"
    f" max(timed_out_at) {_KEYS} GROUP BY template"
)
_LEVELS_OF_KEYS = f"SELECT template, level, level_at, decay {_KEYS} AND decay"
_WINDOWS_OF_KEYS = (
    "SELECT template, sum(taken.slots) FROM taken JOIN settings ON key = limit_key"
    " WHERE key < 0 AND at <= ? AND at + window > ? GROUP BY template"
)


class Seen(NamedTuple):
    """A limit as a transaction has seen it at a moment."""

    row: LimitRow
    rest: tuple[Any, ...]  # id and what follows in `_VIEW`
    in_use: int
    available: int
    waiting: int
    next_at: float
    template: tuple[str, str] | None  # name and id of a key's template
    keys: int | None
    now: float


def read(name: str) -> Action[Limit]:
    """Read one limit, or a key of a template."""
    check_requested_name(name)

    def work(tx: Transaction) -> Seen:
        limit_or_key(tx, name)
        look(tx)
        return see(tx, name)

    return Action(work, limit_of, absent=lambda: absent(name))


def name_of(identity: str) -> Action[str]:
    """Read the name of the limit with this id."""

    def work(tx: Transaction) -> Any:
        row = tx.execute("SELECT name FROM settings WHERE id = ?", (identity,)).fetchone()
        return row[0] if row is not None else absent(identity)

    return Action(work, str, absent=lambda: absent(identity))


def read_all(*, with_keys: bool = False) -> Action[list[Limit]]:
    """Read all limits, by name; `with_keys` also the keys of templates that are in use."""
    which = "" if with_keys else "WHERE template IS NULL"

    def work(tx: Transaction) -> list[Seen]:
        look(tx)
        return _all(tx, tx.execute(f"{_VIEW} {which} ORDER BY name").fetchall())

    return Action(work, _limits_of, absent=list)


def read_part(after: int | None, most: int) -> Action[tuple[list[Limit], int | None]]:
    """Read up to `most` limits whose key is greater than `after`, and the key of the last.

    Begin with None. The key is None if there are no more. Reading thousands of limits in parts
    keeps nobody from the gate for long. Dead owners are cleared away with the first part.
    """

    def work(tx: Transaction) -> list[Seen]:
        if after is None:
            look(tx)
        rows = tx.execute(
            f"{_VIEW} WHERE key > ? AND template IS NULL ORDER BY key LIMIT ?",
            (-MAX_SLOTS if after is None else after, most),
        ).fetchall()
        return _all(tx, rows)

    def view(found: list[Seen]) -> tuple[list[Limit], int | None]:
        return _limits_of(found), found[-1].row.key if len(found) == most else None

    return Action(work, view, absent=lambda: ([], None))


def read_page(offset: int, most: int) -> Action[list[Limit]]:
    """Read up to `most` limits, by name, without the first `offset` of them."""

    def work(tx: Transaction) -> list[Seen]:
        look(tx)
        rows = tx.execute(
            f"{_VIEW} WHERE key IN (SELECT key FROM settings WHERE template IS NULL"
            " ORDER BY name LIMIT ? OFFSET ?) ORDER BY name",
            (most, offset),
        ).fetchall()
        return _all(tx, rows)

    return Action(work, _limits_of, absent=list)


def read_keys(template: str, *, most: int) -> Action[list[Limit]]:
    """Read up to `most` keys of a template that are in use, by name."""

    def work(tx: Transaction) -> list[Seen]:
        key = key_of(tx, template)
        look(tx)
        return _all(
            tx,
            tx.execute(
                f"{_VIEW} WHERE key < 0 AND template = ? ORDER BY name LIMIT ?", (key, most)
            ).fetchall(),
        )

    return Action(work, _limits_of, absent=lambda: absent(template))


# Inside a transaction


def look(tx: Transaction) -> None:
    """Clear away the dead, and keys that are idle."""
    promote(tx, owners.sweep(tx))
    keys.sweep(tx)


def see(tx: Transaction, name: str) -> Seen:
    """Return what there is to see of a limit, or of a key, which may be idle."""
    columns = tx.execute(f"{_VIEW} WHERE name = ?", (name,)).fetchone()
    if columns is not None:
        return _all(tx, [columns])[0]
    template = keys.template_of(tx, name)
    if template is None:
        return absent(name)  # type: ignore[no-any-return]
    seen = _all(tx, tx.execute(f"{_VIEW} WHERE key = ?", (template[0],)).fetchall())[0]
    row = seen.row
    row.name, row.prefix = name, None
    return seen._replace(
        in_use=0,
        available=row.limit,
        waiting=0,
        template=(template[1], seen.rest[0]),
        keys=None,
        rest=(None, *seen.rest[1:5], None, None),
    )


def _all(tx: Transaction, found: Iterable[Any]) -> list[Seen]:
    seen = [_seen(tx, columns) for columns in found]
    if not any(one.row.prefix is not None or one.rest[4] is not None for one in seen):
        return seen
    return _with_keys(tx, seen)


def _seen(tx: Transaction, columns: Any) -> Seen:
    row = LimitRow(columns[:_COLUMNS_BEFORE_ID], 1)
    if row.decay:
        in_use = decay.whole(decay.level_at(row.level, row.level_at, row.decay, tx.now))
    elif row.window:
        in_use = window.in_use(tx, row.key, row.window)
    else:
        in_use = row.used
    ahead = slots_ahead(tx, Rooms(tx), row.key, MAX_SLOTS) if row.waiting else 0
    next_at = moment(tx, row, ahead + 1) if row.active else tx.now
    if row.active and not row.limit:
        next_at = math.inf
    available = max(0, row.limit - in_use)
    rest = columns[_COLUMNS_BEFORE_ID:]
    return Seen(row, rest, in_use, available, row.waiting, next_at, None, None, tx.now)


def _with_keys(tx: Transaction, seen: list[Seen]) -> list[Seen]:
    """Add to templates what their keys have, and to keys what they have of their templates."""
    templates = {
        key: (name, identity)
        for key, name, identity in tx.execute(
            "SELECT key, name, id FROM settings WHERE prefix IS NOT NULL"
            " OR key IN (SELECT template FROM settings WHERE key < 0)"
        ).fetchall()
    }
    in_use, sums = Counter[int](), {}
    if any(one.row.prefix is not None for one in seen):
        for template, used, *rest in tx.execute(_SUMS_OF_KEYS).fetchall():
            in_use[template], sums[template] = used, rest
        for template, level, then, rate in tx.execute(_LEVELS_OF_KEYS).fetchall():
            in_use[template] += decay.whole(decay.level_at(level, then, rate, tx.now))
        for template, slots in tx.execute(_WINDOWS_OF_KEYS, (tx.now, tx.now)).fetchall():
            in_use[template] += slots
    found = []
    for one in seen:
        if one.rest[4] is not None:
            one = one._replace(template=templates.get(one.rest[4]))
        elif one.row.prefix is not None:
            number, waiting, *latest = sums.get(one.row.key, (0, 0, None, None))
            one = one._replace(
                in_use=one.in_use + in_use[one.row.key],
                waiting=one.waiting + waiting,
                keys=number,
                rest=(*one.rest[:5], *map(_later, one.rest[5:], latest)),
            )
        found.append(one)
    return found


def _later(at: float | None, other: float | None) -> float | None:
    return other if at is None or (other is not None and other > at) else at


# For the caller


def limit_of(seen: Seen) -> Limit:
    """Return a limit as the caller gets it."""
    row, now = seen.row, seen.now
    identity, created, updated, occupancy, _, granted, timed_out = seen.rest
    template = seen.template
    if identity is None and template is not None:  # of a key, which has none of its own
        identity = keys.id_of_key(template[1], row.name)
    return Limit(
        id=identity,
        created=utc(created),
        updated=utc(updated),
        name=row.name if template is not None else check_name(row.name),
        active=bool(row.active),
        limit=row.limit,
        active_slots=seen.in_use,
        available_slots=seen.available,
        next_slot_seconds=seconds_until(seen.next_at, now),
        slot_decay_per_second=row.decay,
        rate=rate_text(row.decay),
        window_seconds=row.window,
        paused_until=_paused_until(row.paused, now),
        avg_slot_occupancy_seconds=occupancy,
        waiting=seen.waiting,
        template=None if template is None else template[0],
        keys=seen.keys,
        last_granted=_moment(granted, now),
        last_timed_out=_moment(timed_out, now),
    )


def _limits_of(found: Iterable[Seen]) -> list[Limit]:
    return [limit_of(one) for one in found]


def seconds_until(at: float, now: float) -> float | None:
    """Return the seconds until a moment; None if it never comes."""
    return None if at == math.inf else max(0.0, at - now)


def _paused_until(paused: float, now: float) -> datetime | None:
    if paused <= now:
        return None
    return _FOREVER if paused == math.inf else _moment(paused, now)


def _moment(at: float | None, now: float) -> datetime | None:
    return None if at is None else utc(min(_FOREVER.timestamp(), clock.wall() + at - now))


def utc(wall: float) -> datetime:
    """Return a moment of the wall clock as people read it."""
    return datetime.fromtimestamp(wall, UTC)


def absent(name: str) -> Any:
    """Raise the error for a limit that there is not."""
    raise LimitNotFoundError(name)
