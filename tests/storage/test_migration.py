"""A file of an earlier release, as it was found beside a killed job, is carried over whole."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from localgcl import DatabaseError, Limiter
from localgcl._storage import schema
from tests.helpers.waiting import until

# Of 0.1: a limit with a holder and a waiter, a rate, slots set by hand, and a disabled limit.
VERSION_2 = (Path(__file__).parent / "version_2.sql").read_text(encoding="utf-8")


@pytest.fixture
def carried_over(tmp_path: Path) -> Path:
    """A file of schema 2."""
    path = tmp_path / "limits.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_2)
    return path


def test_a_file_of_the_earlier_release(carried_over: Path) -> None:
    """Limits and slots set by hand are there; whoever was killed holds and waits no more."""
    with Limiter(carried_over) as limiter:
        limits = {one.name: one for one in limiter.read_all()}
        assert {name: (one.limit, one.active) for name, one in limits.items()} == {
            "database": (2, True),
            "api": (10, True),
            "by hand": (5, True),
            "off": (1, False),
        }
        assert limits["by hand"].active_slots == 3
        assert limits["api"].slot_decay_per_second == 0.5
        assert limits["database"].id == "006b7489-5295-482d-96e3-0d67995a7049"
        assert limiter.holders() == []
        assert limiter.waiters() == []
        with limiter.concurrency("database", occupy=2):
            assert limiter.read("database").active_slots == 2
        until(lambda: limiter.read("database").active_slots == 0)


def test_it_is_as_if_made_today(carried_over: Path, tmp_path: Path) -> None:
    """Its tables are those of a new file, columns and all."""
    new = tmp_path / "new.db"
    for path in (carried_over, new):
        Limiter(path).upsert("database", 2)
    shapes = []
    for path in (carried_over, new):
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
            names = connection.execute("SELECT name FROM sqlite_master ORDER BY name").fetchall()
            columns = [
                connection.execute(f"SELECT name, type FROM pragma_table_info('{name}')").fetchall()
                for (name,) in names
            ]
            shapes.append((names, columns))
    assert shapes[0] == shapes[1]
    assert ("wakes", "TEXT") in [column for table in shapes[0][1] for column in table]


def test_the_earlier_release_says_who_has_changed_it(
    carried_over: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not write into what it does not know."""
    Limiter(carried_over).upsert("database", 2)
    monkeypatch.setattr(schema, "VERSION", 2)
    with pytest.raises(DatabaseError, match="schema 4"):
        Limiter(str(carried_over)).read_all()
