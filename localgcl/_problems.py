"""What is wrong with a database, and what to do next, as a user is told."""

from __future__ import annotations

import grp
import os
import sqlite3
import stat

from localgcl._access import resolved, user_called
from localgcl._text import shell_quoted
from localgcl.errors import DatabaseError


def code_of(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code (https://sqlite.org/rescode.html)."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


_REMEDIES = {
    sqlite3.SQLITE_BUSY: "another program keeps it locked; end that program's transaction",
    sqlite3.SQLITE_FULL: "the disk is full; free some space and try again",
    sqlite3.SQLITE_IOERR: "reading or writing failed; see whether the disk is full or failing",
    sqlite3.SQLITE_CORRUPT: "it is corrupt; restore a backup, or move it away to begin anew",
    sqlite3.SQLITE_NOTADB: "it is not a database; choose another file, or move it away",
}


def is_foreign(error: Exception) -> bool:
    """Whether an OSError is not the kernel's, but a TimeoutError, say, of a signal's handler."""
    return isinstance(error, OSError) and error.errno is None


def explained(path: str, error: sqlite3.Error | OSError) -> DatabaseError:
    """Return the error for a user: which file, what is wrong, and what to do next."""
    problem = known_problem(path, error)
    return DatabaseError(path, problem or f"{error}; `localgcl doctor` tells more")


def strange(path: str, found: object) -> DatabaseError:
    """Return the error of a file with rows that only another program can have written."""
    return DatabaseError(
        path,
        f"it holds what localgcl did not write there ({found}); restore a backup, or move it away"
        " to begin anew",
    )


def known_problem(path: str, error: sqlite3.Error | OSError) -> str | None:
    """Return what is wrong and what to do next, where that can be told from the error."""
    forbidden = denied(path)
    if forbidden is not None:
        return "; ".join(forbidden)
    if isinstance(error, sqlite3.Error) and code_of(error) in _REMEDIES:
        return f"{_REMEDIES[code_of(error)]} ({error})"
    return None


def denied(path: str) -> tuple[str, str] | None:
    """Return which file of the database this user may not use, if any, and what to do about it.

    Another place is never the advice: who followed it would have limits of their own.
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
            continue
        try:
            status = os.stat(file)
            is_read_only = bool(os.statvfs(file).f_flag & os.ST_RDONLY)
        except OSError:
            continue  # it is not there, or not any more
        if is_read_only:
            return (
                f"{file} is on a file system that is mounted read-only",
                "have it mounted for writing",
            )
        group = group_called(status.st_gid)
        return (
            f"no permission to use {file}, whose mode is {stat.filemode(status.st_mode)} and whose"
            f" group is {group}",
            _way_in(file, status, group, os.path.dirname(real), real if is_there else None),
        )
    return None


def _way_in(
    file: str, status: os.stat_result, group: str, folder: str, database: str | None
) -> str:
    """Return the commands that let this user in, with the group of a file."""
    user = user_called(os.geteuid())
    commands = []
    wanted = 0o070 if stat.S_ISDIR(status.st_mode) else 0o060
    if status.st_mode & wanted != wanted:
        if file != folder:
            commands.append(f"chmod g+rwx {shell_quoted(folder)}")
        if database is not None and file != database and file != folder:
            commands.append(f"chmod g+rw {shell_quoted(database)}")
        commands.append(f"chmod g+rw{'x' if wanted == 0o070 else ''} {shell_quoted(file)}")
    if status.st_gid not in (os.getegid(), *os.getgroups()):
        commands.append(f"usermod -aG {group} {user}")
    if not commands:  # the group may, and this user is in it: something else forbids it
        return f"see who may use it, with `getfacl {shell_quoted(file)}`"
    return f"let {user} in with `{' && '.join(commands)}`, as root, and log in again"


def group_called(gid: int) -> str:
    """Return the name of a group."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
