"""A connection to SQLite: how it is made, and how a transaction that may write begins."""

from __future__ import annotations

import sqlite3

from localgcl._base import clock
from localgcl._storage.gate import GateTimeoutError
from localgcl._storage.problems import code_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Only programs that do not know the gate can make SQLite busy (a shell, a backup). SQLite's handler
# sleeps without noticing signals or deadlines. So it gets short turns, and `begin` has the
# patience.
_BUSY_TURN_SECONDS = 0.1
_BUSY_PATIENCE_SECONDS = 60.0


def connect(real: str) -> sqlite3.Connection:
    """Return a connection to an existing file, on which nothing has been done yet."""
    # mode=rw: SQLite must not create a file whose mode and group nobody has chosen.
    return sqlite3.connect(
        f"file:{in_address(real)}?mode=rw",
        uri=True,
        timeout=_BUSY_TURN_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


def in_address(path: str) -> str:
    """Return `path` as part of a URI; only these characters have a meaning for SQLite."""
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def begin(execute: Callable[[str], object], deadline: float | None) -> None:
    """Begin a transaction that may write; no other place says BEGIN IMMEDIATE."""
    patience = None
    while True:
        try:
            execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if code_of(error) != sqlite3.SQLITE_BUSY:
                raise
            now = clock.now()
            if deadline is not None and now >= deadline:
                raise GateTimeoutError from None
            patience = patience or now + _BUSY_PATIENCE_SECONDS
            if now >= patience:
                raise
