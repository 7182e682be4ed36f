"""`run` and `rate-limit` as they are typed, and what they need of the rooms below."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from localgcl import Limiter
from localgcl._admin import creation
from localgcl._base import threads
from localgcl._drivers import blocking
from localgcl._engine import acquire, numbers, owners
from localgcl._engine import request as _outcomes
from localgcl._liveness import identity
from localgcl._run import child
from localgcl._storage import gate
from localgcl.errors import ConcurrencySlotAcquisitionError, DatabaseError
from tests.helpers.database import tables
from tests.helpers.played import Ask, Clock, Process, Processes
from tests.helpers.programs import Invoke

# In this process


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """See that a command leaves this process's signals as it found them."""
    numbers = [one for one in signal.Signals if one not in (signal.SIGKILL, signal.SIGSTOP)]
    before = [signal.getsignal(one) for one in numbers]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    assert [signal.getsignal(one) for one in numbers] == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask


def failed(result: Result) -> str:
    """Check that a command failed with one line, and return that."""
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_run_by_click(invoke: Invoke, limiter: Limiter) -> None:
    """The way through click does the same."""
    limiter.create("a", 1)
    assert invoke("run", "-vl1", "a", "sh", "-c", "exit 7").exit_code == 7
    assert limiter.holders() == []
    assert "'b'" in failed(invoke("run", "-n", "b", "a", "true"))


@pytest.mark.usefixtures("clock")
def test_rate_limit(invoke: Invoke, limiter: Limiter, clock: Clock) -> None:
    """It returns when the rate allows: at once, or at the exact moment."""
    limiter.create("api", 2, slot_decay_per_second=0.5)
    began = clock.now
    for expected in (0.0, 0.0, 2.0, 4.0):
        assert invoke("rate-limit", "api").exit_code == 0
        assert clock.now - began == pytest.approx(expected)
    assert invoke("rate-limit", "--occupy", "2", "api").exit_code == 0
    assert clock.now - began == pytest.approx(8.0)


@pytest.mark.parametrize("options", [["--no-wait"], ["--timeout", "0"], ["--timeout", "1.5"]])
def test_no_slot_by_rate(
    invoke: Invoke, limiter: Limiter, clock: Clock, options: list[str]
) -> None:
    """75, silently, and nobody is left in the queue."""
    limiter.create("api", 1, slot_decay_per_second=0.5, active_slots=1)
    result = invoke("rate-limit", *options, "api")
    assert (result.exit_code, result.output) == (75, "")
    assert limiter.waiters() == []
    clock.advance(2.0)
    assert invoke("rate-limit", "--no-wait", "api").exit_code == 0


def test_rate_limit_errors(invoke: Invoke, limiter: Limiter) -> None:
    """A missing limit, one without decay, and more than the limit are errors."""
    limiter.create("a", 1)
    limiter.create("api", 1, slot_decay_per_second=1)
    assert "'missing'" in failed(invoke("rate-limit", "missing"))
    assert "decay" in failed(invoke("rate-limit", "a"))
    assert "2 slot(s)" in failed(invoke("rate-limit", "--occupy", "2", "api"))
    assert "2 slot(s)" in failed(invoke("run", "--occupy", "2", "a", "true"))


def test_an_inactive_limit_is_passed_by(invoke: Invoke, limiter: Limiter) -> None:
    """A disabled limit holds up nobody."""
    limiter.create("a", 0, active=False)
    assert invoke("run", "--no-wait", "a", "sh", "-c", "exit 3").exit_code == 3
    assert invoke("rate-limit", "--no-wait", "a").exit_code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_rate_limit_interrupted(
    invoke: Invoke, limiter: Limiter, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """A signal while waiting leaves the queue."""
    limiter.create("api", 1, slot_decay_per_second=0.001, active_slots=1)
    monkeypatch.setattr(blocking.Listener, "sleep", lambda *_: signal.raise_signal(number))
    assert invoke("rate-limit", "api").exit_code == 128 + number
    assert tables(limiter)["waiters"] == []
    assert limiter.read("api").active_slots == 1


def test_a_thread_keeps_no_signal_from_it(invoke: Invoke, limiter: Limiter) -> None:
    """The end of the command is noticed while a thread of our own is under way, too."""
    limiter.create("a", 1)
    begun, ends = threading.Event(), threading.Event()

    def take_part() -> None:
        begun.set()
        ends.wait()

    threads.start(take_part)
    begun.wait()
    try:
        assert invoke("run", "a", "true").exit_code == 0
    finally:
        ends.set()


def test_a_signal_after_the_command_has_ended(limiter: Limiter) -> None:
    """What comes too late to be passed on changes nothing any more."""
    with child.Signals() as held:
        held.hold()
        pid = child.start(["sh", "-c", "exit 5"], held.mask, None, {})
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        signal.raise_signal(signal.SIGTERM)
        assert held.attend(pid) == 5
        signal.raise_signal(signal.SIGUSR1)


def test_only_the_first_signal_interrupts() -> None:
    """What an interruption leaves is put in order without a second one."""
    with child.Signals():
        with pytest.raises(child.Interrupted) as interrupted:
            signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)
    assert interrupted.value.status == interrupted.value.code == 128 + signal.SIGHUP


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (errno.ENOENT, 127),
        (errno.EACCES, 126),
        (errno.E2BIG, 126),
        (errno.ENOTDIR, 126),
        (errno.EAGAIN, 1),
        (errno.ENOMEM, 1),
    ],
)
def test_status_of_what_cannot_be_started(number: int, status: int) -> None:
    """As shells have it, and 1 where it was not the command's fault."""
    assert child.status_of(OSError(number, os.strerror(number))) == status


def test_the_end_is_free_though_the_database_fails(
    invoke: Invoke, limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status is the command's, and a lifeline that somebody else has open counts as dead."""
    limiter.create("a", 1)
    transact = limiter._database.transact

    def fail(work: Any, **options: Any) -> Any:
        if "sign_out" in getattr(work, "__qualname__", ""):
            raise DatabaseError(limiter._database.path, "the disk is full")
        return transact(work, **options)

    with monkeypatch.context() as patch:
        patch.setattr(limiter._database, "transact", fail)
        assert invoke("run", "a", "sh", "-c", "exit 6").exit_code == 6
    assert len(tables(limiter)["leases"]) == 1
    other = Process(limiter._database)
    assert other.ask("a").granted
    other.die()


def test_the_shown_pid_is_not_worth_a_command(
    invoke: Invoke, limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the pid cannot be written, the command runs all the same."""
    limiter.create("a", 1)

    def fail(tx: object, pid: int) -> None:
        raise gate.GateTimeoutError

    monkeypatch.setattr(owners, "show_pid", fail)
    assert invoke("run", "a", "sh", "-c", "exit 4").exit_code == 4


# What the rooms below have for it


def queued(limiter: Limiter, processes: Processes, *names: str, number: int) -> list[Ask]:
    """Have so many played processes wait."""
    return [processes().ask(*names) for _ in range(number)]


def crowded(limiter: Limiter, names: list[str], max_waiting: int, *, holds: bool = True) -> bool:
    """Whether a request over these limits is refused because so many wait."""
    request = _outcomes.Request(
        tuple(names),
        1,
        holds=holds,
        strict=True,
        once=False,
        holder=None,
        max_waiting=max_waiting,
    )
    process = Process(limiter._database)
    ask = Ask(process, request)
    ask._conclude(process.do(lambda tx: acquire.acquire(tx, request, ask.listener)))
    refused = isinstance(ask.outcome, _outcomes.NotGranted)
    if not refused:
        ask.abandon()
    process.sign_out()
    process.die()
    return refused


def test_so_many_wait(limiter: Limiter, processes: Processes) -> None:
    """It counts who waits at any of its limits, and does not join them."""
    for name in ("a", "b", "free"):
        limiter.create(name, 1, active_slots=0 if name == "free" else 1)
    queued(limiter, processes, "a", number=2)
    queued(limiter, processes, "a", "b", number=1)
    before = len(tables(limiter)["waiters"])
    for names, expected in ((["a"], 3), (["b"], 1), (["a", "b"], 3), (["free", "b"], 1)):
        for most in range(5):
            assert crowded(limiter, names, most) is (most <= expected), (names, most)
    assert not crowded(limiter, ["free"], 0)
    assert len(tables(limiter)["waiters"]) == before


def test_the_dead_do_not_count(limiter: Limiter, processes: Processes) -> None:
    """However deep they stand in the queue."""
    limiter.create("a", 1, active_slots=1)
    waiting = queued(limiter, processes, "a", number=20)
    assert crowded(limiter, ["a"], 20)
    for ask in waiting[12:]:
        ask.process.die()
    assert crowded(limiter, ["a"], 12)
    assert not crowded(limiter, ["a"], 13)


def test_a_dead_holder_leaves_room_for_who_does_not_wait(
    limiter: Limiter, processes: Processes
) -> None:
    """What looks full is looked at again without the dead, before it is refused."""
    limiter.create("a", 1)
    dead = processes()
    assert dead.ask("a").granted
    dead.die()
    assert not crowded(limiter, ["a"], 1)


def test_an_inactive_limit_has_no_crowd(limiter: Limiter, processes: Processes) -> None:
    """Who stands in the queue of a limit that is passed by is not counted."""
    limiter.create("a", 1, active_slots=1)
    limiter.create("b", 1, active_slots=1)
    queued(limiter, processes, "a", "b", number=2)
    limiter.update("b", active=False)
    limiter.create("c", 1, active_slots=1)
    assert crowded(limiter, ["a", "c"], 2)
    assert not crowded(limiter, ["b", "c"], 1)


def test_by_rate_it_counts_too(limiter: Limiter, processes: Processes) -> None:
    """Whoever would leave no lease has not signed in, and is refused in the same way."""
    limiter.create("api", 1, slot_decay_per_second=0.001, active_slots=1)
    processes().ask("api", holds=False)
    assert crowded(limiter, ["api"], 1, holds=False)
    assert not crowded(limiter, ["api"], 2, holds=False)


def test_a_crowd_is_counted(limiter: Limiter, processes: Processes) -> None:
    """Giving up because so many wait is a time-out of each of its limits, once."""
    for name in ("a", "b"):
        limiter.create(name, 1, active_slots=1)
    queued(limiter, processes, "a", number=1)
    assert crowded(limiter, ["a", "b"], 1)
    read = limiter._database.transact
    assert read(lambda tx: tx.execute("SELECT timeouts FROM limits").fetchall()) == [(1,), (1,)]


def test_the_refusal_says_so() -> None:
    """Its message is about waiting, and not about retries."""
    error = ConcurrencySlotAcquisitionError(("a",), 1, 0.0, "crowded")
    assert "--max-waiting" in str(error)


def test_what_an_owner_shows(limiter: Limiter) -> None:
    """The command that it is there for, and then that one's pid."""
    limiter.create("a", 1)
    limiter._database.transact(lambda tx: owners.show_pid(tx, 1))  # no owner yet, and no harm
    identity.show_as(["backup.sh", "--full", "half \udc80 a letter"])
    try:
        lease = limiter.acquire("a")
    finally:
        identity.show_as(())
    limiter._database.transact(lambda tx: owners.show_pid(tx, 4711))
    (holder,) = limiter.holders()
    assert (holder.command, holder.pid) == ("backup.sh --full half ? a letter", 4711)
    lease.release()


def test_only_the_missing_are_created(limiter: Limiter) -> None:
    """What is there stays as it is, whoever made it in between."""
    made = limiter.create("a", 7, active=False)
    limiter._database.transact(lambda tx: creation.insert_missing(tx, ["a", "b"], 2))
    first, second = limiter.read_all()
    assert first == made
    assert (second.limit, second.active, second.slot_decay_per_second) == (2, True, 0.0)
    assert second.id != made.id


# As a program


def loaded_by(*words: str) -> set[str]:
    """Return the modules that the program has loaded when it ends."""
    code = (
        "import os, sys\n"
        "leave = os._exit\n"
        "def report(status):\n"
        "    print(*sys.modules, file=sys.stderr, flush=True)\n"
        "    leave(status)\n"
        "os._exit = report\n"
        "from localgcl.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "words", [["run", "a", "true"], ["run", "-l", "2", "new", "true"], ["rate-limit", "api"]]
)
def test_it_loads_little(limiter: Limiter, path: str, words: list[str]) -> None:
    """What it imports decides the start of every cron job."""
    limiter.create("a", 1)
    limiter.create("api", 1, slot_decay_per_second=1000)
    loaded = loaded_by("--db", path, *words)
    assert "sqlite3" in loaded
    heavy = {"click", "pydantic", "filelock", "aiosqlite", "asyncio", "subprocess", "logging"}
    assert not heavy & loaded


def program(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    command = [sys.executable, "-m", "localgcl", *words]
    return subprocess.run(command, capture_output=True, text=True, **options)


def test_errors_of_the_quick_way(tmp_path: Path) -> None:
    """One line on standard error and status 1, never a traceback; nothing where it is closed."""
    noise = tmp_path / "noise.db"
    noise.write_bytes(b"no database" * 1000)
    done = program("--db", str(noise), "run", "a", "true")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    closed = subprocess.run(
        ["sh", "-c", f'exec "{sys.executable}" -m localgcl --db "{noise}" run a true 2>&-'],
        capture_output=True,
        text=True,
    )
    assert (closed.returncode, closed.stdout, closed.stderr) == (1, "", "")


def test_interrupted_while_it_is_loaded() -> None:
    """Ctrl-C ends it as it does later on, and shows no traceback."""
    code = """
import builtins
from localgcl.__main__ import main

load = builtins.__import__

def interrupted(name, *arguments):
    if name == "localgcl._run.arguments":
        raise KeyboardInterrupt
    return load(name, *arguments)

builtins.__import__ = interrupted
main()
"""
    done = subprocess.run([sys.executable, "-c", code, "ls"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "", "")


# What the command is told

TELL = 'for one in DB LEASE SLOT SLOTS; do eval echo "\\${LOCALGCL_$one-none}"; done >"$0"'


def told(invoke: Invoke, folder: Path, *words: str) -> list[str]:
    """Run a command that writes down what it is told; return database, lease, slot and slots."""
    file = folder / "told"
    result = invoke("run", *words, "sh", "-c", TELL, str(file))
    assert (result.exit_code, result.output) == (0, "")
    return file.read_text(encoding="utf-8").splitlines()


def numbered(process: Process, name: str) -> list[int]:
    """Have another process take a slot and ask for its number."""
    ask = process.ask(name)
    granted = ask.request.granted
    assert granted is not None
    owner, (key,) = granted.owner, granted.taken
    assert owner is not None
    return process.do(partial(numbers.assign, key=key, owner=owner, lease=ask.request.id))


def test_what_the_command_is_told(
    invoke: Invoke, limiter: Limiter, path: str, tmp_path: Path, processes: Processes
) -> None:
    """The database, its lease, and the numbers of its slots of the first limit."""
    limiter.create("a", 4)
    limiter.create("b", 4)
    database, lease, *slots = told(invoke, tmp_path, "a")
    assert (database, len(lease), slots) == (path, 32, ["0", "0"])
    assert numbered(processes(), "a") == [0]
    assert told(invoke, tmp_path, "--occupy", "2", "a")[2:] == ["1", "1,2"]
    assert told(invoke, tmp_path, "--also", "a", "b")[2:] == ["0", "0"]
    assert told(invoke, tmp_path, "--take", "b", "3", "a")[2:] == ["1", "1"]
    assert told(invoke, tmp_path, "--take", "a", "3", "b")[2:] == ["0", "0"]
    assert [one.limit for one in limiter.holders()] == ["a"]


def test_what_the_command_of_a_rate_is_told(
    invoke: Invoke, limiter: Limiter, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an outer `run` has said is not true of it."""
    for name in ("LEASE", "SLOT", "SLOTS"):
        monkeypatch.setenv(f"LOCALGCL_{name}", "7")
    monkeypatch.setenv("LOCALGCL_DB", "other.db")
    limiter.create("api", 5, rate="1000/s")
    limiter.create("off", 1, active=False)
    assert told(invoke, tmp_path, "--rate-limit", "api") == [path, "none", "none", "none"]
    database, lease, *slots = told(invoke, tmp_path, "off")
    assert (database, len(lease), slots) == (path, 32, ["none", "none"])


def test_slots_of_a_key(
    invoke: Invoke, limiter: Limiter, tmp_path: Path, processes: Processes
) -> None:
    """A key has slots of its own, and no slots are no limit where it is missing."""
    limiter.create("customer:*", 2)
    assert numbered(processes(), "customer:a/b") == [0]
    assert told(invoke, tmp_path, "customer:a/b")[2:] == ["1", "1"]
    assert told(invoke, tmp_path, "--limit", "1", "customer:c")[2:] == ["0", "0"]
    assert [one.name for one in limiter.read_all()] == ["customer:*"]


@pytest.mark.usefixtures("clock")
def test_weights(invoke: Invoke, limiter: Limiter) -> None:
    """Each limit gives as many slots as are asked of it, all at one moment."""
    limiter.create("requests", 10, rate="1/min")
    limiter.create("tokens", 5000, rate="1/min")
    words = ["rate-limit", "--take", "tokens", "1200", "-n", "more", "--occupy", "2", "requests"]
    limiter.create("more", 2, rate="1/min")
    assert invoke(*words).exit_code == 0
    used = {one.name: one.active_slots for one in limiter.read_all()}
    assert used == {"requests": 2, "tokens": 1200, "more": 2}
    assert invoke(*words, "--no-wait").exit_code == 75
    assert {one.name: one.active_slots for one in limiter.read_all()} == used
    limiter.create("ram", 8)
    limiter.create("jobs", 2)
    assert invoke("run", "--take", "ram", "4", "jobs", "sh", "-c", "exit 4").exit_code == 4
    assert "'ram'" in failed(invoke("run", "--take", "ram", "9", "jobs", "true"))
    assert "'new'" in failed(invoke("run", "-l", "8", "--take", "new", "9", "jobs", "true"))
    assert "new" not in [one.name for one in limiter.read_all()]


def test_verbose_rate_limit(invoke: Invoke, limiter: Limiter) -> None:
    """It says what it has got, if it is asked to."""
    limiter.create("api", 1, rate="1000/s")
    result = invoke("rate-limit", "-v", "api")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "got 'api'" in result.stderr
