"""Whether a process is the one that it was: told by more than its pid, which is given again.

It is asked of owners alone whose lifeline nobody reads: a program may have closed it (python-daemon
closes what it does not know), and exec(3) does. From another pid namespace nothing can be told.
"""

from __future__ import annotations

import os

from localgcl import _clock

_STARTED = 19  # the field "starttime" behind the command's name: proc_pid_stat(5)
_ENDED = (b"Z", b"X")  # ended, and not yet waited for by its parent

_this: tuple[int, str | None] = (0, None)


def this_process() -> str | None:
    """Return what tells this process from all others; None where the system tells nothing."""
    global _this
    pid = os.getpid()
    if _this[0] != pid:
        started, space = _started(pid), _namespace()
        told = None if started is None else f"{_clock.boot_id()} {space} {pid} {started}"
        _this = pid, told
    return _this[1]


def is_running(process: str) -> bool:
    """Whether the process that `this_process` has told of runs, as far as can be seen from here."""
    boot, space, pid, started = process.split(" ")
    return (
        pid.isdigit()
        and (boot, space) == (_clock.boot_id(), _namespace())
        and _started(int(pid)) == started
    )


def end_of(process: str) -> int | None:
    """Return a descriptor that is readable once a process has ended; None where there is none.

    ProcessLookupError where it has ended.
    """
    try:
        descriptor = os.pidfd_open(int(process.split(" ")[2]))
    except (AttributeError, OSError) as error:
        if isinstance(error, ProcessLookupError):
            raise
        return None
    if not is_running(process):  # its pid may be another's by now
        os.close(descriptor)
        raise ProcessLookupError(process)
    return descriptor


def _started(pid: int) -> str | None:
    """Return when a process began, in ticks since boot, or None where it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
    except OSError:
        return None
    return None if fields[0] in _ENDED else fields[_STARTED].decode()


def _namespace() -> str:
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return "-"
