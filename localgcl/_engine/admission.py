"""Whether a request fits at its limits, and how it takes its slots: the rule, written once.

A request fits at a limit if enough slots are free. At a limit with decay or with a window, it fits
from the moment at which enough of them have come back. At a limit that is paused, nothing fits
before the pause ends. Inactive limits are ignored.
"""

from __future__ import annotations

import math

from localgcl._engine import decay, window
from localgcl._engine.tables import COUNTERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from localgcl._engine.transaction import Transaction
    from localgcl.errors import Refusal

LIMIT_COLUMNS = (
    "prefix, key, name, active, limits.slots, used, waiting, limits.mixed, decay, window, paused,"
    " level, level_at"
)

LEASE = (
    "INSERT INTO ledger (limit_key, owner, lease, slots, since, decays_from, holder, asked)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_FIND = f"SELECT 0, {LIMIT_COLUMNS} FROM limits WHERE key = ?"
LEVEL = "decay, window, level, level_at"
_LEVEL = f"SELECT {LEVEL} FROM limits WHERE key = ?"
_COUNT_GRANT = (
    "UPDATE ledger SET grants = grants + 1, waited = waited + ?,"
    f" longest_wait = max(longest_wait, ?), granted_at = ? WHERE {COUNTERS}"
)
_COUNT_REFUSAL = (
    "UPDATE ledger SET refusals = refusals + 1"
    " WHERE limit_key = (SELECT key FROM settings WHERE name = ?) AND owner = -1 AND lease = ''"
)


class LimitRow:
    """The columns of a limit that decide whether a request fits, and the slots that it `wants`."""

    __slots__ = (
        "active",
        "decay",
        "key",
        "level",
        "level_at",
        "limit",
        "mixed",
        "name",
        "paused",
        "prefix",
        "used",
        "waiting",
        "wants",
        "window",
    )

    def __init__(self, columns: Sequence[Any], wants: int) -> None:
        (
            _,  # a column that the caller selects for itself
            self.prefix,
            self.key,
            self.name,
            self.active,
            self.limit,
            self.used,
            self.waiting,
            self.mixed,
            self.decay,
            self.window,
            self.paused,
            self.level,
            self.level_at,
        ) = columns
        self.wants = wants


def row_of(tx: Transaction, key: int, wants: int = 0) -> LimitRow | None:
    """Return a limit's row; None if it was deleted."""
    columns = tx.execute(_FIND, (key,)).fetchone()
    return None if columns is None else LimitRow(columns, wants)


def moment(tx: Transaction, row: LimitRow, slots: int) -> float:
    """Return the first moment, now or later, at which `slots` fit at an active limit.

    It is infinity if only a release, or the end of a pause without an end, can make room.
    """
    at = tx.now
    if row.decay:
        at = decay.moment(row.level, row.level_at, row.decay, row.limit, slots, at)
    elif row.window:
        at = window.moment(tx, row.key, row.window, row.level, row.limit, slots)
    elif row.used + slots > row.limit:
        return math.inf
    return at if row.paused <= at else float(row.paused)


def opening(tx: Transaction, rows: Iterable[LimitRow]) -> float:
    """Return the first moment, now or later, at which what is wanted fits at all of these limits.

    It is infinity if time alone cannot make room. Inactive limits do not count.
    """
    at = tx.now
    for row in rows:
        if row.active:
            at = max(at, moment(tx, row, row.wants))
    return at


def by_time(row: LimitRow, now: float) -> bool:
    """Whether time alone can make room at a limit."""
    return bool(row.decay or row.window or now < row.paused < math.inf)


def refusal(rows: Iterable[LimitRow], holds: bool) -> tuple[Refusal, list[str]] | None:
    """Return why no wait would help, and at which limits; None if waiting can help."""
    over = [row.name for row in rows if row.active and row.wants > row.limit]
    if over:
        return "over_limit", over
    if not holds:
        without = [row.name for row in rows if row.active and not row.decay and not row.window]
        if without:
            return "no_decay", without
    return None


def take(
    tx: Transaction,
    rows: Iterable[LimitRow],
    at: float,
    *,
    request: str,
    owner: int | None,
    holder: str | None,
    asked: float | None = None,
) -> list[int]:
    """Take what is wanted of each active limit as of the moment `at`; return their keys.

    With `owner` None, this leaves no lease. `asked` is the moment at which the request began to
    wait.
    """
    taken = []
    for row in rows:
        if not row.active:
            continue
        counts = owner is None  # a grant that leaves a lease is counted when the lease is inserted
        waited = 0.0 if asked is None or not counts else at - asked
        if row.decay:
            then = max(at, row.level_at)
            level = decay.level_at(row.level, row.level_at, row.decay, then) + row.wants
            tx.execute(
                "UPDATE ledger SET level = ?, level_at = ?, grants = grants + ?,"
                " waited = waited + ?, longest_wait = max(longest_wait, ?), granted_at = ?"
                f" WHERE {COUNTERS}",
                (level, then, counts, waited, waited, at, row.key),
            )
        elif row.window:
            if row.level + row.wants > row.limit:
                # Not those that come back by `at`: others may ask before.
                window.drop_passed(tx, row.key, row.window, tx.now)
            window.take(tx, row.key, at, request, row.wants)
            if counts:
                tx.execute(_COUNT_GRANT, (waited, waited, at, row.key))
        if owner is not None:
            tx.execute(LEASE, (row.key, owner, request, row.wants, at, at, holder, asked))
        taken.append(row.key)
    return taken


def give_back(tx: Transaction, key: int, slots: int, since: float, request: str) -> None:
    """Give back what a request took of a limit with a rate or a window, as of the moment `since`.

    Slots that have come back meanwhile stay as they are.
    """
    found = tx.execute(_LEVEL, (key,)).fetchone()
    if found is not None:
        lower(tx, key, slots, since, request, *found)


def lower(
    tx: Transaction,
    key: int,
    slots: int,
    since: float,
    request: str,
    rate: float,
    seconds: float,
    level: float,
    then: float,
) -> None:
    """As `give_back`, where the limit's rate, window and level are known."""
    if seconds:
        window.give_back(tx, key, since, request)
    elif rate:
        # The level may be that of a moment ahead. The slots have decayed until that moment.
        at = max(tx.now, then)
        level = decay.level_at(level, then, rate, at)
        level = max(0.0, level - decay.given_back(slots, rate, at - since))
        tx.execute(f"UPDATE ledger SET level = ?, level_at = ? WHERE {COUNTERS}", (level, at, key))


def count_refusal(tx: Transaction, names: Iterable[str]) -> None:
    """Count a request that no wait could satisfy, at each limit that is the reason."""
    for name in names:
        tx.execute(_COUNT_REFUSAL, (name,))


def count_timeout(tx: Transaction, limits: Iterable[int]) -> None:
    """Count a request that gave up, at each of its limits."""
    for key in limits:
        tx.execute(
            f"UPDATE ledger SET timeouts = timeouts + 1, timed_out_at = ? WHERE {COUNTERS}",
            (tx.now, key),
        )
