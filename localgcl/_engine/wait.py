"""A request that waits: it looks, it leaves the queue, or it is undone.

`look`, `look_unless_own` and `withdraw` are transactions of their own. `peek` and `would_look` only
read, and need no transaction. `abandon` undoes a request, whatever became of it.
"""

from __future__ import annotations

import os

from localgcl._base.checks import MAX_SLOTS
from localgcl._engine import decay, owners
from localgcl._engine.admission import (
    LIMIT_COLUMNS,
    LimitRow,
    by_time,
    count_refusal,
    count_timeout,
    give_back,
    moment,
    row_of,
)
from localgcl._engine.grant import leave_queues, try_grant
from localgcl._engine.order import Rooms, first_in_turn, slots_ahead
from localgcl._engine.queue import promote
from localgcl._engine.release import release_by_id, release_granted
from localgcl._engine.request import Granted, Lost, NotGranted, Refused, Waiting
from localgcl._engine.tables import keys_in
from localgcl._engine.watchers import (
    DEPUTY_SECONDS,
    WATCHERS,
    blockers_of,
    deputies,
    earlier,
    last_moment,
    next_due,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from typing import Any

    from localgcl._engine.request import Listener, Request
    from localgcl._engine.transaction import Execute, Transaction

# A waiter at the front sleeps at most this long without a look. This is its periodic check for what
# no event tells, for example a file that was replaced. The other waiters are not next. They check
# as rarely as `recheck_seconds` of their listener says.
NET_SECONDS = 10.0

# The expected wait for a slot is clamped to this range, as in Prefect.
_SHORTEST_EXPECTED, _LONGEST_EXPECTED = 0.1, 30.0

_FIND = (
    "SELECT verdict, limits, at, taken, names, passed, owner FROM waiters"
    " WHERE ticket = ? AND request = ?"
)
_PLACE = (
    f"SELECT watches, {LIMIT_COLUMNS}, waits.slots, occupancy"
    " FROM limits JOIN waits ON limit_key = key WHERE key = ? AND ticket = ? AND active"
)
_LEASES = "SELECT limit_key, since FROM ledger WHERE owner = ? AND lease = ? AND limit_key"


def look(
    tx: Transaction, request: Request, listener: Listener, dead: Iterable[str] = ()
) -> Granted | Refused | Waiting | NotGranted | Lost:
    """Return the state of a waiting request; first clear away those of `dead` that are dead."""
    waiter = _find(tx, request)
    if waiter is None:
        return _grant_from_leases(tx.execute, request) or Lost()
    if waiter[0] is None:
        listener.recreate()
        keys = keys_in(waiter[1])
        promote(tx, {*keys, *reap_dead(tx, dead), *_reap_ahead(tx, keys, request.ticket)})
        if tx.share > 0 and _has_lost_a_queue(tx, keys, request.ticket):
            # The process that deleted the limit may have been killed before it tried all waiters.
            try_grant(tx, request.ticket, Rooms(tx))
        waiter = _find(tx, request)
        if waiter is None:  # granted just now; otherwise only its own owner's death removes it
            return _grant_from_leases(tx.execute, request) or Lost()
    verdict, limits, _, _, names, passed, _ = waiter
    if verdict is None:
        return waiting_state(tx, request, listener, keys_in(limits), _lines(passed))
    tx.execute("DELETE FROM waiters WHERE ticket = ?", (request.ticket,))
    if verdict == "granted":
        return _told(waiter)
    if verdict == "late":
        return _not_granted(tx, request, _lines(passed))
    return Refused(verdict, _lines(names), _lines(passed))


def _has_lost_a_queue(tx: Transaction, keys: Sequence[int], ticket: int) -> bool:
    stands = "SELECT 1 FROM waits WHERE limit_key = ? AND ticket = ?"
    return any(tx.execute(stands, (key, ticket)).fetchone() is None for key in keys)


def _find(tx: Transaction, request: Request) -> Any:
    return tx.execute(_FIND, (request.ticket, request.id)).fetchone()


def peek(execute: Execute, request: Request) -> Granted | None:
    """Return the grant of a request that had to wait, if it has leases at all of its limits.

    This needs no transaction: a holder need not enter the gate to learn that it holds its slots. If
    one of the names was ignored, the row of the waiter may say more, and must be deleted.
    """
    granted = _grant_from_leases(execute, request)
    return granted if granted is not None and len(granted.taken) == len(request.names) else None


def _grant_from_leases(execute: Execute, request: Request) -> Granted | None:
    """Return the grant of a request that has leases, and no row in `waiters`."""
    if request.place is None or not request.holds:
        return None
    owner, limits = request.place
    places = "= ?" if len(limits) == 1 else f"IN ({', '.join('?' * len(limits))})"
    leases = execute(f"{_LEASES} {places}", (owner, request.id, *limits)).fetchall()
    if not leases:
        return None
    return Granted(leases[0][1], (), owner, [key for key, _ in leases], awaited=True)


def _told(waiter: Any) -> Granted:
    """Return the grant of a request, as its row in `waiters` records it."""
    _, _, at, taken, _, passed, owner = waiter
    return Granted(at, _lines(passed), owner, keys_in(taken), awaited=True)


def _reap_ahead(tx: Transaction, limits: Iterable[int], ticket: int) -> set[int]:
    """Clear away the dead at the front of queues where this waiter is too far back to watch."""
    freed: set[int] = set()
    for key in limits:
        while len(earlier(tx.execute, key, ticket)) == WATCHERS:
            reaped = reap_dead(tx, blockers_of(tx, key, ticket)[0])
            if not reaped:
                break
            freed |= reaped
    return freed


def reap_dead(tx: Transaction, lifelines: Iterable[str]) -> set[int]:
    """Clear away those of these owners that are dead; return the limits concerned."""
    # Another process may have reaped an owner already, and an owner may have made its lifeline
    # again.
    return owners.reap(tx, [name for name in lifelines if not tx.lives(name)])


def waiting_state(
    tx: Transaction,
    request: Request,
    listener: Listener,
    limits: Iterable[int],
    missing: tuple[str, ...],
    *,
    new: bool = False,
) -> Waiting:
    """Return what a waiter must watch, and when it must look; a `new` one was just inserted."""
    blockers: set[str] = set()
    look_at, expected, timed = tx.now + listener.recheck_seconds, _SHORTEST_EXPECTED, False
    ticket = request.ticket
    request.due = 0.0
    rooms = Rooms(tx)
    for key in limits:
        place = tx.execute(_PLACE, (key, ticket)).fetchone()
        if place is None:
            request.stood[key] = None
            continue  # inactive or deleted, and so ignored
        watches, occupancy, row = place[0], place[-1], LimitRow(place[:-2], place[-2])
        if (
            watches
            or (not new and len(earlier(tx.execute, key, ticket)) < WATCHERS)
            or (row.mixed and first_in_turn(tx, rooms, key) == (ticket, row.wants))
        ):
            here, next_end, mixed = blockers_of(tx, key, ticket)
            blockers |= here
            look_at = min(look_at, tx.now + NET_SECONDS, next_end)
            if mixed:  # one of them may be stopped when its moment comes
                look_at = min(look_at, next_due(tx, rooms, key, ticket) - DEPUTY_SECONDS)
            if not watches:
                tx.execute(
                    "UPDATE waits SET watches = 1 WHERE limit_key = ? AND ticket = ?", (key, ticket)
                )
            request.stood[key] = _stands(row)
        else:
            # If all the waiters before it die at once, it is the first that still lives.
            last = earlier(tx.execute, key, ticket, last=True)
            blockers.update(last)
            request.stood[key] = (*last,)
        if by_time(row, tx.now):
            at = moment(tx, row, slots_ahead(tx, rooms, key, ticket) + row.wants)
            timed = True
            request.due = max(request.due, at)
            if at - decay.HORIZON_SECONDS > tx.now:
                look_at = min(look_at, at - decay.HORIZON_SECONDS)
            # From this moment on, slots are lost if the head of the queue has not been granted.
            lost = last_moment(tx, rooms, key, row)
            if at - decay.HORIZON_SECONDS > lost > tx.now + DEPUTY_SECONDS and (
                ticket in deputies(tx, key)
            ):
                look_at = min(look_at, lost - DEPUTY_SECONDS)
        if row.decay or row.window:
            expected = max(expected, at - tx.now)
        else:
            expected = max(expected, min(occupancy, _LONGEST_EXPECTED))
    if timed:
        tx.execute("UPDATE waiters SET wakes_at = ? WHERE ticket = ?", (look_at, ticket))
    blockers.discard(tx.own_address())
    return Waiting(look_at, expected, missing, blockers)


def opens_at(tx: Transaction, rooms: Rooms, wants: dict[int, int], ticket: int) -> float:
    """Return the moment at which time makes room for a request, after those before `ticket`.

    `wants` are its slots by the keys of its limits. Infinity if only a release makes room.
    """
    at = tx.now
    for key, slots in wants.items():
        row = rooms.at(key)
        if row is not None and row.active:
            at = max(at, moment(tx, row, slots + slots_ahead(tx, rooms, key, ticket)))
    return at


def _stands(row: LimitRow) -> tuple[object, ...]:
    """Return what tells a waiter at the front of a queue that its moment may have changed."""
    if not (row.decay or row.window or row.paused):
        return ()
    return row.decay, row.window, row.paused, row.level, row.level_at, row.limit


def would_look(execute: Execute, request: Request) -> bool:
    """Whether a commit since a waiting request last looked is a reason to look again.

    This needs no transaction. The answer is yes for everybody whom a commit wakes, whether the
    wake-up succeeded or not. It is also yes for the few at the front of a rate's queue whose moment
    may have changed.
    """
    found = execute(_FIND, (request.ticket, request.id)).fetchone()
    if found is None or found[0] is not None:
        return True  # decided
    for key, stood in request.stood.items():
        place = execute(_PLACE, (key, request.ticket)).fetchone()
        if place is None or stood is None:
            if place is not stood:
                return True  # enabled, disabled or deleted
            continue
        if place[0] or len(earlier(execute, key, request.ticket)) < WATCHERS:
            if not place[0] or stood != _stands(LimitRow(place[:-2], place[-2])):
                return True
        elif stood != (*earlier(execute, key, request.ticket, last=True),):
            return True
    return False


def _lines(text: str) -> tuple[str, ...]:
    return tuple(text.split("\n")) if text else ()


def _leave(tx: Transaction, ticket: int, *, gives_up: bool) -> None:
    limits = tx.execute("SELECT limits FROM waiters WHERE ticket = ?", (ticket,)).fetchone()[0]
    left = leave_queues(tx, ticket, limits)
    tx.execute("DELETE FROM waiters WHERE ticket = ?", (ticket,))
    if gives_up:
        count_timeout(tx, left)
    promote(tx, left)


def withdraw(
    tx: Transaction, request: Request, listener: Listener, dead: Iterable[str] = ()
) -> Granted | Refused | NotGranted:
    """Look one last time, and leave the queue if the request is still not decided."""
    outcome = look(tx, request, listener, dead)
    if isinstance(outcome, Granted | Refused):
        return outcome
    if isinstance(outcome, Waiting):
        _leave(tx, request.ticket, gives_up=True)
        return _not_granted(tx, request, outcome.missing)
    return NotGranted()


def _not_granted(tx: Transaction, request: Request, missing: tuple[str, ...]) -> NotGranted:
    wants = {key: request.wanted_of(name) for key, name in request.limits.items()}
    return NotGranted(missing, opens_at(tx, Rooms(tx), wants, MAX_SLOTS))


def look_unless_own(
    tx: Transaction, request: Request, listener: Listener, leases: Collection[str]
) -> Granted | Refused | Waiting | NotGranted | Lost:
    """Look; refuse a request for which only the end of one of its caller's `leases` makes room."""
    outcome = look(tx, request, listener)
    if not isinstance(outcome, Waiting):
        return outcome
    refused, own = [], ""
    for key, name in request.limits.items():
        row = row_of(tx, key, request.wanted_of(name))
        if row is None or not row.active or row.decay or row.window:
            continue
        held = tx.execute(
            "SELECT lease, slots FROM ledger WHERE limit_key = ?"
            f" AND lease IN ({', '.join('?' * len(leases))})",
            (key, *leases),
        ).fetchall()
        if held and sum(slots for _, slots in held) + row.wants > row.limit:
            refused.append(name)
            own = own or held[0][0]
    if not refused:
        return outcome
    _leave(tx, request.ticket, gives_up=False)
    count_refusal(tx, refused)
    return Refused("own_block", refused, outcome.missing, lease=own)


def abandon(tx: Transaction, request: Request) -> None:
    """Undo a request of this process, whatever became of it, and however often this is called."""
    if request.pid != os.getpid():
        return
    waiter, granted = _find(tx, request), request.granted
    if waiter is not None:
        granted = _told(waiter) if waiter[0] == "granted" else None
        _leave(tx, request.ticket, gives_up=waiter[0] is None)
    elif granted is None:
        granted = _grant_from_leases(tx.execute, request)
    if request.holds:
        if granted is not None and granted.owner is not None:
            release_granted(tx, request.id, request.occupy, granted)
        elif waiter is None:  # otherwise it only waited, and holds nothing
            release_by_id(tx, request.id)
    elif granted is not None:
        # It was taken by rate, and its caller will not use it.
        for key in granted.taken:
            wanted = request.wanted_of(request.limits[key])
            give_back(tx, key, wanted, granted.at, request.id)
        promote(tx, granted.taken)
    request.granted = None
