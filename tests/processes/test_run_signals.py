"""Signals that `localgcl run` passes on, and how its command finds them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from localgcl import Limiter
from tests.helpers.database import tables
from tests.helpers.programs import (
    REPORTER,
    Program,
    bit,
    ended,
    holder,
    is_clean,
    line,
    masks,
    waiting,
)
from tests.helpers.waiting import DEADLINE_SECONDS, until

pytestmark = pytest.mark.processes


PASSED = [
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
]


BY_NAME = pytest.mark.parametrize("number", PASSED, ids=lambda one: one.name)


@BY_NAME
def test_signals_are_passed_on(
    localgcl: Program, database: Limiter, path: Path, number: signal.Signals
) -> None:
    """What is sent to `run` reaches the command, once, and `run` stays with it to its end."""
    process = localgcl.start("run", "a", "--", sys.executable, "-c", REPORTER, "1")
    assert line(process) == "ready"
    process.send_signal(number)
    assert line(process) == number.name
    assert ended(process) == 9
    assert process.stdout is not None
    assert process.stdout.read() == ""
    assert is_clean(database, path)


@BY_NAME
def test_a_signal_that_ends_the_command(
    localgcl: Program, database: Limiter, number: signal.Signals
) -> None:
    """A command that dies from a signal that was passed on gives 128 + N."""
    process = localgcl.start("run", "a", "sh", "-c", "echo ready; ulimit -c 0; exec sleep 60")
    assert line(process) == "ready"
    until(lambda: [one.command[:2] for one in database.holders()] == ["sh"])
    process.send_signal(number)
    assert ended(process) == 128 + number
    assert database.holders() == []


@BY_NAME
def test_a_signal_while_waiting(
    localgcl: Program, database: Limiter, path: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """It leaves the queue and ends with 128 + N, silently; the command is not run."""
    lease = database.acquire("a")
    process = localgcl.start("run", "a", "touch", "ran", cwd=tmp_path)
    until(waiting(database))
    process.send_signal(number)
    assert ended(process) == 128 + number
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert database.waiters() == []
    assert len(tables(database)["waiters"]) == 0
    lease.release()
    assert is_clean(database, path)
    assert not (tmp_path / "ran").exists()


def test_no_signal_is_lost_while_the_command_starts(
    localgcl: Program, database: Limiter, path: Path
) -> None:
    """Whenever SIGTERM comes, before, in the midst of or after the start, it ends the command."""
    for delay in range(0, 120, 3):
        process = localgcl.start("run", "a", "sleep", "60")
        time.sleep(delay / 1000)
        process.send_signal(signal.SIGTERM)
        # The interpreter itself may still be starting, and dies as any program would.
        assert ended(process) in (128 + signal.SIGTERM, -signal.SIGTERM)
        assert database.holders() == []
    assert is_clean(database, path)


def test_a_storm_of_signals(localgcl: Program, database: Limiter, path: Path) -> None:
    """Many signals, as of somebody impatient, leave no more behind than one."""
    for _ in range(5):
        lease = database.acquire("a")
        process = localgcl.start("run", "a", "sleep", "60")
        until(waiting(database))
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
        assert process.returncode == 128 + signal.SIGINT
        assert database.waiters() == []
        lease.release()
    assert is_clean(database, path)


def test_a_stopped_command(localgcl: Program, database: Limiter) -> None:
    """A command that was stopped keeps its slot, and gets what was sent once it continues."""
    process = localgcl.start("run", "a", "--", sys.executable, "-c", REPORTER, "1")
    assert line(process) == "ready"
    until(lambda: len(database.holders()) == 1 and database.holders()[0].pid != process.pid)
    command = holder(database)
    os.kill(command, signal.SIGSTOP)
    until(lambda: "State:\tT" in Path(f"/proc/{command}/status").read_text())
    process.send_signal(signal.SIGTERM)
    assert localgcl("run", "--timeout", "0.2", "a", "true").returncode == 75
    assert process.poll() is None
    os.kill(command, signal.SIGCONT)
    assert line(process) == "SIGTERM"
    assert ended(process) == 9


def test_the_command_finds_signals_as_they_were(localgcl: Program, database: Limiter) -> None:
    """What was ignored or blocked for `run` is so for the command, and nothing else is."""
    show = ["cat", "/proc/self/status"]
    bare = masks(subprocess.run(show, capture_output=True, text=True, check=True).stdout)
    usual = masks(localgcl("run", "a", *show).stdout)
    assert (usual["Blk"], usual["Ign"]) == (bare["Blk"], bare["Ign"])

    def as_nohup_has_it() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])

    given = masks(localgcl("run", "a", *show, preexec_fn=as_nohup_has_it).stdout)
    assert given["Ign"] == bare["Ign"] | bit(signal.SIGHUP)
    assert given["Blk"] == bare["Blk"] | bit(signal.SIGUSR1)


def test_what_nohup_ignores_stays_ignored(localgcl: Program, database: Limiter) -> None:
    """Under nohup SIGHUP ends neither the command nor `run`, waiting or not."""
    lease = database.acquire("a")
    nohup = ["nohup", *localgcl.words, "run", "a", "cat"]
    process = subprocess.Popen(
        nohup, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    localgcl.started.append(process)
    until(waiting(database))
    process.send_signal(signal.SIGHUP)
    lease.release()
    until(lambda: len(database.holders()) == 1 and database.holders()[0].pid != process.pid)
    process.send_signal(signal.SIGHUP)
    os.kill(holder(database), signal.SIGHUP)
    assert process.communicate("still here\n", timeout=DEADLINE_SECONDS)[0] == "still here\n"
    assert process.returncode == 0


def test_a_parent_that_ignores_the_end_of_its_children(
    localgcl: Program, database: Limiter
) -> None:
    """With SIGCHLD ignored for `run`, the status of the command is not lost."""

    def ignore() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    done = localgcl("run", "a", "sh", "-c", "sleep 0.01 & wait $!; exit 7", preexec_fn=ignore)
    assert done.returncode == 7


def test_the_environment_is_as_it_was_given(localgcl: Program, database: Limiter) -> None:
    """Python's own variable for the locale of cron does not reach the command."""
    given = {"PATH": os.environ["PATH"], "HOME": "/nowhere"}
    shown = localgcl("run", "a", "env", env=given).stdout
    reached = dict(one.split("=", 1) for one in shown.splitlines())
    told = [f"LOCALGCL_{name}" for name in ("DB", "LEASE", "SLOT", "SLOTS")]
    assert [name for name in told if reached.pop(name, None) is None] == []
    assert reached == given
    for value in ("C", "C.UTF-8"):
        shown = localgcl("run", "a", "env", env={**given, "LC_CTYPE": value}).stdout
        assert f"LC_CTYPE={value}" in shown.splitlines()
