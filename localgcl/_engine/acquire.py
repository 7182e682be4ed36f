"""A new request: it takes its slots at once if that is possible, and otherwise joins the queue."""

from __future__ import annotations

from localgcl._engine import at_once, owners
from localgcl._engine.admission import (
    LIMIT_COLUMNS,
    LimitRow,
    count_refusal,
    count_timeout,
    opening,
    refusal,
    take,
)
from localgcl._engine.queue import promote
from localgcl._engine.request import Granted, Lost, NotGranted, Refused, Waiting
from localgcl._engine.tables import text_of
from localgcl._engine.wait import look, reap_dead, waiting_state
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
        keys = at_once.take(tx, name, request.occupy, request.id, request.holder)
        if keys is not None:
            return Granted(tx.now, (), keys[1], [keys[0]])
    owner, rows, missing = _rows(tx, request)
    if request.holds and owner is None:
        _, freed = owners.sign_in(tx)
        promote(tx, freed)
        owner, rows, missing = _rows(tx, request)
    if missing and request.strict:
        return Refused("missing", missing)
    refused = refusal(rows, request.occupy, request.holds)
    if refused is not None:
        count_refusal(tx, refused[1])
        return Refused(*refused, missing=tuple(missing))
    is_queued = any(row.active and row.waiting for row in rows)
    if not is_queued and opening(rows, request.occupy, tx.now) <= tx.now:
        taken = take(
            tx, rows, request.occupy, tx.now, lease=request.id, owner=owner, holder=request.holder
        )
        if owner is not None and taken and len(request.names) == 1:
            at_once.remember(tx, request.names[0], taken[0], owner)
        return Granted(tx.now, tuple(missing), owner, taken)
    most = request.max_waiting
    crowded = most is not None and any(row.active and row.waiting >= most for row in rows)
    if request.once or crowded:
        # Dead processes do not block and do not count, wherever they stand in a queue.
        freed = (
            owners.sweep(tx)
            if crowded
            else reap_dead(tx, {way for row in rows for way in blockers_of(tx, row.key)[0]})
        )
        if not freed:
            count_timeout(tx, [row.key for row in rows])
            return NotGranted(tuple(missing))
        promote(tx, freed)
        return acquire(tx, request, listener)  # which finds no dead ones this time
    return _enqueue(tx, request, listener, owner, rows, missing)


def _rows(tx: Transaction, request: Request) -> tuple[int | None, list[LimitRow], list[str]]:
    """Return the owner key, the limits asked for, and the names that no limit has.

    The key is None if the request does not hold, or if this process has not signed in.
    """
    ours = tx.own_address() if request.holds else None
    owner, rows, missing = None, [], []
    for name in request.names:
        columns = tx.execute(_ROW, (ours, name)).fetchone()
        if columns is None:
            missing.append(name)
        else:
            owner = columns[0]
            rows.append(LimitRow(columns))
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
        " (request, owner, wakes, limits, slots, holds, strict, holder, since, until, wakes_at,"
        " passed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            request.id,
            owner,
            tx.listening_address(listener),
            text_of(row.key for row in rows),
            request.occupy,
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
    for row in rows:
        tx.execute(
            "INSERT INTO waits (limit_key, ticket, slots, watches) VALUES (?, ?, ?, ?)",
            (row.key, ticket, request.occupy, row.waiting < WATCHERS),
        )
    # What frees slots also promotes the queue. Time alone does not, and a death does not.
    if freed or any(row.decay or not row.active for row in rows):
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
