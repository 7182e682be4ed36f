"""A new request: it takes its slots at once if that is possible, and otherwise joins the queue."""

from __future__ import annotations

from localgcl._base.checks import MAX_SLOTS
from localgcl._engine import at_once, keys, owners
from localgcl._engine.admission import (
    LIMIT_COLUMNS,
    LimitRow,
    by_time,
    count_refusal,
    count_timeout,
    opening,
    refusal,
    take,
)
from localgcl._engine.order import Rooms, count_overtaken, passed_by
from localgcl._engine.queue import promote, promote_neighbours
from localgcl._engine.request import Granted, Lost, NotGranted, Refused, Waiting
from localgcl._engine.tables import text_of
from localgcl._engine.wait import look, opens_at, reap_dead, waiting_state
from localgcl._engine.watchers import WATCHERS, blockers_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from localgcl._engine.request import Listener, Request
    from localgcl._engine.transaction import Transaction

# The first column is the owner key of this process. It is selected here to save a statement.
_ROW = (
    f"SELECT (SELECT owners.key FROM owners WHERE lifeline = ?), {LIMIT_COLUMNS}"
    " FROM limits WHERE name = ?"
)


def acquire(
    tx: Transaction, request: Request, listener: Listener
) -> Granted | Refused | Waiting | NotGranted:
    """Take the slots at once if that is possible, and otherwise join the queue."""
    if request.holds and len(request.names) == 1:
        (name,) = request.names
        known = at_once.take(tx, name, request.wanted_of(name), request.id, request.holder)
        if known is not None:
            return Granted(tx.now, (), known[1], [known[0]])
    owner, rows, missing = _rows(tx, request)
    if request.holds and owner is None:
        _, freed = owners.sign_in(tx)
        promote(tx, freed)
        owner, rows, missing = _rows(tx, request)
    outcome = _decided(tx, request, owner, rows, missing)
    if outcome is None:
        request.limits = {row.key: row.name for row in rows}
        return _enqueue(tx, request, listener, owner, rows, missing)
    if not isinstance(outcome, Granted):
        keys.forget_idle(tx, [row.key for row in rows])
        return outcome
    if outcome.taken and any(row.mixed for row in rows):
        promote_neighbours(tx, outcome.taken)
    return outcome


def _decided(
    tx: Transaction,
    request: Request,
    owner: int | None,
    rows: list[LimitRow],
    missing: list[str],
) -> Granted | Refused | NotGranted | None:
    """Return what can be decided at once, None if the request has to wait."""
    if missing and request.strict:
        return Refused("missing", missing)
    templates = [row.name for row in rows if row.prefix is not None]
    if templates:
        return Refused("template", templates)
    refused = refusal(rows, request.holds)
    if refused is not None:
        count_refusal(tx, refused[1])
        return Refused(*refused, missing=tuple(missing))
    passed = _passed(tx, rows)
    if passed is not None and opening(tx, rows) <= tx.now:
        taken = take(tx, rows, tx.now, request=request.id, owner=owner, holder=request.holder)
        count_overtaken(tx, passed)
        request.limits = {row.key: row.name for row in rows}
        if owner is not None and taken and len(request.names) == 1 and taken[0] > 0:
            at_once.remember(tx, request.names[0], taken[0], owner)
        by_rate = any(row.decay or row.window for row in rows)
        return Granted(tx.now, tuple(missing), owner, taken, by_rate=by_rate)
    most = request.max_waiting
    crowded = most is not None and any(row.active and row.waiting >= most for row in rows)
    if not request.once and not crowded:
        return None
    # Dead processes do not block and do not count, wherever they stand in a queue.
    freed = (
        owners.sweep(tx)
        if crowded or any(row.mixed for row in rows)
        else reap_dead(tx, {way for row in rows for way in blockers_of(tx, row.key)[0]})
    )
    if not freed:
        count_timeout(tx, [row.key for row in rows])
        wants = {row.key: row.wants for row in rows}
        return NotGranted(tuple(missing), opens_at(tx, Rooms(tx), wants, MAX_SLOTS))
    promote(tx, freed)
    _, rows[:], missing[:] = _rows(tx, request)
    return _decided(tx, request, owner, rows, missing)  # which finds no dead ones this time


def _passed(tx: Transaction, rows: Iterable[LimitRow]) -> set[int] | None:
    """Return whom a new request overtakes if it is granted now; None if somebody blocks it."""
    passed: set[int] = set()
    rooms = None
    for row in rows:
        if row.active and row.waiting:
            if row.waiting > row.mixed:
                return None  # one who waits here alone blocks
            rooms = rooms or Rooms(tx)
            before = passed_by(tx, rooms, row.key, MAX_SLOTS)
            if before is None:
                return None
            passed.update(before)
    return passed


def _rows(tx: Transaction, request: Request) -> tuple[int | None, list[LimitRow], list[str]]:
    """Return the owner key, the limits asked for, and the names that no limit has.

    The key is None if the request does not hold, or if this process has not signed in. A name that
    a template matches becomes a limit here.
    """
    ours = tx.own_address() if request.holds else None
    owner, rows, missing = None, [], []
    for name in request.names:
        columns = tx.execute(_ROW, (ours, name)).fetchone()
        if columns is None:
            columns = keys.make(tx, name, ours)
        if columns is None:
            missing.append(name)
        else:
            owner = columns[0]
            rows.append(LimitRow(columns, request.wanted_of(name)))
    return owner, rows, missing


def _enqueue(
    tx: Transaction,
    request: Request,
    listener: Listener,
    owner: int | None,
    rows: Sequence[LimitRow],
    missing: Iterable[str],
) -> Granted | Refused | Waiting | NotGranted:
    freed: set[int] = set()
    if owner is None:
        owner, freed = owners.sign_in(tx)
    ticket = tx.execute(
        "INSERT INTO waiters"
        " (request, owner, wakes, limits, weights, holds, strict, holder, since, until, wakes_at,"
        " passed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            request.id,
            owner,
            tx.listening_address(listener),
            text_of(row.key for row in rows),
            None if request.weights is None else text_of(row.wants for row in rows),
            request.holds,
            request.strict,
            request.holder,
            tx.now,
            request.until,
            tx.now,
            "\n".join(missing),
        ),
    ).lastrowid
    assert ticket is not None  # every INSERT sets it
    request.ticket = ticket
    request.place = owner, [row.key for row in rows]
    mixed = len(rows) > 1
    for row in rows:
        tx.execute(
            "INSERT INTO waits (limit_key, ticket, slots, watches, mixed) VALUES (?, ?, ?, ?, ?)",
            (row.key, ticket, row.wants, row.waiting < WATCHERS, mixed),
        )
    # What frees slots also promotes the queue. Time alone does not, and a death does not.
    if freed or any(by_time(row, tx.now) or not row.active for row in rows):
        promote(tx, freed)
        outcome = look(tx, request, listener)
        assert not isinstance(outcome, Lost)  # its row was inserted above
        return outcome
    return waiting_state(tx, request, listener, [row.key for row in rows], tuple(missing), new=True)


def ask_again(
    tx: Transaction, request: Request, listener: Listener
) -> Granted | Refused | Waiting | NotGranted:
    """Acquire again for a request that the database did not know, unless it knows it by now.

    A task may be told twice that its request is lost. Without the look, the request would wait
    twice and be granted twice.
    """
    outcome = look(tx, request, listener)
    return acquire(tx, request, listener) if isinstance(outcome, Lost) else outcome
