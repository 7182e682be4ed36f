"""`doctor`: what it finds in real files, without making, changing or opening any."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import sqlite3
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from localgcl import Limiter
from localgcl._base import clock
from localgcl._doctor import examination
from localgcl._liveness.folder import Folder
from localgcl._storage import location
from localgcl.cli import localgcl
from tests.helpers.database import forget_everything, tables
from tests.helpers.foreign_files import not_ours
from tests.helpers.gate import shut
from tests.helpers.played import Process
from tests.helpers.programs import Invoke
from tests.helpers.users import as_nobody

Processes = Callable[[], Process]
Checks = dict[str, dict[str, str]]

ALWAYS = ["database", "file system", "disk", "sqlite", "clock"]
ALL = [*ALWAYS, "permissions", "run folder", "gate", "format", "integrity", "rows", "owners"]


@pytest.fixture(autouse=True)
def old_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the version of SQLite be the same on every machine, one with the fault."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 40, 1))


@pytest.fixture
def known(limiter: Limiter) -> Limiter:
    """A limiter of a database at rest."""
    limiter.create("database", 2)
    limiter.create("api", 10, slot_decay_per_second=0.5)
    limiter.close()
    return limiter


def found(result: Result) -> Checks:
    """Return the checks by their names, of a command that agrees with itself about faults."""
    report = json.loads(result.stdout)
    assert list(report) == ["database", "chosen_by", "exists", "checks"]
    for check in report["checks"]:
        assert list(check) == ["name", "status", "detail", "remedy"]
        assert check["status"] in ("ok", "note", "fault")
        assert (check["remedy"] is None) == (check["status"] == "ok"), check
    faults = [check for check in report["checks"] if check["status"] == "fault"]
    if faults:
        assert result.exit_code == 1
        assert result.stderr == f"Error: {len(faults)} fault(s) found in {report['database']}\n"
    else:
        assert (result.exit_code, result.stderr) == (0, "")
    return {check["name"]: check for check in report["checks"]}


@pytest.fixture
def examine(invoke: Invoke) -> Callable[[], Checks]:
    """Examine the database at `path`."""
    return lambda: found(invoke("doctor", "-o", "json"))


Examine = Callable[[], Checks]


def statuses(checks: Checks, status: str) -> list[str]:
    """Return the names of the checks with a status."""
    return [name for name, check in checks.items() if check["status"] == status]


def files(path: str) -> dict[str, tuple[int, ...]]:
    """Return everything about the files of a database but their content and when it was read."""
    seen: dict[str, tuple[int, ...]] = {}
    for folder, _, names in os.walk(os.path.dirname(path)):
        for one in [folder, *(os.path.join(folder, name) for name in names)]:
            status = os.lstat(one)
            seen[one] = (status.st_ino, status.st_mode, status.st_uid, status.st_gid)
            if not one.endswith("-shm"):  # the memory that SQLite's connections share
                seen[one] += (status.st_size, status.st_mtime_ns)
    return seen


# What is well


def test_a_database_at_rest(known: Limiter, examine: Examine, path: str) -> None:
    """Everything is looked at, only the version of SQLite is a note, and nothing changes."""
    before, content = files(path), Path(path).read_bytes()
    checks = examine()
    assert list(checks) == ALL
    assert statuses(checks, "note") == ["sqlite"]
    assert statuses(checks, "fault") == []
    assert path in checks["database"]["detail"]
    assert files(path) == before
    assert Path(path).read_bytes() == content


def test_a_database_in_use(limiter: Limiter, examine: Examine, path: str) -> None:
    """What stands in the WAL alone is read, behind the gate like by everybody."""
    limiter.create("database", 2)
    lease = limiter.acquire("database")
    rows, before = tables(limiter), files(path)
    checks = examine()
    after = ALL.index("permissions") + 1
    assert list(checks) == [*ALL[:after], "wal", *ALL[after:]]
    assert statuses(checks, "fault") == []
    assert checks["owners"]["detail"] == "1 living, none dead"
    assert files(path) == before
    assert tables(limiter) == rows
    lease.release()


def test_no_database(invoke: Invoke, path: str) -> None:
    """It is not there yet, which is no fault, and none is made."""
    result = invoke("doctor", "-o", "json")
    report = json.loads(result.stdout)
    assert (report["database"], report["exists"], report["chosen_by"]) == (path, False, "option")
    assert list(found(result)) == ALWAYS
    assert not os.path.exists(os.path.dirname(path))


def test_an_empty_file(examine: Examine, path: str) -> None:
    """It is a new database."""
    os.makedirs(os.path.dirname(path), 0o700)
    Path(path).touch(0o600)
    before = files(path)
    checks = examine()
    assert "empty" in checks["format"]["detail"]
    assert statuses(checks, "fault") == []
    assert files(path) == before


def test_without_its_run_folder(known: Limiter, examine: Examine, path: str) -> None:
    """A database that was restored or whose folder a cleaner took has none until its next use."""
    for name in os.listdir(f"{path}-run"):
        os.unlink(f"{path}-run/{name}")
    os.rmdir(f"{path}-run")
    checks = examine()
    assert list(checks) == ALL
    assert statuses(checks, "fault") == []
    assert "not there" in checks["run folder"]["detail"]
    assert not os.path.exists(f"{path}-run")


def test_text(known: Limiter, invoke: Invoke) -> None:
    """A line for each check, aligned, and what to do below."""
    result = invoke("doctor")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert [line[:5].strip() for line in lines if not line.startswith(" ")] == [
        "note" if name == "sqlite" else "ok" for name in ALL
    ]
    for line in lines:
        assert line[5:7] == "  "
        assert line[7 + len("permissions") :].startswith("  ")
    below = lines[[line[7:].startswith("sqlite") for line in lines].index(True) + 1]
    assert below.lstrip().startswith("-> ")


def test_it_opens_no_file_of_the_database(known: Limiter, path: str) -> None:
    """Closing such a descriptor would end the POSIX locks of this process's connections."""
    known.acquire("database")
    code = f"""
    import builtins, os, sys
    from localgcl._doctor import examination as _examination
    def watch(event, arguments):
        if event == "open" and str(arguments[0]).startswith({path!r}):
            assert str(arguments[0]).startswith({path!r} + "-run"), arguments
    sys.addaudithook(watch)
    checks = _examination.examine({path!r}, "option")
    assert not [check for check in checks if check.status == "fault"], checks
    assert [check.name for check in checks][-1] == "owners"
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


# Which file


def test_what_chose_it(limiter: Limiter, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """--db, the environment or the default."""
    monkeypatch.setenv("LOCALGCL_DB", path)
    runner = CliRunner()
    named = json.loads(runner.invoke(localgcl, ["doctor", "-o", "json"]).stdout)
    assert (named["database"], named["chosen_by"]) == (path, "environment")
    monkeypatch.delenv("LOCALGCL_DB")
    default = json.loads(runner.invoke(localgcl, ["doctor", "-o", "json"]).stdout)
    assert default["database"].endswith("/.local/state/localgcl/localgcl.db")
    assert default["chosen_by"] == "default"


@pytest.mark.parametrize("other", ["/var/lib/limits.db", ":memory:", "~nobody-of-that-name/x.db"])
def test_the_environment_names_another(
    known: Limiter, examine: Examine, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """That is said, and is no fault."""
    monkeypatch.setenv("LOCALGCL_DB", other)
    checks = examine()
    assert statuses(checks, "note") == ["database", "sqlite"]
    assert other in checks["database"]["detail"]


def test_the_environment_names_the_same(
    known: Limiter, examine: Examine, monkeypatch: pytest.MonkeyPatch, path: str, tmp_path: Path
) -> None:
    """By a link too."""
    (tmp_path / "link.db").symlink_to(path)
    monkeypatch.setenv("LOCALGCL_DB", str(tmp_path / "link.db"))
    assert statuses(examine(), "note") == ["sqlite"]


@pytest.mark.parametrize("database", ["", ":memory:", "file:x.db"])
def test_databases_that_cannot_be(database: str) -> None:
    """They are wrong usage of --db, as everywhere."""
    result = CliRunner().invoke(localgcl, ["--db", database, "doctor"])
    assert (result.exit_code, result.stdout) == (2, "")


# The machine


def test_a_network_file_system(
    known: Limiter, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database there is a fault."""
    monkeypatch.setattr(location, "mount_of", lambda _: ("nfs4", "/"))
    assert statuses(examine(), "fault") == ["file system"]


def test_a_clock_that_cannot_be_read(
    known: Limiter, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No boot's identity, no telling of times before a reboot from those after."""

    def boot_id() -> str:
        raise FileNotFoundError(2, "No such file or directory", "/proc/sys/kernel/random/boot_id")

    monkeypatch.setattr(clock, "boot_id", boot_id)
    checks = examine()
    assert statuses(checks, "fault") == ["clock"]
    assert "boot_id" in checks["clock"]["detail"]


# The files


def first_fifo(path: str) -> str:
    """Return the path of a FIFO in the run folder."""
    return next(
        f"{path}-run/{name}"
        for name in os.listdir(f"{path}-run")
        if stat.S_ISFIFO(os.lstat(f"{path}-run/{name}").st_mode)
    )


@pytest.mark.parametrize("of", ["-wal", "-shm", "-run", "-run/gate", "a FIFO", "the database"])
def test_wrong_modes(limiter: Limiter, examine: Examine, path: str, of: str) -> None:
    """A file that not everybody may use who may use the others is named, and how to mend it."""
    limiter.create("database", 2)
    limiter.acquire("database")
    assert statuses(examine(), "fault") == []
    wrong = {"a FIFO": first_fifo(path), "the database": path}.get(of, f"{path}{of}")
    os.chmod(wrong, stat.S_IMODE(os.stat(wrong).st_mode) | 0o040)
    checks = examine()
    assert statuses(checks, "fault") == ["permissions"]
    remedy = checks["permissions"]["remedy"]
    if of != "the database":  # whose mode the others then have to follow
        assert wrong in checks["permissions"]["detail"]
        assert subprocess.run(["sh", "-c", remedy], check=True).returncode == 0
        assert statuses(examine(), "fault") == []


def test_a_database_that_its_group_cannot_use(
    limiter: Limiter, examine: Examine, path: str
) -> None:
    """Root's first cron job used to make such a one."""
    limiter.create("database", 2)
    Path(path).parent.chmod(0o770)
    checks = examine()
    assert statuses(checks, "fault") == ["permissions"]
    assert f"chmod 660 {path}" in checks["permissions"]["remedy"]


def test_without_permission(public: Path) -> None:
    """What this user may not use is named, and nothing raises."""
    path = str(public / "limits.db")
    with Limiter(path) as limiter:
        limiter.create("database", 1)
    os.chmod(f"{path}-run", 0o000 if os.geteuid() else 0o700)
    done = as_nobody(
        """
        from localgcl.cli import localgcl
        localgcl(["--db", sys.argv[1], "doctor", "-o", "json"])
        """,
        path,
    )
    os.chmod(f"{path}-run", 0o700)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["permissions"]["status"] == "fault"
    assert "no permission" in checks["permissions"]["detail"]


def test_strays(known: Limiter, examine: Examine, path: str) -> None:
    """What is not localgcl's is a note, also under a name that a FIFO would have."""
    Path(f"{path}-run/gate.0123456789abcdef").touch()
    Path(f"{path}-run/{'a' * 32}").touch()
    Path(f"{path}-run/evil\x1b[31m\n").touch()
    before = files(path)
    checks = examine()
    assert statuses(checks, "note") == ["sqlite", "run folder"]
    detail = checks["run folder"]["detail"]
    assert "gate.0123456789abcdef" in detail
    assert "a" * 32 in detail
    assert "\x1b" not in detail
    assert files(path) == before


def test_a_wal_that_does_not_shrink(limiter: Limiter, examine: Examine, path: str) -> None:
    """A program that keeps a transaction open keeps the WAL, and is named."""
    limiter.create("database", 1000)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM limits").fetchall()
    while os.path.getsize(f"{path}-wal") <= 4 * 2**20:
        limiter.acquire("database", holder="x" * 2000).release()
    checks = examine()
    reader.close()
    assert statuses(checks, "fault") == ["wal"]
    assert f"process {os.getpid()} (" in checks["wal"]["detail"]


def test_a_run_folder_that_is_none(known: Limiter, examine: Examine, path: str) -> None:
    """Nobody could use the database."""
    os.rename(f"{path}-run", f"{path}-moved")
    Path(f"{path}-run").touch(0o600)
    assert statuses(examine(), "fault") == ["run folder"]
    os.unlink(f"{path}-run")
    os.symlink("nowhere", f"{path}-run")
    assert statuses(examine(), "fault") == ["run folder"]


def test_a_run_folder_behind_a_link(known: Limiter, examine: Examine, path: str) -> None:
    """Where others can write it may lead anywhere, and so it is followed nowhere."""
    os.rename(f"{path}-run", f"{path}-moved")
    os.symlink(f"{path}-moved", f"{path}-run")
    assert statuses(examine(), "fault") == ["permissions"]


@pytest.mark.parametrize("where", ["a link to nothing", "below a file", "a name too long"])
def test_paths_that_lead_nowhere(known: Limiter, path: str, where: str) -> None:
    """They are told apart from a database that is not there yet, and nothing raises."""
    asked, status = {
        "a link to nothing": (f"{path}-link", 0),
        "below a file": (f"{path}/limits.db", 1),
        "a name too long": (f"{path}{'x' * 300}", 1),
    }[where]
    os.symlink(f"{path}-nothing", f"{path}-link")
    result = CliRunner().invoke(localgcl, ["--db", asked, "doctor", "-o", "json"])
    assert result.exit_code == status
    assert statuses(found(result), "fault") == ["format"] * status
    assert json.loads(result.stdout)["exists"] is (where == "a name too long")


# The disk

# In a mount namespace of its own: nobody else sees the file system, and it ends with the process.
ON_A_SMALL_DISK = """
import contextlib, os, subprocess, sys
from localgcl import Limiter

def doctor():
    words = [sys.executable, "-m", "localgcl", "--db", database, "doctor", "-o", "json"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    print(done.returncode, "".join(done.stdout.split()))

def fill(*, bytes):
    number = 0
    with contextlib.suppress(OSError):
        with open(f"{folder}/filler", "wb", buffering=0) as file:
            while bytes:
                file.write(b"x" * 512)
        while True:
            os.mknod(f"{folder}/{number}")
            number += 1

folder = sys.argv[1]
database = f"{folder}/limits.db"
options = f"size={sys.argv[2]},nr_inodes={sys.argv[3]}"
subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
"""


def on_a_small_disk(folder: Path, size: str, inodes: str, code: str) -> list[tuple[int, Any]]:
    """Run code on a small file system; return each status and report of `doctor` that it got."""
    program = ON_A_SMALL_DISK + textwrap.dedent(code)
    words = ["unshare", "--mount", sys.executable, "-c", program, str(folder), size, inodes]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.partition(" ") for line in done.stdout.splitlines()]
    return [(int(status), json.loads(text)) for status, _, text in lines]


def disk_of(report: Any) -> dict[str, str]:
    """Return what a report says of the disk."""
    (check,) = [one for one in report["checks"] if one["name"] == "disk"]
    return dict(check)


mounts = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


@mounts
@pytest.mark.parametrize("used_up", ["bytes", "inodes"])
def test_a_disk_that_is_used_up(tmp_path: Path, used_up: str) -> None:
    """No job can start then, which is a fault; it is over once there is room again."""
    code = f"""
    Limiter(database).create("a", 1)
    doctor()
    fill(bytes={used_up == "bytes"})
    job = [sys.executable, "-m", "localgcl", "--db", database, "run", "a", "true"]
    assert subprocess.run(job, capture_output=True).returncode == 1
    doctor()
    for name in os.listdir(folder):
        if not name.startswith("limits.db"):
            os.unlink(f"{{folder}}/{{name}}")
    assert subprocess.run(job, capture_output=True).returncode == 0
    doctor()
    """
    before, full, after = on_a_small_disk(tmp_path, "1m", "40", code)
    for status, report in (before, after):
        assert (status, disk_of(report)["status"]) == (0, "ok")
    assert full[0] == 1
    assert disk_of(full[1])["status"] == "fault"
    assert "df-i" in disk_of(full[1])["remedy"]
    assert ("0inodesfree" in disk_of(full[1])["detail"]) is (used_up == "inodes")
    assert [one["name"] for one in full[1]["checks"]][-1] == "owners"


@mounts
@pytest.mark.parametrize(("size", "inodes"), [("64k", "40"), ("1m", "6")])
def test_a_disk_without_room_for_a_database(tmp_path: Path, size: str, inodes: str) -> None:
    """It is told before there is one, too."""
    code = """
    doctor()
    job = [sys.executable, "-m", "localgcl", "--db", database, "run", "-l", "1", "a", "true"]
    assert subprocess.run(job, capture_output=True).returncode == 1
    """
    ((status, report),) = on_a_small_disk(tmp_path, size, inodes, code)
    assert (status, report["exists"], disk_of(report)["status"]) == (1, False, "fault")


@mounts
def test_a_disk_without_a_limit(tmp_path: Path) -> None:
    """Nothing can be used up where there is no number."""
    ((status, report),) = on_a_small_disk(tmp_path, "0", "0", "doctor()")
    assert (status, disk_of(report)["status"]) == (0, "ok")


# The gate


@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "busy"])
def test_a_process_inside_a_transaction(
    known: Limiter, examine: Examine, path: str, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    """It is named after a bounded wait, with how to go on."""
    monkeypatch.setattr(examination, "PATIENCE_SECONDS", 0.2)
    with shut(path, stopped=stopped) as pid:
        checks = examine()
    assert statuses(checks, "fault") == ["gate"]
    assert f"process {pid} (" in checks["gate"]["detail"]
    assert ("stopped" in checks["gate"]["detail"]) is stopped
    assert f"kill -CONT {pid}" in checks["gate"]["remedy"]
    assert list(checks)[-1] == "gate"


def test_the_gate_is_left_again(known: Limiter, examine: Examine, path: str) -> None:
    """Who comes after is not held up."""
    examine()
    with open(f"{path}-run/gate", "rb") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)


# The content


@not_ours
def test_files_that_are_not_ours(
    tmp_path: Path, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A foreign, newer or corrupt file is a fault with a remedy, and stays as it was."""
    path = tmp_path / "folder" / "limits.db"
    path.parent.mkdir(0o700)
    make(path)
    if path.is_file():
        path.chmod(0o600)
    before = files(str(path))
    checks = found(CliRunner().invoke(localgcl, ["--db", str(path), "doctor", "-o", "json"]))
    assert {"format", "integrity"} & set(statuses(checks, "fault"))
    assert files(str(path)) == before


def test_whatever_was_damaged(limiter: Limiter, path: str, invoke: Invoke) -> None:
    """No damage makes it raise, hang or change anything."""
    for number in range(30):
        limiter.create(f"database {number}", 1)
    limiter.close()
    good = Path(path).read_bytes()
    draw = random.Random(5)
    for _ in range(60):
        bad = bytearray(good)
        for _ in range(draw.choice([1, 3, 30])):
            bad[draw.randrange(len(bad))] = draw.randrange(256)
        Path(path).write_bytes(bad[: draw.choice([len(bad), draw.randrange(len(bad))])])
        before = files(path)
        found(invoke("doctor", "-o", "json"))
        assert files(path) == before


def write(path: str, *statements: str) -> None:
    """Write as another program does, at rest, with what triggers do undone."""
    forget_everything()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{path}-wal")


OWNER = "INSERT INTO owners VALUES (1, '0', 812, 'app', 'backup.sh', NULL, NULL, NULL, NULL)"
LEASE = (
    "INSERT INTO ledger (limit_key, owner, lease, slots, since)"
    " VALUES ({key}, {owner}, 'x', {slots}, 1.0)"
)

# What is written, and what is said of it.
ROWS: dict[str, tuple[list[str], str]] = {
    "used": (["UPDATE ledger SET slots = 2 WHERE owner = -1"], "counts 2 slot(s) in use"),
    "waiting": (["UPDATE ledger SET waiting = 2 WHERE owner = -1"], "counts 2 waiting"),
    "a lease of nobody": ([LEASE.format(key=1, owner=7, slots=1)], "owner that does not exist"),
    "a lease at nothing": (
        [OWNER, LEASE.format(key=99, owner=1, slots=1)],
        "limit that does not exist",
    ),
    "a limit without its tally": (
        ["DELETE FROM ledger WHERE owner = -1 AND limit_key = 1"],
        "settings of a limit that has no tally",
    ),
    "a tally of nothing": (
        ["INSERT INTO ledger (limit_key, owner, lease, slots) VALUES (99, -1, '', 0)"],
        "tally of a limit that does not exist",
    ),
    "a second tally": (
        ["INSERT INTO ledger (limit_key, owner, lease, slots) VALUES (1, -1, 'x', 0)"],
        "tally of a limit that does not exist",
    ),
    "a tally without a figure": (
        ["UPDATE ledger SET grants = NULL WHERE owner = -1 AND limit_key = 1"],
        "tally without all its figures",
    ),
    "a place for nobody": (
        ["INSERT INTO waits VALUES (1, 5, 1, 0)"],
        "request that does not exist",
    ),
    "a place at nothing": (["INSERT INTO waits VALUES (99, 5, 1, 0)"], "limit that does not exist"),
    "no slots held": (
        [OWNER, LEASE.format(key=1, owner=1, slots=0)],
        "leases.slots is out of range",
    ),
    "a text as a number": (["UPDATE settings SET slots = 'five'"], "settings.slots is no integer"),
    "bytes as a number": (["UPDATE settings SET slots = x'05'"], "settings.slots is no integer"),
    "a fraction of a slot": (["UPDATE settings SET slots = 1.5"], "settings.slots is no integer"),
    "a time beyond": (["UPDATE settings SET created = 1e300"], "settings.created is out of range"),
    "an endless level": (
        ["UPDATE ledger SET level = 9e999 WHERE owner = -1"],
        "ledger.level is out of range",
    ),
    "bytes as a name": (
        ["UPDATE settings SET name = x'ff' WHERE key = 1"],
        "settings.name is no text",
    ),
    "a text as a holder's pid": (
        [OWNER, "UPDATE owners SET pid = 'init'"],
        "owners.pid is no integer",
    ),
    "no name": (["UPDATE settings SET name = 'a/b' WHERE key = 1"], "'a/b' contains /"),
    "a hostile name": (["UPDATE settings SET name = 'a' || char(27) WHERE key = 1"], r"'a\x1b'"),
}


@pytest.mark.parametrize(("statements", "said"), ROWS.values(), ids=ROWS)
def test_rows_that_contradict_themselves(
    known: Limiter, examine: Examine, path: str, statements: list[str], said: str
) -> None:
    """Sums that do not add up, rows that nothing stands behind, values that cannot be."""
    write(path, *statements)
    rows = Path(path).read_bytes()
    checks = examine()
    assert statuses(checks, "fault") == ["rows"]
    assert said in checks["rows"]["detail"]
    assert not any(ord(one) < 32 for one in checks["rows"]["detail"])
    assert Path(path).read_bytes() == rows


def test_text_that_is_no_text(known: Limiter, examine: Examine, path: str) -> None:
    """Bytes that are no UTF-8 cannot be read as a name."""
    write(path, "UPDATE settings SET name = CAST(x'ff' AS TEXT) WHERE key = 1")
    assert statuses(examine(), "fault") == ["format"]


@pytest.mark.parametrize("part", ["trigger lease_freed", "view leases"])
def test_a_part_that_is_gone(part: str, known: Limiter, examine: Examine, path: str) -> None:
    """Without its triggers, the sums would drift from then on."""
    write(path, f"DROP {part}")
    checks = examine()
    assert statuses(checks, "fault") == ["format"]
    assert part in checks["format"]["detail"]


def test_dead_owners(
    limiter: Limiter, examine: Examine, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are a note, and are left for the next call to clear away."""
    limiter.create("database", 2)
    monkeypatch.setattr(sys, "argv", ["backup.sh\x1b[31m", "--full"])
    alive, dead = processes(), processes()
    alive.ask("database")
    dead.ask("database")
    dead.die()
    before = tables(limiter)
    checks = examine()
    assert statuses(checks, "note") == ["sqlite", "owners"]
    assert "1 living, 1 dead" in checks["owners"]["detail"]
    assert f"{os.getpid()} (backup.sh [31m --full)" in checks["owners"]["detail"]
    assert tables(limiter) == before
    assert limiter.read("database").active_slots == 1
    assert "none dead" in examine()["owners"]["detail"]


def test_a_database_that_another_program_keeps_locked(
    known: Limiter, examine: Examine, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a fault after a bounded wait."""
    monkeypatch.setattr(examination, "_BUSY_SECONDS", 0.1)
    code = (
        "import sqlite3, sys, time\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('PRAGMA locking_mode = EXCLUSIVE')\n"
        "connection.execute('BEGIN EXCLUSIVE')\n"
        "connection.execute('SELECT * FROM limits')\n"
        "print('locked', flush=True)\n"
        "time.sleep(600)"
    )
    words = [sys.executable, "-c", code, path]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        checks = examine()
        process.kill()
    assert statuses(checks, "fault") == ["format"]
    assert "another program keeps it locked" in checks["format"]["detail"]


def test_a_file_that_is_gone_meanwhile(
    known: Limiter, examine: Examine, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever happens between two looks, nothing raises."""
    connect = examination._connect

    def vanish(of: str, folder: Folder) -> Any:
        os.rename(of, f"{of}.gone")
        return connect(of, folder)

    monkeypatch.setattr(examination, "_connect", vanish)
    assert statuses(examine(), "fault") == ["format"]
