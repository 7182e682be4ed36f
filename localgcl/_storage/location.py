"""Which file is the database, and whether a place suits it before a file is made there."""

from __future__ import annotations

import os
import stat
import sys

from localgcl._liveness.access import by_descriptor, looked_at, user_called
from localgcl.errors import DatabaseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from localgcl._liveness.directory import Identity

    ChosenBy = Literal["option", "environment", "default"]

VARIABLE = "LOCALGCL_DB"

# One kernel has to see WAL's shared memory and the FIFOs: https://sqlite.org/wal.html#overview
_SHARED_FILE_SYSTEMS = {
    "9p", "afs", "ceph", "cifs", "glusterfs", "lustre", "nfs", "nfs4", "smb3", "smbfs", "virtiofs",
}  # fmt: skip


def choose(database: str | os.PathLike[str] | None) -> tuple[str, ChosenBy]:
    """Return the absolute path of the database and what chose it.

    `database` comes before the environment variable LOCALGCL_DB, which comes before the default in
    the user's state folder. ValueError for `:memory:` and `file:` addresses, which other processes
    could not share.
    """
    chosen_by: ChosenBy = "option"
    path = None if database is None else os.fspath(database)
    if path is None:
        chosen_by = "environment"
        path = os.environ.get(VARIABLE)
        if not path:
            chosen_by = "default"
            path = _default()
    if not isinstance(path, str):
        raise TypeError(f"database is a path as str or os.PathLike, not {type(path).__name__}")
    if not path or path.startswith((":memory:", "file:")) or "\0" in path:
        raise ValueError(
            f"the database {path!r} cannot be shared by processes; give the path of a file"
        )
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise ValueError(
            f"the database {path!r} is in the home folder of a user who does not exist; give the"
            " path of a file by LOCALGCL_DB or --db"
        )
    try:
        return os.path.abspath(expanded), chosen_by
    except FileNotFoundError:
        raise DatabaseError(path, "the current folder is gone; give an absolute path") from None


def _default() -> str:
    if sys.platform == "darwin":  # pragma: no cover - not tested there
        return "~/Library/Application Support/localgcl/localgcl.db"
    state = os.environ.get("XDG_STATE_HOME", "")
    # By the specification, relative paths are ignored:
    # https://specifications.freedesktop.org/basedir
    return os.path.join(state if os.path.isabs(state) else "~/.local/state", "localgcl/localgcl.db")


def make_parents(path: str) -> None:
    """Make the missing folders above `path`, for this user alone."""
    missing = []
    parent = os.path.dirname(path)
    while not os.path.isdir(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    for folder in reversed(missing):
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            if not os.path.isdir(folder):
                raise
        else:
            with looked_at(folder) as (descriptor, status):
                if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) & 0o777 != 0o700:
                    os.chmod(by_descriptor(descriptor), 0o700)  # a umask may remove some of these


def mount_of(real: str) -> tuple[str, str] | None:
    """Return the type of the file system that `real` is or would be on, and its mount point.

    None if that is unknown.
    """
    place = os.fsencode(real)
    best, found = b"", None
    for point, kind in _mounts():
        inside = place == point or place.startswith(point.rstrip(b"/") + b"/")
        if inside and len(point) >= len(best):  # of two at one place, the later covers the other
            best, found = point, kind
    return None if found is None else (found.decode(errors="replace"), os.fsdecode(best))


def mounted_beside(real: str) -> str | None:
    """Return the database's file, or its run folder, that is a mount point, if one is."""
    ours = {os.fsencode(real + suffix) for suffix in ("", "-wal", "-shm", "-run")}
    return next((os.fsdecode(point) for point, _ in _mounts() if point in ours), None)


def _mounts() -> list[tuple[bytes, bytes]]:
    """Return the mount points and the types of their file systems, in order."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            lines = file.read().split(b"\n")
    except OSError:
        return []
    found = []
    for line in lines:
        # Fields: https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
        mount, _, rest = line.partition(b" - ")
        words = mount.split(b" ", 5)
        if len(words) < 6:
            continue
        point = words[4]
        if b"\\" in point:
            for escape, character in _ESCAPES:
                point = point.replace(escape, character)
        found.append((point, rest.partition(b" ")[0]))
    return found


_ESCAPES = ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\"))


def is_shared_file_system(kind: str | None) -> bool:
    """Whether several machines share that type of file system, or a process serves it."""
    return kind is not None and (kind in _SHARED_FILE_SYSTEMS or kind.startswith("fuse"))


def refuse_unfit_place(real: str, database: str) -> None:
    """Raise DatabaseError unless one kernel and one folder see all of a database."""
    mount = mount_of(real)
    if mount is None:
        return
    kind, _ = mount
    if is_shared_file_system(kind):
        raise DatabaseError(
            database,
            f"it lies on a {kind} file system, where neither SQLite's WAL nor FIFOs reach"
            f" all processes; choose a file on a local disk with --db or {VARIABLE}",
        )
    point = mounted_beside(real)
    if point is not None:
        raise DatabaseError(
            database,
            f"{point} is a mount point itself, so that not all processes see the same files there;"
            " mount the folder that the database lies in, in place of one of its files",
        )


_MAX_LINKS = 40


def real_path(path: str, database: str) -> str:
    """Return the path of a database without links; DatabaseError for an untrusted link.

    If others can write in a folder, a link there may lead anywhere. It is followed only if this
    user or root made it, as Linux does in /tmp (`fs.protected_symlinks`).
    """
    left = [part for part in reversed(os.path.abspath(path).split("/")) if part]
    real, links = "/", 0
    while left:
        part = left.pop()
        if part == "..":
            real = os.path.dirname(real)
            continue
        there = os.path.join(real, part)
        try:
            status = os.lstat(there)
        except (FileNotFoundError, NotADirectoryError):
            return os.path.join(there, *reversed(left))
        if not stat.S_ISLNK(status.st_mode):
            real = there
            continue
        links += 1
        if links > _MAX_LINKS:
            raise DatabaseError(
                database, "too many symbolic links lead to it; name the file itself"
            )
        if status.st_uid not in (0, os.geteuid()):
            raise DatabaseError(
                database,
                f"{there} is a symbolic link that {user_called(status.st_uid)} made, and may lead"
                " anywhere; name the file itself, or remove the link",
            )
        target = os.readlink(there)
        if target.startswith("/"):
            real = "/"
        left.extend(part for part in reversed(target.split("/")) if part not in ("", "."))
    return real


def identity_of(path: str) -> Identity | None:
    """Return which file is at `path` now, None if there is none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
