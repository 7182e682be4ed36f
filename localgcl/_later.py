"""Transactions for which nobody waits: a thread runs them, again and again until they succeed.

They free what a request or a lease has left that could not be undone at once: somebody was stopped
inside a transaction, or the disk is full. The end of the process frees it at the latest.
"""

from __future__ import annotations

import _thread
import contextlib
import time

from localgcl._database import NoDatabaseError
from localgcl.errors import DatabaseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from localgcl._database import Database, Transaction

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0


def run_later(database: Database, work: Callable[[Transaction], object]) -> None:
    """Run a transaction, which may be run twice, as soon as that is possible."""
    # Not by `threading`, whose locks a finalizer may find held by the very thread that it is in.
    with contextlib.suppress(RuntimeError):  # at the interpreter's end, which frees everything
        _thread.start_new_thread(_run, (database, work))


def _run(database: Database, work: Callable[[Transaction], object]) -> None:
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            database.transact(work, create=False)
        except NoDatabaseError:
            return  # and so nothing to free
        except DatabaseError:
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        else:
            return
