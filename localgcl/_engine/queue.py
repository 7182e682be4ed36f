"""The transactions of the queue: who is next, and the one place that grants to those who wait.

A request stands in the queue of each of its limits, in the order of its ticket. It is granted when
it fits everywhere and nobody older stands before it anywhere. An inactive limit is passed by.
"""

from __future__ import annotations

import math

from localgcl._base.checks import MAX_SLOTS
from localgcl._engine import decay, owners
from localgcl._liveness.fifo import lifeline_of
from localgcl._storage.schema import TALLY, keys_in, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from localgcl._storage.database import Transaction
    from localgcl.errors import Refusal

# How many at the front of a queue watch those in their way, each the holders and those before it.
# One would do while it runs; but it may be stopped, and whoever is granted next is watched already.
WATCHERS = 8

# How many processes behind the one at the head of a rate's queue look at its moment, too. It may be
# stopped, together with others; and what a level has not given away when it is empty is lost.
DEPUTIES = 3

# How much ahead of the last moment they look: the head itself has had its turn by then.
DEPUTY_SECONDS = decay.HORIZON_SECONDS / 2

# Tasks of one process may be many, and all of them stand before the first of another.
_MAX_SEARCHED = 1000

_EAR = "SELECT ear FROM waiters WHERE ticket = ?"
_EAR_BY_RATE = f"{_EAR} AND EXISTS (SELECT 1 FROM settings WHERE key = ? AND decay)"

_LEASE = (
    "INSERT INTO ledger (limit_key, owner, lease, slots, since, decays_from, holder, asked)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_TELL_GRANT = "UPDATE waiters SET verdict = 'granted', at = ?, taken = ? WHERE ticket = ?"
_FORGET = "DELETE FROM waiters WHERE ticket = ?"
_LEAVE = "DELETE FROM waits WHERE limit_key = ? AND ticket = ?"
_BEHIND = (
    "SELECT watches, ticket, ear FROM waits JOIN waiters USING (ticket)"
    " WHERE limit_key = ? AND ticket > ? ORDER BY ticket LIMIT 1"
)

_BEFORE = (
    "SELECT ear, limits FROM waits JOIN waiters USING (ticket) WHERE limit_key = ? AND ticket < ?"
    " ORDER BY ticket LIMIT ?"
)

# As Prefect has it: a running mean over about the last 2 * limit releases.
COUNTS_RELEASE = """
    occupancy = occupancy + (? - occupancy)
        / max(1, 2 * (SELECT settings.slots FROM settings WHERE key = limit_key)),
    held = held + ?,
    longest_hold = max(longest_hold, ?)
"""
_COUNT_REFUSAL = (
    "UPDATE ledger SET refusals = refusals + 1"
    " WHERE limit_key = (SELECT key FROM settings WHERE name = ?) AND owner = -1 AND lease = ''"
)

LIMIT_COLUMNS = "key, name, active, slots, used, waiting, decay, level, level_at"


class LimitRow:
    """The columns of a limit that decide whether a request fits."""

    __slots__ = ("active", "decay", "key", "level", "level_at", "limit", "name", "used", "waiting")

    def __init__(self, columns: Sequence[Any]) -> None:
        (
            _,  # what the caller asked for beside them
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

    Infinity where that takes a release. Inactive limits do not count.
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
    """Return why no wait would help, and with which limits; None where waiting makes sense."""
    active = [row for row in rows if row.active]
    over = [row.name for row in active if slots > row.limit]
    if over:
        return "over_limit", over
    if not holds:
        without_decay = [row.name for row in active if not row.decay]
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
    """Take `slots` of each active limit as of the moment `at`; `owner` None leaves no lease.

    `asked` is since when it was waited for. Return the keys of those limits.
    """
    taken = []
    for row in rows:
        if not row.active:
            continue
        if row.decay:
            then = max(at, row.level_at)
            level = decay.level_at(row.level, row.level_at, row.decay, then) + slots
            # What leaves a lease is counted by that.
            counts = owner is None
            waited = 0.0 if asked is None or not counts else at - asked
            tx.execute(
                "UPDATE ledger SET level = ?, level_at = ?, grants = grants + ?,"
                f" waited = waited + ?, longest_wait = max(longest_wait, ?) WHERE {TALLY}",
                (level, then, counts, waited, waited, row.key),
            )
        if owner is not None:
            tx.execute(_LEASE, (row.key, owner, lease, slots, at, at, holder, asked))
        taken.append(row.key)
    return taken


def promote(tx: Transaction, limits: Iterable[int], *, all_of_them: bool = False) -> None:
    """Grant, in order, to everybody in these queues who fits now, and wake whom it concerns.

    Whatever may free a slot or shorten a queue calls this in its own transaction. After a change
    of a limit `all_of_them` are asked, since the change may concern some who are not first.
    """
    _promote(tx, dict.fromkeys(limits, 0 if all_of_them else _ASKED))


# The ticket last asked, where not all in a queue are to be, or all were.
_ASKED = MAX_SLOTS


def serve_each(tx: Transaction, tickets: Sequence[int]) -> None:
    """Serve these waiters, wherever they stand in their queues, and then those behind them."""
    left: set[int] = set()
    for number, ticket in enumerate(tickets):
        if tx.share <= 0:
            _rest_of(tx).tickets += tickets[number:]
            break
        left |= serve(tx, ticket).keys()
    promote(tx, left)


class _Rest:
    """What is left to the next transaction: waiters, and queues with the ticket last asked."""

    __slots__ = ("queues", "tickets")

    def __init__(self) -> None:
        self.tickets: list[int] = []
        self.queues: dict[int, int] = {}

    def __call__(self, tx: Transaction) -> None:
        serve_each(tx, self.tickets)
        _promote(tx, self.queues)


def _rest_of(tx: Transaction) -> _Rest:
    if tx.rest is None:
        tx.rest = _Rest()
    assert isinstance(tx.rest, _Rest)
    return tx.rest


def _promote(tx: Transaction, queues: dict[int, int]) -> None:
    concerned = set[int]()
    pending = queues.copy()
    while pending:
        key, asked = pending.popitem()
        if tx.share > 0 and asked == _ASKED and _hand_on(tx, key, concerned):
            continue
        concerned.add(key)
        if asked != _ASKED:
            queue = "SELECT ticket FROM waits WHERE limit_key = ? AND ticket > ? ORDER BY ticket"
            for (ticket,) in tx.execute(queue, (key, asked)).fetchall():
                if tx.share <= 0:
                    break
                asked = ticket
                left = serve(tx, ticket)
                for other in left.keys() - {key}:
                    pending.setdefault(other, _ASKED)
                ear = None if left else tx.execute(_EAR_BY_RATE, (ticket, key)).fetchone()
                if ear is not None:
                    _wake(tx, ear[0], ticket)  # its timer may be wrong now
            else:
                asked = _ASKED
        while tx.share > 0 and (first := _first(tx, key)) is not None:
            left = serve(tx, first)
            concerned |= left.keys()
            for other, room in left.items():
                if room and other != key:
                    pending.setdefault(other, _ASKED)
            if not left.get(key):
                break
        if tx.share <= 0 and (asked != _ASKED or _first(tx, key) is not None):
            rest = _rest_of(tx).queues
            rest[key] = min(asked, rest.get(key, asked))
    for key in concerned:
        _alert(tx, key)


# The first of a queue, if it stands in no other and fits with so many slots more than are free;
# whether that leaves nothing for anybody else there, and whether those behind it who are to watch
# do so already.
_NEXT = """
SELECT
    ticket, request, owner, ear, waits.slots, holder, since,
    used - ? + waits.slots = limits.slots OR limits.waiting = 1,
    NOT EXISTS (
        SELECT 1 FROM waits AS behind
        WHERE limit_key = key AND NOT watches AND ticket > waits.ticket AND ticket <= ifnull(
            (SELECT ticket FROM waits WHERE limit_key = ? ORDER BY ticket LIMIT 1 OFFSET ?), ?
        )
    )
FROM limits JOIN waits ON limit_key = key JOIN waiters USING (ticket)
WHERE key = ? AND active AND NOT decay AND used - ? + waits.slots <= limits.slots
AND ticket = (SELECT min(ticket) FROM waits WHERE limit_key = ?)
AND holds AND limits = ? AND until >= ? AND passed = ''
"""
# A lease becomes another one of as many slots, which leaves their sum as it is.
_MOVE = (
    "UPDATE ledger SET owner = ?, lease = ?, since = ?, decays_from = ?, holder = ?, asked = ?"
    " WHERE limit_key = ? AND owner = ? AND lease = ? AND slots = ?"
)
_COUNT_MOVE = (
    f"UPDATE ledger SET {COUNTS_RELEASE}, grants = grants + 1, waited = waited + ?,"
    f" longest_wait = max(longest_wait, ?) WHERE {TALLY}"
)


def _hand_on(tx: Transaction, key: int, concerned: set[int]) -> bool:
    """Grant to the first of a queue if it is the common case; return whether nobody else can go on.

    What it decides is what `serve` would. Where others are to watch now, the limit is `concerned`.
    """
    found = _next(tx, key)
    if found is None:
        return False
    ticket, request, owner, ear, slots, holder, since, is_last, all_watch = found
    tx.execute(_LEASE, (key, owner, request, slots, tx.now, tx.now, holder, since))
    _tell_by_lease(tx, key, ticket, ear)
    tx.share -= 1
    if not all_watch:
        concerned.add(key)
    return bool(is_last)


def hand_over(
    tx: Transaction, key: int, owner: int, lease: str, slots: int, seconds: float
) -> bool:
    """Free a lease held for so long, and grant what it had to the first of a queue.

    Return whether that was possible: it is the common case, and the first wants as many slots.
    What it decides is what `promote` would after a release; where it is not possible, nothing has
    changed.
    """
    found = _next(tx, key, slots)
    if found is None:
        return False
    ticket, request, receiver, ear, wanted, holder, since, is_last, all_watch = found
    now = tx.now
    values = (receiver, request, now, now, holder, since, key, owner, lease, wanted)
    if not tx.execute(_MOVE, values).rowcount:
        return False
    tx.execute(_COUNT_MOVE, (seconds, seconds, seconds, now - since, now - since, key))
    _tell_by_lease(tx, key, ticket, ear)
    if not is_last:
        promote(tx, [key])
    if not all_watch:
        _alert(tx, key)
    return True


def _next(tx: Transaction, key: int, freed: int = 0) -> Any:
    """Return what `_NEXT` selects once so many slots are freed, if it is such a case and lives."""
    values = (freed, key, WATCHERS, MAX_SLOTS, key, freed, key, str(key), tx.now)
    found = tx.execute(_NEXT, values).fetchone()
    return found if found is not None and owners.hears(tx, found[3]) else None


def _tell_by_lease(tx: Transaction, key: int, ticket: int, ear: str) -> None:
    tx.execute(_LEAVE, (key, ticket))
    tx.execute(_FORGET, (ticket,))
    _wake(tx, ear, ticket)


def _first(tx: Transaction, key: int) -> int | None:
    """Return the first ticket of a queue, unless it is plain that it does not fit."""
    row = tx.execute(
        "SELECT ticket FROM limits JOIN waits ON limit_key = key WHERE key = ?"
        " AND (decay OR NOT active OR used < limits.slots OR waits.slots > limits.slots)"
        " ORDER BY ticket LIMIT 1",
        (key,),
    ).fetchone()
    return None if row is None else int(row[0])


def serve(tx: Transaction, ticket: int) -> dict[int, bool]:
    """Decide on one waiter if it is its turn.

    Return the limits whose queues it has left, and whether the next one there may fit now.
    """
    waiter = tx.execute(
        "SELECT request, owner, ear, limits, slots, holds, holder, until, since, passed"
        " FROM waiters WHERE ticket = ?",
        (ticket,),
    ).fetchone()
    if waiter is None:
        return {}  # reaped while others were served
    request, owner, ear, limits, slots, holds, holder, until, since, passed = waiter
    rows, first = [], True
    tx.share -= 1
    for key in keys_in(limits):
        tx.share -= 1
        columns = tx.execute(
            "SELECT (SELECT min(ticket) FROM waits WHERE limit_key = key),"
            f" {LIMIT_COLUMNS} FROM limits WHERE key = ?",
            (key,),
        ).fetchone()
        if columns is None:
            continue  # deleted while it waited
        row = LimitRow(columns)
        rows.append(row)
        if row.active and columns[0] != ticket:
            first = False
    refused = refusal(rows, slots, holds)
    if refused is not None:
        refuse(tx, ticket, ear, *refused)
        return dict.fromkeys(leave_queues(tx, ticket, limits), True)
    if until < tx.now:
        # It would have given up by now if it could run; nobody is to wait until it can.
        tx.execute("UPDATE waiters SET verdict = 'late' WHERE ticket = ?", (ticket,))
        _wake(tx, ear, ticket)
        count_timeout(tx, keys_in(limits))
        return dict.fromkeys(leave_queues(tx, ticket, limits), True)
    at = opening(rows, slots, tx.now)
    if not first or at > tx.now + decay.HORIZON_SECONDS or at > until:
        return {}
    lifeline = lifeline_of(ear)
    if not owners.lives(tx, lifeline):
        freed = owners.reap(tx, [lifeline])
        # Where the owner has no row any more, the waiter still has.
        return dict.fromkeys(freed | leave_queues(tx, ticket, limits), True)
    taken = take(
        tx,
        rows,
        slots,
        at,
        lease=request,
        owner=owner if holds else None,
        holder=holder,
        asked=since,
    )
    if holds and taken and not passed:
        tx.execute(_FORGET, (ticket,))  # its leases tell all there is to tell
    else:
        tx.execute(_TELL_GRANT, (at, text_of(taken), ticket))
    _wake(tx, ear, ticket)
    left = dict.fromkeys(leave_queues(tx, ticket, limits), True)
    for row in rows:
        # Who asks for more than the limit was told so when the limit changed.
        if row.active and not row.decay and row.used + slots >= row.limit:
            left[row.key] = False
    return left


def refuse(tx: Transaction, ticket: int, ear: str, reason: Refusal, names: Iterable[str]) -> None:
    """Tell a waiter that waiting cannot help; it is still to be taken out of the queues."""
    tx.execute(
        "UPDATE waiters SET verdict = ?, names = ? WHERE ticket = ?",
        (reason, "\n".join(names), ticket),
    )
    count_refusal(tx, names)
    _wake(tx, ear, ticket)


def count_refusal(tx: Transaction, names: Iterable[str]) -> None:
    """Count a request that no wait would have served, at each limit that is the reason."""
    for name in names:
        tx.execute(_COUNT_REFUSAL, (name,))


def count_timeout(tx: Transaction, limits: Iterable[int]) -> None:
    """Count a request that was given up, at each of its limits."""
    for key in limits:
        tx.execute(f"UPDATE ledger SET timeouts = timeouts + 1 WHERE {TALLY}", (key,))


def leave_queues(tx: Transaction, ticket: int, limits: str) -> set[int]:
    """Take a waiter out of every queue, and return the limits whose queues it stood in."""
    keys = keys_in(limits)
    for key in keys:
        tx.execute(_LEAVE, (key, ticket))
        behind = tx.execute(_BEHIND, (key, ticket)).fetchone()
        if behind is not None and not behind[0]:
            _wake(tx, behind[2], behind[1])  # it watched this one alone
    return set(keys)


def rouse(tx: Transaction, key: int) -> None:
    """Have all who wait at a limit look, which nobody watched there while it was inactive."""
    tx.execute("UPDATE waits SET watches = 0 WHERE limit_key = ?", (key,))
    queue = "SELECT ear, ticket FROM waits JOIN waiters USING (ticket) WHERE limit_key = ?"
    for ear, ticket in tx.execute(queue, (key,)).fetchall():
        _wake(tx, ear, ticket)


def _alert(tx: Transaction, key: int) -> None:
    """Wake those at the front who do not watch yet, and a first one whose timer is set too late."""
    front = tx.execute(
        "SELECT ticket, watches, decay, level, level_at, limits.slots, waits.slots"
        " FROM limits JOIN waits ON limit_key = key WHERE key = ? AND active"
        " ORDER BY ticket LIMIT ?",
        (key, WATCHERS),
    ).fetchall()
    if not all(watches for _, watches, *_ in front):
        # One watcher for each ear will do, and the last is the one that stays the longest.
        ears = [
            (watches, ticket, *tx.execute(_EAR, (ticket,)).fetchone())
            for ticket, watches, *_ in front
        ]
        watching = {ear for watches, _, ear in ears if watches}
        last = {ear: ticket for _, ticket, ear in ears if ear not in watching}
        for ear, ticket in last.items():
            _wake(tx, ear, ticket)
    if front and front[0][2]:
        _set_timers(tx, key, *front[0])


def _set_timers(
    tx: Transaction,
    key: int,
    first: int,
    _: int,
    rate: float,
    level: float,
    then: float,
    limit: int,
    wanted: int,
) -> None:
    """Wake the head of a rate's queue, and its deputies, whose timers are set too late."""
    at = decay.moment(level, then, rate, limit, wanted, tx.now)
    # Whoever was not served though there is room waits for another limit, and not for time.
    if at > tx.now + decay.HORIZON_SECONDS:
        _wake_if_later(tx, first, at)
    last = then + level / rate
    if last - DEPUTY_SECONDS <= tx.now:
        return
    for ticket in deputies(tx, key):
        slots, wakes_at = tx.execute(
            "SELECT waits.slots, wakes_at FROM waits JOIN waiters USING (ticket)"
            " WHERE limit_key = ? AND ticket = ?",
            (key, ticket),
        ).fetchone()
        if wakes_at > last:
            slots += slots_ahead(tx, key, ticket)
            own = decay.moment(level, then, rate, limit, slots, tx.now)
            if own - decay.HORIZON_SECONDS > last:
                _wake_if_later(tx, ticket, last)


def _wake_if_later(tx: Transaction, ticket: int, at: float) -> None:
    ear, wakes_at = tx.execute(
        "SELECT ear, wakes_at FROM waiters WHERE ticket = ?", (ticket,)
    ).fetchone()
    if wakes_at > at:
        _wake(tx, ear, ticket)


def due(tx: Transaction, ticket: int) -> float:
    """Return the moment at which all rates have room for a waiter, after those before it."""
    slots, limits = tx.execute(
        "SELECT slots, limits FROM waiters WHERE ticket = ?", (ticket,)
    ).fetchone()
    at = tx.now
    for key in keys_in(limits):
        row = tx.execute(
            "SELECT level, level_at, decay, slots FROM limits WHERE key = ? AND active AND decay",
            (key,),
        ).fetchone()
        if row is not None:
            wanted = slots_ahead(tx, key, ticket) + slots
            level, then, rate, limit = row
            at = max(at, decay.moment(level, then, rate, limit, wanted, tx.now))
    return at


def deputies(tx: Transaction, key: int) -> list[int]:
    """Return who looks at the moment of a queue's head beside itself: its process may be stopped.

    They are the first of each of the next few processes, and the first of another ear of the
    head's own: an event loop may be blocked alone.
    """
    rows = tx.execute(
        "SELECT ticket, ear FROM waits JOIN waiters USING (ticket) WHERE limit_key = ?"
        " ORDER BY ticket LIMIT ?",
        (key, _MAX_SEARCHED),
    )
    found: list[int] = []
    head_ear, beside, others = "", False, set[str]()
    for ticket, ear in rows:
        lifeline = lifeline_of(ear)
        if not head_ear:
            head_ear = ear
        elif lifeline == lifeline_of(head_ear):
            if ear != head_ear and not beside:
                beside = True
                found.append(ticket)
        elif lifeline not in others:
            others.add(lifeline)
            found.append(ticket)
            if len(others) == DEPUTIES:
                break
    return found


def _wake(tx: Transaction, ear: str, ticket: int) -> None:
    tx.rings.setdefault(ear, set()).add(ticket)


def in_the_way(tx: Transaction, key: int, ticket: int = MAX_SLOTS) -> tuple[set[str], float, bool]:
    """Return the lifelines of those who hold, or wait before `ticket` at the front of, a limit.

    Clients have none to watch: they are among them once they have expired, and the second result
    is the moment at which the next one does. The third is whether some wait elsewhere, too.
    """
    # Hops through the index from owner to owner: one may have thousands of leases. Not by the view,
    # whose condition on the owner SQLite would take for the place to begin at, each time.
    holders = tx.execute(
        "WITH RECURSIVE hop (owner) AS ("
        " SELECT min(owner) FROM ledger WHERE limit_key = ? AND owner > 0"
        " UNION ALL"
        " SELECT (SELECT min(owner) FROM ledger WHERE limit_key = ? AND owner > hop.owner)"
        " FROM hop WHERE hop.owner IS NOT NULL)"
        " SELECT lifeline, expires FROM hop JOIN owners ON key = hop.owner",
        (key, key),
    ).fetchall()
    before = tx.execute(_BEFORE, (key, ticket, WATCHERS)).fetchall()
    ways, next_end = {lifeline_of(ear) for ear, _ in before}, math.inf
    for lifeline, expires in holders:
        if expires is None or expires <= tx.now:
            ways.add(lifeline)
        else:
            next_end = min(next_end, expires)
    return ways, next_end, any(" " in limits for _, limits in before)


def earlier(
    execute: Callable[..., sqlite3.Cursor], key: int, ticket: int, *, last: bool = False
) -> list[str]:
    """Return the lifelines of those before `ticket` at a queue's front, or of the last one only."""
    before = "SELECT ear FROM waits JOIN waiters USING (ticket) WHERE limit_key = ? AND ticket < ?"
    ears = execute(
        f"{before} ORDER BY ticket {'DESC' if last else ''} LIMIT ?",
        (key, ticket, 1 if last else WATCHERS),
    ).fetchall()
    return [lifeline_of(ear) for (ear,) in ears]


def next_due(tx: Transaction, key: int, ticket: int) -> float:
    """Return the next moment at which rates elsewhere have room for somebody before `ticket`."""
    elsewhere = tx.execute(
        "SELECT ticket FROM waits JOIN waiters USING (ticket)"
        " WHERE limit_key = ? AND ticket < ? AND limits LIKE '% %' ORDER BY ticket LIMIT ?",
        (key, ticket, WATCHERS),
    ).fetchall()
    moments = [due(tx, earlier) for (earlier,) in elsewhere]
    return min((at for at in moments if at - DEPUTY_SECONDS > tx.now), default=math.inf)


def slots_ahead(tx: Transaction, key: int, ticket: int) -> int:
    """Return for how many slots requests stand before `ticket` at a limit."""
    ((slots,),) = tx.execute(
        "SELECT total(slots) FROM waits WHERE limit_key = ? AND ticket < ?", (key, ticket)
    ).fetchall()
    return int(slots)
