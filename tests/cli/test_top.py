"""`top`: what a frame looks like, and what becomes of the terminal, on real ones."""

from __future__ import annotations

import contextlib
import doctest
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from localgcl import Limiter
from localgcl.cli import _layout, _screen, top
from localgcl.cli.top import _Source, _View, frame, shares
from localgcl.models import Holder, Limit, Waiter
from tests.helpers.gate import shut
from tests.helpers.needs import lacks
from tests.helpers.played import Processes
from tests.helpers.programs import Invoke
from tests.helpers.waiting import DEADLINE_SECONDS

TAKEN, GIVEN_BACK = _screen._TAKE.encode(), _screen._GIVE_BACK.encode()
NOW = datetime.now(UTC)


def limit(name: str, used: int = 0, waiting: int = 0) -> Limit:
    """Return a limit as it could be read."""
    return Limit(
        id="1", created=NOW, updated=NOW, name=name, active=True, limit=5, active_slots=used,
        available_slots=5 - used, next_slot_seconds=0.0, slot_decay_per_second=0.0, rate=None,
        window_seconds=0.0, paused_until=None, avg_slot_occupancy_seconds=2.0, waiting=waiting,
        template=None, keys=None, last_granted=None, last_timed_out=None,
    )  # fmt: skip


def holder(number: int, **more: Any) -> Holder:
    """Return a holder as it could be read."""
    known = {
        "lease": f"lease-{number}", "limit": "database", "slots": 1, "pid": 800 + number,
        "user": "app", "command": "backup.sh", "holder": None, "since": NOW, "held_seconds": 65.0,
    }  # fmt: skip
    return Holder(**{**known, **more})


def waiter(number: int, **more: Any) -> Waiter:
    """Return a waiter as it could be read."""
    known = {
        "position": number, "limit": "database", "slots": 1, "pid": 900 + number, "user": "app",
        "command": "report.py", "holder": None, "since": NOW, "waited_seconds": 5.0,
        "expected_seconds": 90.0,
    }  # fmt: skip
    return Waiter(**{**known, **more})


# A frame


def test_a_frame() -> None:
    """Limits, holders and waiters, below a line that says what this is."""
    view = _View([limit("database", 1, 1)], [holder(1)], [waiter(1)], at=1_750_000_000.0)
    lines = frame(view, "/limits.db", 0.5)
    assert lines[0].startswith("localgcl top  ")
    assert lines[0].endswith("  every 0.5 s, q ends  /limits.db")
    assert [line.split("  ")[0] for line in lines[1:]] == [
        *("", "NAME", "database", "", "HOLDS", "database", "", "WAITS FOR", "database"),
    ]
    assert "1 min ago" in lines[6]
    assert "5 s ago" in lines[9]
    assert lines[9].endswith("in 1 min")


def test_a_frame_of_nothing() -> None:
    """It says so."""
    assert frame(_View(at=1.0), "/x", 1.0)[1:] == ["No global concurrency limits found."]
    trouble = frame(_View(trouble="no transaction went on"), "/x", 1.0)
    assert trouble[1:] == ["no transaction went on"]


@pytest.mark.parametrize("rows", [*range(1, 40), 1000])
@pytest.mark.parametrize("trouble", [None, "no transaction went on"])
def test_a_frame_fits(rows: int, trouble: str | None) -> None:
    """Whatever the height, it has no more lines, and tells of what it leaves out."""
    limits = [limit(f"limit {number:02}", used=number // 29) for number in range(30)]
    holders = [holder(number) for number in range(4)]
    waiters = [waiter(number) for number in range(10)]
    lines = frame(_View(limits, holders, waiters, trouble, at=1.0), "/x", 1.0, rows)
    assert len(lines) <= max(rows, 1 + (trouble is not None))
    beyond = sum(int(line.split()[1]) for line in lines if line.startswith("... "))
    entries = [line for line in lines if line.startswith(("limit ", "database "))]
    if rows >= 5:  # enough for a line each
        assert len(entries) + beyond == 44
        assert (beyond > 0) is (rows < 1000)
    if 15 <= rows < 40:
        # What is in use comes first where not all can be seen.
        assert entries[0].startswith("limit 29 ")


def test_a_frame_with_hostile_texts() -> None:
    """Nothing that a terminal would obey gets through, wherever it stands."""
    evil = "\x1b[2J\x07\r\n\x9b31m\u202e"
    view = _View(
        [limit("database")],
        [holder(1, user=evil, command=evil, holder=evil, lease=evil)],
        [waiter(1, user=evil, command=evil, holder=evil)],
        trouble=evil,
        at=1.0,
    )
    for line in frame(view, f"/{evil}", 1.0):
        assert line.isprintable(), ascii(line)


@pytest.mark.parametrize(
    ("rows", "sizes", "given"),
    [
        (10, [3, 3, 3], [3, 3, 3]),
        (9, [3, 3, 3], [3, 3, 3]),
        (6, [3, 3, 3], [2, 2, 2]),
        (20, [100, 4, 30], [8, 4, 8]),
        (20, [100, 0, 0], [20, 0, 0]),
        (7, [100, 100, 100], [2, 2, 3]),
        (0, [3, 0, 5], [0, 0, 0]),
        (-5, [3, 0, 5], [0, 0, 0]),
    ],
)
def test_shares(rows: int, sizes: list[int], given: list[int]) -> None:
    """Who needs little gets it, and the others share the rest."""
    assert shares(rows, sizes) == given
    assert sum(given) <= max(0, rows)
    assert doctest.testmod(top).failed == 0


@pytest.mark.parametrize(
    ("text", "width"),
    [("", 0), ("abc", 3), ("数据库", 6), ("e\u0301", 1), ("🐘", 2), ("\ufe0f", 0), ("\uff41", 2)],
)
def test_widths(text: str, width: int) -> None:
    """Wide characters take two columns, marks over others none."""
    assert _layout.width_of(text) == width
    assert _layout.cut(text, width) == text


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("abc", 2, "ab"),
        ("数据库", 5, "数据"),
        ("数据库", 4, "数据"),
        ("a数", 2, "a"),
        ("数", 1, ""),
    ],
)
def test_cut(text: str, columns: int, shown: str) -> None:
    """A character that would be half beyond is left out."""
    assert _layout.cut(text, columns) == shown


# Where it comes from


def test_without_a_terminal(limiter: Limiter, invoke: Invoke, processes: Processes) -> None:
    """One frame, without anything for terminals."""
    limiter.create("database", 1)
    lease = limiter.acquire("database")
    processes().ask("database")
    for words in (["top"], ["top", "database", "--interval", "5"]):
        result = invoke(*words)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.isascii()
        assert "\x1b" not in result.stdout
        assert lease.id in result.stdout
        assert "WAITS FOR" in result.stdout


def test_without_a_database(invoke: Invoke, path: str) -> None:
    """There is nothing to show, and none is made; a name is not there."""
    assert "No global" in invoke("top").stdout
    result = invoke("top", "database")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert not os.path.exists(os.path.dirname(path))


@pytest.mark.parametrize(
    "words",
    [
        *(["top", "a", "b"], ["top", "a\n"], ["top", "--interval"]),
        *(["top", "--interval", value] for value in ("0", "-1", "nan", "inf", "x", "1e9")),
    ],
    ids=" ".join,
)
def test_wrong_usage(invoke: Invoke, words: list[str]) -> None:
    """A bad interval is wrong usage."""
    result = invoke(*words)
    assert (result.exit_code, result.stdout) == (2, "")


def test_a_process_inside_a_transaction(
    limiter: Limiter, invoke: Invoke, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told of instead of waited for, and waiting leaves no more behind with each frame."""
    monkeypatch.setattr(top, "_PATIENCE_SECONDS", 0.05)
    limiter.create("database", 1)
    source = _Source(limiter._database, None)
    seen = source.look(_View())
    assert [one.name for one in seen.limits] == ["database"]
    with shut(path, stopped=True) as pid:
        stuck = source.look(seen)
        assert f"process {pid} (" in str(stuck.trouble)
        assert "is stopped" in str(stuck.trouble)
        assert stuck.limits == seen.limits
        threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            assert source.look_again(stuck).trouble is not None
        assert threading.active_count() == threads
        assert len(os.listdir("/proc/self/fd")) == descriptors
        result = invoke("top")
        assert result.exit_code == 1
        assert f"process {pid} (" in result.stderr
    while (again := source.look_again(seen)).trouble is not None:
        time.sleep(0.01)
    assert again.limits == seen.limits


def test_what_goes_wrong_is_shown(limiter: Limiter, path: str) -> None:
    """A limit that is deleted, a file that is replaced, and then all is well again."""
    limiter.create("database", 1)
    source = _Source(limiter._database, "database")
    seen = source.look(_View())
    limiter.delete("database")
    assert "no concurrency limit named 'database'" in str(source.look_again(seen).trouble)
    limiter.create("database", 1)
    assert source.look_again(seen).trouble is None
    limiter.close()
    Path(path).write_bytes(b"noise" * 1000)
    assert path in str(source.look_again(seen).trouble)
    Path(path).unlink()
    assert "no concurrency limit named" in str(source.look_again(seen).trouble)


# Terminals


class Terminal:
    """A terminal with a program in it, and what it has written so far."""

    def __init__(self, path: str, *words: str, code: str = "", size: tuple[int, int] = (24, 80)):
        self.master, self.slave = pty.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(self.slave)
        run = code or "from localgcl.cli import main\nmain()"
        program = (
            "import fcntl, sys, termios\n"
            "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
            f"sys.argv[1:] = ['--db', {path!r}, 'top', *sys.argv[1:]]\n{run}"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *words],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm"},
        )
        self.written = b""

    def resize(self, rows: int, columns: int) -> None:
        """Have the terminal be of another size."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.master, keys)

    def await_text(self, text: str) -> str:
        """Wait for a text beyond what was awaited before, and return what came until then."""
        wanted, deadline = text.encode(), time.monotonic() + DEADLINE_SECONDS
        while wanted not in self.written:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.written[-999:]!r}"
            self._read(0.1)
        seen, _, self.written = self.written.partition(wanted)
        return seen.decode()

    def _read(self, seconds: float) -> bool:
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        self.written += os.read(self.master, 65536)
        return True

    def end(self) -> int:
        """Wait for the end of the program, and return its status, with the rest in `written`."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.written
            self._read(0.05)
        while self._read(0):
            pass
        return self.process.returncode

    def is_as_before(self) -> bool:
        """Whether keys are echoed, by lines, and all else that was set is as it was."""
        return termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(path: str) -> Iterator[Callable[..., Terminal]]:
    """Start `top` in a terminal."""
    with contextlib.ExitStack() as stack:

        def start(*words: str, **more: Any) -> Terminal:
            made = Terminal(path, *words, **more)
            stack.callback(made.close)
            return made

        yield start


Start = Callable[..., Terminal]


@pytest.mark.processes
@pytest.mark.parametrize(
    ("end", "status"),
    [
        (b"q", 0),
        (b"Q", 0),
        (b"\x03", 0),
        (b"\x1c", 128 + signal.SIGQUIT),
        (signal.SIGINT, 0),
        (signal.SIGTERM, 128 + signal.SIGTERM),
        (signal.SIGHUP, 128 + signal.SIGHUP),
    ],
    ids=str,
)
def test_the_terminal_is_given_back(
    limiter: Limiter, terminal: Start, end: bytes | signal.Signals, status: int
) -> None:
    """However it ends, keys and cursor are as before, and nothing is written afterwards."""
    limiter.create("database", 1)
    seen = terminal()
    assert TAKEN.decode() in seen.await_text("database")
    assert not seen.is_as_before()
    if isinstance(end, bytes):
        seen.type(end)
    else:
        seen.process.send_signal(end)
    assert seen.end() == status
    assert seen.written.endswith(GIVEN_BACK)
    assert seen.is_as_before()


@pytest.mark.processes
def test_the_terminal_is_given_back_after_an_error(limiter: Limiter, terminal: Start) -> None:
    """An error that nobody has thought of is seen on the screen that was there before."""
    limiter.create("database", 1)
    code = """
from localgcl.cli import main, top
frames = []
def failing(*arguments):
    frames.append(arguments)
    if len(frames) == 2:
        raise RuntimeError("nobody has thought of this")
    return ["a frame"]
top.frame = failing
main()
"""
    seen = terminal("--interval", "0.1", code=code)
    seen.await_text("a frame")
    assert seen.end() == 1
    given_back, _, after = seen.written.partition(GIVEN_BACK)
    assert b"Traceback" not in given_back
    assert b"nobody has thought of this" in after
    assert seen.is_as_before()


@pytest.mark.processes
def test_a_database_that_appears_later(limiter: Limiter, terminal: Start, path: str) -> None:
    """It is shown then, and `top` made none."""
    seen = terminal("--interval", "0.1")
    seen.await_text("No global concurrency limits found.")
    assert not os.path.exists(os.path.dirname(path))
    limiter.create("database", 3)
    seen.await_text("database")
    limiter.acquire("database")
    seen.await_text("HOLDS")
    seen.type(b"q")
    assert seen.end() == 0


@pytest.mark.processes
def test_a_name_that_is_not_there(limiter: Limiter, terminal: Start) -> None:
    """It is an error before the terminal is taken."""
    limiter.create("database", 1)
    seen = terminal("unknown")
    assert seen.end() == 1
    assert seen.written.startswith(b"Error: ")
    assert b"\x1b" not in seen.written


@pytest.mark.processes
def test_keys_while_transactions_do_not_go_on(limiter: Limiter, terminal: Start, path: str) -> None:
    """`q` ends it all the same."""
    limiter.create("database", 1)
    limiter.close()
    with shut(path, stopped=True) as pid:
        seen = terminal()
        seen.await_text(f"process {pid} (")
        seen.type(b"q")
        assert seen.end() == 0
        assert seen.written.endswith(GIVEN_BACK)


@pytest.mark.processes
@pytest.mark.parametrize(
    ("variable", "value", "redirected"),
    [("TERM", "dumb", ""), ("TERM", "xterm", "</dev/null"), ("TERM", "xterm", "| cat")],
)
def test_half_a_terminal(
    limiter: Limiter, path: str, variable: str, value: str, redirected: str
) -> None:
    """Without keys, or without a screen to draw on, it is one frame."""
    limiter.create("database", 1)
    master, slave = pty.openpty()
    words = [sys.executable, "-m", "localgcl", "--db", path, "top"]
    subprocess.run(
        ["sh", "-c", f'"$@" {redirected}', "sh", *words],
        stdin=slave,
        stdout=slave,
        env={**os.environ, variable: value},
        check=True,
        timeout=DEADLINE_SECONDS,
    )
    written = os.read(master, 65536)
    os.close(slave)
    os.close(master)
    assert b"database" in written
    assert b"\x1b" not in written


# The same in a terminal that draws what it is told


class Tmux:
    """A shell in tmux, whose screen can be looked at."""

    def __init__(self, folder: Path) -> None:
        self._socket = str(folder / "tmux")
        shell = "PS1='$ ' exec sh -i"
        self("-f", "/dev/null", "new-session", "-d", "-x", "90", "-y", "24", shell)

    def __call__(self, *words: str) -> str:
        """Give tmux a command, and return what it prints."""
        env = {**os.environ, "LC_ALL": "C.UTF-8"}
        return subprocess.run(
            ["tmux", "-u", "-S", self._socket, *words],
            capture_output=True,
            text=True,
            check=True,
            env=env,
            timeout=DEADLINE_SECONDS,
        ).stdout

    def type(self, *keys: str) -> None:
        """Press keys, by tmux's names."""
        self("send-keys", *keys)

    def screen(self) -> list[str]:
        """Return the lines that are seen."""
        return self("capture-pane", "-p").splitlines()

    def await_screen(self, *texts: str) -> list[str]:
        """Wait until all of these texts are seen; return the screen."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not all(text in "\n".join(lines := self.screen()) for text in texts):
            assert time.monotonic() < deadline, lines
            time.sleep(0.02)
        return lines


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    """A shell in tmux."""
    made = Tmux(tmp_path)
    yield made
    made("kill-server")


needs_tmux = pytest.mark.skipif(lacks("tmux"), reason="tmux is missing; `apt-get install tmux`")


@pytest.mark.processes
@needs_tmux
def test_frames_are_drawn_in_place(limiter: Limiter, tmux: Tmux, path: str) -> None:
    """The screen shows one frame, whatever its size, and nothing of it is left behind."""
    limiter.create("数据库", 9)
    limiter.create("database", 3)
    lease = limiter.acquire("database", holder="\x1b[2Jnightly数")
    tmux.type(f"{sys.executable} -m localgcl --db {path} top --interval 0.1", "Enter")
    lines = tmux.await_screen("HOLDS", "nightly")
    assert lines[0].startswith("localgcl top  ")
    assert [line[:6].strip() for line in lines[2:5]] == ["NAME", "databa", "数据库"[:6]]
    assert lines[3].index("###") == lines[2].index("IN USE") + 8
    assert "[2Jnightly数" in "\n".join(lines)
    lease.release()
    limiter.delete("database")
    deadline = time.monotonic() + DEADLINE_SECONDS
    while any("HOLDS" in line or "database" in line[:9] for line in tmux.screen()):
        assert time.monotonic() < deadline
    for columns, rows in ((30, 6), (12, 3), (2, 1), (200, 50), (90, 24)):
        tmux("resize-window", "-x", str(columns), "-y", str(rows))
        lines = tmux.await_screen("localgcl top"[:columns])
        assert len(lines) <= rows
        assert all(_layout.width_of(line) <= columns for line in lines)
    tmux.await_screen("数据库", "UPDATED")
    tmux.type("q")
    tmux.type("echo back $?", "Enter")
    lines = tmux.await_screen("back 0")
    assert "NAME" not in "\n".join(lines)


SETTINGS = "stty -a | grep -o ' -*icanon\\| -*echo '"


@pytest.mark.processes
@needs_tmux
def test_it_can_be_stopped_and_continued(limiter: Limiter, tmux: Tmux, path: str) -> None:
    """Ctrl-Z gives the terminal to the shell as it was, `fg` takes it again, and so once more."""
    limiter.create("database", 3)
    tmux.type(f"{sys.executable} -m localgcl --db {path} top --interval 0.1", "Enter")
    tmux.await_screen("localgcl top  ", "database")
    for number in range(2):
        tmux.type("C-z")
        tmux.await_screen("Stopped")
        tmux.type(f"{SETTINGS}; echo seen-$(({number} + 40))", "Enter")
        lines = tmux.await_screen(f"seen-{number + 40}", " icanon", " echo")
        assert not [line for line in lines if line.strip() in ("-icanon", "-echo")]
        tmux.type("clear; fg", "Enter")
        tmux.await_screen("localgcl top  ", "database", "every 0.1 s")
    tmux.type("q")
    tmux.type("echo back $?", "Enter")
    tmux.await_screen("back 0")


@pytest.mark.processes
@needs_tmux
def test_it_can_be_continued_after_sigstop(limiter: Limiter, tmux: Tmux, path: str) -> None:
    """Then nothing could be given back, but the end still leaves the terminal as it once was."""
    limiter.create("database", 3)
    tmux.type(f"{sys.executable} -m localgcl --db {path} top --interval 0.1", "Enter")
    tmux.await_screen("localgcl top  ", "database")
    shell = tmux("list-panes", "-F", "#{pane_pid}").strip()
    (program,) = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
    os.kill(int(program), signal.SIGSTOP)
    tmux.await_screen("Stopped")
    tmux.type("clear; fg", "Enter")
    tmux.await_screen("localgcl top  ", "database", "every 0.1 s")
    tmux.type("q")
    tmux.type(f"{SETTINGS}; echo back $?", "Enter")
    lines = tmux.await_screen("back 0", " icanon", " echo")
    assert not [line for line in lines if line.strip() in ("-icanon", "-echo")]
    assert "NAME" not in "\n".join(lines)
