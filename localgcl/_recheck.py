"""The periodic check of those who wait: whether a wake-up was lost.

Whoever commits wakes after that those whom it concerns, and may be killed between the two. What was
committed says all the same who was to be woken. To look at that needs no gate and no transaction,
and where nobody has committed since the last check, not even a look.
"""

from __future__ import annotations

from localgcl._slots import would_look

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable

    from localgcl._database import Database
    from localgcl._outcomes import Request

# Other threads of this process may be at the database, one after another.
_PATIENCE_SECONDS = 0.1


class Recheck:
    """What the last check of some requests of one process has seen.

    It may be of one request or of all that wait in the process: who has begun to wait since the
    last check is checked as those before.
    """

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: tuple[int, int] | None = None  # which opening, and what it has seen of commits

    def concerned(self, database: Database, waiting: Iterable[Request]) -> list[Request]:
        """Return those who are to look now, though nobody may have woken them.

        None of them where that cannot be read now; it can at the next check.
        """
        found = database.read(
            self._concerned, database.openings, waiting, patience_seconds=_PATIENCE_SECONDS
        )
        return found or []

    def _concerned(
        self, execute: Callable[..., sqlite3.Cursor], openings: int, waiting: Iterable[Request]
    ) -> list[Request]:
        # Another number means that another connection has committed since.
        seen = openings, execute("PRAGMA data_version").fetchone()[0]
        if seen == self._seen:
            return []
        concerned = [request for request in waiting if would_look(execute, request)]
        self._seen = seen
        return concerned
