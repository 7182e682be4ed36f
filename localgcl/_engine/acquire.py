"""A new request: it takes its slots at once where that is possible, or else joins the queue."""

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

# The first column, this process's key, comes along lest it cost a statement of its own.
_ROW = (
    f"SELECT (SELECT owners.key FROM owners WHERE lifeline = ?), {LIMIT_COLUMNS}"
    " FROM limits WHERE name = ?"
)


def acquire(
    tx: Transaction, request: Request, listener: Listener
) -> Granted | Refused | Waiting | NotGranted:
    """Take the slots if that is possible at once, or else join the queue."""
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
        # The dead are not in the way and do not count, however deep they stand in a queue.
        freed = (
            owners.sweep(tx)
            if crowded
            else reap_dead(tx, {way for row in rows for way in blockers_of(tx, row.key)[0]})
        )
        if not freed:
            count_timeout(tx, [row.key for row in rows])
            return NotGranted(tuple(missing))
        promote(tx, freed)
        return acquire(tx, request, listener)  # which finds nobody dead any more
    return _enqueue(tx, request, listener, owner, rows, missing)


def _rows(tx: Transaction, request: Request) -> tuple[int | None, list[LimitRow], list[str]]:
    """Return this process's key if it will hold and has signed in, and the limits asked for."""
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
    assert ticket is not None  # an INSERT has one
    request.ticket = ticket
    request.place = owner, [row.key for row in rows]
    for row in rows:
        tx.execute(
            "INSERT INTO waits (limit_key, ticket, slots, watches) VALUES (?, ?, ?, ?)",
            (row.key, ticket, request.occupy, row.waiting < WATCHERS),
        )
    # Whatever frees slots serves the queue itself; time alone does not, nor does a death.
    if freed or any(row.decay or not row.active for row in rows):
        promote(tx, freed)
        outcome = look(tx, request, listener)
        assert not isinstance(outcome, Lost)  # it has just been put there
        return outcome
    return waiting_state(tx, request, listener, [row.key for row in rows], tuple(missing), new=True)


def ask_again(
    tx: Transaction, request: Request, listener: Listener
) -> Granted | Refused | Waiting | NotGranted:
    """Acquire anew what the database knew nothing of, unless it does by now.

    A task may learn twice that its request is gone: it would wait twice, and be granted twice.
    """
    outcome = look(tx, request, listener)
    return acquire(tx, request, listener) if isinstance(outcome, Lost) else outcome
