"""The floor: what SQLite itself takes for a plain acquire and release, over two tables."""

from __future__ import annotations

import contextlib
import sqlite3

# The plain busy handler may starve a connection for long; it is not to be an error.
_BUSY_TIMEOUT_SECONDS = 600.0

_TABLES = """
CREATE TABLE IF NOT EXISTS limits (
    key INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    slots INTEGER NOT NULL,
    used INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS leases (
    key INTEGER PRIMARY KEY, limit_key INTEGER NOT NULL, slots INTEGER NOT NULL
);
INSERT OR IGNORE INTO limits VALUES (1, 'floor', 1000000, 0);
"""


class Floor:
    """One open connection, in the mode that localgcl uses.

    The pages are of SQLite's own size unless the file was made with others.
    """

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(
            path, timeout=_BUSY_TIMEOUT_SECONDS, isolation_level=None
        )
        self._execute = self._connection.execute
        self._execute("PRAGMA journal_mode = WAL")
        self._execute("PRAGMA synchronous = NORMAL")

    @staticmethod
    def make(path: str, page_size: int | None = None) -> None:
        """Make the file once, before several processes open it; `page_size` is in bytes."""
        if page_size is not None:
            # In a log of its own a file can no longer change it.
            with contextlib.closing(sqlite3.connect(path)) as connection:
                connection.execute(f"PRAGMA page_size = {page_size}")
                connection.execute("VACUUM")
        floor = Floor(path)
        floor._connection.executescript(_TABLES)
        floor.close()

    def pair(self) -> None:
        """Acquire and release: two bare transactions."""
        self.release(*self.acquire())

    def acquire(self) -> tuple[int, int]:
        """One transaction: a select, an update, an insert; return the keys for the release."""
        execute = self._execute
        execute("BEGIN IMMEDIATE")
        key, slots, used = execute(
            "SELECT key, slots, used FROM limits WHERE name = ?", ("floor",)
        ).fetchone()
        assert used < slots
        execute("UPDATE limits SET used = used + 1 WHERE key = ?", (key,))
        lease = execute("INSERT INTO leases (limit_key, slots) VALUES (?, ?)", (key, 1)).lastrowid
        execute("COMMIT")
        assert lease is not None
        return key, lease

    def release(self, key: int, lease: int) -> None:
        """One transaction: an update, a delete."""
        execute = self._execute
        execute("BEGIN IMMEDIATE")
        execute("UPDATE limits SET used = used - 1 WHERE key = ?", (key,))
        execute("DELETE FROM leases WHERE key = ?", (lease,))
        execute("COMMIT")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
