"""What `doctor` concludes from what it finds: each check is a pure function of facts.

Somebody has to act on a fault; a note is worth knowing. `examination` gathers the facts.
"""

from __future__ import annotations

import shlex
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from localgcl._doctor.check import Check, listed, sized
from localgcl._storage.location import VARIABLE, is_shared_file_system

if TYPE_CHECKING:
    from localgcl._storage.location import ChosenBy

# Checkpoints keep the WAL at about 1,000 pages of 1 KiB; a large transaction may add the size of
# the database once. If it is larger, something keeps checkpoints from working.
_WAL_BYTES = 4 * 2**20
_WAL_PER_DATABASE = 2

# https://sqlite.org/wal.html#walresetbug
_AFFECTED_FROM, _AFFECTED_TO = (3, 7, 0), (3, 51, 2)

# What a job needs if the database is open nowhere, or does not exist: SQLite's -wal and -shm, the
# FIFOs, the run folder with its files, and the database itself.
_JOB_BYTES = 128 * 1024
_JOB_INODES = 8


@dataclass(frozen=True)
class Space:
    """The free space in a folder's file system, as `statvfs` reports it; None if it reports none.

    Only root may use `reserved_bytes`.
    """

    folder: str
    free_bytes: int | None
    reserved_bytes: int = 0
    free_inodes: int | None = None


def choice(path: str, chosen_by: ChosenBy, environment: str | None, *, exists: bool) -> Check:
    """Tell which file is in use; `environment` is a different one that LOCALGCL_DB names."""
    words = {"option": "--db", "environment": VARIABLE, "default": "the default"}
    detail = f"{path}, chosen by {words[chosen_by]}"
    if not exists:
        detail += "; it is not there yet, and the first use makes it"
    if environment is None:
        return Check("database", "ok", detail)
    return Check(
        "database",
        "note",
        f"{detail}; {VARIABLE} names another one, {environment}",
        f"processes share limits only in one file: see that all of them use the same, by {VARIABLE}"
        " or by --db",
    )


def file_system(kind: str | None, point: str | None) -> Check:
    """Tell whether one kernel sees all of it; `point` is one of its files that is a mount."""
    if point is not None:
        return Check(
            "file system",
            "fault",
            f"{point} is a mount point itself, so that not all processes see the same files there",
            "mount the folder that the database lies in, in place of one of its files",
        )
    if kind is None:
        return Check("file system", "ok", "its type cannot be told here; it has to be a local disk")
    if not is_shared_file_system(kind):
        return Check("file system", "ok", f"{kind}, a local one")
    return Check(
        "file system",
        "fault",
        f"{kind}, where neither SQLite's WAL nor FIFOs reach all processes: limits do not hold",
        f"move the database to a local disk, with all processes ended, and name it in {VARIABLE}",
    )


def disk(spaces: Sequence[Space]) -> Check:
    """Tell whether there is room for the files of a job: bytes and inodes."""
    lacking = []
    for one in spaces:
        missing = []
        if one.free_bytes is not None and one.free_bytes < _JOB_BYTES:
            besides = f" ({sized(one.reserved_bytes)} more for root)" if one.reserved_bytes else ""
            missing.append(f"{sized(one.free_bytes)} free{besides} where {sized(_JOB_BYTES)}")
        if one.free_inodes is not None and one.free_inodes < _JOB_INODES:
            missing.append(f"{one.free_inodes} inodes free where {_JOB_INODES}")
        if missing:
            lacking.append((one.folder, " and ".join(missing)))
    if lacking:
        folder = shlex.quote(lacking[0][0])
        return Check(
            "disk",
            "fault",
            "; ".join(f"{folder} has {missing} are needed" for folder, missing in lacking)
            + ": no job may be able to start",
            f"remove files there (see `df -h {folder}` and `df -i {folder}`), or have the file"
            " system, its quota or its size= and nr_inodes= made larger",
        )
    known = [
        f"{sized(one.free_bytes)} free"
        + (f" and {one.free_inodes} inodes" if one.free_inodes is not None else "")
        + f" in {one.folder}"
        for one in spaces
        if one.free_bytes is not None
    ]
    return Check("disk", "ok", listed(known) or "how much is free cannot be told here")


def sqlite(version: tuple[int, int, int]) -> Check:
    """Tell whether this version of SQLite can corrupt a WAL database."""
    name = ".".join(map(str, version))
    if not _AFFECTED_FROM <= version <= _AFFECTED_TO:
        return Check("sqlite", "ok", f"{name}, with no known fault that concerns localgcl")
    return Check(
        "sqlite",
        "note",
        f"{name} can corrupt a database when one connection commits while another checkpoints"
        " (sqlite.org/wal.html#walresetbug); the gate keeps localgcl's own processes from that, but"
        " not another program that opens the file",
        "open the file with no other program while it is in use, or use a Python with SQLite 3.51.3"
        " or newer",
    )


def clock(error: str | None) -> Check:
    """Tell whether the clock since boot and the identity of this boot can be read."""
    if error is None:
        return Check("clock", "ok", "the clock since boot and the boot's identity can be read")
    return Check(
        "clock",
        "fault",
        f"the clock since boot or the boot's identity cannot be read: {error}",
        "localgcl needs /proc/sys/kernel/random/boot_id on Linux: mount /proc",
    )


def wal(database_bytes: int, wal_bytes: int, readers: Sequence[str]) -> Check:
    """Tell whether the WAL grows without checkpoints; `readers` prevent them."""
    detail = f"{sized(wal_bytes)}, beside a database of {sized(database_bytes)}"
    if wal_bytes <= max(_WAL_BYTES, _WAL_PER_DATABASE * database_bytes):
        return Check("wal", "ok", detail)
    if readers:
        return Check(
            "wal",
            "fault",
            f"{detail}: it does not shrink while {listed(readers)} reads the database",
            "end the transaction of that program, or the program",
        )
    return Check(
        "wal",
        "fault",
        f"{detail}: it does not shrink, since some program kept a transaction open",
        "end that program; the next transactions, and the last process to end, shrink it",
    )


def run_folder(path: str, mode: int | None, strays: Sequence[str]) -> Check:
    """Tell whether the run folder, if it exists (`mode`), is a folder with only our files in it."""
    if mode is None:
        return Check("run folder", "ok", f"{path} is not there; the next use makes it")
    if not stat.S_ISDIR(mode):
        return Check(
            "run folder",
            "fault",
            f"{path} is not a folder, so nobody can use the database",
            "move it away; the next use makes the folder",
        )
    if not strays:
        return Check("run folder", "ok", f"{path} holds nothing but localgcl's own")
    return Check(
        "run folder",
        "note",
        f"{path} holds what is not in use by localgcl: {listed(strays)}",
        "remove it; never remove the gate while a process uses the database",
    )


def gate(waited_seconds: float, holders: Sequence[tuple[int, str, bool]] | None) -> Check:
    """Tell whether transactions go on; `holders` (pid, command, stopped) kept the gate shut."""
    if holders is None:
        return Check("gate", "ok", "transactions go on")
    if not holders:
        return Check(
            "gate",
            "fault",
            f"no transaction went on for {waited_seconds:g} s, and it cannot be told from here"
            " which process is stopped inside one; what follows was not looked at",
            "continue or end that process: one that is stopped (Ctrl-Z, SIGSTOP, a debugger)",
        )
    pid, command, stopped = holders[0]
    state = "which is stopped" if stopped else "which does not go on"
    return Check(
        "gate",
        "fault",
        f"no transaction went on for {waited_seconds:g} s: process {pid} ({command}), {state}, is"
        " inside one; what follows was not looked at",
        f"continue it (kill -CONT {pid}) or end it (kill -KILL {pid})",
    )


def unreadable(problem: str) -> Check:
    """Tell of a file that SQLite cannot read; `problem` ends with what to do."""
    detail, _, remedy = problem.rpartition("; ")
    return Check("format", "fault", detail or problem, remedy if detail else None)


def format_of(version: int | None, newest: int, missing: Sequence[str]) -> Check:
    """Tell the format of the file: None is another program's, 0 is empty, else a schema version."""
    if version is None:
        return unreadable("it belongs to another program; choose another file")
    if version == 0:
        return Check("format", "ok", "it is empty: a new database")
    if version > newest:
        return unreadable(f"a newer release made it (schema {version}); upgrade localgcl")
    if version < newest:
        return Check(
            "format", "ok", f"schema {version}, which the next use brings to schema {newest}"
        )
    if missing:
        return unreadable(f"it lacks {listed(missing)}; {_BEGIN_ANEW}")
    return Check("format", "ok", f"schema {version}")


_BEGIN_ANEW = (
    "with all processes ended, keep the limits with `localgcl export`, move the file away, and"
    " `localgcl apply` them to a new one, or restore a backup"
)


def integrity(problems: Sequence[str]) -> Check:
    """Tell what SQLite's own integrity check has found."""
    if not problems:
        return Check("integrity", "ok", "SQLite's integrity check found nothing")
    return Check(
        "integrity",
        "fault",
        f"SQLite's integrity check found: {listed(problems)}",
        _BEGIN_ANEW,
    )


def rows(problems: Sequence[str]) -> Check:
    """Tell which rows contradict each other, which SQLite does not check."""
    if not problems:
        return Check("rows", "ok", "slots in use and waiting are what the rows add up to")
    return Check("rows", "fault", listed(problems), _BEGIN_ANEW)


def owners(dead: Sequence[str], living: int) -> Check:
    """Tell which owners of slots or places in a queue have ended without giving them back."""
    if not dead:
        return Check("owners", "ok", f"{living} living, none dead")
    return Check(
        "owners",
        "note",
        f"{living} living, {len(dead)} dead: {listed(dead)}",
        "nothing to do: the next call, as `localgcl ls`, frees what they hold",
    )
