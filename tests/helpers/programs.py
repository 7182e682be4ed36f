"""`localgcl` as a program, and what its commands leave behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import Result

from localgcl import Limiter
from tests.helpers.database import tables
from tests.helpers.waiting import DEADLINE_SECONDS

Process = subprocess.Popen[str]


class Program:
    """`localgcl` on one database: run to its end, or started and ended with the test."""

    def __init__(self, database: Path) -> None:
        self.words = [sys.executable, "-m", "localgcl", "--db", str(database)]
        self.started: list[Process] = []

    def __call__(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run `localgcl` with these words."""
        return subprocess.run(
            [*self.words, *words],
            **{"capture_output": True, "text": True, "timeout": DEADLINE_SECONDS, **options},
        )

    def start(self, *words: str, **options: Any) -> Process:
        """Start `localgcl` with these words."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process: Process = subprocess.Popen(
            [*self.words, *words], text=True, **{**pipes, **options}
        )
        self.started.append(process)
        return process

    def close(self) -> None:
        """End what was started."""
        for process in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            process.wait(DEADLINE_SECONDS)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


# A command that says that it runs, then which signals it gets, and ends with 9 after `last` ones.
REPORTER = """
import signal, sys, time
got = []
def say(number, frame):
    got.append(number)
    print(signal.Signals(number).name, flush=True)
for one in (1, 2, 3, 10, 12, 15):
    signal.signal(one, say)
print("ready", flush=True)
while len(got) < int(sys.argv[1]):
    time.sleep(0.01)
sys.exit(9)
"""


def line(process: Process) -> str:
    """Return the next line that a command prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ended(process: Process) -> int:
    """Wait for the end of a process, and return its status."""
    return process.wait(DEADLINE_SECONDS)


def waiting(limiter: Limiter, number: int = 1) -> Callable[[], bool]:
    """Return whether so many wait at `a`."""
    return lambda: len(limiter.waiters("a")) == number


def holder(limiter: Limiter) -> int:
    """Return the pid of the one who holds `a`."""
    (one,) = limiter.holders("a")
    assert one.pid is not None  # no client from elsewhere
    return one.pid


def is_running(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def is_clean(limiter: Limiter, path: Path) -> bool:
    """Whether nobody has left anything: no row of an owner, and no file of one."""
    limiter.close()
    rows = tables(limiter)
    of_owners = rows["owners"], rows["leases"], rows["waiters"], rows["waits"]
    return of_owners == ([], [], [], []) and set(os.listdir(f"{path}-run")) <= {
        "gate",
    }


def masks(text: str) -> dict[str, int]:
    """Return the masks of signals in /proc/PID/status, without the two of the C library."""
    found = re.findall(r"Sig(\w+):\t([0-9a-f]+)", text)
    return {name: int(value, 16) & ~(0b11 << 31) for name, value in found}


def bit(number: signal.Signals) -> int:
    """Return a signal's bit in such a mask."""
    return 1 << (number - 1)


Invoke = Callable[..., Result]


def wrong_usage(result: Result) -> None:
    """Check that a command was refused with click's usage block."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0].startswith("Usage:")
    assert lines[-1].startswith("Error:")
    assert [line for line in lines if line.startswith("Error:")] == lines[-1:]


def database_error(result: Result) -> None:
    """Check that a command failed with one line."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.endswith("\n")
    assert len(result.stderr.splitlines()) == 1
