"""Whether a process is the same as before: it takes more than a pid, since pids are reused.

This is asked only about owners whose lifeline nobody reads. A program may have closed it
(python-daemon closes what it does not know), and exec(3) does. Nothing can be told from another pid
namespace.
"""

from __future__ import annotations

import os

from localgcl._base import clock

_STARTED = 19  # the field "starttime" behind the command's name: proc_pid_stat(5)
_ENDED = (b"Z", b"X")  # ended, but its parent has not waited for it yet
_TICKS = os.sysconf("SC_CLK_TCK")  # in a second
# The kernel adds the offset of the reader's time namespace to a process's start time, as
# nanoseconds in 64 bits without a sign. So the start of a process that began before the clock of
# that namespace wraps around.
_WRAP = 2**64 * _TICKS // 10**9

# A leap second, and rounding. Apart from these, only a step of the wall clock moves the time of
# boot, and no machine starts again within so few seconds of its last start.
_BOOT_SECONDS = 2

_this: tuple[int, str | None] = (0, None)


def this_process() -> str | None:
    """Return what distinguishes this process from all others; None if the system tells nothing."""
    global _this
    pid = os.getpid()
    if _this[0] != pid:
        started, space = _started(pid), _namespace()
        boot = f"{clock.boot_id()}@{_booted()}"
        told = None if started is None else f"{boot} {space} {pid} {started}"
        _this = pid, told
    return _this[1]


def is_running(process: str) -> bool:
    """Whether the process that `this_process` has described runs, as far as this one can see."""
    words = process.split(" ")
    if len(words) != 4:
        return False  # another program wrote that
    boot, space, pid, started = words
    return (
        pid.isascii()
        and pid.isdigit()
        and space == _namespace()
        and _is_this_boot(boot)
        and _is_near(started, _started(int(pid)), 1)  # an offset may end within a tick
    )


def end_of(process: str) -> int | None:
    """Return a descriptor that becomes readable when a process ends; None if there is none.

    ProcessLookupError if it has ended.
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


def _is_this_boot(told: str) -> bool:
    """Whether a process has described the boot that this one runs in.

    A container may see a boot_id of its own. Then the wall time of boot decides, which differs
    after a reboot.
    """
    boot, _, booted = told.partition("@")
    return boot == clock.boot_id() or _is_near(booted, _booted(), _BOOT_SECONDS)


def _booted() -> int:
    """Return when the machine started, in seconds of the wall clock."""
    return round(clock.wall() - clock.now())


def _is_near(told: str, number: int | None, most: int) -> bool:
    """Whether the text `told`, which may be anything, is that number, give or take `most`."""
    return number is not None and told in map(str, range(number - most, number + most + 1))


def _started(pid: int) -> int | None:
    """Return when a process started, in ticks since boot, or None if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
    except OSError:
        return None
    if fields[0] in _ENDED:
        return None
    return (int(fields[_STARTED]) - round(clock.offset * _TICKS)) % _WRAP


def _namespace() -> str:
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return "-"
