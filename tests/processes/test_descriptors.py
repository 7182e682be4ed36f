"""Programs that close descriptors they did not open, fork in C, or become another program."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localgcl import AcquireConcurrencySlotTimeoutError, DatabaseError, Limiter
from tests.helpers.needs import takes_root
from tests.helpers.waiting import DEADLINE_SECONDS, until

pytestmark = pytest.mark.processes

# What every program begins with: it says what it is told to by lines of JSON.
_BEGINNING = """
import asyncio, ctypes, json, os, sys, threading, time
from localgcl import AsyncLimiter, Limiter
path = sys.argv[1]
limiter = Limiter(path)

def say(what=None):
    os.write(1, json.dumps(what).encode() + b"\\n")

def wait():
    os.read(0, 1)

def close_all():
    os.closerange(3, 1024)

def use_their_numbers(folder):
    files = []
    while len(files) < 20:
        name = f"{folder}/theirs{len(files)}"
        files.append(os.open(name, os.O_RDWR | os.O_CREAT))
        os.write(files[-1], name.encode())
    return files
"""


class Program:
    """A program that is run in a process of its own."""

    def __init__(self, path: Path, code: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _BEGINNING + textwrap.dedent(code), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def answer(self) -> Any:
        """Return what it says next."""
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], DEADLINE_SECONDS)[0], "no answer"
        return json.loads(self.process.stdout.readline())

    def go_on(self) -> None:
        """Have it go on after it waits."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")

    def end(self) -> int:
        """Return its status."""
        return self.process.wait(DEADLINE_SECONDS)

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait(DEADLINE_SECONDS)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


Run = Callable[[str], Program]


@pytest.fixture
def run(path: Path) -> Iterator[Run]:
    """Run programs, which are ended with the test."""
    begun: list[Program] = []

    def begin(code: str) -> Program:
        begun.append(Program(path, code))
        return begun[-1]

    yield begin
    for program in begun:
        program.close()


def theirs_are_as_they_were(folder: Path) -> bool:
    """Whether the program's own files hold what it wrote."""
    files = list(folder.glob("theirs*"))
    return len(files) == 20 and all(file.read_text() == str(file) for file in files)


@pytest.mark.parametrize("numbers", ["are free", "are in use"])
def test_who_closes_its_descriptors_keeps_its_slot(
    limiter: Limiter, run: Run, tmp_path: Path, numbers: str
) -> None:
    """The slot stays, the program's files too, the next call works, and so does the release."""
    limiter.create("a", 1)
    folder = tmp_path / "theirs"
    folder.mkdir()
    program = run(
        f"""
        lease = limiter.acquire("a")
        close_all()
        files = use_their_numbers({str(folder)!r}) if {numbers == "are in use"} else []
        say()
        wait()
        limiter.create("b", 1)
        with limiter.concurrency("b", timeout_seconds=5):
            say([one.pid for one in limiter.holders()])
        lease.release()
        with limiter.concurrency("a", timeout_seconds=5):
            say(limiter.read("a").active_slots)
        """
    )
    program.answer()
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.acquire("a", timeout_seconds=0.3)
    assert [one.pid for one in limiter.holders("a")] == [program.process.pid]
    program.go_on()
    assert program.answer() == [program.process.pid] * 2
    assert program.answer() == 1
    assert program.end() == 0
    assert limiter.read("a").active_slots == 0
    assert theirs_are_as_they_were(folder) is (numbers == "are in use")


@pytest.mark.parametrize("how", ["closes its descriptors", "becomes another program"])
def test_its_end_frees_the_slot_all_the_same(limiter: Limiter, run: Run, how: str) -> None:
    """The kernel tells of the end of a process whose lifeline nobody reads any more."""
    limiter.create("a", 1)
    last = {
        "closes its descriptors": "close_all(); say(); time.sleep(100)",
        "becomes another program": "say(); os.execv('/bin/sleep', ['sleep', '100'])",
    }[how]
    program = run(f'lease = limiter.acquire("a"); {last}')
    program.answer()
    if how == "becomes another program":
        command = Path(f"/proc/{program.process.pid}/comm")
        until(lambda: command.read_text() == "sleep\n")
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.acquire("a", timeout_seconds=0.2)
    waits = threading.Thread(target=lambda: limiter.acquire("a").release())
    waits.start()
    until(lambda: len(limiter.waiters("a")) == 1)
    program.process.kill()
    program.end()
    waits.join(DEADLINE_SECONDS)
    assert not waits.is_alive()
    assert limiter.read("a").active_slots == 0


def test_a_program_that_goes_on_after_exec(limiter: Limiter, run: Run, path: Path) -> None:
    """What it holds from before is held to its end, and it can take more."""
    limiter.create("a", 2)
    after = f"""
import os
from localgcl import Limiter
limiter = Limiter({str(path)!r})
lease = limiter.acquire("a", timeout_seconds=5)
os.write(1, b"[]\\n")
os.read(0, 1)
"""
    program = run(
        f'lease = limiter.acquire("a"); os.execv(sys.executable, [sys.executable, "-c", {after!r}])'
    )
    program.answer()
    assert [one.pid for one in limiter.holders("a")] == [program.process.pid] * 2
    program.go_on()
    program.end()
    assert limiter.read("a").active_slots == 0


def test_a_slot_that_a_backup_has_brought_stays_too(limiter: Limiter, run: Run, path: Path) -> None:
    """Its owner is known in the file that was put in the place of the first."""
    limiter.create("a", 2)
    program = run(
        """
        limiter.acquire("a")
        say()
        wait()
        limiter.acquire("a")
        close_all()
        say()
        wait()
        """
    )
    program.answer()
    backup = path.with_name("backup")
    with (
        contextlib.closing(sqlite3.connect(path)) as source,
        contextlib.closing(sqlite3.connect(backup)) as target,
    ):
        source.backup(target)
    limiter.close()
    for suffix in ("-wal", "-shm"):
        os.unlink(f"{path}{suffix}")
    os.replace(backup, path)
    program.go_on()
    program.answer()
    assert [one.pid for one in limiter.holders("a")] == [program.process.pid] * 2


def test_who_waits_closes_its_descriptors(limiter: Limiter, run: Run) -> None:
    """It keeps its place, and is served."""
    limiter.create("a", 1)
    held = limiter.acquire("a")
    program = run(
        """
        def waits():
            with limiter.concurrency("a"):
                say("granted")
        thread = threading.Thread(target=waits)
        thread.start()
        wait()
        close_all()
        say("closed")
        thread.join()
        """
    )
    until(lambda: len(limiter.waiters("a")) == 1)
    program.go_on()
    assert program.answer() == "closed"
    held.release()
    assert program.answer() == "granted"
    assert program.end() == 0


@pytest.mark.parametrize("numbers", ["are free", "are in use", "are used by the same call"])
def test_tasks_wait_while_descriptors_are_closed(
    limiter: Limiter, run: Run, tmp_path: Path, numbers: str
) -> None:
    """They are served, others after them too, and nothing of the program's is closed or read."""
    limiter.create("a", 1)
    limiter.create("b", 1)
    held = limiter.acquire("b")
    folder = tmp_path / "theirs"
    folder.mkdir()
    program = run(
        f"""
        import gc
        folder, numbers = {str(folder)!r}, {numbers!r}
        unhandled = []

        def use(keep):
            ours = [int(one) for one in os.listdir("/proc/self/fd")
                    if int(one) > 2 and int(one) not in keep
                    and os.path.exists(f"/proc/self/fd/{{one}}")]
            if numbers != "are used by the same call":
                for one in ours:
                    try:
                        os.close(one)
                    except OSError:
                        pass  # by which they were listed
                return use_their_numbers(folder) if numbers == "are in use" else []
            for index, one in enumerate(ours):
                name = f"{{folder}}/theirs{{index}}"
                opened = os.open(name, os.O_RDWR | os.O_CREAT)
                os.dup2(opened, one)
                os.close(opened)
                os.write(one, name.encode())
            return ours

        def are_theirs(files):
            return all(
                os.path.exists(f"/proc/self/fd/{{one}}")
                and os.readlink(f"/proc/self/fd/{{one}}") == f"{{folder}}/theirs{{index}}"
                and os.pread(one, 999, 0) == f"{{folder}}/theirs{{index}}".encode()
                and os.lseek(one, 0, os.SEEK_CUR) == os.fstat(one).st_size
                for index, one in enumerate(files)
            )

        async def main():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: unhandled.append(str(context)))
            keep = {{loop._selector.fileno(), loop._ssock.fileno(), loop._csock.fileno()}}
            tasks = AsyncLimiter(path)
            lease = await tasks.acquire("a")
            waits = [asyncio.create_task(tasks.acquire(one)) for one in "aab"]
            while len(await tasks.waiters()) < 3:
                await asyncio.sleep(0)
            await asyncio.sleep(0.05)  # they have come to their sleep
            files = use(keep)
            say("closed")
            await asyncio.to_thread(wait)
            await lease.release()
            for one in waits:
                await (await asyncio.wait_for(one, 20)).release()
            before = are_theirs(files)
            await tasks.aclose()
            return before, files

        before, files = asyncio.run(main())
        gc.collect()
        say([before, are_theirs(files), unhandled])
        """
    )
    assert program.answer() == "closed"
    held.release()
    program.go_on()
    assert program.answer() == [True, True, []]
    assert program.end() == 0
    assert [limiter.read(one).active_slots for one in "ab"] == [0, 0]


def test_each_descriptor_by_itself(limiter: Limiter, run: Run, tmp_path: Path) -> None:
    """A library that closes a number twice hits upon any one of them."""
    limiter.create("a", 1)
    program = run(
        f"""
        folder = {str(tmp_path)!r}
        limiter.acquire("a").release()
        for number in range(3, 14):
            lease = limiter.acquire("a", timeout_seconds=5)
            try:
                os.close(number)
            except OSError:
                pass
            taken = os.open(f"{{folder}}/theirs", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            os.write(taken, b"precious")
            lease.release()
            with limiter.concurrency("a", timeout_seconds=5):
                assert limiter.read("a").active_slots == 1
            os.lseek(taken, 0, 0)
            assert os.read(taken, 99) == b"precious", number
            os.close(taken)
        say(limiter.read("a").active_slots)
        """
    )
    assert program.answer() == 0
    assert program.end() == 0


def test_two_connections_of_one_process(limiter: Limiter, run: Run) -> None:
    """SQLite keeps the locks of both together, so both are opened again."""
    limiter.create("a", 2)
    program = run(
        """
        async def use():
            tasks = AsyncLimiter(path)
            async with tasks.concurrency("a", timeout_seconds=5):
                lease = limiter.acquire("a", timeout_seconds=5)
                keep = {int(one) for one in os.listdir("/proc/self/fd")}
                for number in keep:
                    name = f"/proc/self/fd/{number}"
                    if number > 2 and os.path.exists(name) and path in os.readlink(name):
                        os.close(number)
                say((await tasks.read("a")).active_slots)
                lease.release()
            say((await tasks.read("a")).active_slots)
            await tasks.aclose()
        asyncio.run(use())
        """
    )
    assert program.answer() == 2
    assert program.answer() == 0
    assert program.end() == 0


@pytest.mark.parametrize("numbers", ["are free", "are in use"])
@pytest.mark.parametrize("opened", ["before", "after"])
def test_two_databases_of_one_process(
    limiter: Limiter, run: Run, path: Path, tmp_path: Path, opened: str, numbers: str
) -> None:
    """What the one has lost may be the other's by now: no slot is lost, nor granted twice."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    limiter.create("a", 1)
    other = Limiter(f"{path}-other")
    other.create("b", 1)
    program = run(
        f"""
        other = Limiter(f"{{path}}-other")
        if {opened == "before"}:
            other.read("b")
        lease = limiter.acquire("a")
        close_all()
        files = use_their_numbers({str(folder)!r}) if {numbers == "are in use"} else []
        def are_theirs():
            return [os.readlink(f"/proc/self/fd/{{one}}") for one in files] == [
                f"{folder!s}/theirs{{index}}" for index in range(len(files))
            ]
        with other.concurrency("b", timeout_seconds=20):
            say(are_theirs())
            wait()
            say([one.active_slots for one in limiter.read_all()])
            wait()
            lease.release()
            say([one.pid for one in other.holders()])
            wait()
        for one in (other, limiter):
            one.close()
        for one, name in ((other, "b"), (limiter, "a")):
            with one.concurrency(name, timeout_seconds=20):
                assert one.read(name).active_slots == 1
            one.close()
        say(are_theirs())
        """
    )

    def free() -> list[str]:
        found = []
        for one, name in ((limiter, "a"), (other, "b")):
            one.close()  # who believes to be the last at it takes the log away
            with contextlib.suppress(AcquireConcurrencySlotTimeoutError):
                one.acquire(name, timeout_seconds=0).release()
                found.append(name)
            one.close()
        return found

    assert program.answer() is True
    assert free() == []
    program.go_on()
    assert program.answer() == [1]
    assert free() == []
    program.go_on()
    assert program.answer() == [program.process.pid]
    assert free() == ["a"]
    program.go_on()
    assert program.answer() is True
    assert program.end() == 0
    assert theirs_are_as_they_were(folder) is (numbers == "are in use")
    for file in (path, f"{path}-other"):
        with contextlib.closing(sqlite3.connect(file)) as reader:
            assert reader.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert free() == ["a", "b"]
    other.close()


def test_a_fork_of_which_python_is_not_told(limiter: Limiter, run: Run) -> None:
    """The child has nothing of its parent's: not its connection, its lifeline nor its gate."""
    limiter.create("a", 3)
    program = run(
        """
        lease = limiter.acquire("a")
        before = {os.readlink(f"/proc/self/fd/{one}") for one in os.listdir("/proc/self/fd")
                  if os.path.exists(f"/proc/self/fd/{one}")}
        child = ctypes.PyDLL(None).fork()
        if child == 0:
            lease.release()
            own = limiter.acquire("a", timeout_seconds=5)
            say(sorted(one.pid == os.getpid() for one in limiter.holders("a")))
            wait()
            os._exit(0)
        os.waitpid(child, 0)
        say([one.pid == os.getpid() for one in limiter.holders("a")])
        lease.release()
        with limiter.concurrency("a", timeout_seconds=5):
            say(limiter.read("a").active_slots)
        """
    )
    assert program.answer() == [False, True]
    program.go_on()
    assert program.answer() == [True]
    assert program.answer() == 1
    assert program.end() == 0


@pytest.mark.parametrize("before", ["pass", "limiter.read('a'); limiter.close()"])
@pytest.mark.parametrize("after", ["pass", "ctypes.pythonapi.PyOS_AfterFork_Child()"])
def test_such_a_fork_while_nothing_is_open(
    limiter: Limiter, run: Run, before: str, after: str
) -> None:
    """What its parent has not opened, or has closed, the child can use.

    Python may be told in the child alone, as uWSGI does.
    """
    limiter.create("a", 1)
    program = run(
        f"""
        {before}
        child = ctypes.PyDLL(None).fork()
        if child == 0:
            {after}
            limiter.acquire("a", timeout_seconds=5).release()
            os._exit(0)
        say(os.waitpid(child, 0)[1])
        """
    )
    assert program.answer() == 0
    assert program.end() == 0


def test_such_a_fork_while_a_thread_is_in_a_transaction(limiter: Limiter, run: Run) -> None:
    """SQLite may have noted locks that the child has not: it is refused, and its parent is not."""
    limiter.create("a", 1)
    program = run(
        """
        import localgcl
        def use(tx):
            entered.set()
            done.wait()
        entered, done = threading.Event(), threading.Event()
        thread = threading.Thread(target=limiter._database.transact, args=(use,))
        thread.start()
        entered.wait()
        child = ctypes.PyDLL(None).fork()
        if child == 0:
            try:
                limiter.acquire("a", timeout_seconds=5)
            except localgcl.DatabaseError as error:
                os._exit(7 if "was forked" in str(error) else 8)
            os._exit(9)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        done.set()
        thread.join()
        with limiter.concurrency("a", timeout_seconds=5):
            say()
        """
    )
    assert program.answer() == 7
    assert program.answer() is None
    assert program.end() == 0


def test_such_a_fork_while_a_thread_queues_for_the_gate(
    limiter: Limiter, run: Run, path: Path
) -> None:
    """That thread is at no database, so the child can use it."""
    limiter.create("a", 1)
    program = run(
        """
        limiter.read("a")
        say()
        wait()
        try:
            limiter.acquire("a", timeout_seconds=0.1)
        except TimeoutError:
            pass
        child = ctypes.PyDLL(None).fork()
        if child == 0:
            say()
            limiter.acquire("a", timeout_seconds=20).release()
            os._exit(0)
        say(os.waitpid(child, 0)[1])
        """
    )
    program.answer()
    gate = os.open(f"{path}-run/gate", os.O_RDWR)
    fcntl.flock(gate, fcntl.LOCK_EX)
    program.go_on()
    program.answer()
    os.close(gate)
    assert program.answer() == 0


def test_a_child_of_such_a_fork_outlives_its_parent(limiter: Limiter, run: Run) -> None:
    """It keeps neither its parent's slot nor the gate."""
    limiter.create("a", 1)
    program = run(
        """
        lease = limiter.acquire("a")
        child = ctypes.PyDLL(None).fork()
        if child == 0:
            limiter.read("a")
            say(os.getpid())
            time.sleep(100)
        os.waitpid(child, 0)
        """
    )
    child = program.answer()
    try:
        program.process.kill()
        program.end()
        limiter.acquire("a", timeout_seconds=5).release()
    finally:
        os.kill(child, 9)


@pytest.mark.parametrize("what", ["-wal", "-shm", "-wal moved", "both"])
def test_the_log_is_taken_away(limiter: Limiter, run: Run, path: Path, what: str) -> None:
    """Who has it open does not go on in it while others make a new one."""
    limiter.create("a", 1)
    limiter.acquire("a").release()
    if what == "-wal moved":
        os.rename(f"{path}-wal", f"{path}-moved")
    else:
        for suffix in ("-wal", "-shm"):
            if what in (suffix, "both"):
                os.unlink(f"{path}{suffix}")
    asked = (
        "limiter.upsert('a', 1)\ntry:\n    limiter.acquire('a', timeout_seconds=0)\n"
        "    say('granted')\nexcept TimeoutError:\n    say('refused')\nwait()"
    )
    if what == "-shm":  # what was committed is in the log
        lease = limiter.acquire("a", timeout_seconds=5)
        assert run(asked).answer() == "refused"
        lease.release()
        return
    limiter.upsert("a", 1)
    lease = limiter.acquire("a", timeout_seconds=5)
    assert run(asked).answer() == "refused"
    lease.release()


@pytest.mark.parametrize("content", ["", "something else\n" * 2000], ids=["empty", "a text"])
def test_the_log_is_replaced(limiter: Limiter, run: Run, path: Path, content: str) -> None:
    """Another process does not read the new one by the index of the old one, which is open."""
    limiter.create("a", 1)
    limiter.acquire("a").release()
    os.unlink(f"{path}-wal")
    Path(f"{path}-wal").write_text(content)
    other = run(
        """
        limiter.upsert("a", 1)
        lease = limiter.acquire("a")
        say([one.limit for one in limiter.holders()])
        wait()
        """
    )
    assert other.answer() == ["a"]
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.acquire("a", timeout_seconds=0)
    assert [one.pid for one in limiter.holders()] == [other.process.pid]


def test_the_log_is_taken_away_before_a_second_connection(
    limiter: Limiter, run: Run, path: Path
) -> None:
    """SQLite keeps one index of the log for a process: the second would read and write by the old.

    It would write over what others have committed to the new log.
    """
    limiter.create("a", 1)
    program = run(
        """
        limiter.read("a")
        say()
        wait()
        async def use():
            tasks = AsyncLimiter(path)
            say([one.name for one in await tasks.read_all()])
            await tasks.create("c", 1)
            await tasks.aclose()
        asyncio.run(use())
        say([one.name for one in limiter.read_all()])
        """
    )
    program.answer()
    limiter.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint")
    for suffix in ("-wal", "-shm"):
        os.unlink(f"{path}{suffix}")
    limiter.create("b", 1)
    program.go_on()
    assert program.answer() == ["a", "b"]
    assert program.answer() == ["a", "b", "c"]
    assert [one.name for one in limiter.read_all()] == ["a", "b", "c"]
    assert program.end() == 0


def test_a_lost_log_is_in_use_until_a_deadline(limiter: Limiter, run: Run, path: Path) -> None:
    """Who opens it a second time waits for the thread that is at it, and no longer than that."""
    limiter.create("a", 1)
    program = run(
        """
        from localgcl._base import clock as _clock
        from localgcl._storage.database import Database
        from localgcl._storage.gate import GateTimeoutError
        def use(tx):
            say()
            done.wait()
        done, second = threading.Event(), Database(path)
        thread = threading.Thread(target=limiter._database.transact, args=(use,))
        thread.start()
        wait()
        try:
            second.transact(lambda tx: say("opened"), deadline=_clock.now() + 0.05)
        except GateTimeoutError:
            say("too late")
        done.set()
        thread.join()
        second.transact(lambda tx: say("opened"), deadline=_clock.now() + 20)
        """
    )
    program.answer()
    for suffix in ("-wal", "-shm"):
        os.unlink(f"{path}{suffix}")
    program.go_on()
    assert program.answer() == "too late"
    assert program.answer() == "opened"
    assert program.end() == 0


def test_a_copy_made_by_the_program_itself(limiter: Limiter, run: Run, path: Path) -> None:
    """It ends the locks of the process, and another takes itself for the last and drops the log."""
    limiter.create("a", 1)
    shutil.copy(path, f"{path}.copy")
    assert run("limiter.read('a'); limiter.close(); say()").answer() is None
    lease = limiter.acquire("a", timeout_seconds=5)
    other = run(
        """
        try:
            limiter.acquire("a", timeout_seconds=0.2)
            say("granted")
        except TimeoutError:
            say("refused")
        """
    )
    assert other.answer() == "refused"
    lease.release()
    assert limiter.read("a").active_slots == 0


def test_a_newer_schema_under_an_open_connection(limiter: Limiter, path: Path) -> None:
    """A newer release may have other rules: nobody is admitted by the old ones."""
    limiter.create("a", 1)
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 1000")
    other.close()
    with pytest.raises(DatabaseError, match="newer release"):
        limiter.acquire("a")


@takes_root
def test_a_file_that_is_mounted_by_itself(limiter: Limiter, path: Path, tmp_path: Path) -> None:
    """Beside it lie other files than beside the one that it is."""
    limiter.create("a", 1)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "limits.db").touch()
    code = (
        "import localgcl, sys\n"
        "try:\n    localgcl.Limiter(sys.argv[1]).acquire('a', timeout_seconds=0)\n"
        "except localgcl.DatabaseError as error:\n    print(error)"
    )
    mounted = subprocess.run(
        [
            "unshare",
            "--mount",
            "sh",
            "-c",
            'mount --bind "$1" "$2" && exec "$3" -c "$4" "$2"',
            "-",
            str(path),
            str(inside / "limits.db"),
            sys.executable,
            code,
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE_SECONDS,
    )
    assert "mount" in mounted.stdout
    assert os.listdir(inside) == ["limits.db"]


def test_nothing_is_asked_of_others_at_the_gate(limiter: Limiter, run: Run, path: Path) -> None:
    """Whoever is inside keeps all others waiting: no import, no name service, no other file."""
    limiter.create("a", 1)
    limiter.create("r", 1, slot_decay_per_second=1000.0)
    program = run(
        """
        import logging, pwd
        from localgcl._storage import gate as _gate
        inside, seen = [], []
        enter, leave = _gate.Gate.enter, _gate.Gate.leave
        def entered(self, *arguments):
            enter(self, *arguments)
            inside.append(threading.get_ident())
        def left(self):
            inside.clear()
            leave(self)
        _gate.Gate.enter, _gate.Gate.leave = entered, left
        real = pwd.getpwuid
        def asked(uid):
            if inside: seen.append("getpwuid")
            return real(uid)
        pwd.getpwuid = asked
        def watch(event, arguments):
            if not inside or inside[0] != threading.get_ident(): return
            if event == "import": seen.append(arguments[0])
            if event == "open":
                name = str(arguments[0])
                if path not in name and "/" in name and not name.startswith("/proc/"):
                    seen.append(name)
        sys.addaudithook(watch)
        for _ in range(2):
            with limiter.concurrency("a", timeout_seconds=5): limiter.read_all()
            limiter.rate_limit("r", timeout_seconds=5)
            limiter.holders(); limiter.waiters()
            for call in (lambda: limiter.acquire("b", strict=True), lambda: limiter.read("b")):
                try: call()
                except LookupError: pass
                except Exception as error: assert "there is no" in str(error), error
            limiter.acquire("b")
            limiter.upsert("c", 3, slot_decay_per_second=2.0)
            limiter.update("c", limit=4, active=False)
            held = limiter.acquire("a")
            try: limiter.acquire("a", timeout_seconds=0.05)
            except TimeoutError: pass
            waits = threading.Thread(target=lambda: limiter.acquire("a").release())
            waits.start()
            while not limiter.waiters("a"): time.sleep(0.01)
            held.release(); waits.join()
            limiter.reset("c"); limiter.delete("c")
            limiter.close()
        say(seen)
        """
    )
    assert program.answer() == []
