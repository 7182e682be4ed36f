"""The periodic check of the waiters: whether a wake-up was lost.

A process first commits, and then wakes those concerned. It may be killed between the two. The
database still says who had to be woken. Reading that needs no gate and no transaction. If nobody
has committed since the last check, no request is looked at.
"""

from __future__ import annotations

from localgcl._engine.wait import would_look

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable

    from localgcl._engine.request import Request
    from localgcl._storage.database import Database

# Other threads of this process may be using the database, one after another.
_PATIENCE_SECONDS = 0.1


def concerned(database: Database, waiting: Iterable[Request]) -> list[Request]:
    """Return the requests that must look now, although nobody may have woken them.

    It returns none if the database cannot be read now. The next check can read it.
    """
    found = database.read(
        _concerned, database.openings, waiting, patience_seconds=_PATIENCE_SECONDS
    )
    return found or []


def _concerned(
    execute: Callable[..., sqlite3.Cursor], openings: int, waiting: Iterable[Request]
) -> list[Request]:
    # A different number means that another connection has committed since.
    seen = openings, execute("PRAGMA data_version").fetchone()[0]
    found = []
    for request in waiting:
        if request.checked != seen:
            if would_look(execute, request):
                found.append(request)
            request.checked = seen
    return found
