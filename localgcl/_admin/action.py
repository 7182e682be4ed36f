"""One call of administration: a transaction, and what its caller gets from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import ValidationError

from localgcl._storage.database import Database, NoDatabaseError, Transaction
from localgcl._storage.problems import corrupt_rows_error
from localgcl.models import first_fault

if TYPE_CHECKING:
    from localgcl._drivers.session import Session

T = TypeVar("T")


class Action(Generic[T]):
    """A transaction, what its caller gets from its result, and what if there is no database."""

    def __init__(
        self,
        work: Callable[[Transaction], Any],
        view: Callable[[Any], T],
        *,
        absent: Callable[[], T] | None = None,
    ) -> None:
        self.work = work
        self.view = view
        self.absent = absent  # None: it writes, so the database is created

    def run(self, database: Database, deadline: float | None = None) -> T:
        """Run it, and return what the caller gets; GateTimeoutError at the deadline."""
        try:
            found = database.transact(
                self.work, deadline=deadline, durable=self.durable, create=self.absent is None
            )
        except NoDatabaseError:
            if self.absent is None:
                raise
            return self.absent()
        return self._result(database.path, found)

    async def run_in(self, session: Session) -> T:
        """As `run`, awaited."""
        try:
            found = await session.transact(
                self.work, alone=True, durable=self.durable, create=self.absent is None
            )
        except NoDatabaseError:
            if self.absent is None:
                raise
            return self.absent()
        return self._result(session.path, found)

    def _result(self, path: str, found: Any) -> T:
        """Return what the caller gets; DatabaseError if no release of ours wrote those rows."""
        try:
            return self.view(found)
        except ValidationError as error:
            raise corrupt_rows_error(path, first_fault(error)) from error
        except (ArithmeticError, OSError, TypeError, ValueError):
            # A corrupt row fails each time. What a signal handler raises comes once.
            try:
                self.view(found)
            except (ArithmeticError, OSError, TypeError, ValueError) as error:
                raise corrupt_rows_error(path, error) from error
            raise

    @property
    def durable(self) -> bool:
        """Whether it changes something that must survive a power cut."""
        return self.absent is None


def together(*actions: Action[Any]) -> Action[list[Any]]:
    """Read several things in one transaction, all of the same moment."""
    return Action(
        lambda tx: [action.work(tx) for action in actions],
        lambda found: [one.view(rows) for one, rows in zip(actions, found, strict=True)],
        absent=lambda: [action.absent() for action in actions if action.absent is not None],
    )
