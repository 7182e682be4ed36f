"""Slots for a process that exists for one purpose only: taken once, and freed at its end."""

from __future__ import annotations

import contextlib
import functools

from localgcl._admin.creation import insert_missing
from localgcl._base import clock
from localgcl._base.checks import check_name
from localgcl._base.text import printable, quoted
from localgcl._drivers.blocking import Listener, drive
from localgcl._engine import numbers, owners, release, wait
from localgcl._engine.queue import promote
from localgcl._liveness import identity
from localgcl._liveness.lifeline import end_lifeline
from localgcl._run.child import say
from localgcl._storage.database import NoDatabaseError
from localgcl._storage.gate import GateTimeoutError
from localgcl._storage.location import VARIABLE
from localgcl.errors import ConcurrencySlotAcquisitionError, DatabaseError, LocalGCLError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from localgcl._drivers.flow import Sleep, Terms
    from localgcl._engine.request import Request
    from localgcl._storage.database import Database, Transaction

# For work that is needed, but not at any price: a process stopped inside a transaction keeps the
# gate.
_PATIENCE_SECONDS = 1.0


class Claim:
    """Slots on some terms: a context manager that leaves everything free at its end.

    `shown_as` is the command line that `ps` shows for it. `verbose` makes it report on standard
    error what it waits for. Slots taken by rate are given back unless they were `used`.
    """

    def __init__(
        self,
        database: Database,
        terms: Terms,
        *,
        shown_as: Iterable[str] = (),
        verbose: bool = False,
    ) -> None:
        self.used = False
        self._database = database
        self._terms = terms
        self._shown_as = shown_as
        self._verbose = verbose
        self._request = self._new_request()
        self._left = False

    def __enter__(self) -> Claim:
        identity.show_as(self._shown_as)
        return self

    def __exit__(self, *_: object) -> None:
        identity.show_as(())
        self.leave()

    def obtain(self, limit_of_missing: int | None = None) -> None:
        """Wait for the slots; create missing limits with `limit_of_missing` slots.

        The errors are those of `localgcl.sync.concurrency`.
        """
        began = clock.now()
        while self._request.granted is None:
            try:
                self._wait()
            except ConcurrencySlotAcquisitionError as error:
                if error.reason != "missing" or limit_of_missing is None:
                    raise
                if not all(map(_can_be_created, error.names)):
                    raise  # only a template could make them
                wanted = max(map(self._request.wanted_of, error.names))
                if wanted > limit_of_missing:
                    raise ConcurrencySlotAcquisitionError(
                        error.names, wanted, error.waited_seconds, "over_limit"
                    ) from None
                self._database.transact(
                    functools.partial(insert_missing, names=error.names, limit=limit_of_missing),
                    durable=True,
                )
                self._request = self._new_request()
        self.tell(f"got {quoted(self._terms.names)} after {clock.now() - began:.1f} s")

    def _new_request(self) -> Request:
        request = self._terms.request()
        request.settled = True  # this object answers for it
        return request

    def _wait(self) -> None:
        listener = (
            _Teller(self._database, self._request)
            if self._verbose
            else Listener(self._database, self._request)
        )
        drive(self._terms, self._request, self._database, listener)

    def environment(self, name: str) -> dict[str, str | None]:
        """Return what the environment of a command says of these slots; None removes a variable.

        The numbers are those of the slots of the limit `name`.
        """
        held: list[int] = []
        if self._terms.holds:
            work = functools.partial(_numbers, request=self._request, name=name)
            held = self._database.transact(work)
        return {
            VARIABLE: self._database.path,
            "LOCALGCL_LEASE": self._request.id if self._terms.holds else None,
            "LOCALGCL_SLOT": str(held[0]) if held else None,
            "LOCALGCL_SLOTS": ",".join(map(str, held)) if held else None,
        }

    @property
    def descriptor(self) -> int | None:
        """The descriptor that keeps the slots for a process that inherits it, if any are held."""
        ours = self._database.lifeline() if self._terms.holds else None
        return None if ours is None else ours.descriptor

    def show_pid(self, pid: int) -> None:
        """Have `ps` show this pid beside the slots."""
        work = functools.partial(owners.show_pid, pid=pid)
        # It is for people to read. A running command must not suffer from a failure here.
        with contextlib.suppress(DatabaseError, GateTimeoutError, NoDatabaseError):
            self._database.transact(work, deadline=clock.now() + _PATIENCE_SECONDS, create=False)

    def leave(self) -> None:
        """Free what is held and sign out; a second call does nothing."""
        granted = self._request.granted
        if self._left or (granted is None and self._database.lifeline() is None):
            return
        self._left = True

        def sign_out(tx: Transaction) -> None:
            if self.used and granted is not None:
                release.release_granted(tx, self._request.id, self._request.occupy, granted)
            else:
                wait.abandon(tx, self._request)
            promote(tx, owners.sign_out(tx, if_idle=False))

        deadline = clock.now() + _PATIENCE_SECONDS
        try:
            self._database.transact(sign_out, deadline=deadline, create=False)
        except (DatabaseError, GateTimeoutError, NoDatabaseError):
            # The end of this process frees everything, unless the command has left something
            # running that has inherited the lifeline: a lifeline without a file counts as dead.
            ours = self._database.lifeline()
            if ours is not None:
                end_lifeline(ours.folder)

    def tell(self, text: str) -> None:
        """Report something on standard error, if that is wanted."""
        if self._verbose:
            _tell(text)


def _can_be_created(name: str) -> bool:
    try:
        check_name(name)
    except ValueError:
        return False
    return True


def _numbers(tx: Transaction, request: Request, name: str) -> list[int]:
    """Return the numbers of what a request was granted of one of its limits, if anything was."""
    granted = request.granted
    if granted is None or granted.owner is None:
        return []
    for key in granted.taken:
        # Slots that were taken at once are those of the only name.
        if request.limits.get(key, name) == name:
            return numbers.assign(tx, key, granted.owner, request.id)
    return []


class _Teller(Listener):
    """A listener that reports what it waits for when it first sleeps."""

    def __init__(self, database: Database, request: Request) -> None:
        super().__init__(database, request)
        self._names = request.names
        self._told = False

    def sleep(self, step: Sleep) -> list[str]:
        if not self._told and step.blockers is not None:
            self._told = True
            _tell(f"waiting for {quoted(self._names)}")
            for name in self._names:
                self._tell_of(name)
        return super().sleep(step)

    def _tell_of(self, name: str) -> None:
        try:
            from localgcl._admin import usage

            deadline = clock.now() + _PATIENCE_SECONDS
            holders = usage.holders(name).run(self._database, deadline)
        except (GateTimeoutError, ImportError, LocalGCLError, OSError):
            return  # the request finds out by itself
        for one in holders:
            about = f" ({one.holder})" if one.holder else ""
            _tell(
                f"'{name}' is held by process {one.pid} of {one.user} for {one.held_seconds:.0f} s,"
                f" {one.slots} slot(s): {one.command}{about}"
            )


def _tell(text: str) -> None:
    say(f"localgcl: {printable(text)}")
