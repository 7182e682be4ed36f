"""Two scripts that cron may start at any time, of which never more than one is at work.

With `timeout_seconds=0` a script that finds the other at work skips its run and exits with 75, which
stands for "try again later" (EX_TEMPFAIL in sysexits.h). Without a timeout it waits for its turn. A
script that is killed leaves no lock behind: its slot is free when it is gone.

    $ python examples/cron_no_overlap.py
    backup: at work
    report --skip: skipped, the other script is at work
    report --skip: exit status 75
    report: waits
    backup: done
    report: at work
    report: done
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

from localgcl import AcquireConcurrencySlotTimeoutError, Limiter, concurrency


def script(name: str, *, skip: bool) -> int:
    """Stand for backup.py and report.py: what cron starts."""
    try:
        with concurrency("nightly", timeout_seconds=0 if skip else None, strict=True):
            print(f"{name}: at work", flush=True)
            sys.stdin.read()  # stands for the work, which ends when the example wants it to
            print(f"{name}: done", flush=True)
    except AcquireConcurrencySlotTimeoutError:
        print(f"{name} --skip: skipped, the other script is at work", flush=True)
        return os.EX_TEMPFAIL
    return 0


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
