"""What administration hands to a flavour: a transaction, and what its caller is given of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from localgcl._storage.database import Transaction
from localgcl._storage.problems import strange
from localgcl.models import first_fault

T = TypeVar("T")


class Action(Generic[T]):
    """A transaction, what its caller is given of its result, and what if there is no database."""

    def __init__(
        self,
        work: Callable[[Transaction], Any],
        view: Callable[[Any], T],
        *,
        absent: Callable[[], T] | None = None,
    ) -> None:
        self.work = work
        self.view = view
        self.absent = absent  # None: it writes, so the database is made

    def result(self, path: str, found: Any) -> T:
        """Return what the caller is given; DatabaseError where no release of ours wrote that."""
        try:
            return self.view(found)
        except ValidationError as error:
            raise strange(path, first_fault(error)) from error
        except (ArithmeticError, OSError, TypeError, ValueError):
            # A row makes no sense each time; what a signal's handler raises comes once.
            try:
                self.view(found)
            except (ArithmeticError, OSError, TypeError, ValueError) as error:
                raise strange(path, error) from error
            raise

    @property
    def durable(self) -> bool:
        """Whether it changes what must outlive a power cut."""
        return self.absent is None


def together(*actions: Action[Any]) -> Action[list[Any]]:
    """Read several things in one transaction, as they are at one moment."""
    return Action(
        lambda tx: [action.work(tx) for action in actions],
        lambda found: [one.view(rows) for one, rows in zip(actions, found, strict=True)],
        absent=lambda: [action.absent() for action in actions if action.absent is not None],
    )
