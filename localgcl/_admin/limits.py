"""Administration: create, change and delete limits.

Each function checks its arguments and returns an `Action`, which both flavours can run.
"""

from __future__ import annotations

import math
from typing import Any

from localgcl._admin.action import Action
from localgcl._admin.changes import adjust as _adjust
from localgcl._admin.changes import (
    change,
    check_has_own_slots,
    find,
    insert,
    key_of,
    limit_or_key,
    remove,
    set_pause,
    set_slots,
)
from localgcl._admin.changes import reset as _reset
from localgcl._admin.reading import limit_of, see
from localgcl._base.checks import MAX_SLOTS, check_name, check_requested_name, check_whole
from localgcl._base.rates import EITHER_OR, GIVEN_TWICE, parse_rate
from localgcl._engine.keys import prefix_of
from localgcl._storage.database import Transaction
from localgcl.errors import LimitAlreadyExistsError
from localgcl.models import Changes, Limit, Settings


def decay_of(
    slot_decay_per_second: float | None, rate: str | None, window_seconds: float | None
) -> float | None:
    """Return the slots per second that are asked for, by number or by rate; ValueError for both.

    None if neither is given. A rate and a window together are a ValueError, too.
    """
    if rate is not None:
        if slot_decay_per_second:
            raise ValueError(GIVEN_TWICE)
        slot_decay_per_second = parse_rate(rate)
    if slot_decay_per_second and window_seconds:
        raise ValueError(EITHER_OR)
    return slot_decay_per_second


def _settings(
    limit: int | None,
    slot_decay_per_second: float,
    rate: str | None,
    window_seconds: float,
    active: bool,
) -> Settings:
    if limit is None:
        if rate is None:
            raise TypeError("limit is needed, unless a rate is given")
        limit = 1
    settings = Settings(
        limit=limit,
        slot_decay_per_second=slot_decay_per_second,
        window_seconds=window_seconds,
        active=active,
    )
    decay = decay_of(settings.slot_decay_per_second, rate, window_seconds)
    return settings.model_copy(update={"slot_decay_per_second": float(decay or 0.0)})


def create(
    name: str,
    limit: int | None,
    slot_decay_per_second: float,
    rate: str | None,
    window_seconds: float,
    active: bool,
    active_slots: int,
) -> Action[Limit]:
    """Create a limit."""
    check_name(name)
    settings = _settings(limit, slot_decay_per_second, rate, window_seconds, active)
    check_whole("active_slots", active_slots, 0)
    if active_slots:
        check_has_own_slots(prefix_of(name))

    def work(tx: Transaction) -> Any:
        if find(tx, name) is not None:
            raise LimitAlreadyExistsError(name)
        key = insert(tx, name, settings)
        if active_slots:
            set_slots(tx, key, active_slots)
        return see(tx, name)

    return Action(work, limit_of)


def update(
    name: str,
    new_name: str | None,
    limit: int | None,
    slot_decay_per_second: float | None,
    rate: str | None,
    window_seconds: float | None,
    active: bool | None,
    active_slots: int | None,
) -> Action[Limit]:
    """Change the given settings of a limit."""
    check_requested_name(name)
    changes = Changes(
        name=new_name,
        limit=limit,
        slot_decay_per_second=slot_decay_per_second,
        window_seconds=window_seconds,
        active=active,
        active_slots=active_slots,
    )
    if changes == Changes() and rate is None:
        raise ValueError(
            "nothing to update: give one of new_name, limit, slot_decay_per_second, rate,"
            " window_seconds, active and active_slots"
        )
    decay = decay_of(slot_decay_per_second, rate, window_seconds)
    changes = changes.model_copy(update={"slot_decay_per_second": decay})

    def work(tx: Transaction) -> Any:
        change(tx, key_of(tx, name), changes)
        return see(tx, changes.name or name)

    return Action(work, limit_of)


def upsert(
    name: str,
    limit: int | None,
    slot_decay_per_second: float,
    rate: str | None,
    window_seconds: float,
    active: bool,
    active_slots: int | None,
) -> Action[Limit]:
    """Create a limit or bring it to these values; with a rate and no limit, that stays."""
    check_name(name)
    settings = _settings(limit, slot_decay_per_second, rate, window_seconds, active)
    wanted = settings.model_dump()
    if limit is None:
        wanted.pop("limit")
    changes = Changes(**wanted, active_slots=active_slots)

    def work(tx: Transaction) -> Any:
        key = find(tx, name)
        change(tx, insert(tx, name, settings) if key is None else key, changes)
        return see(tx, name)

    return Action(work, limit_of)


def adjust(name: str, slots: int) -> Action[Limit]:
    """Have that many more slots of a rate or a window in use, or fewer."""
    check_requested_name(name)
    check_whole("slots", slots, -MAX_SLOTS)

    def work(tx: Transaction) -> Any:
        _adjust(tx, name, slots)
        return see(tx, name)

    return Action(work, limit_of)


def pause(name: str, seconds: float | None) -> Action[Limit]:
    """Have nothing granted for that many seconds, or until it is resumed."""
    check_requested_name(name)
    if seconds is not None:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise TypeError(f"seconds is a float or None, not {type(seconds).__name__}")
        if not seconds > 0:
            raise ValueError(f"seconds is more than 0, or None until it is resumed, not {seconds}")
        if seconds >= MAX_SLOTS or math.isinf(seconds):
            seconds = None
    return _pause(name, seconds)


def resume(name: str) -> Action[Limit]:
    """End a pause."""
    check_requested_name(name)
    return _pause(name, 0.0)


def _pause(name: str, seconds: float | None) -> Action[Limit]:
    def work(tx: Transaction) -> Any:
        set_pause(tx, key_of(tx, name), seconds)
        return see(tx, name)

    return Action(work, limit_of)


def delete(name: str) -> Action[None]:
    """Delete a limit."""
    check_requested_name(name)
    return Action(lambda tx: remove(tx, key_of(tx, name), name), _nothing)


def reset(name: str) -> Action[None]:
    """Free every slot of a limit, or of a key."""
    check_requested_name(name)

    def work(tx: Transaction) -> None:
        key = limit_or_key(tx, name)
        if key is not None:
            _reset(tx, key)

    return Action(work, _nothing)


def _nothing(_: object) -> None:
    return None
