"""The periodic check of those who wait: whether a wake-up was lost.

Whoever commits wakes after that those whom it concerns, and may be killed between the two. What was
committed says all the same who was to be woken. To look at that needs no gate and no transaction,
and where nobody has committed since the last check, not even a look.
"""

from __future__ import annotations

from localgcl._engine.wait import would_look

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable

    from localgcl._engine.request import Request
    from localgcl._storage.database import Database

# Other threads of this process may be at the database, one after another.
_PATIENCE_SECONDS = 0.1


def concerned(database: Database, waiting: Iterable[Request]) -> list[Request]:
    """Return those who are to look now, though nobody may have woken them.

    None of them where that cannot be read now; it can at the next check.
    """
    found = database.read(
        _concerned, database.openings, waiting, patience_seconds=_PATIENCE_SECONDS
    )
    return found or []


def _concerned(
    execute: Callable[..., sqlite3.Cursor], openings: int, waiting: Iterable[Request]
) -> list[Request]:
    # Another number means that another connection has committed since.
    seen = openings, execute("PRAGMA data_version").fetchone()[0]
    found = []
    for request in waiting:
        if request.checked != seen:
            if would_look(execute, request):
                found.append(request)
            request.checked = seen
    return found
