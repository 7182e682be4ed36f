"""What `doctor` examines. It creates and changes nothing, and does not clear away the dead.

Only SQLite ever opens the database file itself: a process loses its POSIX locks on a file when it
closes any descriptor of it (https://sqlite.org/howtocorrupt.html, 2.2).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator

from localgcl._base import clock
from localgcl._base.text import shortened
from localgcl._doctor import diagnosis, permissions, processes
from localgcl._doctor.check import Check
from localgcl._doctor.diagnosis import Space
from localgcl._doctor.permissions import Entry
from localgcl._liveness.access import fault_of, resolved
from localgcl._liveness.fifo import is_fifo_name
from localgcl._liveness.folder import Folder
from localgcl._liveness.making import GATE
from localgcl._storage import location, schema
from localgcl._storage.connection import in_address
from localgcl._storage.creating import folder_of
from localgcl._storage.gate import Gate, GateTimeoutError
from localgcl._storage.problems import group_called, known_problem, permission_error
from localgcl._storage.rights import of_the_writers
from localgcl._storage.rows import columns_of, problems_of
from localgcl.errors import DatabaseError

# No transaction takes longer, unless its process was stopped inside it.
PATIENCE_SECONDS = 3.0

_OURS = ("gate", "create.lock")
_BUSY_SECONDS = 1.0  # for programs that do not know the gate

Execute = Callable[..., sqlite3.Cursor]


def examine(path: str, chosen_by: location.ChosenBy) -> list[Check]:
    """Return every check of the database at `path`."""
    real, problem = resolved(path), None
    status, forbidden = None, None
    try:
        real = location.real_path(path, path)
        with contextlib.suppress(FileNotFoundError):
            status = os.lstat(real)
    except DatabaseError as error:
        problem = error.problem
    except OSError as error:
        problem, forbidden = _problem(path, error), permission_error(path)
    checks = [
        diagnosis.choice(path, chosen_by, _other(path, chosen_by), exists=bool(status or problem)),
        diagnosis.file_system(_kind(real), location.mounted_beside(real)),
        diagnosis.disk(_spaces(real)),
        diagnosis.sqlite(sqlite3.sqlite_version_info),
        diagnosis.clock(_clock_error()),
    ]
    if status is not None and not stat.S_ISREG(status.st_mode):
        problem = "it is not a file; choose another path"
    if forbidden is not None:
        return [*checks, permissions.permission_error(*forbidden)]
    if problem is not None:
        return [*checks, diagnosis.unreadable(problem)]
    if status is None:
        return checks
    folder = folder_of(real, status, path)
    foreign = [
        f"{name} {fault}"
        for name in (real, f"{real}-wal", f"{real}-shm", f"{real}-journal")
        if (fault := _fault(name)) is not None
    ]
    if foreign:
        return [*checks, permissions.foreign(foreign)]
    try:
        return [*checks, *_files(real, folder), *_contents(path, folder)]
    except DatabaseError as error:
        return [*checks, permissions.foreign([error.problem])]
    finally:
        folder.close()


def _fault(name: str) -> str | None:
    """Return why a file cannot be one of the database's; None if it can, or does not exist."""
    try:
        return fault_of(os.lstat(name))
    except OSError:
        return None


def _kind(real: str) -> str | None:
    mount = location.mount_of(real)
    return None if mount is None else mount[0]


def exists(path: str) -> bool:
    """Whether there is something at `path`; if that cannot be told, it counts as there."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _problem(path: str, error: Exception) -> str:
    known = known_problem(path, error) if isinstance(error, sqlite3.Error | OSError) else None
    return (
        known
        or f"it cannot be read: {error}; restore a backup, or move it away to start with a new one"
    )


def _other(path: str, chosen_by: location.ChosenBy) -> str | None:
    """Return the database that the environment names, if --db chose another one."""
    named = os.environ.get(location.VARIABLE)
    if chosen_by != "option" or not named:
        return None
    with contextlib.suppress(ValueError):
        named = location.choose(None)[0]
    return None if resolved(named) == resolved(path) else named


def _clock_error() -> str | None:
    try:
        clock.now()
        return None if clock.boot_id() else "the boot's identity is empty"
    except (OSError, ValueError) as error:
        return str(error)


def _spaces(real: str) -> list[Space]:
    """Return the free space where a job's files are, or will be."""
    folder = os.path.dirname(real)
    while not os.path.isdir(folder) and folder != "/":
        folder = os.path.dirname(folder)
    spaces: dict[int, Space] = {}
    for one in (folder, f"{real}-run"):  # which may lie elsewhere
        with contextlib.suppress(OSError):
            spaces.setdefault(os.stat(one).st_dev, _space(one))
    return list(spaces.values())


def _space(folder: str) -> Space:
    found = os.statvfs(folder)
    # Some file systems have no fixed number of blocks or inodes. They report 0 of 0.
    free = found.f_bavail * found.f_frsize if found.f_blocks else None
    reserved = max(0, found.f_bfree - found.f_bavail) * found.f_frsize
    return Space(folder, free, reserved, found.f_favail if found.f_files else None)


# The files, without opening any


def _entry(path: str, *, follow: bool = False) -> Entry | None:
    try:
        status = os.stat(path, follow_symlinks=follow)
    except OSError:  # gone meanwhile, or out of reach, which `permission_error` reports
        return None
    return Entry(path, status.st_mode, status.st_gid, group_called(status.st_gid), status.st_size)


def _files(real: str, folder: Folder) -> Iterator[Check]:
    database, parent, wal, shm = map(
        _entry, (real, os.path.dirname(real), f"{real}-wal", f"{real}-shm")
    )
    run = _entry(folder.path, follow=True)
    if database is None or parent is None:
        return  # gone meanwhile
    try:
        names = sorted(os.listdir(folder.path))
    except OSError:
        names = []
    inside = [entry for name in names if (entry := _entry(f"{folder.path}/{name}")) is not None]
    ours = [entry for entry in inside if _is_ours(entry)]
    yield permissions.permissions(
        database,
        parent,
        beside=[entry for entry in (wal, shm) if entry is not None],
        inside=[run, *ours] if run is not None else [],
        forbidden=permission_error(real),
        keeps_apart=_keeps_users_apart(),
    )
    if wal is not None:
        yield diagnosis.wal(database.size, wal.size, processes.readers_of(f"{real}-shm"))
    strays = [os.path.basename(entry.path) for entry in inside if not _is_ours(entry)]
    there = run or _entry(folder.path)  # also a link that leads nowhere
    yield diagnosis.run_folder(
        folder.path,
        None if there is None else there.mode,
        [shortened(name) for name in strays],
    )


def _keeps_users_apart() -> bool:
    """Whether Linux keeps users from opening others' files in a sticky folder: proc_sys_fs(5)."""
    try:
        with open("/proc/sys/fs/protected_regular", encoding="ascii") as file:
            return file.read().strip() != "0"
    except OSError:
        return False


def _is_ours(entry: Entry) -> bool:
    name = os.path.basename(entry.path)
    if is_fifo_name(name):
        return stat.S_ISFIFO(entry.mode)
    return name in _OURS and stat.S_ISREG(entry.mode)


# What is in the database, behind the gate


def _contents(path: str, folder: Folder) -> list[Check]:
    while True:
        guarded = os.path.exists(f"{folder.path}/{GATE}")
        try:
            checks = _behind_the_gate(path, folder) if guarded else _looked_at(path, folder)
        except GateTimeoutError:
            holders = processes.holders_of(f"{folder.path}/{GATE}")
            return [diagnosis.gate(PATIENCE_SECONDS, holders)]
        except OSError as error:
            return [diagnosis.unreadable(_problem(path, error))]
        # Without a gate nobody uses the database, unless somebody has started to meanwhile.
        if guarded or not os.path.exists(f"{folder.path}/{GATE}"):
            return [diagnosis.gate(0.0, None), *checks]


def _behind_the_gate(path: str, folder: Folder) -> list[Check]:
    gate = Gate(folder)
    try:
        with gate.entered(clock.now() + PATIENCE_SECONDS):
            return _looked_at(path, folder)
    finally:
        gate.close()


def _looked_at(path: str, folder: Folder) -> list[Check]:
    checks: list[Check] = []
    try:
        with (
            contextlib.closing(_connect(path, folder)) as connection,
            _new_database() as new,
        ):
            execute = connection.cursor().execute
            version = schema.version_of(connection)
            missing = _missing(execute, new) if version == schema.VERSION else []
            checks.append(diagnosis.format_of(version, schema.VERSION, missing))
            if version == 0 or checks[0].status == "fault":
                return checks
            found = [text for (text,) in execute("PRAGMA integrity_check(10)").fetchall()]
            checks.append(diagnosis.integrity([str(text) for text in found if text != "ok"]))
            if version == schema.VERSION:
                problems = problems_of(execute, columns_of(new.execute))
                checks.append(diagnosis.rows(problems))
                if not problems:
                    checks.append(_owners(execute, folder))
    except (sqlite3.Error, ArithmeticError, LookupError, TypeError, ValueError) as error:
        # Python raises another error if SQLite describes the damage in bytes that are no text.
        checks.append(diagnosis.unreadable(_problem(path, error)))
    return checks


def _connect(path: str, folder: Folder) -> sqlite3.Connection:
    real = location.real_path(path, path)
    # Without a WAL, everything is in the file and nobody has it open. SQLite is then told that the
    # file does not change: otherwise it would leave a new -wal and -shm, as a reader without write
    # permission does.
    mode = "mode=ro" if os.path.exists(f"{real}-wal") else "mode=ro&immutable=1"
    with of_the_writers(os.stat(os.path.dirname(real)), folder.access):
        connection = sqlite3.connect(
            f"file:{in_address(real)}?{mode}",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
        )
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except BaseException:
            connection.close()
            raise
    return connection


def _missing(execute: Execute, new: sqlite3.Connection) -> list[str]:
    """Return the tables, views and triggers that a new file has and this one lacks."""
    objects = "SELECT type || ' ' || name FROM sqlite_master WHERE type <> 'index'"
    wanted = {name for (name,) in new.execute(objects).fetchall()}
    return sorted(wanted - {name for (name,) in execute(objects).fetchall()})


@contextlib.contextmanager
def _new_database() -> Iterator[sqlite3.Connection]:
    """A database in memory with the schema of a new file."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as new:
        for statement in schema.statements():
            new.execute(statement)
        yield new


def _owners(execute: Execute, folder: Folder) -> Check:
    now, dead, living = _now(execute), [], 0
    owners = execute("SELECT lifeline, pid, command, expires FROM owners").fetchall()
    for lifeline, pid, command, expires in owners:
        if folder.is_alive(lifeline) if expires is None else expires > now:
            living += 1
        else:
            dead.append(f"{'client' if pid is None else pid} ({shortened(command)})")
    return diagnosis.owners(dead, living)


def _now(execute: Execute) -> float:
    """Return the current time on the clock of the boot that the rows were last converted to."""
    for boot, offset in execute("SELECT id, offset FROM boot").fetchall():
        with contextlib.suppress(OSError):  # it has a check of its own
            if boot != clock.boot_id():
                return clock.wall() - float(offset)
    return clock.now()
