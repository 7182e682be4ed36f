"""Who watches whom among the waiters, who is woken, and when the timers of rates are due.

A waiter near the front of a queue watches its blockers: the holders, and the waiters before it. If
one of them dies, it looks at once. The first waiter of a rate's queue sleeps until there is room. A
few others look at that moment too.
"""

from __future__ import annotations

import math

from localgcl._base.checks import MAX_SLOTS
from localgcl._base.text import lifeline_of
from localgcl._engine import decay
from localgcl._engine.admission import by_time, moment
from localgcl._engine.order import Rooms, first_in_turn, slots_ahead
from localgcl._engine.tables import keys_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from localgcl._engine.admission import LimitRow
    from localgcl._engine.transaction import Execute, Transaction

# How many waiters at the front of a queue watch their blockers: each the holders and the waiters
# before it. One is enough while it runs, but it may be stopped. And with more than one, the next to
# be granted is watched already.
WATCHERS = 8

# How many processes behind the head of a rate's queue look at the head's moment too. The head may
# be stopped, together with others. Slots that nobody has taken when the level is empty are lost.
DEPUTIES = 3

# How long before that last moment they look. The head itself has had its turn by then.
DEPUTY_SECONDS = decay.HORIZON_SECONDS / 2

# How many waiters are searched for deputies. A process may have many tasks, and all of them may
# stand before the first waiter of another process.
_MAX_SEARCHED = 1000

WAKES = "SELECT wakes FROM waiters WHERE ticket = ?"
_BEFORE = (
    "SELECT wakes, limits FROM waits JOIN waiters USING (ticket) WHERE limit_key = ? AND ticket < ?"
    " ORDER BY ticket LIMIT ?"
)


def wake_all(tx: Transaction, key: int) -> None:
    """Make all who wait at a limit look: nobody watched there while it was inactive."""
    tx.execute("UPDATE waits SET watches = 0 WHERE limit_key = ?", (key,))
    queue = "SELECT wakes, ticket FROM waits JOIN waiters USING (ticket) WHERE limit_key = ?"
    for wakes, ticket in tx.execute(queue, (key,)).fetchall():
        tx.wake(wakes, ticket)


def wake_watchers(tx: Transaction, key: int) -> None:
    """Wake those at the front who do not watch yet, and the head if its timer is set too late."""
    front = tx.execute(
        "SELECT ticket, watches, decay OR window OR paused, limits.mixed"
        " FROM limits JOIN waits ON limit_key = key WHERE key = ? AND active"
        " ORDER BY ticket LIMIT ?",
        (key, WATCHERS),
    ).fetchall()
    if not front:
        return
    if front[0][3]:
        _wake_first_in_turn(tx, key)
    if not all(watches for _, watches, *_ in front):
        # One watcher for each wake-up address is enough. The last one stays the longest.
        wakes_of = [
            (watches, ticket, *tx.execute(WAKES, (ticket,)).fetchone())
            for ticket, watches, *_ in front
        ]
        watching = {wakes for watches, _, wakes in wakes_of if watches}
        last = {wakes: ticket for _, ticket, wakes in wakes_of if wakes not in watching}
        for wakes, ticket in last.items():
            tx.wake(wakes, ticket)
    if front[0][2]:
        _set_timers(tx, key)


def _wake_first_in_turn(tx: Transaction, key: int) -> None:
    """Wake the first waiter that does not lack room elsewhere, if it does not watch yet."""
    head = first_in_turn(tx, Rooms(tx), key)
    if head is None:
        return
    wakes, watches = tx.execute(
        "SELECT wakes, watches FROM waits JOIN waiters USING (ticket)"
        " WHERE limit_key = ? AND ticket = ?",
        (key, head[0]),
    ).fetchone()
    if not watches:
        tx.wake(wakes, head[0])


def _set_timers(tx: Transaction, key: int) -> None:
    """Wake the head of a rate's queue and its deputies if their timers are set too late."""
    rooms = Rooms(tx)
    row = rooms.at(key)
    head = first_in_turn(tx, rooms, key)
    if row is None or head is None or not by_time(row, tx.now):
        return
    first, wanted = head
    at = moment(tx, row, wanted)
    # A waiter that was not granted although there is room waits for another limit, not for time.
    if tx.now + decay.HORIZON_SECONDS < at < math.inf:
        _wake_if_later(tx, first, at)
    last = last_moment(tx, rooms, key, row)
    if last - DEPUTY_SECONDS <= tx.now:
        return
    for ticket in deputies(tx, key):
        slots, wakes_at = tx.execute(
            "SELECT waits.slots, wakes_at FROM waits JOIN waiters USING (ticket)"
            " WHERE limit_key = ? AND ticket = ?",
            (key, ticket),
        ).fetchone()
        if wakes_at > last:
            own = moment(tx, row, slots + slots_ahead(tx, rooms, key, ticket))
            if own - decay.HORIZON_SECONDS > last:
                _wake_if_later(tx, ticket, last)


def last_moment(tx: Transaction, rooms: Rooms, key: int, row: LimitRow) -> float:
    """Return the moment from which slots are lost if nobody has granted to a queue's head.

    With decay, it is the moment at which the level is empty. With a window, it is the head's own
    moment, which others wait out a little longer. So it is if some there wait at other limits, too:
    once the head has its slots, they may no longer block others elsewhere.
    """
    if row.decay and not row.mixed:
        empty: float = row.level_at + row.level / row.decay
        return max(empty, row.paused if row.paused < math.inf else 0.0)
    head = first_in_turn(tx, rooms, key)
    if head is None:
        return 0.0
    at = moment(tx, row, head[1])
    return 0.0 if at == math.inf else at + decay.HORIZON_SECONDS


def _wake_if_later(tx: Transaction, ticket: int, at: float) -> None:
    wakes, wakes_at = tx.execute(
        "SELECT wakes, wakes_at FROM waiters WHERE ticket = ?", (ticket,)
    ).fetchone()
    if wakes_at > at:
        tx.wake(wakes, ticket)


def blockers_of(tx: Transaction, key: int, ticket: int = MAX_SLOTS) -> tuple[set[str], float, bool]:
    """Return the lifelines of those who hold a limit, or wait at its front before `ticket`.

    Clients have no lifeline to watch: they are among the blockers once they have expired. The
    second result is the moment at which the next client expires. The third is whether some of the
    waiters wait at other limits too.
    """
    # The query hops through the index from owner to owner, since one may have thousands of leases.
    # It does not use the view: SQLite would begin each hop at the view's condition on the owner.
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
    blockers, next_end = {lifeline_of(wakes) for wakes, _ in before}, math.inf
    for lifeline, expires in holders:
        if expires is None or expires <= tx.now:
            blockers.add(lifeline)
        else:
            next_end = min(next_end, expires)
    return blockers, next_end, any(" " in limits for _, limits in before)


def earlier(execute: Execute, key: int, ticket: int, *, last: bool = False) -> list[str]:
    """Return the lifelines of those before `ticket` at a queue's front, or only of the last."""
    before = (
        "SELECT wakes FROM waits JOIN waiters USING (ticket) WHERE limit_key = ? AND ticket < ?"
    )
    wakes_of = execute(
        f"{before} ORDER BY ticket {'DESC' if last else ''} LIMIT ?",
        (key, ticket, 1 if last else WATCHERS),
    ).fetchall()
    return [lifeline_of(wakes) for (wakes,) in wakes_of]


def due(tx: Transaction, rooms: Rooms, ticket: int) -> float:
    """Return the moment at which time has made room for a waiter, after those before it."""
    (limits,) = tx.execute("SELECT limits FROM waiters WHERE ticket = ?", (ticket,)).fetchone()
    at = tx.now
    for key in keys_in(limits):
        row = rooms.at(key)
        if row is not None and row.active and by_time(row, tx.now):
            ((slots,),) = tx.execute(
                "SELECT slots FROM waits WHERE limit_key = ? AND ticket = ?", (key, ticket)
            ).fetchall()
            at = max(at, moment(tx, row, slots + slots_ahead(tx, rooms, key, ticket)))
    return at


def next_due(tx: Transaction, rooms: Rooms, key: int, ticket: int) -> float:
    """Return the next moment at which time elsewhere makes room for a waiter before `ticket`."""
    elsewhere = tx.execute(
        "SELECT ticket FROM waits WHERE limit_key = ? AND ticket < ? AND mixed"
        " ORDER BY ticket LIMIT ?",
        (key, ticket, WATCHERS),
    ).fetchall()
    moments = [due(tx, rooms, earlier) for (earlier,) in elsewhere]
    return min((at for at in moments if at - DEPUTY_SECONDS > tx.now), default=math.inf)


def deputies(tx: Transaction, key: int) -> list[int]:
    """Return who else looks at the moment of a queue's head: the head's process may be stopped.

    They are the first waiters of each of the next few processes. The first waiter of another FIFO
    in the head's own process is one of them too, since an event loop may be blocked alone.
    """
    rows = tx.execute(
        "SELECT ticket, wakes FROM waits JOIN waiters USING (ticket) WHERE limit_key = ?"
        " ORDER BY ticket LIMIT ?",
        (key, _MAX_SEARCHED),
    )
    found: list[int] = []
    head_wakes, beside, others = "", False, set[str]()
    for ticket, wakes in rows:
        lifeline = lifeline_of(wakes)
        if not head_wakes:
            head_wakes = wakes
        elif lifeline == lifeline_of(head_wakes):
            if wakes != head_wakes and not beside:
                beside = True
                found.append(ticket)
        elif lifeline not in others:
            others.add(lifeline)
            found.append(ticket)
            if len(others) == DEPUTIES:
                break
    return found
