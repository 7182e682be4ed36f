"""Which file is the database, and what may be said of a place before a file is made there."""

from __future__ import annotations

import contextlib
import os
import stat
import sys

from localgcl._folder import adopt
from localgcl.errors import DatabaseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

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
    # The specification has relative paths ignored: https://specifications.freedesktop.org/basedir
    return os.path.join(state if os.path.isabs(state) else "~/.local/state", "localgcl/localgcl.db")


def make_parents(path: str) -> None:
    """Make the missing folders above `path`, for their user alone."""
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
            os.chmod(folder, 0o700)


def file_system_of(path: str) -> str | None:
    """Return the type of the file system that `path` is or would be on; None where unknown."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.readlines()
    except OSError:
        return None
    folder = os.path.realpath(os.path.dirname(path))
    best, found = "", None
    for line in lines:
        # Fields: https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
        mount, _, rest = line.partition(" - ")
        where = mount.split(" ")[4]
        for escape, character in (
            ("\\040", " "),
            ("\\011", "\t"),
            ("\\012", "\n"),
            ("\\134", "\\"),
        ):
            where = where.replace(escape, character)
        inside = folder == where or folder.startswith(where.rstrip("/") + "/")
        if inside and len(where) >= len(best):
            best, found = where, rest.split(" ")[0]
    return found


def is_shared_file_system(kind: str | None) -> bool:
    """Whether machines share that type of file system, or a process serves it."""
    return kind is not None and (kind in _SHARED_FILE_SYSTEMS or kind.startswith("fuse"))


def refuse_shared_file_system(path: str) -> None:
    """Raise DatabaseError where a new database would lie on a network file system or on FUSE."""
    kind = file_system_of(path)
    if is_shared_file_system(kind):
        raise DatabaseError(
            path,
            f"it would lie on a {kind} file system, where neither SQLite's WAL nor FIFOs reach all"
            f" processes; choose a file on a local disk with --db or {VARIABLE}",
        )


def mode_for_new(path: str) -> tuple[int, int]:
    """Return mode and group for a new database at `path`: those of its folder."""
    status = os.stat(os.path.dirname(path))
    return stat.S_IMODE(status.st_mode) & 0o666, status.st_gid


def make_file(path: str, mode: int, group: int) -> None:
    """Make an empty file with exactly this mode and group, unless there is one.

    It is given both before it gets its name, so that no other user finds it half made, and it is
    closed by then: to close a database takes away the locks of all who use it in this process
    (https://sqlite.org/howtocorrupt.html, 2.2).
    """
    unfinished = f"{path}.{os.urandom(8).hex()}"
    descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            adopt(descriptor, mode, group)
        finally:
            os.close(descriptor)
        os.link(unfinished, path)
    except FileExistsError:
        pass  # somebody else was first, which is as good
    finally:
        with contextlib.suppress(FileNotFoundError):  # a cleaner was first
            os.unlink(unfinished)
