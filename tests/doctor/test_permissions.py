"""What doctor makes of owners, groups and modes: by table."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from types import MappingProxyType

import pytest

from localgcl._doctor.check import Check
from localgcl._doctor.permissions import Entry, permissions
from tests.doctor.test_diagnosis import told

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
    return permissions(
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
    """All files have the mode and the group of the database, as users of one folder need it."""
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
    """Each is named, with the commands that correct it."""
    told(checked(0o660, 0o2770, more={name: wrong}), "fault", wrong.path, remedy)


def test_many_companions_with_another_mode() -> None:
    """A thousand FIFOs are not listed one by one."""
    fifos = [entry(f"/f/x.db-run/{number}", FIFO | 0o600) for number in range(1000)]
    database, parent = entry("/f/x.db", FILE | 0o660), entry("/f", FOLDER | 0o770)
    check = permissions(database, parent, [], fifos, None)
    told(check, "fault", "997 more")
    assert len(check.detail) < 1000


def test_permissions_that_this_user_lacks() -> None:
    """What is in the way is named, whatever is in its name."""
    database, parent = entry("/f/x.db", FILE | 0o600), entry("/f", FOLDER | 0o700)
    check = permissions(database, parent, [], [], ("no permission to use x; y", "change its mode"))
    assert check == Check("permissions", "fault", "no permission to use x; y", "change its mode")
