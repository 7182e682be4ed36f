"""Whether a request fits at its limits, and how it takes its slots: the rule, written once.

A request fits at a limit without decay if enough slots are free. It fits at a limit with decay from
the moment at which the level has sunk far enough. Inactive limits are ignored.
"""

from __future__ import annotations

import math

from localgcl._engine import decay
from localgcl._engine.tables import COUNTERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from localgcl._engine.transaction import Transaction
    from localgcl.errors import Refusal

LIMIT_COLUMNS = "key, name, active, slots, used, waiting, decay, level, level_at"

LEASE = (
    "INSERT INTO ledger (limit_key, owner, lease, slots, since, decays_from, holder, asked)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_COUNT_REFUSAL = (
    "UPDATE ledger SET refusals = refusals + 1"
    " WHERE limit_key = (SELECT key FROM settings WHERE name = ?) AND owner = -1 AND lease = ''"
)


class LimitRow:
    """The columns of a limit that decide whether a request fits."""

    __slots__ = ("active", "decay", "key", "level", "level_at", "limit", "name", "used", "waiting")

    def __init__(self, columns: Sequence[Any]) -> None:
        (
            _,  # a column that the caller selects for itself
            self.key,
            self.name,
            self.active,
            self.limit,
            self.used,
            self.waiting,
            self.decay,
            self.level,
            self.level_at,
        ) = columns


def opening(rows: Iterable[LimitRow], slots: int, now: float) -> float:
    """Return the first moment, `now` or later, at which `slots` fit at all of these limits.

    It is infinity if only a release can make room. Inactive limits do not count.
    """
    at = now
    for row in rows:
        if not row.active:
            continue
        if row.decay:
            at = max(at, decay.moment(row.level, row.level_at, row.decay, row.limit, slots, now))
        elif row.used + slots > row.limit:
            return math.inf
    return at


def refusal(rows: Iterable[LimitRow], slots: int, holds: bool) -> tuple[Refusal, list[str]] | None:
    """Return why no wait would help, and at which limits; None if waiting can help."""
    over = [row.name for row in rows if row.active and slots > row.limit]
    if over:
        return "over_limit", over
    if not holds:
        without_decay = [row.name for row in rows if row.active and not row.decay]
        if without_decay:
            return "no_decay", without_decay
    return None


def take(
    tx: Transaction,
    rows: Iterable[LimitRow],
    slots: int,
    at: float,
    *,
    lease: str,
    owner: int | None,
    holder: str | None,
    asked: float | None = None,
) -> list[int]:
    """Take `slots` of each active limit as of the moment `at`; return the keys of those limits.

    With `owner` None, this leaves no lease. `asked` is the moment at which the request began to
    wait.
    """
    taken = []
    for row in rows:
        if not row.active:
            continue
        if row.decay:
            then = max(at, row.level_at)
            level = decay.level_at(row.level, row.level_at, row.decay, then) + slots
            # A grant that leaves a lease is counted when the lease is inserted.
            counts = owner is None
            waited = 0.0 if asked is None or not counts else at - asked
            tx.execute(
                "UPDATE ledger SET level = ?, level_at = ?, grants = grants + ?,"
                f" waited = waited + ?, longest_wait = max(longest_wait, ?) WHERE {COUNTERS}",
                (level, then, counts, waited, waited, row.key),
            )
        if owner is not None:
            tx.execute(LEASE, (row.key, owner, lease, slots, at, at, holder, asked))
        taken.append(row.key)
    return taken


def count_refusal(tx: Transaction, names: Iterable[str]) -> None:
    """Count a request that no wait could satisfy, at each limit that is the reason."""
    for name in names:
        tx.execute(_COUNT_REFUSAL, (name,))


def count_timeout(tx: Transaction, limits: Iterable[int]) -> None:
    """Count a request that gave up, at each of its limits."""
    for key in limits:
        tx.execute(f"UPDATE ledger SET timeouts = timeouts + 1 WHERE {COUNTERS}", (key,))
