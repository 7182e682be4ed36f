"""What is not ours is refused, and stays as it is; an older schema is migrated."""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from localgcl import DatabaseError, Limiter
from localgcl._storage import history, schema
from tests.helpers.database import forget_everything
from tests.helpers.descriptors import open_files
from tests.helpers.foreign_files import newer, not_ours
from tests.helpers.programs import Invoke


@not_ours
def test_what_is_not_ours_is_closed_again(
    tmp_path: Path, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No connection is left to it, which would keep a lock or, in Python 3.13, be warned of."""
    make(tmp_path / "limits.db")
    forget_everything()
    made: list[sqlite3.Connection] = []

    def connect(*arguments: Any, **more: Any) -> sqlite3.Connection:
        made.append(genuine(*arguments, **more))
        return made[-1]

    genuine: Callable[..., sqlite3.Connection] = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", connect)
    with pytest.raises(DatabaseError):
        Limiter(tmp_path / "limits.db").read_all()
    forget_everything()
    for connection in made:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")


@not_ours
def test_what_is_not_ours_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """It raises DatabaseError with the path at each call, admits nobody, and stays as it was."""
    path = tmp_path / "limits.db"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    limiter = Limiter(path)
    calls: list[Callable[[], object]] = [
        limiter.read_all,
        lambda: limiter.read("database 1"),
        limiter.holders,
        lambda: limiter.create("new", 1),
        lambda: limiter.acquire(["database", "database 49"]),
        lambda: limiter.acquire("database", timeout_seconds=0, strict=True),
        lambda: limiter.rate_limit("database"),
        lambda: limiter.update("database", limit=5),
    ]
    for call in calls:
        with pytest.raises(DatabaseError) as caught:
            call()
        assert caught.value.path == str(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert "; " in str(caught.value)  # what to do next
    limiter.close()
    if before is not None:
        assert path.read_bytes() == before


@not_ours
def test_what_is_not_ours_on_the_command_line(
    path: str, invoke: Invoke, make: Callable[[Path], None]
) -> None:
    """It is an error of one line."""
    Path(path).parent.mkdir()
    make(Path(path))
    for command in (["ls"], ["ps", "-o", "json"], ["create", "new", "-l", "1"]):
        result = invoke(*command)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("Error: ")
        assert len(result.stderr.splitlines()) == 1


@not_ours
def test_what_is_refused_leaves_no_descriptor_open(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """A process that tries again and again does not run out of descriptors."""
    path = tmp_path / "limits.db"
    make(path)
    limiter = Limiter(path)

    def descriptors() -> int:
        gc.collect()
        return len(open_files(str(tmp_path)))

    with pytest.raises(DatabaseError):
        limiter.read_all()
    before = descriptors()
    for _ in range(10):
        with pytest.raises(DatabaseError):
            limiter.read_all()
    assert descriptors() <= before


def _another_script(patch: pytest.MonkeyPatch, script: str) -> None:
    patch.setattr(history, "SCRIPTS", (*history.SCRIPTS, script))
    patch.setattr(schema, "VERSION", schema.VERSION + 1)


def test_an_older_schema_is_migrated(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a release before has made is brought up to date, once, and nothing in it is lost."""
    before = schema.VERSION
    with Limiter(path) as limiter:
        limiter.create("db", 2)
    _another_script(
        monkeypatch,
        "ALTER TABLE settings ADD COLUMN colour TEXT;\nUPDATE settings SET colour = 'red';\n",
    )
    with Limiter(path) as limiter, Limiter(path) as again:
        assert limiter.read("db").limit == again.read("db").limit == 2
        with limiter.concurrency("db"):
            assert again.read("db").active_slots == 1
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT colour FROM settings").fetchall() == [("red",)]
        assert connection.execute("PRAGMA user_version").fetchone() == (before + 1,)
    connection.close()


def test_a_migration_that_fails_changes_nothing(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file stays as it was, for the release that made it."""
    with Limiter(path) as limiter:
        limiter.create("db", 2)
    with monkeypatch.context() as patch:
        _another_script(patch, "DROP TABLE waits;\nDROP TABLE nowhere;\n")
        with pytest.raises(DatabaseError, match="no such table: nowhere"), Limiter(path) as limiter:
            limiter.read("db")
    with Limiter(path) as limiter:
        assert limiter.read("db").limit == 2


def test_a_newer_schema_says_so(tmp_path: Path) -> None:
    """Whoever meets a file of a newer release is told to upgrade."""
    path = tmp_path / "limits.db"
    newer(path)
    with pytest.raises(DatabaseError, match=r"newer release .* upgrade"):
        Limiter(path).read_all()


@pytest.mark.parametrize("where", ["/dev/null", "/dev/full", "/proc/limits.db", "/dev/null/x.db"])
def test_places_where_no_file_can_be(where: str) -> None:
    """Devices are no databases, and make none."""
    with pytest.raises(DatabaseError) as caught:
        Limiter(where).create("database", 1)
    assert caught.value.path == where


def test_a_name_that_no_file_system_takes(tmp_path: Path) -> None:
    """An OSError of any kind becomes one of ours, for readers too."""
    limiter = Limiter(tmp_path / ("x" * 300))
    for call in (limiter.read_all, lambda: limiter.create("database", 1)):
        with pytest.raises(DatabaseError):
            call()


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    """A file where the run folder should be is an error, not a crash."""
    (tmp_path / "limits.db-run").write_text("in the way")
    with pytest.raises(DatabaseError):
        Limiter(tmp_path / "limits.db").create("database", 1)
    assert (tmp_path / "limits.db-run").read_text() == "in the way"
