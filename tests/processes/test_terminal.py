"""`localgcl run` in a terminal: Ctrl-C, Ctrl-Z and `fg` as if it were not there."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localgcl import Limiter
from tests.helpers.programs import REPORTER, holder
from tests.helpers.waiting import DEADLINE_SECONDS, until

pytestmark = pytest.mark.processes

INTERRUPT, QUIT, SUSPEND = "\x03", "\x1c", "\x1a"


class Terminal:
    """A pseudo-terminal, and a program that has it as its own."""

    def __init__(self, *words: str) -> None:
        self._ours, theirs = pty.openpty()

        def own_it() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            words,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=own_it,
            env={**os.environ, "PS1": "$ ", "TERM": "dumb"},
        )
        os.close(theirs)
        self.shown = ""

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self._ours, text.encode())

    def expect(self, text: str) -> None:
        """Wait until something is shown, and forget it with all before it."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while text not in self.shown:
            assert self._read(deadline), f"{text!r} is not shown, but {self.shown!r}"
        self.shown = self.shown.partition(text)[2]

    def rest(self) -> str:
        """Return what is shown until the program has ended."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self._read(deadline):
            pass
        return self.shown

    def _read(self, deadline: float) -> bool:
        if not select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        try:
            chunk = os.read(self._ours, 4096)
        except OSError:  # nobody has the other end open any more
            return False
        self.shown += chunk.decode()
        return True

    def close(self) -> None:
        """End everything that runs in it."""
        if self.process.poll() is None:
            for session in Path("/proc").glob("[0-9]*/stat"):
                fields = _fields(session)
                if fields and int(fields[3]) == self.process.pid:
                    os.kill(int(session.parent.name), signal.SIGKILL)
        self.process.wait(DEADLINE_SECONDS)
        os.close(self._ours)


def _fields(stat: Path) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; none where it has ended."""
    try:
        return stat.read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def state(pid: int) -> str:
    """Return the state of a process, as `T` for stopped."""
    return _fields(Path(f"/proc/{pid}/stat"))[0]


def runs_cat(limiter: Limiter) -> int:
    """Wait until `cat` runs while holding `a`, and return its pid."""
    until(
        lambda: (
            [Path(f"/proc/{one.pid}/comm").read_text() for one in limiter.holders("a")] == ["cat\n"]
        )
    )
    return holder(limiter)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """Open terminals that are closed with the test."""
    opened: list[Terminal] = []

    def open_one(*words: str) -> Terminal:
        opened.append(Terminal(*words))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def run(path: Path, limiter: Limiter) -> list[str]:
    """The words of `localgcl run a`, where `a` has one slot."""
    limiter.create("a", 1)
    return [sys.executable, "-m", "localgcl", "--db", str(path), "run", "a"]


@pytest.mark.parametrize(
    ("key", "name"), [(INTERRUPT, "SIGINT"), (QUIT, "SIGQUIT")], ids=["Ctrl-C", "Ctrl-\\"]
)
def test_a_key_reaches_the_command_once(
    terminal: Callable[..., Terminal], run: list[str], key: str, name: str
) -> None:
    """The terminal delivers it to both, so that `run` passes nothing on; a signal sent it does."""
    screen = terminal(*run, "--", sys.executable, "-c", REPORTER, "2")
    screen.expect("ready")
    screen.type(key)
    screen.expect(name)
    screen.process.send_signal(signal.SIGTERM)
    rest = screen.rest()
    assert "SIGTERM" in rest
    assert name not in rest
    assert screen.process.wait(DEADLINE_SECONDS) == 9


def test_a_key_and_a_command_in_a_session_of_its_own(
    terminal: Callable[..., Terminal], run: list[str]
) -> None:
    """What the terminal delivers to `run` alone is passed on."""
    screen = terminal(*run, "--", "setsid", sys.executable, "-c", REPORTER, "1")
    screen.expect("ready")
    screen.type(INTERRUPT)
    screen.expect("SIGINT")
    assert screen.process.wait(DEADLINE_SECONDS) == 9


def test_an_interrupt_that_is_sent_in_a_terminal(
    terminal: Callable[..., Terminal], run: list[str]
) -> None:
    """`kill -INT` on `run` alone is no key, and is passed on."""
    screen = terminal(*run, "--", sys.executable, "-c", REPORTER, "1")
    screen.expect("ready")
    screen.process.send_signal(signal.SIGINT)
    screen.expect("SIGINT")
    assert screen.process.wait(DEADLINE_SECONDS) == 9


def test_ctrl_c_while_waiting(
    terminal: Callable[..., Terminal], run: list[str], limiter: Limiter
) -> None:
    """It leaves the queue, silently but for what the terminal itself echoes."""
    lease = limiter.acquire("a")
    screen = terminal(*run, "echo", "ran")
    until(lambda: len(limiter.waiters("a")) == 1)
    screen.type(INTERRUPT)
    assert screen.rest().replace("^C", "").strip() == ""
    assert screen.process.wait(DEADLINE_SECONDS) == 130
    assert limiter.waiters("a") == []
    lease.release()


def test_ctrl_z_and_fg(terminal: Callable[..., Terminal], run: list[str], limiter: Limiter) -> None:
    """Both stop and both go on, as one job of the shell; the slot is held throughout."""
    shell = terminal("bash", "--norc", "--noprofile", "-i")
    shell.type(f"{' '.join(run)} -- cat\n")
    command = runs_cat(limiter)
    shell.type("first line\n")
    shell.expect("first line\r\nfirst line\r\n")
    shell.type(SUSPEND)
    shell.expect("Stopped")
    wrapper = int(_fields(Path(f"/proc/{command}/stat"))[1])
    # The terminal signals both; the shell has seen one of them stop, and the other has yet to run.
    until(lambda: (state(command), state(wrapper)) == ("T", "T"))
    assert [one.pid for one in limiter.holders("a")] == [command]
    shell.type("fg\n")
    until(lambda: (state(command), state(wrapper)) == ("S", "S"))
    shell.type("second line\n")
    shell.expect("second line\r\nsecond line\r\n")
    shell.type(INTERRUPT)
    shell.expect("$ ")
    shell.type("echo status $?\n")
    shell.expect("status 130")
    assert limiter.holders("a") == []


def test_ctrl_z_while_waiting(
    terminal: Callable[..., Terminal], run: list[str], limiter: Limiter
) -> None:
    """Stopped in the queue it is granted its slot all the same, and runs once it goes on."""
    lease = limiter.acquire("a")
    shell = terminal("bash", "--norc", "--noprofile", "-i")
    shell.type(f"{' '.join(run)} echo r''an\n")
    until(lambda: len(limiter.waiters("a")) == 1)
    waiter = limiter.waiters("a")[0].pid
    assert waiter is not None  # a process
    shell.type(SUSPEND)
    shell.expect("Stopped")
    assert state(waiter) == "T"
    lease.release()
    assert [one.pid for one in limiter.holders("a")] == [waiter]
    shell.type("fg\n")
    shell.expect("ran\r\n")
    until(lambda: limiter.holders("a") == [])


def test_in_the_background(
    terminal: Callable[..., Terminal], run: list[str], limiter: Limiter
) -> None:
    """A job of `&` that reads the terminal is stopped with `run`, and goes on in the foreground."""
    shell = terminal("bash", "--norc", "--noprofile", "-i")
    shell.type(f"{' '.join(run)} cat &\n")
    until(lambda: [one.command for one in limiter.holders("a")] == ["cat"])
    # The command's pid, or the wrapper's if it was stopped before it could tell the command's.
    shown = holder(limiter)
    until(lambda: state(shown) == "T")
    shell.type("fg\n")
    until(lambda: state(shown) == "S")
    shell.type("a line\n")
    shell.expect("a line\r\na line\r\n")
    shell.type("\x04")
    shell.expect("$ ")
    until(lambda: limiter.holders("a") == [])
