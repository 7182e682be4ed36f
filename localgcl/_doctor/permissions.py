"""Whether everybody who may use the database may use all the files that belong to it."""

from __future__ import annotations

import shlex
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from localgcl._doctor.check import SHOWN, Check, listed
from localgcl._liveness.access import usable


@dataclass(frozen=True)
class Entry:
    """A file as `stat` reports it, and the name of its group."""

    path: str
    mode: int
    gid: int
    group: str
    size: int = 0

    def __str__(self) -> str:
        return f"{self.path} is {stat.filemode(self.mode)} of group {self.group}"


def foreign(problems: Sequence[str]) -> Check:
    """Tell of a foreign file in the place of one of the database's files."""
    return Check("permissions", "fault", listed(problems), "remove it, once you know whose it is")


def permission_error(problem: str, remedy: str) -> Check:
    """Tell what this user may not use, and what would permit it."""
    return Check("permissions", "fault", problem, remedy)


def permissions(
    database: Entry,
    parent: Entry,
    beside: Sequence[Entry],
    inside: Sequence[Entry],
    forbidden: tuple[str, str] | None,
    *,
    keeps_apart: bool = False,
) -> Check:
    """Tell whether everybody who may use the database may use all the files that belong to it.

    `beside` are its -wal and -shm, `inside` the run folder and its content. All have its group and
    its mode, a folder the mode of a folder. `forbidden` says what this user may not use, and what
    to do about it.
    """
    if forbidden is not None:
        return permission_error(*forbidden)
    permitted = 0o600 | usable(database.mode)
    expected: list[tuple[Entry, int]] = [(one, permitted) for one in (database, *beside)]
    # If the group has no more rights than others, it does not matter which group that is.
    is_for_group = permitted & 0o060 != (permitted & 0o006) << 3
    for one in inside:
        mode = permitted
        expected.append((one, mode | (mode & 0o444) >> 2 if stat.S_ISDIR(one.mode) else mode))
    wrong = [
        (one, mode)
        for one, mode in expected
        if stat.S_IMODE(one.mode) != mode or (is_for_group and one.gid != database.gid)
    ]
    missing = _missing_for_the_folder(database, parent)
    if missing:
        wrong.insert(0, (database, permitted | missing))
    if not wrong and parent.mode & permitted & stat.S_IWOTH:
        return Check(
            "permissions",
            "note",
            f"everybody on this machine may use {parent.path}, and so change and release the limits"
            " of this database, and put other files in the place of its own"
            + (_KEPT_APART if keeps_apart and parent.mode & stat.S_ISVTX else ""),
            "for limits that are some users' alone, use a folder of a group that they are in"
            " (install -d -g GROUP -m 2770 FOLDER)",
        )
    if not wrong:
        return Check("permissions", "ok", f"all of it is as the database: {database}")
    group = parent if missing else database
    return Check(
        "permissions",
        "fault",
        f"not everybody who may use the folder or the database may use all of it: {_some(wrong)}",
        "; ".join(
            f"chgrp {group.group} {shlex.quote(one.path)} && chmod {mode:o} {shlex.quote(one.path)}"
            for one, mode in wrong[:SHOWN]
        )
        + (f"; and so on for {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""),
    )


_KEPT_APART = (
    "; but Linux keeps users from opening each other's files there (fs.protected_regular is not 0),"
    " and so from sharing it"
)


def _some(wrong: Sequence[tuple[Entry, int]]) -> str:
    return listed([str(one) for one, _ in wrong])


def _missing_for_the_folder(database: Entry, parent: Entry) -> int:
    """Return the missing permissions of users who may create files in the database's folder.

    A sticky folder, like /tmp, belongs to everybody and says nothing about who is meant to share.
    """
    if parent.mode & stat.S_ISVTX:
        return 0
    if database.mode & 0o006 == 0o006:
        return 0  # no matter who they are
    missing = 0
    if parent.mode & 0o030 == 0o030 and (
        database.gid != parent.gid or database.mode & 0o060 != 0o060
    ):
        missing |= 0o060
    if parent.mode & 0o003 == 0o003 and database.mode & 0o006 != 0o006:
        missing |= 0o006
    return missing
