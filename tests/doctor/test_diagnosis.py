"""What doctor makes of what it finds, and what the kernel says of locks: by table."""

from __future__ import annotations

import stat
from typing import Any

import pytest

from localgcl._doctor import diagnosis, processes
from localgcl._doctor.check import Check
from localgcl._doctor.diagnosis import Space

MIB = 2**20


def told(check: Check, status: str, *words: str) -> None:
    """Check the status, that the words are there, and that what is not well has a remedy."""
    text = f"{check.detail} {check.remedy}"
    assert check.status == status, text
    for word in words:
        assert word in text
    assert (check.remedy is None) == (status == "ok")


@pytest.mark.parametrize(
    ("chosen_by", "word"), [("option", "--db"), ("environment", "LOCALGCL_DB"), ("default", "def")]
)
def test_choice(chosen_by: Any, word: str) -> None:
    """It says which file is in use and what chose it."""
    told(diagnosis.choice("/a.db", chosen_by, None, exists=True), "ok", "/a.db", word)
    told(diagnosis.choice("/a.db", chosen_by, None, exists=False), "ok", "/a.db", "not there yet")


def test_choice_beside_another() -> None:
    """That the environment names another file is said; it may be meant."""
    told(diagnosis.choice("/a.db", "option", "/b.db", exists=True), "note", "/a.db", "/b.db")


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        *(("ext4", "ok"), ("tmpfs", "ok"), ("overlay", "ok"), (None, "ok")),
        *(("nfs4", "fault"), ("cifs", "fault"), ("9p", "fault"), ("fuse.sshfs", "fault")),
    ],
)
def test_file_system(kind: str | None, status: str) -> None:
    """A network file system is a fault."""
    told(diagnosis.file_system(kind, None), status, kind or "cannot be told")


KIB = 1024


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (Space("/a", 0), ["/a has 0 bytes free"]),
        (Space("/a", 128 * KIB - 1, free_inodes=10**6), ["128 KiB free"]),
        (Space("/a", 4 * KIB, 500 * MIB), ["4 KiB free (500 MiB more for root)"]),
        (Space("/a", 10**9, free_inodes=0), ["/a has 0 inodes free"]),
        (Space("/a", 10**9, free_inodes=7), ["7 inodes free where 8 are needed"]),
        (Space("/a", 0, free_inodes=0), ["0 bytes free", "and 0 inodes free"]),
        (Space("/a", None, free_inodes=0), ["0 inodes free"]),
        (Space("/two words", 0), ["df -h '/two words'", "df -i '/two words'"]),
    ],
    ids=repr,
)
def test_a_full_disk(space: Space, words: list[str]) -> None:
    """Too few bytes or inodes for a job are a fault, wherever its files lie."""
    roomy = Space("/b", 10**9, free_inodes=10**6)
    for spaces in ([space], [space, roomy], [roomy, space]):
        check = diagnosis.disk(spaces)
        told(check, "fault", *words)
        assert "/b" not in check.detail
    both = diagnosis.disk([space, Space("/c", 0)])
    told(both, "fault", *words, "/c has 0 bytes free")


@pytest.mark.parametrize(
    ("spaces", "words"),
    [
        ([Space("/a", 128 * KIB, free_inodes=8)], ["128 KiB free", "8 inodes", "/a"]),
        ([Space("/a", 10**12), Space("/b", 10**9)], ["931 GiB free in /a", "953 MiB free in /b"]),
        ([Space("/a", None)], ["cannot be told"]),
        ([], ["cannot be told"]),
    ],
    ids=repr,
)
def test_a_disk_with_room(spaces: list[Space], words: list[str]) -> None:
    """How much is free is shown; what no number limits is no fault."""
    told(diagnosis.disk(spaces), "ok", *words)


@pytest.mark.parametrize(
    ("version", "status"),
    [
        ((3, 6, 23), "ok"),
        ((3, 7, 0), "note"),
        ((3, 40, 1), "note"),
        ((3, 51, 2), "note"),
        ((3, 51, 3), "ok"),
        ((3, 52, 0), "ok"),
        ((4, 0, 0), "ok"),
    ],
)
def test_sqlite(version: tuple[int, int, int], status: str) -> None:
    """An affected version is a note, which says what the gate protects and what not."""
    check = diagnosis.sqlite(version)
    told(check, status, ".".join(map(str, version)))
    if status == "note":
        told(check, status, "the gate keeps localgcl's own processes", "another program")


def test_clock() -> None:
    """A clock that cannot be read is a fault."""
    told(diagnosis.clock(None), "ok")
    told(diagnosis.clock("No such file: '/proc/boot_id'"), "fault", "boot_id")


# The WAL, the run folder, the gate


@pytest.mark.parametrize(
    ("database", "wal", "status"),
    [
        *((16_384, 0, "ok"), (16_384, 2 * MIB, "ok"), (16_384, 4 * MIB, "ok")),
        *((16_384, 4 * MIB + 1, "fault"), (8 * MIB, 16 * MIB, "ok"), (8 * MIB, 17 * MIB, "fault")),
    ],
)
def test_wal(database: int, wal: int, status: str) -> None:
    """It is beyond what checkpoints leave, or not."""
    told(diagnosis.wal(database, wal, []), status, "KiB" if wal else "0 bytes")
    reader = diagnosis.wal(database, wal, ["process 812 (sqlite3 x.db)"])
    assert reader.status == status
    assert ("812" in reader.detail) == (status == "fault")


def test_run_folder() -> None:
    """What is not ours there is a note; what is no folder keeps everybody out."""
    folder = stat.S_IFDIR | 0o700
    told(diagnosis.run_folder("/x.db-run", folder, []), "ok", "/x.db-run")
    told(diagnosis.run_folder("/x.db-run", None, []), "ok", "not there")
    many = ["core", "gate~", "notes.txt", "x", "y"]
    told(diagnosis.run_folder("/x.db-run", folder, many), "note", "gate~", "2 more")
    told(diagnosis.run_folder("/x.db-run", stat.S_IFREG | 0o600, []), "fault", "not a folder")


def test_gate() -> None:
    """Who is stopped inside a transaction is named as far as it can be told."""
    told(diagnosis.gate(0.0, None), "ok")
    told(diagnosis.gate(3.0, []), "fault", "3 s", "cannot be told")
    stopped = diagnosis.gate(3.0, [(812, "backup.sh", True)])
    told(stopped, "fault", "process 812 (backup.sh), which is stopped", "kill -CONT 812")
    told(diagnosis.gate(3.0, [(812, "x", False)]), "fault", "812", "does not go on")


# The content


@pytest.mark.parametrize(
    ("version", "missing", "status", "word"),
    [
        (None, [], "fault", "another program"),
        (0, [], "ok", "empty"),
        (3, [], "ok", "schema 3"),
        (2, [], "ok", "schema 2"),
        (4, [], "fault", "newer release"),
        (3, ["table waits", "trigger wait_begun"], "fault", "trigger wait_begun"),
    ],
)
def test_format(version: int | None, missing: list[str], status: str, word: str) -> None:
    """A foreign, a newer and an incomplete file are faults; an older one is brought up."""
    told(diagnosis.format_of(version, 3, missing), status, word)


def test_a_problem_with_what_to_do() -> None:
    """What the errors say is taken apart."""
    check = diagnosis.unreadable("it is corrupt; restore a backup")
    assert (check.detail, check.remedy) == ("it is corrupt", "restore a backup")


def test_content() -> None:
    """Faults are listed, and a dead owner is a note."""
    told(diagnosis.integrity([]), "ok")
    told(diagnosis.integrity(["row 1 missing from index"]), "fault", "row 1", "restore a backup")
    told(diagnosis.rows([]), "ok")
    told(diagnosis.rows(["a", "b", "c", "d"]), "fault", "a, b, c and 1 more", "localgcl export")
    told(diagnosis.owners([], 3), "ok", "3 living")
    told(diagnosis.owners(["812 (backup.sh)"], 3), "note", "812 (backup.sh)", "nothing to do")


# Locks

LOCKS = """\
1: POSIX  ADVISORY  READ 20641 fe:00:2397135 124 124
2: FLOCK  ADVISORY  WRITE 812 fe:00:77 0 EOF
2: -> FLOCK  ADVISORY  WRITE 813 fe:00:77 0 EOF
3: OFDLCK ADVISORY  READ -1 00:06:1028 0 EOF
4: LEASE  ACTIVE    READ 5 08:01:99 0 EOF
5: POSIX  *NOINODE* READ 6 <none>:0 0 EOF
"""


def test_locks() -> None:
    """Those that are held are read, and those that are waited for left out."""
    held = processes.locks_in(LOCKS)
    assert held[:2] == [
        processes.Lock("POSIX", "READ", 20641, 2397135, 124),
        processes.Lock("FLOCK", "WRITE", 812, 77, 0),
    ]
    assert 813 not in [lock.pid for lock in held]
    assert processes.locks_in("") == []
