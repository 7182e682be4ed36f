"""What clients may send: a model for each body, lenient where Prefect's server is."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from localgcl._base.checks import MAX_NAME_LENGTH, MAX_SLOTS, check_name
from localgcl._storage.schema import MAX_LEASE_SECONDS
from localgcl.models import Rate, WholeNumber

MAX_LISTED = 200

# Each name costs a few statements inside the gate, where everybody else waits.
MAX_NAMES = 100

# Longer than any slot is held. A longer value would spoil the mean, which would not recover.
_MAX_OCCUPANCY_SECONDS = 10 * 365 * 86400.0


def _check_name(name: str) -> str:
    # Checked names are cached for a while: this keeps only as much of a long name as proves it too
    # long.
    return check_name(name[: MAX_NAME_LENGTH + 1])


Name = Annotated[str, AfterValidator(_check_name)]
# A request may name any text. No limit has a name that is invalid.
Names = Annotated[
    list[Annotated[str, Field(max_length=MAX_NAME_LENGTH)]],
    Field(min_length=1, max_length=MAX_NAMES),
]

LeaseSeconds = Annotated[float, Field(ge=1, le=MAX_LEASE_SECONDS, allow_inf_nan=False)]


class _Body(BaseModel):
    # Further keys from old clients mean nothing here and are no error.
    model_config = ConfigDict(extra="ignore", frozen=True)


class NewLimit(_Body):
    """What a limit is created from."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    limit: WholeNumber
    active: bool = True
    active_slots: WholeNumber = 0
    denied_slots: WholeNumber = 0  # Prefect's own bookkeeping
    slot_decay_per_second: Rate = 0.0
    window_seconds: Rate = 0.0  # the page sends it; Prefect does not know it


class ChangedLimit(_Body):
    """What of a limit is to change: the keys that are there."""

    model_config = ConfigDict(extra="forbid")

    name: Name = ""
    limit: WholeNumber = 0
    active: bool = True
    active_slots: WholeNumber = 0
    denied_slots: WholeNumber = 0
    slot_decay_per_second: Rate = 0.0
    window_seconds: Rate = 0.0

    @property
    def given(self) -> dict[str, Any]:
        """The keys that are there, with their values."""
        return self.model_dump(include=self.model_fields_set)


class Filter(_Body):
    """Which limits are listed."""

    limit: int = MAX_LISTED
    offset: WholeNumber = 0


class Holder(_Body):
    """What a client says of itself, shown beside its slots."""

    type: Literal["flow_run", "task_run", "deployment"]
    id: UUID


class Take(_Body):
    """Slots that are asked for."""

    names: Names
    slots: Annotated[int, Field(gt=0, le=MAX_SLOTS)]
    mode: Literal["concurrency", "rate_limit"] = "concurrency"


class TakeLease(Take):
    """Slots that are asked for, to be held by a lease."""

    lease_duration: LeaseSeconds = 300.0
    holder: Holder | None = None


class Renewal(_Body):
    """For how long a lease shall last from now."""

    lease_duration: LeaseSeconds = 300.0


class ReleaseLease(_Body):
    """The lease that ends."""

    lease_id: UUID


class GiveBack(_Body):
    """Slots that were taken without a lease and are given back."""

    names: Names
    slots: Annotated[int, Field(gt=0, le=MAX_SLOTS)]
    occupancy_seconds: (
        Annotated[float, Field(ge=0, le=_MAX_OCCUPANCY_SECONDS, allow_inf_nan=False)] | None
    ) = None
    mode: Literal["concurrency", "rate_limit"] = "concurrency"


class EventResource(_Body):
    """The limit that an event is about."""

    id: Annotated[str, Field(alias="prefect.resource.id", max_length=300)]
    name: Annotated[str, Field(alias="prefect.resource.name", max_length=300)] = ""
    slots: Annotated[str, Field(alias="slots-acquired", max_length=20)] = ""


class Event(_Body):
    """What a client tells of itself once it has taken or released slots."""

    occurred: Annotated[str, Field(max_length=64)]
    event: Annotated[str, Field(max_length=200)]
    resource: EventResource
