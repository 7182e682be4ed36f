"""Two scripts that cron may start at any time, of which never more than one is at work.

With `timeout_seconds=0` a script that finds the other at work skips its run and exits with 75, in
sysexits.h the status for "try again later". Without a timeout it waits for its turn. A script that
is killed leaves nothing locked: a slot is free when its process is gone.

    $ python examples/cron_no_overlap.py
    backup: at work
    report --skip: skipped, the other script is at work
    backup: done
    report: at work
    report: done
    exit statuses: backup 0, report --skip 75, report 0
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import TextIO

from localgcl import AcquireConcurrencySlotTimeoutError, Limiter, concurrency


def script(name: str, *options: str) -> int:
    """Stand for backup.py and report.py, which cron starts."""
    patience = 0 if "--skip" in options else None
    try:
        with concurrency("nightly", timeout_seconds=patience, strict=True):
            print(f"{name}: at work", flush=True)
            sys.stdin.read()  # stands for the work, and ends when the example wants it to
            print(f"{name}: done", flush=True)
    except AcquireConcurrencySlotTimeoutError:
        print(f"{name} --skip: skipped, the other script is at work", flush=True)
        return os.EX_TEMPFAIL
    return 0


def start(log: TextIO, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, text=True)


def finish(process: subprocess.Popen[str]) -> int:
    process.communicate()  # closes its standard input, and waits for its end
    return process.returncode


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            sys.exit("A script did not come as far as it should.")
        time.sleep(0.01)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        # The scripts inherit the environment, and so share one database of limits.
        os.environ["LOCALGCL_DB"] = os.path.join(folder, "limits.db")
        # Opened for appending, the log keeps the order in which the scripts wrote.
        with Limiter() as limiter, open(os.path.join(folder, "log"), "a+", encoding="utf-8") as log:
            limiter.create("nightly", 1)
            backup = start(log, "backup")
            wait_until(lambda: limiter.holders("nightly"))
            skipped = finish(start(log, "report", "--skip"))
            report = start(log, "report")
            wait_until(lambda: limiter.waiters("nightly"))
            statuses = [finish(backup), skipped, finish(report)]
            log.seek(0)
            lines = log.read().splitlines()

    print(*lines, sep="\n")
    print("exit statuses: backup {}, report --skip {}, report {}".format(*statuses))
    skip = "report --skip: skipped, the other script is at work"
    turns = ["backup: at work", skip, "backup: done", "report: at work", "report: done"]
    return 0 if lines == turns and statuses == [0, os.EX_TEMPFAIL, 0] else 1


if __name__ == "__main__":
    sys.exit(script(*sys.argv[1:]) if sys.argv[1:] else main())
