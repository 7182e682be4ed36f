"""The file: made, opened, shared, replaced, and refused where it is not one of ours."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from localgcl import DatabaseError, Limiter
from localgcl._drivers import departure
from localgcl._liveness.lifeline import end_lifeline, lifeline
from localgcl._storage.database import Database, Transaction
from localgcl._storage.gate import Gate
from tests.helpers.database import forget_everything, sqlite
from tests.helpers.descriptors import open_files
from tests.helpers.played import Clock, Process
from tests.helpers.users import files_of, mode_of

# Where it lies


def test_what_lies_next_to_it(limiter: Limiter, path: str) -> None:
    """SQLite's two companions and one folder, and after the end the file and the folder alone."""
    limiter.create("database", 1)
    lease = limiter.acquire("database")
    folder = Path(path).parent
    assert {one.name for one in folder.iterdir()} == {
        *("limits.db", "limits.db-wal", "limits.db-shm", "limits.db-run"),
    }
    lease.release()
    limiter.close()
    assert {one.name for one in folder.iterdir()} == {"limits.db", "limits.db-run"}


@pytest.mark.parametrize(
    "name",
    [
        "two words.db",
        "what?.db",
        "100%.db",
        "issue#7.db",
        "a%20b%3f.db",
        "q?mode=memory&cache=shared#x",
        "'quoted' \"twice\".db",
        "новый файл.db",
        "new\nline.db",
        "no utf-8 \udcff.db",
        "&;|$(x).db",
        ".hidden",
        "x" * 200,
    ],
    ids=ascii,
)
def test_any_file_name(tmp_path: Path, name: str) -> None:
    """The file is called as it was asked for, whatever characters SQLite's addresses know."""
    folder = tmp_path / "f?o#l%d er"
    limiter = Limiter(folder / name)
    limiter.create("database", 1)
    with limiter.concurrency("database", strict=True):
        assert {one.name.removesuffix("-run") for one in folder.iterdir()} == {
            *(name, f"{name}-wal", f"{name}-shm"),
        }
    limiter.close()
    forget_everything()
    assert Limiter(str(folder / name)).read("database").limit == 1


def test_two_ways_to_one_file(tmp_path: Path) -> None:
    """Through a link to the file, or to its folder, it is the same database."""
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "folder").symlink_to(real)
    (tmp_path / "link.db").symlink_to(real / "limits.db")
    through_file, through_folder, direct = (
        Limiter(tmp_path / one) for one in ("link.db", "folder/limits.db", "real/limits.db")
    )
    through_file.create("database", 1)
    lease = through_folder.acquire("database", timeout_seconds=0)
    assert [one.lease for one in direct.holders()] == [lease.id]
    with pytest.raises(TimeoutError):
        through_file.acquire("database", timeout_seconds=0)
    assert {one.name for one in tmp_path.iterdir() if "run" in one.name} == set()
    assert (real / "limits.db-run").is_dir()
    assert len(direct._database.transact(lambda tx: tx.folder.fifos())) == 1


def test_a_link_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    """A link to a database that is not there yet leads to where it is made."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o750)
    (tmp_path / "limits.db").symlink_to(elsewhere / "real.db")
    Limiter(tmp_path / "limits.db").create("database", 1)
    assert (tmp_path / "limits.db").is_symlink()
    assert mode_of(elsewhere / "real.db") == 0o600


def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    """`mktemp` or `touch` may have made it, with the mode that it is to keep."""
    file = tmp_path / "limits.db"
    file.touch(mode=0o600)
    limiter = Limiter(file)
    assert limiter.read_all() == []
    limiter.create("database", 1)
    assert limiter.read("database").limit == 1
    assert {mode_of(one) & 0o077 for one in files_of(file)} == {0}


# What is ours, but not as we left it


def test_a_database_without_its_folder(limiter: Limiter, path: str) -> None:
    """A backup holds the file alone; the run folder is made anew."""
    limiter.create("database", 1)
    forget_everything()
    shutil.rmtree(f"{path}-run")
    assert Limiter(path).acquire("database", timeout_seconds=0).names == ("database",)


def test_a_backup_names_owners_that_never_come_back(
    limiter: Limiter, path: str, tmp_path: Path
) -> None:
    """Whatever its owners held is free where it is restored; slots set by hand stay."""
    limiter.create("database", 3, active_slots=1)
    limiter.acquire("database", 2)
    copy = tmp_path / "restored.db"
    limiter._database.transact(lambda _: None)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    restored = Limiter(copy)
    assert restored.read("database").active_slots == 1
    assert restored.holders() == []
    restored.acquire("database", 2, timeout_seconds=0)


def test_a_database_in_another_journal_mode(limiter: Limiter, path: str) -> None:
    """Somebody's tool may have taken it out of WAL mode; it goes back."""
    limiter.create("database", 1)
    forget_everything()
    sqlite(path, "PRAGMA journal_mode = DELETE")
    limiter = Limiter(path)
    with limiter.concurrency("database", strict=True):
        assert os.path.exists(f"{path}-wal")


def test_a_cleaner_of_the_run_folder(limiter: Limiter, path: str, clock: Clock) -> None:
    """A process whose files were removed makes them anew at its next call, and keeps its slots."""
    limiter.create("database", 2)
    lease = limiter.acquire("database")
    for name in os.listdir(f"{path}-run"):
        os.unlink(f"{path}-run/{name}")
    limiter.acquire("database", timeout_seconds=0).release()
    assert [one.lease for one in limiter.holders()] == [lease.id]
    assert clock.now == 1_000
    lease.release()


# Through one door


def test_begin_stands_in_one_place() -> None:
    """One function opens a transaction, and nothing opens the file but SQLite."""
    package = Path(sys.modules["localgcl"].__file__ or "").parent
    sources = {file: file.read_text(encoding="utf-8") for file in package.rglob("*.py")}
    begins = [file.name for file, source in sources.items() if '"BEGIN' in source]
    assert begins == ["connection.py"]
    connects = [file.name for file, source in sources.items() if "sqlite3.connect(" in source]
    # To read alone; and what a new file is made from, in memory.
    assert sorted(connects) == ["connection.py", "examination.py", "schema.py"]


def test_what_is_administered_outlives_a_loss_of_power(limiter: Limiter) -> None:
    """It is on the disk when the call returns; what is held need not be, and goes without."""
    limiter.create("before", 1)
    file = limiter._database._file
    assert file is not None
    statements: list[str] = []
    file.connection.set_trace_callback(statements.append)
    deeds: dict[str, tuple[Callable[[], object], bool]] = {
        "create": (lambda: limiter.create("database", 5), True),
        "update": (lambda: limiter.update("database", limit=6), True),
        "upsert": (lambda: limiter.upsert("database", 7), True),
        "acquire": (lambda: limiter.acquire("database").release(), False),
        "reset": (lambda: limiter.reset("database"), True),
        "delete": (lambda: limiter.delete("database"), True),
    }
    for deed, (do, durable) in deeds.items():
        statements.clear()
        do()
        modes = [one for one in statements if one.startswith(("PRAGMA synchronous", "COMMIT"))]
        full = ["PRAGMA synchronous = FULL", "COMMIT", "PRAGMA synchronous = NORMAL"]
        assert modes == (full if durable else ["COMMIT", "COMMIT"]), deed


def test_a_transaction_inside_a_transaction_is_refused(limiter: Limiter) -> None:
    """A signal handler that calls in the middle of one is told so, and breaks nothing."""
    limiter.create("database", 1)
    with pytest.raises(RuntimeError, match="signal handler"):
        limiter._database.transact(lambda _: limiter.read_all())
    assert limiter.read("database").limit == 1


def test_a_transaction_that_fails_leaves_nothing(limiter: Limiter) -> None:
    """Whatever a transaction raises, none of it happened, and the gate is open."""
    limiter.create("database", 1)

    def fail(tx: object) -> None:
        limiter._database._file.connection.execute("DELETE FROM settings")  # type: ignore[union-attr]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        limiter._database.transact(fail)
    assert Limiter(limiter._database.path).read("database").limit == 1
    assert Database(limiter._database.path).transact(lambda _: "in") == "in"


def test_the_file_does_not_grow(limiter: Limiter, path: str) -> None:
    """Thousands of slots later the file and its journal are as small as before."""
    limiter.create("database", 1)
    for _ in range(50):
        limiter.acquire("database", holder="x" * 500).release()
    before = os.path.getsize(path)
    for _ in range(3000):
        limiter.acquire("database", holder="x" * 500).release()
    limiter.close()
    assert os.path.getsize(path) <= max(before, 64 * 1024)
    limiter.read_all()
    assert os.path.getsize(f"{path}-wal") < 4 * 1024 * 1024
    assert os.listdir(f"{path}-run").count("gate") == 1


def test_a_cleaner_takes_a_fifo_while_it_is_made(
    limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is gone the moment it was made is made again."""
    limiter.create("a", 1)
    real, taken = os.mkfifo, list[str]()

    def make(path: str, mode: int, *, dir_fd: int) -> None:
        real(path, mode, dir_fd=dir_fd)
        if len(taken) < 2:
            taken.append(path)
            os.unlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkfifo", make)
    limiter.acquire("a").release()
    assert len(taken) == 2


def test_an_end_serves_the_queue(limiter: Limiter, processes: Callable[[], Process]) -> None:
    """Who ends grants what it held to the next one in the same transaction."""
    limiter.create("a", 1)
    limiter.acquire("a")
    waiter = processes().ask("a")
    departure.depart(limiter._database, if_idle=False)
    assert [one.lease for one in limiter.holders("a")] == [waiter.request.id]


def test_replaced_and_opened_while_somebody_stands_at_the_gate(
    limiter: Limiter, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log of the new file, which another has opened by then, is not taken for the old one's."""
    limiter.create("a", 1)
    limiter.close()
    shutil.copy(path, f"{path}.backup")
    limiter.close()
    enter, entered = Gate.enter, list[Gate]()

    def enter_late(gate: Gate, deadline: float | None = None) -> None:
        entered.append(gate)
        if len(entered) == 1:
            os.replace(f"{path}.backup", path)
            another = threading.Thread(target=limiter.create, args=("b", 1))
            another.start()
            another.join()
        enter(gate, deadline)

    monkeypatch.setattr(Gate, "enter", enter_late)
    by_name = "SELECT name FROM limits ORDER BY name"
    names = Database(path).transact(lambda tx: tx.execute(by_name).fetchall())
    assert names == [("a",), ("b",)]


def test_a_lifeline_that_ends_while_another_thread_waits_at_the_gate(
    limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event loop of the same process signs out: whoever comes in then mends nothing of that."""
    limiter.create("database", 1)
    limiter.acquire("database").release()
    folder = limiter._database._folder
    assert folder is not None
    ours = lifeline(folder)
    folder.discard(ours.name)
    enter = Gate.enter

    def late(gate: Gate, deadline: float | None = None) -> None:
        end_lifeline(folder)
        enter(gate, deadline)

    monkeypatch.setattr(Gate, "enter", late)
    assert limiter.read("database").active_slots == 0


def test_a_failed_statement_keeps_nothing_open(limiter: Limiter, path: str) -> None:
    """Who has caught the error, and so keeps the statement, may fork: nothing would cross it."""
    for name in ("a", "b"):
        limiter.create(name, 1)

    def fail(tx: Transaction) -> None:
        tx.execute("ROLLBACK")  # as SQLite does by itself where the disk is full
        tx.execute("SELECT name FROM limits").fetchone()
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(DatabaseError) as caught:
        limiter._database.transact(fail)
    assert path not in open_files()
    assert caught.value
