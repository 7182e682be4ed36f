"""A transaction that another process is in."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def shut(path: str, *, stopped: bool) -> Iterator[int]:
    """Have another process be inside a transaction, stopped there or busy; yield its pid."""
    code = (
        "import fcntl, os, signal, sys, time\n"
        "fcntl.flock(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX)\n"
        "print('shut', flush=True)\n"
        "time.sleep(600)"
    )
    words = [sys.executable, "-c", code, f"{path}-run/gate"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        if stopped:
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        try:
            yield process.pid
        finally:
            process.kill()
