"""Named concurrency limits and rate limits for the processes of one machine, without a server."""

# Nothing is imported here: see `__main__`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from localgcl.asyncio import AsyncLease, AsyncLimiter
    from localgcl.errors import (
        AcquireConcurrencySlotTimeoutError,
        ConcurrencySlotAcquisitionError,
        DatabaseError,
        LimitAlreadyExistsError,
        LimitNotFoundError,
        LocalGCLError,
    )
    from localgcl.models import Holder, Limit, Waiter
    from localgcl.sync import Lease, Limiter, concurrency, rate_limit, rate_limited

__version__ = "0.2.0"

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
    "rate_limited",
]

# Loaded on first use. pydantic and asyncio take longer to import than everything else, and the
# command line must be able to handle Ctrl-C before it loads anything.
_HOMES = {
    "errors": [name for name in __all__ if name.endswith("Error")],
    "models": ["Holder", "Limit", "Waiter"],
    "sync": ["Lease", "Limiter", "concurrency", "rate_limit", "rate_limited"],
    "asyncio": ["AsyncLease", "AsyncLimiter"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None and name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module = importlib.import_module(f"{__name__}.{home or name}")
    if home is None:
        return module
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
