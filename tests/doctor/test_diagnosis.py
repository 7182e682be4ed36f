"""What doctor makes of what it finds, and what the kernel says of locks: by table."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from localgcl._doctor import diagnosis, processes
from localgcl._doctor.diagnosis import Check, Entry, Space

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


# Permissions

FILE, FOLDER, FIFO = stat.S_IFREG, stat.S_IFDIR, stat.S_IFIFO


def entry(path: str, mode: int, group: str = "app") -> Entry:
    """Return a file, the number of its group made of its name."""
    return Entry(path, mode, sum(group.encode()), group)


def checked(
    database: int,
    parent: int,
    groups: tuple[str, str] = ("app", "app"),
    more: Mapping[str, Entry] = MappingProxyType({}),
) -> Check:
    """Return the check of a database whose companions are as they should be, but for `more`."""
    beside = {"wal": entry("/f/x.db-wal", FILE | database, groups[0])}
    run = database & 0o666 | (database & 0o444) >> 2
    inside = {
        "run": entry("/f/x.db-run", FOLDER | run, groups[0]),
        "gate": entry("/f/x.db-run/gate", FILE | database, groups[0]),
        "fifo": entry("/f/x.db-run/0123", FIFO | database, groups[0]),
    }
    return diagnosis.permissions(
        entry("/f/x.db", FILE | database, groups[0]),
        entry("/f", FOLDER | parent, groups[1]),
        [more.get(name, one) for name, one in beside.items()],
        [more.get(name, one) for name, one in inside.items()],
        None,
    )


@pytest.mark.parametrize(
    ("database", "parent"),
    [
        *((0o600, 0o700), (0o600, 0o755), (0o660, 0o2770), (0o660, 0o770)),
        *((0o600, 0o1777), (0o600, 0o750), (0o660, 0o775)),
    ],
    ids=oct,
)
def test_permissions_that_are_well(database: int, parent: int) -> None:
    """Everything has the mode and the group of the database, and whoever shares the folder it."""
    told(checked(database, parent), "ok", "/f/x.db")


@pytest.mark.parametrize("parent", [0o777, 0o1777], ids=oct)
def test_a_folder_that_is_everybodys(parent: int) -> None:
    """It is no fault, and worth knowing: everybody can change and release what is limited there."""
    told(checked(0o666, parent), "note", "everybody on this machine")


@pytest.mark.parametrize(("database", "mode"), [(0o644, "600"), (0o640, "600"), (0o664, "660")])
def test_a_database_that_some_may_only_read(database: int, mode: str) -> None:
    """Who can open the gate or the FIFOs can stop everybody, and is to write or to get nothing."""
    told(checked(database, 0o700), "fault", f"chmod {mode} /f/x.db")


@pytest.mark.parametrize(
    ("database", "parent", "remedy"),
    [
        (0o600, 0o2770, "chmod 660 /f/x.db"),
        (0o640, 0o770, "chmod 660 /f/x.db"),
        (0o660, 0o777, "chmod 666 /f/x.db"),
        (0o600, 0o777, "chmod 666 /f/x.db"),
    ],
)
def test_a_database_that_the_others_of_its_folder_cannot_use(
    database: int, parent: int, remedy: str
) -> None:
    """A folder that several may write to is meant for all of them."""
    told(checked(database, parent), "fault", "/f/x.db", remedy)


def test_a_database_of_another_group_than_its_folder() -> None:
    """Then the folder's group cannot use it."""
    told(checked(0o660, 0o2770, groups=("root", "app")), "fault", "chgrp app /f/x.db")
    told(checked(0o600, 0o700, groups=("root", "app")), "ok")


@pytest.mark.parametrize(
    ("name", "wrong", "remedy"),
    [
        ("wal", entry("/f/x.db-wal", FILE | 0o600), "chmod 660 /f/x.db-wal"),
        ("wal", entry("/f/x.db-wal", FILE | 0o660, "root"), "chgrp app /f/x.db-wal"),
        ("run", entry("/f/x.db-run", FOLDER | 0o700), "chmod 770 /f/x.db-run"),
        ("run", entry("/f/x.db-run", FOLDER | 0o777), "chmod 770 /f/x.db-run"),
        ("gate", entry("/f/x.db-run/gate", FILE | 0o600), "chmod 660 /f/x.db-run/gate"),
        ("gate", entry("/f/x.db-run/gate", FILE | 0o660, "root"), "chgrp app /f/x.db-run/gate"),
        ("fifo", entry("/f/x.db-run/0123", FIFO | 0o640), "chmod 660 /f/x.db-run/0123"),
        ("fifo", entry("/f/a b/0123", FIFO | 0o640), "chmod 660 '/f/a b/0123'"),
    ],
)
def test_companions_with_another_mode_or_group(name: str, wrong: Entry, remedy: str) -> None:
    """Each is named, with the commands that mend it."""
    told(checked(0o660, 0o2770, more={name: wrong}), "fault", wrong.path, remedy)


def test_many_companions_with_another_mode() -> None:
    """A thousand FIFOs are not listed one by one."""
    fifos = [entry(f"/f/x.db-run/{number}", FIFO | 0o600) for number in range(1000)]
    database, parent = entry("/f/x.db", FILE | 0o660), entry("/f", FOLDER | 0o770)
    check = diagnosis.permissions(database, parent, [], fifos, None)
    told(check, "fault", "997 more")
    assert len(check.detail) < 1000


def test_permissions_that_this_user_lacks() -> None:
    """What is in the way is named, whatever is in its name."""
    database, parent = entry("/f/x.db", FILE | 0o600), entry("/f", FOLDER | 0o700)
    check = diagnosis.permissions(
        database, parent, [], [], ("no permission to use x; y", "change its mode")
    )
    assert check == Check("permissions", "fault", "no permission to use x; y", "change its mode")


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
    folder = FOLDER | 0o700
    told(diagnosis.run_folder("/x.db-run", folder, []), "ok", "/x.db-run")
    told(diagnosis.run_folder("/x.db-run", None, []), "ok", "not there")
    many = ["core", "gate~", "notes.txt", "x", "y"]
    told(diagnosis.run_folder("/x.db-run", folder, many), "note", "gate~", "2 more")
    told(diagnosis.run_folder("/x.db-run", FILE | 0o600, []), "fault", "not a folder")


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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("backup.sh --full", "backup.sh --full"),
        ("a\x1b[31mb\nc\x07", "a [31mb c "),
        ("\u202etxt.exe\u2028", " txt.exe "),
        ("数据库", "数据库"),
        ("x" * 50, "x" * 37 + "..."),
    ],
)
def test_shortened(text: str, shown: str) -> None:
    """Nothing that a terminal would obey gets through, and lines stay short."""
    assert processes.shortened(text) == shown
