"""`doctor`: what it finds in real files, without making, changing or opening any."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

from localgcl import Limiter
from localgcl._base import clock
from localgcl._doctor import examination
from localgcl._storage import location
from localgcl.cli import localgcl
from tests.helpers.database import tables
from tests.helpers.doctor import Examine, files, found, statuses
from tests.helpers.gate import shut
from tests.helpers.programs import Invoke
from tests.helpers.users import as_nobody

ALWAYS = ["database", "file system", "disk", "sqlite", "clock"]
ALL = [*ALWAYS, "permissions", "run folder", "gate", "format", "integrity", "rows", "owners"]


@pytest.fixture(autouse=True)
def old_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the version of SQLite be the same on every machine, one with the fault."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 40, 1))


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
    """A file that has fewer users than the others is named, with the command that corrects it."""
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
