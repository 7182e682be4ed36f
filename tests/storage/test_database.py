"""The file: made, opened, shared, replaced, and refused where it is not one of ours."""

from __future__ import annotations

import errno
import gc
import math
import os
import random
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from localgcl import DatabaseError, Limiter, LimitNotFoundError
from localgcl._base import clock as _clock
from localgcl._base import descriptors as _descriptors
from localgcl._drivers import departure, places
from localgcl._drivers.blocking import Listener
from localgcl._drivers.flow import Terms
from localgcl._drivers.places import Place, look_round
from localgcl._engine.wait import NET_SECONDS
from localgcl._liveness.lifeline import end_lifeline, lifeline
from localgcl._storage import problems, schema
from localgcl._storage.database import Database, Transaction
from localgcl._storage.gate import Gate
from tests.conftest import Clock, Invoke, Process, forget_everything, umask_of
from tests.descriptors import open_files
from tests.flavours import DEADLINE_SECONDS

Processes = Callable[[], Process]


def files_of(path: str | Path) -> list[Path]:
    """Return the files that belong to a database and are there."""
    path = Path(path)
    run = path.with_name(f"{path.name}-run")
    companions = [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]
    return [one for one in companions if one.exists()] + [run, *sorted(run.iterdir())]


def mode_of(path: Path) -> int:
    """Return the mode of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def sqlite(path: str | Path, script: str) -> None:
    """Run statements as another program would."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


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


# Who may use it


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o007])
@pytest.mark.parametrize(
    ("folder_mode", "file_mode", "run_mode"),
    [(0o700, 0o600, 0o700), (0o750, 0o600, 0o700), (0o770, 0o660, 0o770), (0o775, 0o660, 0o770)]
    + [(0o2770, 0o660, 0o770), (0o1777, 0o666, 0o777)],
    ids=lambda mode: oct(mode),
)
def test_modes_follow_the_folder(
    tmp_path: Path, mask: int, folder_mode: int, file_mode: int, run_mode: int
) -> None:
    """Everything of a database takes the mode of its folder, whatever the umask."""
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(folder_mode)
    path = folder / "limits.db"
    limiter = Limiter(path)
    with umask_of(mask):
        limiter.create("database", 1)
        limiter.acquire("database")
        process = Process(limiter._database)
        process.ask("database")  # with an ear
    files = files_of(path)
    kinds = {stat.S_IFMT(one.stat().st_mode) for one in files}
    assert kinds == {stat.S_IFREG, stat.S_IFDIR, stat.S_IFIFO}
    assert len(files) >= 8
    for file in files:
        expected = run_mode if file.is_dir() else file_mode
        assert mode_of(file) == expected, file.name
    process.die()


def test_modes_follow_a_file_that_was_changed(tmp_path: Path) -> None:
    """A database opened up to its group takes along what is made after that."""
    path = tmp_path / "limits.db"
    Limiter(path).create("database", 1)
    forget_everything()
    path.chmod(0o660)
    shutil.rmtree(f"{path}-run")
    limiter = Limiter(path)
    limiter.acquire("database")
    for file in files_of(path):
        assert mode_of(file) == (0o770 if file.is_dir() else 0o660), file.name


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to any group")
@pytest.mark.parametrize("set_group_id", [True, False])
def test_the_group_follows_the_folder(
    tmp_path: Path, processes: Processes, set_group_id: bool
) -> None:
    """Everything of a database belongs to the group of its folder, setgid or not."""
    group = 54321
    folder = tmp_path / "folder"
    folder.mkdir()
    os.chown(folder, -1, group)
    folder.chmod(0o2770 if set_group_id else 0o770)
    path = folder / "limits.db"
    limiter = Limiter(path)
    limiter.create("database", 1)
    limiter.acquire("database")
    process = Process(limiter._database)
    process.ask("database")
    files = files_of(path)
    assert {one.stat().st_gid for one in files} == {group}
    assert {mode_of(one) for one in files} == {0o660, 0o770}
    process.die()


def as_nobody(code: str, *arguments: str, groups: str = "[]") -> subprocess.CompletedProcess[str]:
    """Run code as a user without privileges: where root runs the tests, as nobody."""
    # What is loaded later could lie in a folder that this user cannot enter.
    prelude = """
    import ctypes, difflib, encodings.ascii, grp, json, logging, os, pwd, resource, sys
    import unicodedata, uuid
    import filelock, pydantic
    import localgcl, localgcl._admin.limits, localgcl._drivers.departure
    import localgcl.cli.limits, localgcl.cli.holders, localgcl.cli.doctor
    from localgcl import DatabaseError, Limiter
    filelock.FileLock("/dev/null").is_locked
    limiter_of_imports = Limiter("/nonexistent/limits.db").read_all()
    if os.geteuid() == 0:
        os.setgroups(GROUPS)
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
    """
    program = textwrap.dedent(prelude.replace("GROUPS", groups)) + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True
    )


REFUSED = """
limiter = Limiter(sys.argv[1])
for call in (
    lambda: limiter.read_all(),
    lambda: limiter.acquire("database"),
    lambda: limiter.create("new", 1),
):
    try:
        call()
    except DatabaseError as error:
        print(error)
    else:
        print("admitted")
"""


@pytest.mark.parametrize(
    ("file", "mode"),
    [
        ("", 0o600 - 0o200),
        ("", 0o000),
        ("-wal", 0o400),
        ("-shm", 0o400),
        ("-run", 0o500),
        ("-run/gate", 0o400),
        ("-run/gate", 0o000),
    ],
    ids=str,
)
def test_without_permission(public: Path, file: str, mode: int) -> None:
    """Nobody is admitted, and the error says which file and which mode."""
    path = public / "limits.db"
    public.chmod(0o777)
    limiter = Limiter(path)
    limiter.create("database", 1)
    limiter.acquire("database")  # so that the companions stay
    denied = Path(f"{path}{file}")
    denied.chmod(mode)
    answer = as_nobody(REFUSED, str(path))
    shown = stat.filemode(denied.stat().st_mode)
    denied.chmod(0o700)  # for whoever clears up
    assert answer.stderr == ""
    lines = answer.stdout.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert f"{denied}," in line
        assert shown in line


def test_what_vanishes_while_it_is_looked_for_is_not_forbidden(
    limiter: Limiter, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite removes its files when the last of all closes them, at any moment."""
    limiter.create("a", 1)
    access = os.access

    def too_late(file: str, mode: int) -> bool:
        if file == f"{path}-shm":
            os.unlink(file)
        return access(file, mode)

    monkeypatch.setattr(os, "access", too_late)
    assert problems.denied(path) is None


def test_on_a_file_system_that_is_mounted_read_only(
    limiter: Limiter, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No mode and no group would help."""
    limiter.create("database", 1)
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    told = problems.known_problem(path, OSError(errno.EROFS, "Read-only file system"))
    assert told is not None
    assert "mounted read-only" in told


def test_without_permission_for_the_folder(public: Path) -> None:
    """A database that cannot be made says which folder is in the way."""
    public.chmod(0o555)
    answer = as_nobody(
        REFUSED.replace("lambda: limiter.read_all(),", ""), str(public / "deep" / "limits.db")
    )
    assert answer.stderr == ""
    lines = answer.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert f"{public}," in line
        assert "dr-xr-xr-x" in line
    assert list(public.iterdir()) == []


@pytest.mark.parametrize("mask", [0o077, 0o277, 0o777])
def test_a_user_with_a_narrow_umask(public: Path, mask: int) -> None:
    """Who is not root can make and use a database too, whatever the umask."""
    public.chmod(0o777)
    answer = as_nobody(
        """
        os.umask(int(sys.argv[2]))
        limiter = Limiter(sys.argv[1])
        limiter.create("database", 1)
        with limiter.concurrency("database"):
            try:
                limiter.acquire("database", timeout_seconds=0.01)
            except TimeoutError:
                print("full")
        """,
        str(public / "limits.db"),
        str(mask),
    )
    assert (answer.stdout, answer.stderr) == ("full\n", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can choose its groups")
def test_the_group_follows_the_folder_for_its_members(public: Path) -> None:
    """Who is in the folder's group, though not by its first one, gives everything to it."""
    group = 54321
    os.chown(public, -1, group)
    public.chmod(0o770)
    answer = as_nobody(
        """
        limiter = Limiter(sys.argv[1])
        limiter.create("database", 1)
        with limiter.concurrency("database"):
            for folder, _, files in os.walk(os.path.dirname(sys.argv[1])):
                for file in (*files, "."):
                    status = os.stat(os.path.join(folder, file))
                    print(status.st_gid, oct(status.st_mode & 0o777))
        """,
        str(public / "limits.db"),
        groups=f"[{group}]",
    )
    assert answer.stderr == ""
    lines = answer.stdout.splitlines()
    assert len(lines) == 3 + 2 + 2  # the file and its companions, what is in the folder, folders
    assert set(lines) == {f"{group} 0o660", f"{group} 0o770"}


@pytest.mark.skipif(os.geteuid() != 0, reason="two users take root")
def test_two_users_share_one_file(public: Path) -> None:
    """What root has made in a folder for all, another user can use at the same time."""
    public.chmod(0o777)
    path = public / "limits.db"
    limiter = Limiter(path)
    limiter.create("database", 2)
    lease = limiter.acquire("database")
    answer = as_nobody(
        """
        limiter = Limiter(sys.argv[1])
        lease = limiter.acquire("database", timeout_seconds=0)
        print([one.user for one in limiter.holders()])
        """,
        str(path),
    )
    assert answer.stderr == ""
    assert "'root'" in answer.stdout
    assert answer.stdout.count("'") == 4
    assert [one.lease for one in limiter.holders()] == [lease.id]


# What is not ours


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
    patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, script))
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


# Replaced and deleted


def remove(path: str) -> None:
    """Delete a database, as people do."""
    for file in (path, f"{path}-wal", f"{path}-shm"):
        if os.path.exists(file):
            os.unlink(file)


def test_a_deleted_file_is_noticed(limiter: Limiter, path: str) -> None:
    """At the next call there is no limit, and no ghost of one."""
    limiter.create("database", 1)
    limiter.acquire("database")
    remove(path)
    assert limiter.read_all() == []
    assert not os.path.exists(path)
    with pytest.raises(LimitNotFoundError):
        limiter.read("database")
    limiter.create("database", 1)
    limiter.acquire("database", timeout_seconds=0)


def test_a_release_in_a_deleted_file_is_a_silent_nothing(limiter: Limiter, path: str) -> None:
    """Whoever leaves its block after that leaves in peace, and makes no new file."""
    limiter.create("database", 1)
    lease = limiter.acquire("database")
    with limiter.concurrency([]):
        pass
    remove(path)
    lease.release()
    lease.release()
    assert not os.path.exists(path)
    shutil.rmtree(os.path.dirname(path))
    assert limiter.release(lease.id) is False
    assert not os.path.exists(os.path.dirname(path))


def test_a_replaced_file_is_noticed(limiter: Limiter, path: str, tmp_path: Path) -> None:
    """At the next call the new file counts; what was held in the old one frees nothing there."""
    limiter.create("database", 1)
    lease = limiter.acquire("database")
    other = Limiter(tmp_path / "other.db")
    other.create("database", 5, active_slots=2)
    other.create("new", 1)
    other.close()
    remove(path)
    os.rename(tmp_path / "other.db", path)
    assert [one.name for one in limiter.read_all()] == ["database", "new"]
    lease.release()
    limit = limiter.read("database")
    assert (limit.limit, limit.active_slots) == (5, 2)
    limiter.acquire("database", 3, timeout_seconds=0)


def test_a_link_that_leads_elsewhere_is_noticed(tmp_path: Path) -> None:
    """Where a link is turned to another file, the other file counts."""
    for name in ("one", "two"):
        Limiter(tmp_path / f"{name}.db").create(name, 1)
    link = tmp_path / "limits.db"
    link.symlink_to("one.db")
    limiter = Limiter(link)
    assert [one.name for one in limiter.read_all()] == ["one"]
    link.unlink()
    link.symlink_to("two.db")
    assert [one.name for one in limiter.read_all()] == ["two"]


def test_a_process_on_the_old_file_does_no_harm_to_the_new_one(limiter: Limiter, path: str) -> None:
    """A ghost's end must not take away the journal of whoever made the file anew."""
    limiter.create("old", 1)
    remove(path)
    newcomer = Limiter(path)
    newcomer._database = Database(path)  # as another process has one
    newcomer.create("first", 1)
    assert [one.name for one in limiter.read_all()] == ["first"]  # the ghost has ended
    newcomer.create("second", 1)
    third = Database(path)
    names = third.transact(lambda tx: tx.execute("SELECT name FROM limits").fetchall())
    assert names == [("first",), ("second",)]
    assert [one.name for one in limiter.read_all()] == ["first", "second"]


def test_an_emptied_file_is_noticed(limiter: Limiter, path: str) -> None:
    """As `: > limits.db` does it: nothing is there, and what is made next is a database."""
    limiter.create("database", 1)
    lease = limiter.acquire("database")
    os.truncate(path, 0)
    assert limiter.read_all() == []
    lease.release()
    limiter.create("database", 1)
    limiter.acquire("database", timeout_seconds=0)
    limiter.close()
    assert [one.name for one in limiter.read_all()] == ["database"]


def test_an_emptied_file_keeps_nobody_out(limiter: Limiter, path: str) -> None:
    """Whoever comes first begins anew, while another process has the old one open still."""
    limiter.create("old", 1)
    lease = limiter.acquire("old")
    mode = os.stat(path).st_mode
    os.truncate(path, 0)
    made = subprocess.run(
        [sys.executable, "-m", "localgcl", "--db", path, "create", "new", "--limit", "1"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert (made.returncode, made.stderr) == (0, "")
    assert [one.name for one in limiter.read_all()] == ["new"]
    lease.release()
    limiter.acquire("new", timeout_seconds=0)
    limiter.close()
    assert [one.name for one in limiter.read_all()] == ["new"]
    assert os.stat(path).st_mode == mode


def test_an_emptied_file_is_not_written_into_at_the_end(limiter: Limiter, path: str) -> None:
    """Whoever closes it does not write into it what no database begins with."""
    limiter.create("old", 1)
    os.truncate(path, 0)
    limiter.close()
    assert limiter.read_all() == []
    limiter.create("new", 1)
    assert [one.name for one in limiter.read_all()] == ["new"]


def test_who_waits_looks_at_the_new_file(
    limiter: Limiter, path: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A waiter notices within its safety net, and finds the limit missing there."""
    limiter.create("database", 1)
    limiter.acquire("database")
    step = clock.sleep

    def replaced(one: object) -> list[str]:
        remove(path)
        return step(one)

    clock.sleep = replaced  # type: ignore[method-assign,assignment]
    lease = limiter.acquire("database", timeout_seconds=60)
    assert lease.waited_seconds <= NET_SECONDS
    assert ["'database'" in message for message in caplog.messages] == [True]
    assert limiter.read_all() == []


def waiting(database: Database) -> tuple[Listener, Place]:
    """Return a listener and its place, of a request that leaves nothing to undo."""
    request = Terms("database", 1, None, False, holds=True).request()
    request.settled = True
    listener = Listener(database, request)
    database.transact(lambda tx: listener.ear(tx.folder))
    place = listener._place
    assert place is not None
    place.until = math.inf
    return listener, place


def is_woken_in_a_round(place: Place) -> bool:
    """Whether the periodic check finds anything that this place is to be told of."""
    place.told = None
    look_round([place])
    return place.told is not None


def test_who_waits_notices_that_another_thread_opened_the_new_file(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts is the file in which it waits, not the one that its process has open by now."""
    monkeypatch.setattr(places, "concerned", lambda *_: [])  # its row is in none of the files
    database = Database(path)
    listener, place = waiting(database)
    assert not is_woken_in_a_round(place)
    remove(path)
    assert is_woken_in_a_round(place)
    database.transact(lambda tx: tx.now)
    assert is_woken_in_a_round(place)
    listener.mend()  # as a look does that has found its row
    assert not is_woken_in_a_round(place)
    listener.close()
    database.close()


def test_who_waits_looks_again_where_a_lifeline_is_being_mended(path: str) -> None:
    """Another thread has closed its former end, of which the one that waits asks."""
    database = Database(path)
    listener, place = waiting(database)
    ours = database.lifeline()
    assert ours is not None
    descriptor, ours.descriptor = ours.descriptor, _descriptors.NONE
    assert is_woken_in_a_round(place)
    ours.descriptor = descriptor
    assert not is_woken_in_a_round(place)
    listener.close()
    database.close()


def test_the_note_outlives_the_gate(limiter: Limiter, path: str) -> None:
    """A cleaner who takes the gate's file does not make another file's log pass for this one's."""
    limiter.create("a", 1)
    file = limiter._database._file
    assert file is not None
    noted = file.gate.note()
    shutil.rmtree(f"{path}-run")
    file.gate._seen_at = -math.inf
    limiter.read("a")
    with open(f"{path}-run/gate", encoding="ascii") as gate:
        assert gate.read() == noted != ""


def test_who_has_a_deadline_waits_for_no_other_thread(limiter: Limiter) -> None:
    """One that stands at a shut gate keeps neither a close nor a look at a grant."""
    limiter.create("a", 1)
    database = limiter._database
    held, ends = threading.Event(), threading.Event()

    def stand() -> None:
        with database._lock:
            held.set()
            ends.wait()

    thread = threading.Thread(target=stand)
    thread.start()
    held.wait()
    try:
        assert database.read(lambda execute: execute("SELECT 1").fetchall()) is None
        database.close(_clock.now())
        assert database._file is not None
    finally:
        ends.set()
        thread.join()
    assert database.read(lambda execute: execute("SELECT 1").fetchall()) == [(1,)]


# A disk that is full


@contextmanager
def full_disk() -> Iterator[None]:
    """Let this process write nothing for a block."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_admits_nobody(limiter: Limiter) -> None:
    """What cannot be written down is not granted, and everything goes on when it can be."""
    limiter.create("database", 2)
    lease = limiter.acquire("database")
    with full_disk():
        calls: list[Callable[[], object]] = [
            lambda: limiter.acquire("database"),
            lambda: limiter.create("new", 1),
            lambda: limiter.update("database", limit=5),
        ]
        for call in calls:
            with pytest.raises(DatabaseError):
                call()
    assert [one.lease for one in limiter.holders()] == [lease.id]
    assert limiter.read("database").limit == 2
    limiter.acquire("database", timeout_seconds=0)


def test_a_release_that_fails_can_be_tried_again(limiter: Limiter) -> None:
    """A slot that could not be freed is held until it can be."""
    limiter.create("database", 1)
    lease = limiter.acquire("database")
    with full_disk():
        for _ in range(2):
            with pytest.raises(DatabaseError):
                lease.release()
    assert [one.lease for one in limiter.holders()] == [lease.id]
    lease.release()
    assert limiter.holders() == []


def test_a_block_that_fails_on_a_full_disk_tells_of_both(limiter: Limiter) -> None:
    """The error of the release has the one that ended the block behind it."""
    limiter.create("database", 1)
    disk = full_disk()
    with pytest.raises(DatabaseError) as caught:
        try:
            with limiter.concurrency("database"):
                disk.__enter__()
                raise ValueError("what the block died of")
        finally:
            disk.__exit__(None, None, None)
    behind: list[BaseException] = [caught.value]
    while behind[-1].__context__ is not None:
        behind.append(behind[-1].__context__)
    assert "what the block died of" in map(str, behind)


# Through one door


def test_begin_stands_in_one_place() -> None:
    """One function opens a transaction, and nothing opens the file but SQLite."""
    package = Path(sys.modules["localgcl"].__file__ or "").parent
    sources = {file: file.read_text(encoding="utf-8") for file in package.rglob("*.py")}
    begins = [file.name for file, source in sources.items() if '"BEGIN' in source]
    assert begins == ["file.py"]
    connects = [file.name for file, source in sources.items() if "sqlite3.connect(" in source]
    # To read alone; and what a new file is made from, in memory.
    assert sorted(connects) == ["examination.py", "file.py", "schema.py"]


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
    names = Database(path).transact(lambda tx: tx.execute("SELECT name FROM limits").fetchall())
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
