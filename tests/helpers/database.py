"""What is in a database, and the end of everything that this process has open."""

from __future__ import annotations

import contextlib
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from localgcl import Limiter
from localgcl._drivers import blocking
from localgcl._liveness import lifeline
from localgcl._storage.database import Database, Transaction, open_databases
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


def note_transactions(patch: pytest.MonkeyPatch, path: str) -> list[object]:
    """Return a list that gets an entry for each transaction with this database from now on.

    Those with other databases do not count: behind other tests, threads of ours still clear away.
    """
    noted: list[object] = []
    transact = Database.transact

    def note(self: Database, work: Any, **options: Any) -> Any:
        if self.path == path:
            noted.append(work)
        return transact(self, work, **options)

    patch.setattr(Database, "transact", note)
    return noted


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
