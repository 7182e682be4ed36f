"""The clock that all processes of this machine share, and the boot that it counts from."""

from __future__ import annotations

import _thread
import functools
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def _offset() -> float:
    """Return how far the time namespace of this process puts its clock ahead, in seconds.

    It is read at each import, so it does without the modules that Python needs to read text.
    """
    try:
        descriptor = os.open("/proc/self/timens_offsets", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # a kernel without time namespaces, or no /proc
        return 0.0
    try:
        words = os.read(descriptor, 4096).split()
    finally:
        os.close(descriptor)
    at = words.index(b"boottime")
    seconds, nanoseconds = int(words[at + 1]), int(words[at + 2])
    if (seconds or nanoseconds) and _changes_for_children():
        return 0.0
    return seconds + nanoseconds / 1e9


def _changes_for_children() -> bool:
    """Whether the file tells of a namespace that only children will be in.

    That is so after unshare(2), and on old kernels after exec(3) too.
    """
    own, children = (
        os.stat(f"/proc/self/ns/{name}").st_ino for name in ("time", "time_for_children")
    )
    return own != children


def _now_at_the_host() -> float:
    """Seconds since boot for all processes, read from within another time namespace."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - offset


# How far this process's clock is ahead of the shared one.
offset = 0.0

if sys.platform == "linux":
    offset = _offset()
    # Seconds since boot, including the time asleep; it never steps. It is read eight times for each
    # slot, and a function around it would double the cost.
    now: Callable[[], float] = functools.partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if offset:
        now = _now_at_the_host

    @functools.cache  # no process outlives its boot
    def boot_id() -> str:
        """The identity of this boot; another value means that `now` started again from zero."""
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()

else:  # pragma: no cover - macOS and others, not tested there

    def now() -> float:
        """Seconds on the clock of `time.monotonic`, which all processes share; it never steps."""
        return time.monotonic()

    @functools.cache  # no process outlives its boot
    def boot_id() -> str:
        """The identity of this boot; another value means that `now` started again from zero."""
        import subprocess

        command = ["sysctl", "-n", "kern.bootsessionuuid"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def wall() -> float:
    """Seconds since 1970 in UTC, for people to read and to carry times over a reboot."""
    return time.time()


def remaining(deadline: float | None) -> float:
    """Return the seconds until `deadline` as a lock takes them: -1 means for ever."""
    if deadline is None:
        return -1
    return min(_thread.TIMEOUT_MAX, max(0.0, deadline - now()))
