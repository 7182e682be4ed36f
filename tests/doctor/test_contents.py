"""What `doctor` says of the rows, and of files that cannot be read."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from localgcl import Limiter
from localgcl._doctor import examination
from localgcl._liveness.folder import Folder
from localgcl.cli import localgcl
from tests.helpers import lax
from tests.helpers.database import forget_everything, tables
from tests.helpers.doctor import Examine, files, found, statuses
from tests.helpers.foreign_files import not_ours
from tests.helpers.played import Processes
from tests.helpers.programs import Invoke


@pytest.fixture(autouse=True)
def old_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the version of SQLite be the same on every machine, one with the fault."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 40, 1))


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
    for statement in statements:
        lax.write(path, statement)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{path}-wal")


KEY = "(SELECT key FROM settings WHERE name = 'database')"

OWNER = "INSERT INTO owners VALUES (1, '0', 812, 'app', 'backup.sh', NULL, NULL, NULL, NULL)"


LEASE = (
    "INSERT INTO ledger (limit_key, owner, lease, slots, since)"
    " VALUES ({key}, {owner}, 'x', {slots}, 1.0)"
)


# What is written, and what is said of it.
ROWS: dict[str, tuple[list[str], str]] = {
    "used": (["UPDATE ledger SET slots = 2 WHERE owner = -1"], "counts 2 slot(s) in use"),
    "waiting": (["UPDATE ledger SET waiting = 2 WHERE owner = -1"], "counts 2 waiting"),
    "a lease of nobody": ([LEASE.format(key=KEY, owner=7, slots=1)], "owner that does not exist"),
    "a lease at nothing": (
        [OWNER, LEASE.format(key=99, owner=1, slots=1)],
        "limit that does not exist",
    ),
    "a limit without its counters": (
        [f"DELETE FROM ledger WHERE owner = -1 AND limit_key = {KEY}"],
        "settings of a limit that has no counters",
    ),
    "counters of nothing": (
        ["INSERT INTO ledger (limit_key, owner, lease, slots) VALUES (99, -1, '', 0)"],
        "counters of a limit that does not exist",
    ),
    "second counters": (
        [f"INSERT INTO ledger (limit_key, owner, lease, slots) VALUES ({KEY}, -1, 'x', 0)"],
        "counters of a limit that does not exist",
    ),
    "counters without a figure": (
        [f"UPDATE ledger SET grants = NULL WHERE owner = -1 AND limit_key = {KEY}"],
        "counters without all their figures",
    ),
    "a place for nobody": (
        [f"INSERT INTO waits VALUES ({KEY}, 5, 1, 0, 0)"],
        "request that does not exist",
    ),
    "a place at nothing": (
        ["INSERT INTO waits VALUES (99, 5, 1, 0, 0)"],
        "limit that does not exist",
    ),
    "no slots held": (
        [OWNER, LEASE.format(key=KEY, owner=1, slots=0)],
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
        ["UPDATE settings SET name = x'ff' WHERE name = 'database'"],
        "settings.name is no text",
    ),
    "a text as a holder's pid": (
        [OWNER, "UPDATE owners SET pid = 'init'"],
        "owners.pid is no integer",
    ),
    "no name": (["UPDATE settings SET name = 'a/b' WHERE name = 'database'"], "'a/b' contains /"),
    "a hostile name": (
        ["UPDATE settings SET name = 'a' || char(27) WHERE name = 'database'"],
        r"'a\x1b'",
    ),
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
    write(path, "UPDATE settings SET name = CAST(x'ff' AS TEXT) WHERE name = 'database'")
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
