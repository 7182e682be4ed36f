"""Named concurrency limits and rate limits for the processes of one machine, without a server."""

from __future__ import annotations

from localgcl.errors import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    DatabaseError,
    LimitAlreadyExistsError,
    LimitNotFoundError,
    LocalGCLError,
)
from localgcl.sync import Lease, Limiter, concurrency, rate_limit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from localgcl.asyncio import AsyncLease, AsyncLimiter
    from localgcl.models import Holder, Limit, Waiter

__version__ = "0.1.0"

__all__ = [
    "AcquireConcurrencySlotTimeoutError",
    "AsyncLease",
    "AsyncLimiter",
    "ConcurrencySlotAcquisitionError",
    "DatabaseError",
    "Holder",
    "Lease",
    "Limit",
    "LimitAlreadyExistsError",
    "LimitNotFoundError",
    "Limiter",
    "LocalGCLError",
    "Waiter",
    "concurrency",
    "rate_limit",
]

# Loaded when first asked for: pydantic and asyncio take longer than all the rest.
_LAZY = {
    "AsyncLease": "localgcl.asyncio",
    "AsyncLimiter": "localgcl.asyncio",
    "Holder": "localgcl.models",
    "Limit": "localgcl.models",
    "Waiter": "localgcl.models",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
