"""A disk that is used up, or has no room for a database."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def old_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the version of SQLite be the same on every machine, one with the fault."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 40, 1))


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
