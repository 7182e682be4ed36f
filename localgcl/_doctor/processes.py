"""Which process holds a lock, as the kernel reports it, for people to read.

https://man7.org/linux/man-pages/man5/proc_locks.5.html; on other systems nothing is reported.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from localgcl._base.text import shortened

# SQLite's locks for readers of the WAL (https://sqlite.org/walformat.html#locks). The first is held
# only while all of the WAL is in the database.
_READERS = range(124, 128)


class Lock(NamedTuple):
    """A lock that is held: how (FLOCK, POSIX), for what (READ, WRITE), by whom, on which bytes."""

    kind: str
    access: str
    pid: int
    inode: int
    start: int


def locks_in(text: str) -> list[Lock]:
    """Return the locks that are held according to /proc/locks; those that wait are left out."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) != 8:
            continue  # a lock that waits, marked with an arrow
        _, kind, _, access, pid, file, start, _ = words
        found.append(Lock(kind, access, int(pid), int(file.rpartition(":")[2]), int(start)))
    return found


def _locks_on(path: str) -> list[Lock]:
    try:
        inode = os.stat(path).st_ino
        with open("/proc/locks", encoding="ascii") as file:
            return [lock for lock in locks_in(file.read()) if lock.inode == inode]
    except OSError:
        return []


def holders_of(gate: str) -> list[tuple[int, str, bool]]:
    """Return who keeps the gate shut: pid, command, and whether it is stopped.

    A process of another pid namespace has no pid here, and is left out.
    """
    return [
        (lock.pid, command_of(lock.pid), is_stopped(lock.pid))
        for lock in _locks_on(gate)
        if lock.kind == "FLOCK" and lock.pid > 0
    ]


def readers_of(shm: str) -> list[str]:
    """Return who reads a snapshot of the database, and so keeps the WAL from its checkpoints."""
    return sorted(
        {
            f"process {lock.pid} ({command_of(lock.pid)})"
            for lock in _locks_on(shm)
            if lock.kind == "POSIX" and lock.access == "READ" and lock.start in _READERS
        }
    )


def command_of(pid: int) -> str:
    """Return the command line of a process, as far as it can be read."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return "unknown"
    return shortened(b" ".join(words).decode(errors="replace").strip()) or "unknown"


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped, by a signal or by a debugger."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] in (b"T", b"t")
    except OSError:
        return False
