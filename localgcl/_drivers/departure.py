"""The end of a process: what it holds is freed at once, and its files are removed.

A process that ends without this (SIGKILL, `os._exit`) is found dead by the next one that looks. So
a failure here loses nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import threading

from localgcl._base import clock, threads
from localgcl._engine import owners
from localgcl._engine.queue import promote
from localgcl._storage.database import NoDatabaseError, open_databases
from localgcl._storage.gate import GateTimeoutError
from localgcl.errors import LocalGCLError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from localgcl._storage.database import Database, Transaction

# A process that ends does not wait long for one that is stopped inside a transaction.
_PATIENCE_SECONDS = 1.0


def depart(database: Database, *, if_idle: bool) -> None:
    """Sign this process out of a database; with `if_idle`, only if it holds nothing there."""
    if database.lifeline() is None:
        return

    def sign_out(tx: Transaction) -> None:
        promote(tx, owners.sign_out(tx, if_idle=if_idle))

    deadline = clock.now() + _PATIENCE_SECONDS
    # If this fails, the next process that looks finds this one dead.
    with contextlib.suppress(NoDatabaseError, GateTimeoutError):
        database.transact(sign_out, deadline=deadline, create=False)


@atexit.register
def _depart_from_all() -> None:
    # Daemon threads keep running until the very end, perhaps inside a `with` block.
    goes_on = any(one.daemon and not threads.is_ours(one) for one in threading.enumerate())
    for database in open_databases():
        try:
            depart(database, if_idle=goes_on)
            database.close(clock.now() + _PATIENCE_SECONDS)
        except LocalGCLError:
            continue  # a full disk or a corrupt file: others find the dead without our help
