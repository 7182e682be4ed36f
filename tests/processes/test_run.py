"""`localgcl run` as cron and shells see it: real commands, real signals, and what is left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from localgcl import Limiter
from tests.helpers.programs import (
    Program,
    ended,
    is_clean,
    is_running,
    line,
    waiting,
)
from tests.helpers.waiting import DEADLINE_SECONDS, until

pytestmark = pytest.mark.processes


# Streams and status


def test_streams_are_the_commands_own(localgcl: Program, database: Limiter) -> None:
    """The command reads and writes what `run` was given, and `run` itself says nothing."""
    done = localgcl("run", "a", "--", "sh", "-c", "cat; echo error >&2", input="through\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "through\n", "error\n")
    silent = localgcl("run", "a", "true")
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, "", "")


@pytest.mark.parametrize("status", [0, 1, 2, 75, 126, 127, 255])
def test_the_status_is_the_commands_own(
    localgcl: Program, database: Limiter, path: Path, status: int
) -> None:
    """Whatever the command ends with is passed on, and nothing is left."""
    assert localgcl("run", "a", "sh", "-c", f"exit {status}").returncode == status
    assert is_clean(database, path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGPIPE])
def test_a_command_ended_by_a_signal(
    localgcl: Program, database: Limiter, path: Path, number: int
) -> None:
    """128 + N where signal N ended it, and the slot is free."""
    done = localgcl("run", "a", "sh", "-c", f"kill -{number} $$")
    assert done.returncode == 128 + number
    assert done.stderr == ""
    assert is_clean(database, path)


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("no-such-command", 127),
        ("", 127),
        ("./no-such-file", 127),
        ("./plain", 126),
        (".", 126),
        ("./plain/below", 126),
        ("plain", 126),
        ("./lost-interpreter", 127),
    ],
)
def test_what_cannot_be_run(
    localgcl: Program, database: Limiter, path: Path, tmp_path: Path, command: str, status: int
) -> None:
    """126 and 127 as shells have them, one line that says why, and no slot left taken."""
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    (tmp_path / "lost-interpreter").write_text("#!/no/such/interpreter\n")
    (tmp_path / "lost-interpreter").chmod(0o755)
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:{tmp_path}"}
    done = localgcl("run", "a", "--", command, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(f"Error: cannot run {command!r}: ")
    assert done.stderr.count("\n") == 1
    assert is_clean(database, path)


def test_what_cannot_be_run_by_rate(localgcl: Program, limiter: Limiter) -> None:
    """Slots taken by rate for a command that does not exist are given back."""
    limiter.create("api", 1, slot_decay_per_second=0.001)
    assert localgcl("run", "--rate-limit", "api", "no-such-command").returncode == 127
    assert limiter.read("api").active_slots == 0


def test_how_a_command_is_found(localgcl: Program, database: Limiter, tmp_path: Path) -> None:
    """By PATH, in its order, past what cannot be run; a script without a first line is sh's."""
    for folder, mode in (("one", 0o644), ("two", 0o755), ("three", 0o755)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tool").write_text(f'echo {folder} "$@"\n')
        (tmp_path / folder / "tool").chmod(mode)
    search = ":".join(str(tmp_path / one) for one in ("none", "one", "two", "three"))
    environment = {**os.environ, "PATH": search}
    done = localgcl("run", "a", "tool", "--switch", "two words", env=environment)
    assert (done.returncode, done.stdout) == (0, "two --switch two words\n")
    here = localgcl("run", "a", "./tool", cwd=tmp_path / "three")
    assert (here.returncode, here.stdout) == (0, "three\n")
    empty = localgcl("run", "a", "tool", cwd=tmp_path / "two", env={**os.environ, "PATH": ""})
    assert (empty.returncode, empty.stdout) == (0, "two\n")


# Who holds, and for how long


def test_the_slot_is_held_while_the_command_lives(
    localgcl: Program, database: Limiter, path: Path
) -> None:
    """`ps` shows the command's line, its pid and the text of --holder; then all is free."""
    process = localgcl.start("run", "--holder", "nightly", "a", "--", "sh", "-c", "echo $$; cat")
    pid = int(line(process))
    until(lambda: [one.pid for one in database.holders("a")] == [pid])
    (holder,) = database.holders()
    assert (holder.limit, holder.slots, holder.holder) == ("a", 1, "nightly")
    assert holder.command == "sh -c echo $$; cat"
    assert pid != process.pid
    assert process.stdin is not None
    process.stdin.close()
    assert ended(process) == 0
    assert is_clean(database, path)


def test_who_waits(localgcl: Program, database: Limiter, tmp_path: Path) -> None:
    """While it waits, `ps` shows the wrapper's pid and the command line to be run."""
    lease = database.acquire("a")
    process = localgcl.start("run", "a", "touch", "ran", cwd=tmp_path)
    until(waiting(database))
    (waiter,) = database.waiters()
    assert (waiter.pid, waiter.command, waiter.holder) == (process.pid, "touch ran", None)
    assert not (tmp_path / "ran").exists()
    lease.release()
    assert ended(process) == 0
    assert (tmp_path / "ran").exists()


def test_several_limits_and_slots(localgcl: Program, limiter: Limiter) -> None:
    """--also takes further limits at the same moment, --occupy so many slots of each."""
    for name in ("a", "b", "c"):
        limiter.create(name, 5)
    process = localgcl.start("run", "-n", "b", "--also", "c", "--occupy", "3", "a", "cat")
    until(lambda: len(limiter.holders()) == 3)
    assert [(one.limit, one.slots) for one in limiter.holders()] == [("a", 3), ("b", 3), ("c", 3)]
    assert len({one.lease for one in limiter.holders()}) == 1
    process.kill()


def test_the_slot_is_free_whatever_the_command_left_running(
    localgcl: Program, database: Limiter, path: Path
) -> None:
    """The end of the command counts, and not that of what it started."""
    left = localgcl("run", "a", "sh", "-c", "sleep 60 >&- 2>&- & echo $!")
    pid = int(left.stdout)
    try:
        assert is_running(pid)
        assert is_clean(database, path)
        database.acquire("a", timeout_seconds=0).release()
    finally:
        os.kill(pid, signal.SIGKILL)


def test_killed_with_sigkill(localgcl: Program, database: Limiter) -> None:
    """The command goes on and keeps the slot until it, and then what it started, have ended."""
    script = "sleep 60 & echo $!; echo $$; exec sleep 60"
    process = localgcl.start("run", "a", "sh", "-c", script)
    started, command = int(line(process)), int(line(process))
    try:
        until(lambda: [one.pid for one in database.holders("a")] == [command])
        process.kill()
        ended(process)
        waiter = localgcl.start("run", "a", "true")
        until(waiting(database))
        assert [one.pid for one in database.holders("a")] == [command]
        os.kill(command, signal.SIGKILL)
        until(lambda: not is_running(command))
        assert localgcl("run", "--no-wait", "a", "true").returncode == 75
        assert [one.pid for one in database.holders("a")] == [command]
        assert waiter.poll() is None
    finally:
        os.kill(started, signal.SIGKILL)
    assert ended(waiter) == 0
    assert database.holders() == []


def test_killed_with_sigkill_while_waiting(
    localgcl: Program, database: Limiter, path: Path, tmp_path: Path
) -> None:
    """Its place in the queue is nobody's, and its command is not run."""
    lease = database.acquire("a")
    process = localgcl.start("run", "a", "touch", "ran", cwd=tmp_path)
    until(waiting(database))
    process.kill()
    ended(process)
    lease.release()
    assert database.waiters() == []
    assert is_clean(database, path)
    assert not (tmp_path / "ran").exists()


def test_only_the_lifeline_is_inherited(localgcl: Program, database: Limiter, path: Path) -> None:
    """Of all that is open, the command gets the streams and the read end of one FIFO."""
    shown = localgcl("run", "a", "ls", "-l", "/proc/self/fd").stdout
    opened = re.findall(r" (\d+) -> (\S+)", shown)
    beyond = [target for number, target in opened if int(number) > 2 and "/proc/" not in target]
    assert len(beyond) == 1
    assert re.fullmatch(rf"{re.escape(str(path))}-run/[0-9a-f]{{32}}( \(deleted\))?", beyond[0])
    by_hand = "exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; echo $$; exec sleep 60"
    process = localgcl.start("run", "a", "sh", "-c", by_hand)
    command = int(line(process))
    try:
        process.kill()
        ended(process)
        assert localgcl("run", "--no-wait", "a", "true").returncode == 75
    finally:
        os.kill(command, signal.SIGKILL)


# Giving up


@pytest.mark.parametrize(
    "options",
    [
        ["--no-wait"],
        ["--timeout", "0"],
        ["--timeout", "0.05"],
        ["--max-waiting", "0"],
        ["--max-waiting=0", "--timeout", "60"],
    ],
    ids=" ".join,
)
def test_no_slot_in_time(
    localgcl: Program, database: Limiter, path: Path, tmp_path: Path, options: list[str]
) -> None:
    """75, or what -E says, without a word and without the command."""
    lease = database.acquire("a")
    done = localgcl("run", *options, "a", "touch", "ran", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (75, "", "")
    for switch in ("-E", "--conflict-exit-code"):
        assert localgcl("run", switch, "0", *options, "a", "true").returncode == 0
    assert database.waiters() == []
    lease.release()
    assert is_clean(database, path)
    assert not (tmp_path / "ran").exists()


def test_max_waiting(localgcl: Program, database: Limiter) -> None:
    """With so many in the queue it gives up at once; with fewer it waits; the dead do not count."""
    lease = database.acquire("a")
    first = localgcl.start("run", "--max-waiting", "2", "a", "true")
    until(waiting(database, 1))
    second = localgcl.start("run", "--max-waiting", "2", "a", "true")
    until(waiting(database, 2))
    assert localgcl("run", "--max-waiting", "2", "a", "true").returncode == 75
    assert localgcl("run", "--max-waiting", "1", "-E", "3", "a", "true").returncode == 3
    second.kill()
    ended(second)
    third = localgcl.start("run", "--max-waiting", "2", "a", "true")
    until(lambda: third.pid in [one.pid for one in database.waiters()])
    lease.release()
    assert (ended(first), ended(third)) == (0, 0)


def test_max_waiting_lets_a_free_slot_be_taken(localgcl: Program, database: Limiter) -> None:
    """It counts only where it would have to wait."""
    assert localgcl("run", "--max-waiting", "0", "a", "true").returncode == 0


def test_cron_jobs_that_start_together_do_not_pile_up(
    localgcl: Program, database: Limiter, tmp_path: Path
) -> None:
    """Of many at one moment, one runs, so many wait as may, and all others give up."""
    lease = database.acquire("a")
    crowd = [localgcl.start("run", "--max-waiting", "3", "a", "true") for _ in range(12)]
    until(lambda: sum(one.poll() is not None for one in crowd) == 9)
    assert [one.returncode for one in crowd if one.returncode is not None] == [75] * 9
    assert len(database.waiters("a")) == 3
    lease.release()
    assert sorted(ended(one) for one in crowd) == [0] * 3 + [75] * 9


def test_verbose(localgcl: Program, database: Limiter) -> None:
    """-v says on standard error what is waited for, who holds it, and what became of it."""
    lease = database.acquire("a", holder="the\nholder")
    process = localgcl.start("run", "-v", "a", "true")
    until(waiting(database))
    assert process.stderr is not None
    assert "'a'" in process.stderr.readline()
    held = process.stderr.readline()
    assert str(os.getpid()) in held
    assert "the holder" in held
    lease.release()
    assert ended(process) == 0
    assert "got 'a'" in process.stderr.read()
    lease = database.acquire("a")
    done = localgcl("run", "--verbose", "--no-wait", "a", "true")
    assert (done.returncode, done.stdout) == (75, "")
    assert done.stderr.startswith("localgcl: ")
    lease.release()


# Limits that are not there


def test_a_missing_limit(localgcl: Program, database: Limiter, tmp_path: Path) -> None:
    """A misspelt name is an error that names it, and the command does not run unlimited."""
    done = localgcl("run", "--also", "wrong", "--also", "worse", "a", "touch", "ran", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"Error: .*'wrong', 'worse'.*\n", done.stderr)
    assert not (tmp_path / "ran").exists()
    assert database.holders() == []


def test_missing_limits_are_created(localgcl: Program, path: Path, limiter: Limiter) -> None:
    """--limit creates what is missing, on a database that is missing too, and changes nothing."""
    assert not path.exists()
    assert localgcl("run", "--limit", "3", "a", "true").returncode == 0
    assert localgcl("run", "-l", "5", "--also", "b", "a", "true").returncode == 0
    assert [(one.name, one.limit, one.slot_decay_per_second) for one in limiter.read_all()] == [
        ("a", 3, 0.0),
        ("b", 5, 0.0),
    ]
    refused = localgcl("run", "-l", "1", "--occupy", "2", "c", "true")
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert [one.name for one in limiter.read_all()] == ["a", "b"]


def test_many_create_the_limit_at_once(localgcl: Program, limiter: Limiter, path: Path) -> None:
    """However many find it missing, there is one, and its number holds from the beginning."""
    crowd = [
        localgcl.start(
            "run", "-l", "1", "a", "--", "sh", "-c", "mkdir held && rmdir held", cwd=path.parent
        )
        for _ in range(12)
    ]
    assert [ended(one) for one in crowd] == [0] * 12
    assert [(one.name, one.limit) for one in limiter.read_all()] == [("a", 1)]
    assert is_clean(limiter, path)


# By rate


def test_by_rate_nothing_is_held(localgcl: Program, limiter: Limiter, path: Path) -> None:
    """The slot is taken at the rate, and the command holds nothing while it runs."""
    limiter.create("api", 2, slot_decay_per_second=0.001)
    process = localgcl.start("run", "--rate-limit", "api", "--", "sh", "-c", "echo ready; cat")
    assert line(process) == "ready"
    assert limiter.read("api").active_slots == 1
    until(lambda: is_clean(limiter, path))
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert ended(process) == 128 + signal.SIGTERM
    assert localgcl("run", "--rate-limit", "api", "true").returncode == 0
    assert localgcl("run", "--rate-limit", "--no-wait", "api", "true").returncode == 75
    waiter = localgcl.start("run", "--rate-limit", "api", "true")
    until(lambda: [one.pid for one in limiter.waiters("api")] == [waiter.pid])
    waiter.send_signal(signal.SIGTERM)
    assert ended(waiter) == 128 + signal.SIGTERM
    assert is_clean(limiter, path)


def test_by_rate_at_a_limit_without_decay(localgcl: Program, database: Limiter) -> None:
    """That is an error, and not a command without a limit."""
    done = localgcl("run", "--rate-limit", "a", "true")
    assert done.returncode == 1
    assert re.fullmatch(r"Error: .*decay.*\n", done.stderr)


def test_rate_limit_in_a_shell(localgcl: Program, limiter: Limiter, path: Path) -> None:
    """Eight processes at a time under xargs keep to the rate together."""
    slots, rate, operations = 2, 20.0, 26
    limiter.create("api", slots, slot_decay_per_second=rate)
    # What is read after a grant is never too early, so that no window can seem too full.
    operation = f"{' '.join(localgcl.words)} rate-limit api && cut -d' ' -f1 /proc/uptime"
    began = float(Path("/proc/uptime").read_text().split()[0])
    done = subprocess.run(
        ["xargs", "-P", "8", "-n", "1", "sh", "-c", operation],
        input="\n".join(map(str, range(operations))),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, "")
    moments = sorted(float(one) for one in done.stdout.split())
    assert len(moments) == operations
    for count, moment in enumerate(moments, 1):
        assert count <= slots + rate * (moment - began + 0.02), "more than the rate allows"
    assert is_clean(limiter, path)


# Crowds


def test_two_hundred_at_once(localgcl: Program, limiter: Limiter, path: Path) -> None:
    """Never more than four of two hundred, all of them done, and nothing left behind."""
    limiter.create("a", 4)
    log = path.parent / "log"
    script = f"echo begin >> {log}; sleep 0.02; echo end >> {log}"
    crowd = [localgcl.start("run", "a", "sh", "-c", script) for _ in range(200)]
    assert {one.wait(4 * DEADLINE_SECONDS) for one in crowd} == {0}
    for process in crowd:
        assert process.stderr is not None
        assert process.stderr.read() == ""
    running, most = 0, 0
    for entry in log.read_text().splitlines():
        running += 1 if entry == "begin" else -1
        most = max(most, running)
    assert (running, log.read_text().count("begin")) == (0, 200)
    assert 1 < most <= 4
    assert is_clean(limiter, path)


def test_in_order(localgcl: Program, database: Limiter, tmp_path: Path) -> None:
    """Commands run in the order in which they came."""
    lease = database.acquire("a")
    crowd = []
    for number in range(8):
        crowd.append(localgcl.start("run", "a", "sh", "-c", f"echo {number} >> {tmp_path}/log"))
        until(waiting(database, number + 1))
    lease.release()
    assert [ended(one) for one in crowd] == [0] * 8
    assert (tmp_path / "log").read_text().split() == [str(number) for number in range(8)]
