"""The transactions of the queues: in which order waiters are tried, and how many at a time.

A request stands in the queue of each of its limits, in the order of its ticket. Each transaction
that may free a slot or shorten a queue promotes that queue. If that takes long, the next
transactions do the rest.
"""

from __future__ import annotations

from localgcl._base.checks import MAX_SLOTS
from localgcl._engine import keys
from localgcl._engine.grant import grant_next, try_grant
from localgcl._engine.order import (
    MAX_OVERTAKEN,
    QUEUE,
    READ,
    Rooms,
    lacks_elsewhere,
    neighbours,
)
from localgcl._engine.watchers import WAKES, wake_watchers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from localgcl._engine.grant import Tried
    from localgcl._engine.transaction import Transaction

_WAKES_BY_RATE = (
    f"{WAKES} AND EXISTS (SELECT 1 FROM settings WHERE key = ? AND (decay OR window OR paused))"
)

# Used in place of the ticket last tried, if only those must be tried whose turn it is, or if all
# were tried.
_ASKED = MAX_SLOTS


def promote(
    tx: Transaction, limits: Iterable[int], *, all_of_them: bool = False, freed: int = 0
) -> None:
    """Grant, in order, to everybody in these queues who fits now, and wake those concerned.

    Each transaction that may free a slot or shorten a queue calls this. After a change of a limit,
    `all_of_them` are tried, since the change may concern some who are not first. `freed` are the
    slots that the transaction has freed at each of these limits, if that is known.
    """
    queues = dict.fromkeys(limits, 0 if all_of_them else _ASKED)
    if all_of_them:
        rooms = Rooms(tx)
        for key in tuple(queues):
            for other in neighbours(tx, rooms, key, lacking=False):
                queues.setdefault(other, _ASKED)
    _Promotion(tx, dict.fromkeys(queues, freed)).run(queues)


def promote_neighbours(tx: Transaction, limits: Iterable[int]) -> None:
    """Promote the queues of other limits, after slots of these were taken out of turn.

    A waiter that lacks room here now no longer blocks those behind it there.
    """
    rooms = Rooms(tx)
    others = {other for key in limits for other in neighbours(tx, rooms, key)}
    if others:
        promote(tx, others)


def try_grant_each(tx: Transaction, tickets: Sequence[int]) -> None:
    """Try these waiters, wherever they stand in their queues, and then those behind them."""
    left: set[int] = set()
    rooms = Rooms(tx)
    for number, ticket in enumerate(tickets):
        if tx.share <= 0:
            rest = tickets[number:]
            _rest_of(tx).tickets += rest
            for one in rest:
                _wake_for_rest(tx, one)
            break
        left |= try_grant(tx, ticket, rooms).left.keys()
    promote(tx, left)


class _Rest:
    """What is left to the next transaction: waiters, and queues with the ticket last tried."""

    __slots__ = ("queues", "tickets")

    def __init__(self) -> None:
        self.tickets: list[int] = []
        self.queues: dict[int, int] = {}

    def __call__(self, tx: Transaction) -> None:
        try_grant_each(tx, self.tickets)
        _Promotion(tx, {}).run(self.queues)


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


class _Promotion:
    """One promotion of some queues, and of those that it leads to."""

    __slots__ = ("_concerned", "_fuller", "_pending", "_rooms", "_spare", "_tx")

    def __init__(self, tx: Transaction, freed: dict[int, int]) -> None:
        self._tx = tx
        self._rooms = Rooms(tx)
        self._spare = freed  # how many slots can be taken before a limit is fuller than it was
        self._pending: dict[int, int] = {}
        self._concerned: set[int] = set()
        self._fuller: set[int] = set()

    def run(self, queues: dict[int, int]) -> None:
        tx, pending, concerned = self._tx, self._pending, self._concerned
        pending.update(queues)
        while pending or self._fuller:
            if not pending:
                # Who lacks room where slots were taken no longer blocks those behind it elsewhere.
                for other in neighbours(tx, self._rooms, self._fuller.pop()):
                    pending.setdefault(other, _ASKED)
                continue
            key, asked = pending.popitem()
            if asked == _ASKED and tx.share > 0:
                found = grant_next(tx, key, concerned)
                if found is not None:
                    is_last, slots = found
                    self._rooms.forget([key])
                    if slots:
                        self._count_taken(key, slots)
                    if is_last:
                        continue
            concerned.add(key)
            if asked != _ASKED:
                asked = self._try_all(key, asked)
            self._try_in_turn(key, asked)
            if asked != _ASKED:
                _leave_queue(tx, key, asked, None)
        for key in concerned:
            wake_watchers(tx, key)
        keys.forget_idle(tx, concerned)

    def _try_all(self, key: int, asked: int) -> int:
        """Try all in a queue behind the ticket `asked`; return the last one tried."""
        tx = self._tx
        queue = "SELECT ticket FROM waits WHERE limit_key = ? AND ticket > ? ORDER BY ticket"
        for (ticket,) in tx.execute(queue, (key, asked)).fetchall():
            if tx.share <= 0:
                return asked
            asked = ticket
            tried = try_grant(tx, ticket, self._rooms)
            self._note(key, tried)
            if tried.left:
                continue
            wakes = tx.execute(_WAKES_BY_RATE, (ticket, key)).fetchone()
            if wakes is not None:
                tx.wake(wakes[0], ticket)  # its timer may be wrong now
        return _ASKED

    def _try_in_turn(self, key: int, asked: int) -> None:
        """Try those in a queue whom nobody blocks there, until somebody blocks those behind it."""
        tx, rooms = self._tx, self._rooms
        passed: dict[int, int] = {}  # how often those who do not block were overtaken
        last = 0
        while True:
            row = rooms.at(key)
            if row is None or not row.waiting:
                return
            # Nobody can be served, unless it asks for more than there will ever be.
            full = row.active and not (row.decay or row.window) and row.used >= row.limit
            places = tx.execute(QUEUE, (key, last)).fetchall()
            for place in places:
                last, slots = place[0], place[1]
                if full and slots <= row.limit:
                    return
                if tx.share <= 0:
                    _leave_queue(tx, key, asked, last)
                    return
                overtaken: int = place[5]
                if overtaken < MAX_OVERTAKEN and lacks_elsewhere(rooms, key, place):
                    passed[last] = overtaken
                    continue
                tried = try_grant(tx, last, rooms, key, passed)
                self._note(key, tried)
                if not tried.left.get(key):
                    return  # it blocks, or nobody behind it can go on
                if (
                    not tried.taken
                ):  # what it leaves, or its process, may make room for those before
                    passed, last = {}, 0
                elif passed:
                    passed = {ticket: times + 1 for ticket, times in passed.items()}
                    if max(passed.values()) >= MAX_OVERTAKEN:
                        return  # it must not be overtaken again
                break  # the limit is not what it was
            else:
                if len(places) < READ:
                    return

    def _note(self, key: int, tried: Tried) -> None:
        """Note which other queues a try has changed."""
        self._concerned |= tried.left.keys()
        for other, room in tried.left.items():
            if room and other != key:
                self._pending.setdefault(other, _ASKED)
        for row in tried.taken:
            if row.mixed:
                self._count_taken(row.key, row.wants)

    def _count_taken(self, key: int, slots: int) -> None:
        left = self._spare.get(key, 0) - slots
        self._spare[key] = max(0, left)
        if left < 0:
            self._fuller.add(key)
