"""The blocking flavour: `Limiter`, `Lease`, `concurrency` and `rate_limit`."""

from __future__ import annotations

import os

from localgcl._drivers import departure
from localgcl._drivers.block import Block, RateDecorator
from localgcl._drivers.blocking import database_of, obtain, release_by_id
from localgcl._drivers.flow import HoldingTerms, RateTerms
from localgcl._drivers.lease import Lease
from localgcl._storage.problems import explaining
from localgcl.errors import AcquireConcurrencySlotTimeoutError, ConcurrencySlotAcquisitionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from localgcl._admin import limits as _limits
    from localgcl._admin import reading as _reading
    from localgcl._admin import usage as _usage
    from localgcl._base.checks import HeldBy, Names, NamesOfCall
    from localgcl.models import Holder, Limit, Waiter

__all__ = [
    "AcquireConcurrencySlotTimeoutError",
    "ConcurrencySlotAcquisitionError",
    "Lease",
    "Limiter",
    "concurrency",
    "rate_limit",
    "rate_limited",
]


class _Concurrency(Block):
    """What `concurrency()` returns: a context manager, entered once, and a decorator."""

    __slots__ = ()
    lease_type = Lease

    if TYPE_CHECKING:

        def __enter__(self) -> Lease: ...


class _RateLimited(RateDecorator):
    """What `rate_limited()` returns."""

    __slots__ = ()
    lease_type = Lease


class Limiter:
    """The limits of one database, for blocking code.

    `database` is a path; None takes LOCALGCL_DB from the environment, or the default. A Limiter may
    be a module global, used by many threads and kept across `fork`. Every method may raise
    DatabaseError; bad arguments raise TypeError or ValueError before anything is touched.

    >>> limiter = Limiter("limits.db")
    >>> limiter.create("database", 2).limit
    2
    >>> with limiter.concurrency("database") as lease:
    ...     lease.names
    ('database',)
    """

    def __init__(self, database: str | os.PathLike[str] | None = None) -> None:
        self._database = database_of(database)

    def __reduce__(self) -> tuple[type[Limiter], tuple[str]]:
        return type(self), (self._database.path,)

    def __enter__(self) -> Limiter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what this process has open; leases stay, and the next call opens it again."""
        departure.depart(self._database, if_idle=True)
        self._database.close()

    # Slots

    def concurrency(
        self,
        names: NamesOfCall,
        occupy: int = 1,
        timeout_seconds: float | None = None,
        max_retries: int | None = None,
        lease_duration: float = 300,
        strict: bool = False,
        holder: HeldBy = None,
        raise_on_lease_renewal_failure: bool | None = None,
    ) -> _Concurrency:
        """As `localgcl.sync.concurrency`, on this database."""
        terms = HoldingTerms(names, occupy, timeout_seconds, max_retries, strict, holder)
        return _Concurrency(terms, self._database)

    def rate_limit(
        self,
        names: Names,
        occupy: int = 1,
        timeout_seconds: float | None = None,
        strict: bool = False,
    ) -> None:
        """As `localgcl.sync.rate_limit`, on this database."""
        terms = RateTerms(names, occupy, timeout_seconds, strict=strict)
        obtain(terms, self._database, Lease)

    def acquire(
        self,
        names: Names,
        occupy: int = 1,
        timeout_seconds: float | None = None,
        max_retries: int | None = None,
        strict: bool = False,
        holder: HeldBy = None,
    ) -> Lease:
        """Take slots as `concurrency` does, and return the lease, which the caller releases.

        >>> limiter = Limiter("limits.db")
        >>> lease = limiter.acquire("database", timeout_seconds=10)
        >>> lease.release()
        """
        terms = HoldingTerms(names, occupy, timeout_seconds, max_retries, strict, holder)
        return obtain(terms, self._database, Lease)

    # Administration

    def create(
        self,
        name: str,
        limit: int | None = None,
        *,
        slot_decay_per_second: float = 0.0,
        rate: str | None = None,
        window_seconds: float = 0.0,
        active: bool = True,
        active_slots: int = 0,
    ) -> Limit:
        """Create a limit of `limit` slots, and return it.

        A name that ends in `*` makes a template, whose slots each key has for itself: with
        `customer:*`, each name that begins with `customer:` is a limit of its own while it is used.

        `slot_decay_per_second` is how many slots come back by themselves each second; with 0, slots
        come back only by release. `rate` says the same as "100/min" or "1/15min"; `limit` may be
        left out then, and is 1. With `window_seconds`, no more than `limit` slots are taken in any
        period of that many seconds. A limit has a rate or a window, not both (ValueError).
        `active_slots` are in use from the beginning, with no holder. LimitAlreadyExistsError if
        there is a limit of that name.

        >>> limiter = Limiter("limits.db")
        >>> limiter.create("api", 10, rate="100/min").rate
        '100/min'
        """
        self._load()
        action = _limits.create(
            name, limit, slot_decay_per_second, rate, window_seconds, active, active_slots
        )
        return action.run(self._database)

    def read(self, name: str) -> Limit:
        """Return a limit, or a key of a template, as it is now; LimitNotFoundError if unknown."""
        self._load()
        return _reading.read(name).run(self._database)

    def read_all(self) -> list[Limit]:
        """Return all limits as they are now, by name; of templates not the single keys."""
        self._load()
        return _reading.read_all().run(self._database)

    def update(
        self,
        name: str,
        *,
        new_name: str | None = None,
        limit: int | None = None,
        slot_decay_per_second: float | None = None,
        rate: str | None = None,
        window_seconds: float | None = None,
        active: bool | None = None,
        active_slots: int | None = None,
    ) -> Limit:
        """Change what is given of a limit; waiters are affected immediately.

        A rate replaces a window, and a window a rate. `active_slots` frees all the leases of the
        limit and sets that number of slots in use. ValueError if nothing is given,
        LimitNotFoundError (also for a key of a template), LimitAlreadyExistsError for a `new_name`
        that is taken.
        """
        self._load()
        action = _limits.update(
            name, new_name, limit, slot_decay_per_second, rate, window_seconds, active, active_slots
        )
        return action.run(self._database)

    def upsert(
        self,
        name: str,
        limit: int | None = None,
        *,
        slot_decay_per_second: float = 0.0,
        rate: str | None = None,
        window_seconds: float = 0.0,
        active: bool = True,
        active_slots: int | None = None,
    ) -> Limit:
        """Create a limit, or bring it to these values; leases stay unless `active_slots` is given.

        With a `rate` and no `limit`, the limit is 1 if it is new, and stays as it is otherwise.
        """
        self._load()
        action = _limits.upsert(
            name, limit, slot_decay_per_second, rate, window_seconds, active, active_slots
        )
        return action.run(self._database)

    def adjust(self, name: str, slots: int) -> Limit:
        """Have `slots` more slots of a rate or a window in use, or fewer if it is negative.

        This settles an estimate. Above the limit it is a debt, which time pays off. Of a window,
        the newest slots are given back first. ValueError for a limit with neither.

        >>> limiter = Limiter("limits.db")
        >>> _ = limiter.upsert("tokens", 10_000, rate="100/min")
        >>> limiter.rate_limit("tokens", occupy=1_000)
        >>> limiter.adjust("tokens", -400).active_slots
        600
        """
        self._load()
        return _limits.adjust(name, slots).run(self._database)

    def pause(self, name: str, seconds: float | None = None) -> Limit:
        """Have nothing granted at a limit until `resume`, or for `seconds` (more than 0).

        Requests wait, and holders continue. The latest pause counts. LimitNotFoundError.
        """
        self._load()
        return _limits.pause(name, seconds).run(self._database)

    def resume(self, name: str) -> Limit:
        """End a pause; nothing changes if the limit is not paused. LimitNotFoundError."""
        self._load()
        return _limits.resume(name).run(self._database)

    def delete(self, name: str) -> None:
        """Delete a limit with its leases; LimitNotFoundError if there is none.

        Strict waiters get the error of a missing limit, the others ignore it from now on.
        """
        self._load()
        _limits.delete(name).run(self._database)

    def reset(self, name: str) -> None:
        """Free every slot of a limit, no matter who holds it; LimitNotFoundError if unknown."""
        self._load()
        _limits.reset(name).run(self._database)

    def holders(self, name: str | None = None) -> list[Holder]:
        """Return who holds slots, of one limit or of all; LimitNotFoundError for an unknown one."""
        self._load()
        return _usage.holders(name).run(self._database)

    def waiters(self, name: str | None = None) -> list[Waiter]:
        """Return who waits, in order, at one limit or at all; LimitNotFoundError if unknown."""
        self._load()
        return _usage.waiters(name).run(self._database)

    def release(self, lease_id: str) -> bool:
        """Free a lease by its id, no matter who holds it; return whether it was held."""
        return release_by_id(self._database, lease_id)

    def _load(self) -> None:
        """Load administration, and pydantic with it; slots work without them."""
        global _limits, _reading, _usage
        with explaining(self._database.path):
            from localgcl._admin import limits as _limits
            from localgcl._admin import reading as _reading
            from localgcl._admin import usage as _usage


def concurrency(
    names: NamesOfCall,
    occupy: int = 1,
    timeout_seconds: float | None = None,
    max_retries: int | None = None,
    lease_duration: float = 300,
    strict: bool = False,
    holder: HeldBy = None,
    raise_on_lease_renewal_failure: bool | None = None,
) -> _Concurrency:
    """Hold `occupy` slots of every limit in `names` for as long as the `with` block runs.

    Also a decorator, which takes new slots at each call. The block gets a `Lease`. All slots are
    granted at one moment or none is, first come, first served. They are free again when the block
    ends, however it ends, and when the process does.

    `names` is a name, a list, or a mapping of names to the slots of each; none ("", [], {}, None)
    takes nothing. In a decorator it may be a function, which is called with the arguments of each
    call and returns the names. `timeout_seconds`: None waits for ever, 0 tries once, else the
    longest wait. `max_retries`: None does not count, n gives up after n further tries, each as long
    as a slot is expected to take. `strict`: a missing name is an error; otherwise it is logged and
    ignored. `holder` is a text, or a mapping, that `localgcl ps` shows. `lease_duration` and
    `raise_on_lease_renewal_failure` are accepted so that code written for Prefect runs, and change
    nothing: a slot is tied to the life of its process, so there is nothing to renew.

    Raises ConcurrencySlotAcquisitionError (a strict name is missing, `occupy` is above the limit,
    `max_retries` are used up), AcquireConcurrencySlotTimeoutError (also a TimeoutError),
    DatabaseError; TypeError or ValueError for bad arguments, at the call.

    >>> with concurrency("database", occupy=1, timeout_seconds=5) as lease:
    ...     lease.occupy
    1
    """
    terms = HoldingTerms(names, occupy, timeout_seconds, max_retries, strict, holder)
    return _Concurrency(terms, None)


def rate_limit(
    names: Names, occupy: int = 1, timeout_seconds: float | None = None, strict: bool = False
) -> None:
    """Return once `occupy` slots were taken from every limit in `names`; they come back by time.

    Every active limit named needs a rate or a window: one of n slots with a decay of r admits at
    most n + r * T slots in any T seconds, one with a window no more than n in any such period.
    Arguments and errors are those of `concurrency`; a limit with neither raises
    ConcurrencySlotAcquisitionError.

    >>> rate_limit("api", timeout_seconds=10)
    """
    obtain(RateTerms(names, occupy, timeout_seconds, strict=strict), None, Lease)


def rate_limited(
    names: NamesOfCall, occupy: int = 1, timeout_seconds: float | None = None, strict: bool = False
) -> _RateLimited:
    """Have each call of the decorated function take slots by rate first, as `rate_limit` does.

    `names` may be a function: it is called with the arguments of each call, and returns the names.

    >>> @rate_limited("api", timeout_seconds=10)
    ... def fetch(url):
    ...     return url
    >>> fetch("https://example.org/")
    'https://example.org/'
    """
    return _RateLimited(RateTerms(names, occupy, timeout_seconds, strict=strict))
