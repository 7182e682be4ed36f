"""What is wrong with a database, and what to do next, in words for a user."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import sqlite3
import stat

from localgcl._base.text import shell_quoted
from localgcl._liveness.access import resolved, user_called
from localgcl.errors import DatabaseError


def code_of(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code (https://sqlite.org/rescode.html)."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Errors that a process cannot continue after.
Failure = sqlite3.Error | OSError | MemoryError | ImportError | RuntimeError

# The gate, the file, its log and index, and what SQLite opens beside them for a moment.
_DESCRIPTORS_OF_A_DATABASE = 8

_DESCRIPTORS = (
    "this process has no file descriptor left; keep fewer files open, or raise the limit"
    " (`ulimit -n`)"
)
_MEMORY = (
    "there is no memory left; end other programs, or raise the limit (`ulimit -v`, a cgroup's)"
)
_THREADS = (
    "no thread can be started; end some threads or processes, or raise the limit (`ulimit -u`, or"
    " the pids limit of the container)"
)
_USED_UP = {
    errno.EMFILE: _DESCRIPTORS,
    errno.ENFILE: "the machine has no file descriptor left; end other programs, or raise the limit"
    " (`sysctl fs.file-max`)",
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: _THREADS,
    errno.EDQUOT: "the disk quota is used up; free some space, or have the quota raised (`quota`)",
}

_REMEDIES = {
    sqlite3.SQLITE_BUSY: "another program keeps it locked; end that program's transaction",
    sqlite3.SQLITE_FULL: "the disk is full; free some space and try again",
    sqlite3.SQLITE_IOERR: "reading or writing failed; see whether the disk is full or failing",
    sqlite3.SQLITE_CORRUPT: "it is corrupt; restore a backup, or move it away to start with a new"
    " one",
    sqlite3.SQLITE_NOTADB: "it is not a database; choose another file, or move it away",
}


def is_foreign(error: Exception) -> bool:
    """Whether an OSError is not the kernel's, but a signal handler's TimeoutError, for example."""
    return isinstance(error, OSError) and error.errno is None


def used_up(path: str, error: Failure) -> str | None:
    """Return which resource is used up, and what to do next, if the error is of that kind."""
    if isinstance(error, MemoryError):
        return _MEMORY
    if isinstance(error, RuntimeError):
        return _THREADS
    if isinstance(error, OSError):
        if error.errno == errno.ENOSPC:
            return _disk_problem(path)
        return _USED_UP.get(error.errno or 0)
    # SQLite and the module loader say only that they could not open something. What they had opened
    # until then is closed again, so this tries to open as much.
    with contextlib.ExitStack() as opened:
        try:
            for _ in range(_DESCRIPTORS_OF_A_DATABASE):
                opened.callback(os.close, os.open("/", os.O_RDONLY | os.O_CLOEXEC))
        except OSError as refused:
            return _USED_UP.get(refused.errno or 0)
    if isinstance(error, sqlite3.Error):
        code = code_of(error)
        if code == sqlite3.SQLITE_NOMEM:
            return _MEMORY
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_full(path)):
            return _disk_problem(path)
    return None


def _disk_problem(path: str) -> str:
    with contextlib.suppress(OSError):
        status = os.statvfs(os.path.dirname(os.path.realpath(path)))
        if status.f_files and not status.f_favail:
            return "the disk has no inode left; remove some files (`df -i`) and try again"
    return "the disk is full; free some space (`df`) and try again"


def _is_full(path: str) -> bool:
    with contextlib.suppress(OSError):
        status = os.statvfs(os.path.dirname(os.path.realpath(path)))
        return not status.f_bavail or bool(status.f_files and not status.f_favail)
    return False


@contextlib.contextmanager
def explaining(path: str) -> Iterator[None]:
    """Turn errors of imports and starts inside a block into a DatabaseError."""
    try:
        yield
    except (OSError, MemoryError, ImportError, RuntimeError) as error:
        if isinstance(error, OSError) and is_foreign(error):
            raise
        raise database_error(path, error) from error


def database_error(path: str, error: Failure) -> DatabaseError:
    """Return the error for a user: which file, what is wrong, and what to do next."""
    problem = known_problem(path, error)
    return DatabaseError(path, problem or f"{error}; `localgcl doctor` tells more")


def corrupt_rows_error(path: str, found: object) -> DatabaseError:
    """Return the error for a file with rows that only another program can have written."""
    return DatabaseError(
        path,
        f"it holds what localgcl did not write there ({found}); restore a backup, or move it away"
        " to start with a new one",
    )


def known_problem(path: str, error: Failure) -> str | None:
    """Return what is wrong and what to do next, if the error tells that."""
    resource = used_up(path, error)
    if resource is not None:
        return f"{resource} ({error})" if str(error) else resource
    forbidden = permission_error(path)
    if forbidden is not None:
        return "; ".join(forbidden)
    if isinstance(error, sqlite3.Error) and code_of(error) in _REMEDIES:
        return f"{_REMEDIES[code_of(error)]} ({error})"
    return None


def permission_error(path: str) -> tuple[str, str] | None:
    """Return which file of the database this user may not use, if any, and what to do about it.

    The advice is never to use another place: its user would have limits of their own.
    """
    real = resolved(path)
    run = f"{real}-run"
    files = (real, f"{real}-wal", f"{real}-shm", run, f"{run}/gate", f"{run}/create.lock")
    parent = os.path.dirname(real)
    while not os.path.exists(parent):
        parent = os.path.dirname(parent)
    is_there = os.path.exists(real)
    for file in (parent, *files):
        wanted = os.R_OK | os.W_OK | (os.X_OK if os.path.isdir(file) else 0)
        if file == parent and is_there:
            wanted = os.X_OK
        if os.access(file, wanted):
            if file == real and _nobody_writes(file):  # root may, its other users may not
                return f"{file} is to be read only, even by its owner", f"chmod u+rw {file}"
            continue
        try:
            status = os.stat(file)
            is_read_only = bool(os.statvfs(file).f_flag & os.ST_RDONLY)
        except OSError:
            continue  # it does not exist, or not any more
        if is_read_only:
            return (
                f"{file} is on a file system that is mounted read-only",
                "have it mounted for writing",
            )
        return (
            f"no permission to use {file}, whose mode is {stat.filemode(status.st_mode)} and whose"
            f" group is {group_called(status.st_gid)}",
            _way_in(os.path.dirname(real), [one for one in files if os.path.lexists(one)]),
        )
    return None


def _nobody_writes(file: str) -> bool:
    with contextlib.suppress(OSError):
        return os.stat(file).st_mode & 0o600 != 0o600
    return False


def _way_in(folder: str, files: list[str]) -> str:
    """Return the commands that give this user access, through the group of the database's folder.

    They cover all of the files, whose own group may be that of a single user.
    """
    try:
        status = os.stat(folder)
    except OSError:
        return f"see who may use it, with `namei -l {shell_quoted(folder)}`"
    user, group = user_called(os.geteuid()), group_called(status.st_gid)
    commands = []
    if status.st_mode & 0o030 != 0o030:
        commands.append(f"chmod g+rwx {shell_quoted(folder)}")
    wrong = []
    for file in files:
        with contextlib.suppress(OSError):
            found = os.lstat(file)
            wanted = 0o070 if stat.S_ISDIR(found.st_mode) else 0o060
            if found.st_gid != status.st_gid or found.st_mode & wanted != wanted:
                wrong.append(shell_quoted(file))
    if wrong or commands:
        every = " ".join(wrong or map(shell_quoted, files))
        if every:
            commands.append(f"chgrp {group} {every} && chmod g+rwX {every}")
    if status.st_gid not in (os.getegid(), *os.getgroups()):
        commands.append(f"usermod -aG {group} {user}")
    if not commands:  # group and user may: something else forbids it
        return f"see who may use it, with `getfacl {' '.join(map(shell_quoted, files))}`"
    return f"let {user} in with `{' && '.join(commands)}`, as root, and log in again"


def group_called(gid: int) -> str:
    """Return the name of a group."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
