"""The transactions of the queues: in which order waiters are tried, and how many at a time.

A request stands in the queue of each of its limits, in the order of its ticket. Each transaction
that may free a slot or shorten a queue promotes that queue. If that takes long, the next
transactions do the rest.
"""

from __future__ import annotations

from localgcl._base.checks import MAX_SLOTS
from localgcl._engine.grant import grant_next, try_grant
from localgcl._engine.watchers import WAKES, wake_watchers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from localgcl._engine.transaction import Transaction

_WAKES_BY_RATE = f"{WAKES} AND EXISTS (SELECT 1 FROM settings WHERE key = ? AND decay)"

# Used in place of the ticket last tried, if only the first of a queue must be tried, or if all were
# tried.
_ASKED = MAX_SLOTS


def promote(tx: Transaction, limits: Iterable[int], *, all_of_them: bool = False) -> None:
    """Grant, in order, to everybody in these queues who fits now, and wake those concerned.

    Each transaction that may free a slot or shorten a queue calls this. After a change of a limit,
    `all_of_them` are tried, since the change may concern some who are not first.
    """
    _promote(tx, dict.fromkeys(limits, 0 if all_of_them else _ASKED))


def try_grant_each(tx: Transaction, tickets: Sequence[int]) -> None:
    """Try these waiters, wherever they stand in their queues, and then those behind them."""
    left: set[int] = set()
    for number, ticket in enumerate(tickets):
        if tx.share <= 0:
            rest = tickets[number:]
            _rest_of(tx).tickets += rest
            for one in rest:
                _wake_for_rest(tx, one)
            break
        left |= try_grant(tx, ticket).keys()
    promote(tx, left)


class _Rest:
    """What is left to the next transaction: waiters, and queues with the ticket last tried."""

    __slots__ = ("queues", "tickets")

    def __init__(self) -> None:
        self.tickets: list[int] = []
        self.queues: dict[int, int] = {}

    def __call__(self, tx: Transaction) -> None:
        try_grant_each(tx, self.tickets)
        _promote(tx, self.queues)


def _rest_of(tx: Transaction) -> _Rest:
    if tx.rest is None:
        tx.rest = _Rest()
    assert isinstance(tx.rest, _Rest)
    return tx.rest


def _leave_queue(tx: Transaction, key: int, asked: int, first: int | None) -> None:
    """Leave a queue to the next transaction, which goes on behind the ticket `asked`."""
    queues = _rest_of(tx).queues
    if key not in queues and first is not None:
        _wake_for_rest(tx, first)
    queues[key] = min(asked, queues.get(key, asked))


def _wake_for_rest(tx: Transaction, ticket: int) -> None:
    # This process may be killed before the next transaction. Then who was woken goes on with it.
    wakes = tx.execute(WAKES, (ticket,)).fetchone()
    if wakes is not None:
        tx.wake(wakes[0], ticket)


def _promote(tx: Transaction, queues: dict[int, int]) -> None:
    concerned = set[int]()
    pending = queues.copy()
    while pending:
        key, asked = pending.popitem()
        if tx.share > 0 and asked == _ASKED and grant_next(tx, key, concerned):
            continue
        concerned.add(key)
        if asked != _ASKED:
            queue = "SELECT ticket FROM waits WHERE limit_key = ? AND ticket > ? ORDER BY ticket"
            for (ticket,) in tx.execute(queue, (key, asked)).fetchall():
                if tx.share <= 0:
                    break
                asked = ticket
                left = try_grant(tx, ticket)
                for other in left.keys() - {key}:
                    pending.setdefault(other, _ASKED)
                wakes = None if left else tx.execute(_WAKES_BY_RATE, (ticket, key)).fetchone()
                if wakes is not None:
                    tx.wake(wakes[0], ticket)  # its timer may be wrong now
            else:
                asked = _ASKED
        while (first := _first(tx, key)) is not None:
            if tx.share <= 0:
                _leave_queue(tx, key, asked, first)
                break
            left = try_grant(tx, first)
            concerned |= left.keys()
            for other, room in left.items():
                if room and other != key:
                    pending.setdefault(other, _ASKED)
            if not left.get(key):
                break  # it has been tried, and nobody behind it can go on
        if asked != _ASKED:
            _leave_queue(tx, key, asked, None)
    for key in concerned:
        wake_watchers(tx, key)


def _first(tx: Transaction, key: int) -> int | None:
    """Return the first ticket of a queue; None if there is none, or if it clearly does not fit."""
    row = tx.execute(
        "SELECT ticket FROM limits JOIN waits ON limit_key = key WHERE key = ?"
        " AND (decay OR NOT active OR used < limits.slots OR waits.slots > limits.slots)"
        " ORDER BY ticket LIMIT 1",
        (key,),
    ).fetchone()
    return None if row is None else int(row[0])
