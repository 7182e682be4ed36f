"""The blocking flavour: `Limiter`, `Lease`, `concurrency` and `rate_limit`."""

from __future__ import annotations

import functools
import os

from localgcl._base import clock
from localgcl._base.checks import check_lease_id
from localgcl._drivers import departure
from localgcl._drivers.blocking import Listener, clean_up, drive, insist
from localgcl._drivers.flow import Terms
from localgcl._engine import release as _release
from localgcl._storage.backlog import run_later
from localgcl._storage.database import Database, NoDatabaseError
from localgcl._storage.location import choose
from localgcl._storage.problems import explaining
from localgcl.errors import AcquireConcurrencySlotTimeoutError, ConcurrencySlotAcquisitionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Any, ParamSpec, TypeVar

    from localgcl._admin.action import Action
    from localgcl._engine.request import Granted, Request
    from localgcl._storage.database import Transaction
    from localgcl.models import Holder, Limit, Waiter

    P = ParamSpec("P")
    R = TypeVar("R")
    T = TypeVar("T")

__all__ = [
    "AcquireConcurrencySlotTimeoutError",
    "ConcurrencySlotAcquisitionError",
    "Lease",
    "Limiter",
    "concurrency",
    "rate_limit",
]


class Lease:
    """Slots that are held until `release()`, or until this process ends.

    `id` is what `localgcl ps` shows and `localgcl release` takes, `names` the limits asked for,
    `occupy` the slots of each, `waited_seconds` how long it took to get them.
    """

    __slots__ = (
        "_database",
        "_granted",
        "_of_block",
        "_pid",
        "id",
        "names",
        "occupy",
        "waited_seconds",
    )

    def __init__(
        self,
        request: Request,
        waited_seconds: float = 0.0,
        granted: Granted | None = None,
        database: Database | None = None,
    ) -> None:
        self.id = request.id
        self.names = request.names
        self.occupy = request.occupy
        self.waited_seconds = waited_seconds
        self._granted = granted
        self._database = database  # None: nothing to free
        self._pid = os.getpid()
        self._of_block = False  # whether a `with` block answers for its release; the last attribute

    def __del__(self) -> None:
        # A Ctrl-C can strike before the first instruction of `__exit__`.
        of_block = getattr(self, "_of_block", False)  # not there where `__init__` was interrupted
        if of_block and self._database is not None and self._pid == os.getpid():
            run_later(self._database, self._release)

    def __repr__(self) -> str:
        return f"<Lease {self.id} of {self.occupy} slot(s) of {', '.join(self.names) or 'nothing'}>"

    def release(self) -> None:
        """Free the slots; a second call, and one in a forked child, does nothing.

        DatabaseError where that failed, as on a full disk: it may be called again, and the end of
        the process frees the slots at the latest. A finalizer or signal handler that calls this
        in the middle of another call of localgcl has them freed right after.
        """
        database = self._database
        if database is None:
            return
        if self._pid == os.getpid():
            insist(database, self._release)
        self._database = None

    def _release(self, tx: Transaction) -> None:
        granted = self._granted
        if granted is not None:
            _release.release_granted(tx, self.id, self.occupy, granted)


class _Concurrency:
    """What `concurrency()` returns: a context manager, entered once, and a decorator."""

    __slots__ = ("_entered", "_lease", "_limiter", "_terms")

    def __init__(self, terms: Terms, limiter: Limiter | None) -> None:
        self._terms = terms
        self._limiter = limiter
        self._entered = False
        self._lease: Lease | None = None

    def __enter__(self) -> Lease:
        if self._entered:
            raise RuntimeError("one concurrency(...) is entered once; call concurrency() again")
        self._entered = True
        try:
            return _obtain(self._terms, self._limiter, self)
        except BaseException:
            if self._lease is not None:  # interrupted on the way out
                self._lease.release()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._lease is not None:
            self._lease.release()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        import inspect

        # An object may be called as well.
        for code in (function, type(function).__call__):
            if inspect.iscoroutinefunction(code) or inspect.isasyncgenfunction(code):
                raise TypeError(
                    f"{function!r} is asynchronous; decorate it with localgcl.asyncio.concurrency"
                )
            if inspect.isgeneratorfunction(code):
                raise TypeError(
                    f"{function!r} is a generator, which runs after its call has returned; use a"
                    " `with` block inside it"
                )

        @functools.wraps(function)
        def limited(*args: P.args, **kwargs: P.kwargs) -> R:
            with _Concurrency(self._terms, self._limiter):
                return function(*args, **kwargs)

        return limited


def _obtain(terms: Terms, limiter: Limiter | None, keeper: _Concurrency | None = None) -> Lease:
    """Drive a request to its grant, or undo whatever it has left when it ends otherwise."""
    request = terms.request()
    if not terms.names:
        return Lease(request)
    database = _database_of(None) if limiter is None else limiter._database
    began = clock.now()
    listener = Listener(database, request)
    try:
        granted = drive(terms, request, database, listener)
        listener.close()
        waited = max(0.0, clock.now() - began)
        lease = Lease(request, waited, granted, database if terms.holds else None)
        if keeper is not None:
            keeper._lease = lease
            lease._of_block = True
        request.settled = True
        return lease
    except BaseException:
        if not request.settled:
            clean_up(database, request)
        listener.close()
        raise


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
        self._database = _database_of(database)

    def __enter__(self) -> Limiter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what this process has open; leases stay, and the next call opens it again."""
        departure.depart(self._database, if_idle=True)
        self._database.close()

    # Slots

    def concurrency(
        self,
        names: str | Iterable[str] | None,
        occupy: int = 1,
        timeout_seconds: float | None = None,
        max_retries: int | None = None,
        lease_duration: float = 300,
        strict: bool = False,
        holder: str | Mapping[str, Any] | None = None,
        raise_on_lease_renewal_failure: bool | None = None,
    ) -> _Concurrency:
        """As `localgcl.sync.concurrency`, on this database."""
        return _Concurrency(
            Terms(
                names,
                occupy,
                timeout_seconds,
                strict,
                holds=True,
                max_retries=max_retries,
                holder=holder,
            ),
            self,
        )

    def rate_limit(
        self,
        names: str | Iterable[str] | None,
        occupy: int = 1,
        timeout_seconds: float | None = None,
        strict: bool = False,
    ) -> None:
        """As `localgcl.sync.rate_limit`, on this database."""
        _obtain(Terms(names, occupy, timeout_seconds, strict, holds=False), self)

    def acquire(
        self,
        names: str | Iterable[str] | None,
        occupy: int = 1,
        timeout_seconds: float | None = None,
        max_retries: int | None = None,
        strict: bool = False,
        holder: str | Mapping[str, Any] | None = None,
    ) -> Lease:
        """Take slots as `concurrency` does, and return the lease to be released by hand.

        >>> limiter = Limiter("limits.db")
        >>> lease = limiter.acquire("database", timeout_seconds=10)
        >>> lease.release()
        """
        terms = Terms(
            names,
            occupy,
            timeout_seconds,
            strict,
            holds=True,
            max_retries=max_retries,
            holder=holder,
        )
        return _obtain(terms, self)

    # Administration

    def create(
        self,
        name: str,
        limit: int,
        *,
        slot_decay_per_second: float = 0.0,
        active: bool = True,
        active_slots: int = 0,
    ) -> Limit:
        """Create a limit of `limit` slots, and return it.

        `slot_decay_per_second`: so many slots come back by themselves each second; with 0, slots
        come back only by release. `active_slots` are in use from the beginning, with no holder.
        LimitAlreadyExistsError where there is a limit of that name.

        >>> limiter = Limiter("limits.db")
        >>> limiter.create("api", 10, slot_decay_per_second=2.0).slot_decay_per_second
        2.0
        """
        with explaining(self._database.path):
            from localgcl._admin import limits

        return self._administer(
            limits.create(
                name,
                limit,
                slot_decay_per_second=slot_decay_per_second,
                active=active,
                active_slots=active_slots,
            )
        )

    def read(self, name: str) -> Limit:
        """Return a limit as it is now; LimitNotFoundError where there is none."""
        with explaining(self._database.path):
            from localgcl._admin import limits

        return self._administer(limits.read(name))

    def read_all(self) -> list[Limit]:
        """Return all limits as they are now, by name."""
        with explaining(self._database.path):
            from localgcl._admin import limits

        return self._administer(limits.read_all())

    def update(
        self,
        name: str,
        *,
        new_name: str | None = None,
        limit: int | None = None,
        slot_decay_per_second: float | None = None,
        active: bool | None = None,
        active_slots: int | None = None,
    ) -> Limit:
        """Change what is given of a limit; those who wait feel it at once.

        `active_slots` frees all the leases of the limit and sets so many slots in use. ValueError
        where nothing is given, LimitNotFoundError, LimitAlreadyExistsError for a `new_name` that
        is taken.
        """
        with explaining(self._database.path):
            from localgcl._admin import limits

        return self._administer(
            limits.update(
                name,
                new_name=new_name,
                limit=limit,
                slot_decay_per_second=slot_decay_per_second,
                active=active,
                active_slots=active_slots,
            )
        )

    def upsert(
        self,
        name: str,
        limit: int,
        *,
        slot_decay_per_second: float = 0.0,
        active: bool = True,
        active_slots: int | None = None,
    ) -> Limit:
        """Create a limit, or bring it to these values, and return it.

        Slots in use and leases stay, unless `active_slots` is given: as for `update`.
        """
        with explaining(self._database.path):
            from localgcl._admin import limits

        return self._administer(
            limits.upsert(
                name,
                limit,
                slot_decay_per_second=slot_decay_per_second,
                active=active,
                active_slots=active_slots,
            )
        )

    def delete(self, name: str) -> None:
        """Delete a limit with its leases; LimitNotFoundError where there is none.

        Strict waiters get the error of a missing limit, the others pass it by.
        """
        with explaining(self._database.path):
            from localgcl._admin import limits

        self._administer(limits.delete(name))

    def reset(self, name: str) -> None:
        """Free every slot of a limit, whoever holds it; LimitNotFoundError where there is none."""
        with explaining(self._database.path):
            from localgcl._admin import limits

        self._administer(limits.reset(name))

    def holders(self, name: str | None = None) -> list[Holder]:
        """Return who holds slots, of one limit or of all; LimitNotFoundError for an unknown one."""
        with explaining(self._database.path):
            from localgcl._admin import limits

        return self._administer(limits.holders(name))

    def waiters(self, name: str | None = None) -> list[Waiter]:
        """Return who waits, in order, at one limit or at all; LimitNotFoundError if unknown."""
        with explaining(self._database.path):
            from localgcl._admin import limits

        return self._administer(limits.waiters(name))

    def release(self, lease_id: str) -> bool:
        """Free a lease by its id, whoever holds it; return whether it was held."""
        work = functools.partial(_release.release_by_id, lease=check_lease_id(lease_id))
        try:
            return self._database.transact(work, create=False)
        except NoDatabaseError:
            return False

    def _administer(self, action: Action[T], deadline: float | None = None) -> T:
        try:
            rows = self._database.transact(
                action.work,
                deadline=deadline,
                durable=action.durable,
                create=action.absent is None,
            )
        except NoDatabaseError:
            if action.absent is None:
                raise
            return action.absent()
        return action.result(self._database.path, rows)


_databases: dict[str, Database] = {}


def _database_of(chosen: str | os.PathLike[str] | None) -> Database:
    """Return this process's one connection to a database; None is as for `Limiter`."""
    path = choose(chosen)[0]
    database = _databases.get(path)
    if database is None:
        database = _databases.setdefault(path, Database(path))  # two threads may come to this
    return database


def concurrency(
    names: str | Iterable[str] | None,
    occupy: int = 1,
    timeout_seconds: float | None = None,
    max_retries: int | None = None,
    lease_duration: float = 300,
    strict: bool = False,
    holder: str | Mapping[str, Any] | None = None,
    raise_on_lease_renewal_failure: bool | None = None,
) -> _Concurrency:
    """Hold `occupy` slots of every limit in `names` for as long as the `with` block runs.

    Also a decorator, which takes new slots at each call. The block gets a `Lease`. All slots are
    granted at one moment or none is, first come, first served. They are free again when the block
    ends, however it ends, and when the process does.

    `names` is a name or a list; none ("", [], None) takes nothing. `timeout_seconds`: None waits
    for ever, 0 tries once, else the longest wait. `max_retries`: None does not count, n gives up
    after n further tries, each as long as a slot is expected to take. `strict`: a missing name is
    an error; otherwise it is logged and passed by. `holder` is a text, or a mapping, that
    `localgcl ps` shows. `lease_duration` and `raise_on_lease_renewal_failure` are accepted so that
    code written for Prefect runs, and change nothing: a slot is tied to the life of its process
    and not to a timer, so there is nothing to renew.

    Raises ConcurrencySlotAcquisitionError (a strict name is missing, `occupy` is above the limit,
    `max_retries` are used up), AcquireConcurrencySlotTimeoutError (also a TimeoutError),
    DatabaseError; TypeError or ValueError for bad arguments, at the call.

    >>> with concurrency("database", occupy=1, timeout_seconds=5) as lease:
    ...     lease.occupy
    1
    """
    terms = Terms(
        names,
        occupy,
        timeout_seconds,
        strict,
        holds=True,
        max_retries=max_retries,
        holder=holder,
    )
    return _Concurrency(terms, None)


def rate_limit(
    names: str | Iterable[str] | None,
    occupy: int = 1,
    timeout_seconds: float | None = None,
    strict: bool = False,
) -> None:
    """Return once `occupy` slots were taken from every limit in `names`; they decay by themselves.

    Every active limit named needs `slot_decay_per_second` above 0: a limit of n slots with a decay
    of r admits at most n + r * T slots in any T seconds. Arguments and errors are those of
    `concurrency`; a limit without decay raises ConcurrencySlotAcquisitionError.

    >>> rate_limit("api", timeout_seconds=10)
    """
    terms = Terms(names, occupy, timeout_seconds, strict, holds=False)
    _obtain(terms, None)
