"""Root where others can write: for a moment, one thread of root has their rights and no more.

SQLite opens its files by name and, for root, gives them to the database's owner. Anybody who may
write in the folder can exchange a file after any check and before SQLite opens it. So root opens a
database there as the database's owner would, or as another user in its group. If these users cannot
reach something, nothing in the folder can lead root to it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from localgcl._liveness.access import Access

_NOBODY = 65534  # owns nothing; user and group have this number everywhere

# capabilities(7): reading and searching, whatever the modes are.
_CAPABILITY_VERSION = 0x20080522
_CAP_DAC_READ_SEARCH = 1 << 2

# setgroups(2) for one thread: the C library's function of that name changes all threads.
_SETGROUPS = {"x86_64": 116, "aarch64": 159}


@contextlib.contextmanager
def of_the_writers(folder: os.stat_result, access: Access) -> Iterator[None]:
    """Use the files of a database with no more rights than others have there, if others do."""
    if sys.platform != "linux" or os.geteuid() != 0 or not _others_write(folder):
        yield
        return
    if access.owner:
        user, group = access.owner, access.group
    elif access.mode & 0o020 and access.group:
        user, group = _NOBODY, access.group
    elif access.mode & 0o002:
        user, group = _NOBODY, _NOBODY
    else:
        yield  # the database is root's alone
        return
    with _as(user, group):
        yield


def others_write_beside(path: str) -> bool:
    """Whether this is root, in a place where others can exchange files."""
    return os.geteuid() == 0 and _others_write(os.stat(os.path.dirname(path)))


def _others_write(folder: os.stat_result) -> bool:
    """Whether anybody but root may change what is in a folder."""
    group = folder.st_mode & stat.S_IWGRP and folder.st_gid
    return bool(folder.st_uid or group or folder.st_mode & stat.S_IWOTH)


@contextlib.contextmanager
def _as(user: int, group: int) -> Iterator[None]:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    number = _SETGROUPS.get(os.uname().machine)

    def set_groups(groups: list[int]) -> None:
        if number is not None:
            libc.syscall(number, len(groups), (ctypes.c_uint * len(groups))(*groups))

    before = os.getgroups()
    try:
        set_groups([])
        libc.setfsgid(group)
        # With this call the thread gives up root's rights in the file system.
        libc.setfsuid(user)
        # The path to the folder may lead through folders of root's own. Looking up a name writes
        # nothing.
        header = (ctypes.c_uint * 2)(_CAPABILITY_VERSION, 0)
        sets = (ctypes.c_uint * 6)()
        if libc.capget(header, sets) == 0:
            sets[0] |= sets[1] & _CAP_DAC_READ_SEARCH  # the effective set, from the permitted one
            libc.capset(header, sets)
        yield
    finally:
        libc.setfsuid(0)
        libc.setfsgid(os.getegid())
        set_groups(before)
