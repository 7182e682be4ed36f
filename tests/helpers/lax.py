"""Values that no release of ours writes, in tables that refuse them."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from localgcl._storage import schema

_CHECK = re.compile(r" *CHECK \((?:[^()]|\([^()]*\))*\)")
_STRICT = re.compile(r"\) STRICT(?:, )?")


def write(path: str | Path, statement: str, *values: object) -> None:
    """Write as another program does: into lax tables if ours refuse it.

    IntegrityError for what these refuse too, and then they are strict again.
    """
    try:
        _write(path, statement, values)
    except sqlite3.IntegrityError:
        make_lax(path)
        try:
            _write(path, statement, values)
        except sqlite3.IntegrityError:
            make_strict(path)
            raise


def make_lax(path: str | Path) -> None:
    """Take STRICT and the CHECKs out of the definitions of a file's tables.

    These refuse most of the values that make no sense, but only to a program that minds them. A
    file can have such values all the same: from a program that switches the checks off or writes
    the definitions themselves, as this does, or from somebody who edits the bytes. NOT NULL, keys
    and indexes stay, on which SQLite relies when it reads.
    """
    _define(path, is_lax=True)


def make_strict(path: str | Path) -> None:
    """Undo `make_lax`; the rows stay as they are."""
    _define(path, is_lax=False)


def _write(path: str | Path, statement: str, values: tuple[object, ...]) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


def _define(path: str | Path, *, is_lax: bool) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("BEGIN IMMEDIATE")
        for name, definition in _definitions().items():
            changed = connection.execute(
                "UPDATE sqlite_master SET sql = ? WHERE type = 'table' AND name = ?",
                (_lax(definition) if is_lax else definition, name),
            )
            assert changed.rowcount == 1, name
        ((version,),) = connection.execute("PRAGMA schema_version").fetchall()
        connection.execute(f"PRAGMA schema_version = {version + 1}")  # others read it again
        connection.execute("COMMIT")


def _definitions() -> dict[str, str]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(schema.TABLES)
        rows = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
        return dict(rows.fetchall())


def _lax(definition: str) -> str:
    changed = _STRICT.sub(") ", _CHECK.sub("", definition)).strip()
    assert not re.search("STRICT|CHECK", changed), changed
    return changed
