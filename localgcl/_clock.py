"""The clock that all processes of this machine share, and which boot of the machine it counts."""

from __future__ import annotations

import functools
import sys
import time

if sys.platform == "linux":
    # Seconds since boot, the time asleep included; never steps. It is asked eight times for each
    # slot, and a function around it would double what that takes.
    now = functools.partial(time.clock_gettime, time.CLOCK_BOOTTIME)

    @functools.cache  # no process outlives its boot
    def boot_id() -> str:
        """The identity of this boot; another value means that `now` began again from zero."""
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()

else:  # pragma: no cover - macOS and others, not tested there

    def now() -> float:
        """Seconds on the clock of `time.monotonic`, which all processes share; never steps."""
        return time.monotonic()

    @functools.cache  # no process outlives its boot
    def boot_id() -> str:
        """The identity of this boot; another value means that `now` began again from zero."""
        import subprocess

        command = ["sysctl", "-n", "kern.bootsessionuuid"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def wall() -> float:
    """Seconds since 1970 in UTC, for people to read and to bridge a reboot."""
    return time.time()
