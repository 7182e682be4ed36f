"""The transaction of `apply`: it makes the plan and carries it out."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from localgcl._admin.action import Action
from localgcl._admin.changes import change, insert, key_of, remove
from localgcl._admin.plan import Plan, plan
from localgcl._base.checks import check_name
from localgcl._engine import owners
from localgcl._engine.queue import promote
from localgcl._storage.database import Transaction
from localgcl.models import Changes, Settings, first_fault


def apply(wanted: Mapping[str, Settings], *, prune: bool, dry_run: bool) -> Action[Plan]:
    """Bring the limits to what is wanted, and return the plan that says what was done.

    Nothing is done if `dry_run` is set, or if a limit to be deleted is held or waited for.
    """

    def work(tx: Transaction) -> Plan:
        promote(tx, owners.sweep(tx))
        ours = plan(wanted, _present(tx), _busy(tx), prune=prune)
        if not dry_run and not ours.in_the_way:
            _carry_out(tx, ours)
        return ours

    # If nothing can be written, no database needs to be created.
    reads = dry_run or not (wanted or prune)
    nothing = plan(wanted, {}, (), prune=prune)
    return Action(work, lambda ours: ours, absent=(lambda: nothing) if reads else None)


def _present(tx: Transaction) -> dict[str, Settings]:
    rows = tx.execute(
        "SELECT name, slots, decay, window, active FROM settings WHERE template IS NULL"
    ).fetchall()
    try:
        return {
            check_name(name): Settings(
                limit=slots,
                slot_decay_per_second=decay,
                window_seconds=window,
                active=bool(active),
            )
            for name, slots, decay, window, active in rows
        }
    except ValidationError as error:
        raise ValueError(first_fault(error)) from None


def _busy(tx: Transaction) -> set[str]:
    """Return the limits that somebody holds or waits for; slots set by hand have no holder."""
    rows = tx.execute(
        "SELECT name FROM limits WHERE waiting OR EXISTS"
        " (SELECT 1 FROM leases WHERE limit_key = key AND owner <> 0)"
    ).fetchall()
    return {name for (name,) in rows}


def _carry_out(tx: Transaction, ours: Plan) -> None:
    for name, settings in ours.created.items():
        insert(tx, name, settings)
    for name, changes in ours.updated.items():
        after = {key: value for key, (_, value) in changes.items()}
        change(tx, key_of(tx, name), Changes(**after))
    for name in ours.deleted:
        remove(tx, key_of(tx, name), name)
