"""What is in a database, and the end of everything that this process has open."""

from __future__ import annotations

import contextlib
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from localgcl import Limiter
from localgcl._drivers import blocking
from localgcl._liveness import lifeline
from localgcl._storage.database import Transaction, open_databases
from localgcl.errors import DatabaseError

Tables = dict[str, list[Any]]


def forget_everything() -> None:
    """Close what this process has open everywhere, as its end would."""
    for ours in tuple(lifeline._lifelines.values()):  # a thread of ours may be at work
        ours.drop()
    lifeline._lifelines.clear()
    for database in open_databases():
        with contextlib.suppress(DatabaseError):
            database.close()
    blocking.databases.clear()


def tables(limiter: Limiter) -> Tables:
    """Return every row of tables and views as it is, without the clearing up that a reader does."""

    def read(tx: Transaction) -> Tables:
        names = tx.execute(
            "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
        ).fetchall()
        return {name: tx.execute(f"SELECT * FROM {name}").fetchall() for (name,) in names}

    return limiter._database.transact(read, create=False)


def sqlite(path: str | Path, script: str) -> None:
    """Run statements as another program would."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
