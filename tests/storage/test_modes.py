"""Who may use a database: its modes follow the folder."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from localgcl import Limiter
from localgcl._storage import problems
from tests.helpers.database import forget_everything
from tests.helpers.played import Process, Processes
from tests.helpers.users import as_nobody, files_of, mode_of, umask_of


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
        process.ask("database")  # with a wake-up FIFO
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
    permission_error = Path(f"{path}{file}")
    permission_error.chmod(mode)
    answer = as_nobody(REFUSED, str(path))
    shown = stat.filemode(permission_error.stat().st_mode)
    permission_error.chmod(0o700)  # for whoever clears up
    assert answer.stderr == ""
    lines = answer.stdout.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert f"{permission_error}," in line
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
    assert problems.permission_error(path) is None


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
        held = limiter.acquire("database")
        try:
            limiter.acquire("database", timeout_seconds=0.01)
        except TimeoutError:
            print("full")
        held.release()
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


@pytest.mark.skipif(os.geteuid() != 0, reason="two users take root: run these tests as root")
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
