"""The lease of the blocking flavour."""

from __future__ import annotations

import functools
import os

from localgcl._drivers import blocks
from localgcl._drivers.blocking import run_until_committed
from localgcl._drivers.held import UNLIMITED, Held
from localgcl._storage.backlog import run_later
from localgcl._storage.database import NoDatabaseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from localgcl._engine.request import Granted, Request
    from localgcl._storage.database import Database


class Lease(Held):
    """Slots that are held until `release()`, or until this process ends.

    `id` is what `localgcl ps` shows and `localgcl release` takes, `names` the limits asked for,
    `slots` what was taken of each, `occupy` the slots asked of each (None if they differ) and
    `waited_seconds` how long it took to get them. In a `with` it releases at the end.
    """

    __slots__ = ("_database",)

    def __init__(
        self,
        request: Request,
        waited_seconds: float = 0.0,
        granted: Granted | None = None,
        database: Database | None = None,
    ) -> None:
        self.id = request.id
        self._request = request
        self.waited_seconds = waited_seconds
        self._granted = granted
        self._database = database  # None: nothing to free
        self._of_block = False  # whether a `with` block releases it; the last attribute

    def __del__(self) -> None:
        # A Ctrl-C can strike before the first instruction of `__exit__`.
        of_block = getattr(self, "_of_block", False)  # missing if `__init__` was interrupted
        if of_block and self._database is not None and self._request.pid == os.getpid():
            blocks.entered.pop(self.id, None)
            run_later(self._database, self._release)

    def __enter__(self) -> Lease:
        self._of_block = True
        blocks.enter(self.id)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        blocks.entered.pop(self.id, None)
        self.release()

    def release(self) -> None:
        """Free the slots; a second call, and one in a forked child, does nothing.

        DatabaseError if that failed, for example on a full disk: it may be called again, and the
        end of the process frees the slots at the latest. If a finalizer or signal handler calls
        this in the middle of another call of localgcl, they are freed right after that call.
        """
        database = self._database
        if database is None:
            return
        request = self._request
        if request.pid == os.getpid():
            run_until_committed(database, self._release)
        self._database = request.granted = None

    def numbers(self, name: str | None = None) -> list[int]:
        """Return a number for each slot of a limit; None: of the only one that it has slots of.

        They are whole numbers from 0 that no other lease of that limit has, the lowest that were
        free when first requested: for a GPU, a port or a folder to each slot. ValueError if the
        lease has slots of several limits and no name is given, or none of that name.

        >>> from localgcl import Limiter
        >>> limiter = Limiter("limits.db")
        >>> limiter.create("gpu", 4).limit
        4
        >>> with limiter.concurrency("gpu", occupy=2) as lease:
        ...     lease.numbers()
        [0, 1]
        """
        place = self._place_of(name)
        if self._granted is UNLIMITED:
            return list(range(self.slots[place[2]]))
        assert self._database is not None  # or it would have no place
        work = functools.partial(self._numbers, place=place)
        try:
            numbers = self._database.transact(work, create=False)
        except NoDatabaseError:
            numbers = []
        if not numbers:
            raise self._has_none(name)
        return numbers
