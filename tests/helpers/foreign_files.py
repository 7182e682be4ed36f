"""Files at the path of a database that are not usable as one."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from localgcl import Limiter
from localgcl._storage import schema
from tests.helpers.database import forget_everything, sqlite


def noise(path: Path) -> None:
    """Write bytes that are no database."""
    path.write_bytes(random.Random(7).randbytes(10_000))


def text(path: Path) -> None:
    """Write somebody's notes."""
    path.write_text("not a database\n" * 100)


def short(path: Path) -> None:
    """Write less than a header."""
    path.write_bytes(b"x" * 50)


def foreign(path: Path) -> None:
    """Make another program's database."""
    sqlite(path, "CREATE TABLE notes (text); INSERT INTO notes VALUES ('keep me')")


def foreign_in_wal_mode(path: Path) -> None:
    """Make another program's database, with a journal like ours."""
    sqlite(path, "PRAGMA journal_mode = WAL; CREATE TABLE limits (name); VACUUM")


def foreign_by_its_number(path: Path) -> None:
    """Make a file that says whose it is, though it has no table yet."""
    sqlite(path, "PRAGMA application_id = 1234; VACUUM")


def foreign_by_its_version(path: Path) -> None:
    """Make a file that another program has begun."""
    sqlite(path, "PRAGMA user_version = 1; VACUUM")


def newer(path: Path) -> None:
    """Make a database of a release to come."""
    Limiter(path).create("database", 1)
    forget_everything()
    sqlite(path, f"PRAGMA user_version = {schema.VERSION + 1}")


def truncated(path: Path) -> None:
    """Cut a database off."""
    limiter = Limiter(path)
    for number in range(50):
        limiter.create(f"database {number}", 1)
    forget_everything()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 2 // 3)


def header_alone(path: Path) -> None:
    """Leave nothing of a database but its first page."""
    Limiter(path).create("database", 1)
    forget_everything()
    with path.open("r+b") as file:
        file.truncate(1024)


def scribbled_over(path: Path) -> None:
    """Overwrite all of a database but its header."""
    Limiter(path).create("database", 1)
    forget_everything()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xa5" * (size - 100))


def without_its_tables(path: Path) -> None:
    """Have somebody drop a table."""
    Limiter(path).create("database", 1)
    forget_everything()
    sqlite(path, "DROP TABLE settings")


def folder(path: Path) -> None:
    """Make a folder."""
    path.mkdir()


def fifo(path: Path) -> None:
    """Make a FIFO, at which a reader would hang."""
    os.mkfifo(path)


NOT_OURS = [
    *(noise, text, short, foreign, foreign_in_wal_mode, foreign_by_its_number),
    *(foreign_by_its_version, newer, truncated, header_alone, scribbled_over),
    *(without_its_tables, folder, fifo),
]


not_ours = pytest.mark.parametrize("make", NOT_OURS, ids=lambda make: make.__name__)
