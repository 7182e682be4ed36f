"""What a user sees of the limits, and what a limit may be: pydantic models.

The hot path does not load this module; administration and the views do.
"""

from __future__ import annotations

from datetime import MAXYEAR, UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, ValidationError

from localgcl._base.checks import MAX_SLOTS, check_name, check_requested_name


def _rfc3339(moment: datetime) -> str:
    # A pause without an end has an end that nobody takes for a measured time.
    form = "%Y-%m-%dT%H:%M:%SZ" if moment.year == MAXYEAR else "%Y-%m-%dT%H:%M:%S.%fZ"
    return moment.astimezone(UTC).strftime(form)


Name = Annotated[str, AfterValidator(check_name)]
KeyName = Annotated[str, AfterValidator(check_requested_name)]  # also of a template's key
WholeNumber = Annotated[int, Field(ge=0, le=MAX_SLOTS)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Moment = Annotated[datetime, PlainSerializer(_rfc3339, when_used="json")]


class Settings(BaseModel):
    """What a limit is told to be; each value is checked and none is converted."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    limit: WholeNumber
    slot_decay_per_second: Rate = 0.0
    window_seconds: Rate = 0.0
    active: bool = True


class Changes(BaseModel):
    """The changes to a limit; only the given fields count."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    name: Name | None = None
    limit: WholeNumber | None = None
    slot_decay_per_second: Rate | None = None
    window_seconds: Rate | None = None
    active: bool | None = None
    active_slots: WholeNumber | None = None


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Limit(_View):
    """A named limit as it is now: `limit` slots, of which `active_slots` are in use.

    `available_slots` are the whole slots that nobody uses. `next_slot_seconds` says when a new
    request for one slot could be granted, behind all who wait: 0.0 for now, None if that takes a
    release or `resume`. `slot_decay_per_second` (slots per second, and as a text in `rate`) and
    `window_seconds` are 0 if slots come back only by release. Nothing is granted before
    `paused_until`. `avg_slot_occupancy_seconds` is the mean time that a slot was held recently.
    `waiting` counts the requests in the queue. `template` is the template of a key, and `keys` says
    how many keys of a template are in use. `last_granted` and `last_timed_out` tell when slots were
    last granted, and when a request was last given up. Times are in UTC.

    >>> import localgcl
    >>> localgcl.Limiter("limits.db").create("database", 5).available_slots
    5
    """

    id: str
    created: Moment
    updated: Moment
    name: KeyName
    active: bool
    limit: WholeNumber
    active_slots: int
    available_slots: int
    next_slot_seconds: float | None
    slot_decay_per_second: Rate
    rate: str | None
    window_seconds: Rate
    paused_until: Moment | None
    avg_slot_occupancy_seconds: float
    waiting: int
    template: str | None
    keys: int | None
    last_granted: Moment | None
    last_timed_out: Moment | None


class Holder(_View):
    """Who holds `slots` of `limit`: lease id, process, and since when (UTC and seconds).

    A client of `localgcl serve` has no `pid` here, and its address as its `command`.
    """

    lease: str
    limit: KeyName
    slots: int
    pid: int | None
    user: str
    command: str
    holder: str | None
    since: Moment
    held_seconds: float


class Waiter(_View):
    """Who waits for `slots` of `limit`, at which `position` (1 is next), and since when.

    `expected_seconds` is the rest of the wait if time alone ends it, None otherwise.
    """

    position: int
    limit: KeyName
    slots: int
    pid: int
    user: str
    command: str
    holder: str | None
    since: Moment
    waited_seconds: float
    expected_seconds: float | None


def first_fault(error: ValidationError) -> str:
    """Return the first thing that pydantic found wrong, on one line."""
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where}: {fault['msg']}" if where else fault["msg"]
