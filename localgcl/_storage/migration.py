"""Files of older releases, which are brought up to date; those of newer ones are refused."""

from __future__ import annotations

import os

from localgcl._base.clock import remaining
from localgcl._storage import history, schema
from localgcl._storage.connection import begin
from localgcl._storage.gate import GateTimeoutError
from localgcl._storage.rights import of_the_writers
from localgcl.errors import DatabaseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from localgcl._liveness.folder import Folder
    from localgcl._storage.gate import Gate


def version_in(connection: sqlite3.Connection, path: str) -> int:
    """Return the version of a file's schema; DatabaseError if this release cannot use it."""
    version = schema.version_of(connection)
    if version is None:
        raise DatabaseError(path, "it belongs to another program; choose another file")
    if version > schema.VERSION:
        raise newer(path, version)
    return version


def newer(path: str, version: int) -> DatabaseError:
    """Return the error for a file that a newer release has made or changed."""
    return DatabaseError(path, f"a newer release made it (schema {version}); upgrade localgcl")


def migrate(
    path: str,
    connection: sqlite3.Connection,
    execute: Callable[[str], sqlite3.Cursor],
    gate: Gate,
    folder: Folder,
    deadline: float | None,
) -> None:
    """Bring a file up to date, one process at a time; GateTimeoutError at the deadline."""
    import filelock

    try:
        with (
            folder.lock_file() as lock,
            filelock.FileLock(lock, timeout=remaining(deadline), mode=folder.access.mode),
            gate.entered(deadline),
            of_the_writers(os.stat(os.path.dirname(folder.path)), folder.access),
        ):
            _bring_up_to_date(path, connection, execute, deadline)
    except filelock.Timeout:
        raise GateTimeoutError from None


def _bring_up_to_date(
    path: str,
    connection: sqlite3.Connection,
    execute: Callable[[str], sqlite3.Cursor],
    deadline: float | None,
) -> None:
    if execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        # This changes one page. A journal for it would belong to this user alone.
        execute("PRAGMA journal_mode = OFF")
        ((journal,),) = execute("PRAGMA journal_mode = WAL").fetchall()
        if journal != "wal":
            raise DatabaseError(path, f"SQLite keeps its journal in mode {journal} there, not WAL")
    version = version_in(connection, path)
    if version == schema.VERSION:
        return  # another process was first
    execute("PRAGMA synchronous = FULL")
    begin(execute, deadline)
    for statement in history.statements_from(version):
        execute(statement)
    execute("COMMIT")
