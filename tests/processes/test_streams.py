"""Standard streams that do not work: nothing that is told may cost a command its run."""

from __future__ import annotations

import contextlib
import errno
import os
import pty
import signal
import socket
import subprocess
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localgcl import Limiter
from tests.helpers.programs import Program, bit, ended, is_clean, masks, waiting
from tests.helpers.waiting import DEADLINE_SECONDS, until

pytestmark = pytest.mark.processes


def fill(descriptor: int) -> None:
    """Write for as long as it is taken at once."""
    os.set_blocking(descriptor, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(descriptor, b"x" * 4096)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(descriptor, b"x")
    os.set_blocking(descriptor, True)


@contextlib.contextmanager
def full_disk() -> Iterator[int]:
    with open("/dev/full", "wb", buffering=0) as file:
        yield file.fileno()


@contextlib.contextmanager
def read_only() -> Iterator[int]:
    with open("/dev/null", "rb") as file:
        yield file.fileno()


@contextlib.contextmanager
def nobody_at_the_other_end() -> Iterator[int]:
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@contextlib.contextmanager
def unread_pipe(*, blocking: bool = True) -> Iterator[int]:
    reader, writer = os.pipe()
    fill(writer)
    os.set_blocking(writer, blocking)
    yield writer
    assert os.get_blocking(writer) is blocking  # which is everybody's who has it
    os.close(writer)
    os.close(reader)


@contextlib.contextmanager
def unread_socket() -> Iterator[int]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        fill(theirs.fileno())
        yield theirs.fileno()


@contextlib.contextmanager
def stopped_terminal() -> Iterator[int]:
    ours, theirs = pty.openpty()
    termios.tcflow(theirs, termios.TCOOFF)  # as Ctrl-S
    yield theirs
    termios.tcflow(theirs, termios.TCOON)
    os.close(theirs)
    os.close(ours)


@contextlib.contextmanager
def hung_up_terminal() -> Iterator[int]:
    ours, theirs = pty.openpty()
    os.close(ours)
    yield theirs
    os.close(theirs)


@contextlib.contextmanager
def none_at_all() -> Iterator[None]:
    yield None


BROKEN = {
    "full disk": full_disk,
    "read-only": read_only,
    "closed pipe": nobody_at_the_other_end,
    "unread pipe": unread_pipe,
    "unread pipe, non-blocking": lambda: unread_pipe(blocking=False),
    "unread socket": unread_socket,
    "stopped terminal": stopped_terminal,
    "hung-up terminal": hung_up_terminal,
    "none": none_at_all,
}


@pytest.fixture(params=BROKEN)
def broken(request: pytest.FixtureRequest) -> Iterator[int | None]:
    """A descriptor that cannot be written to, in each way; None for one that is closed."""
    with BROKEN[request.param]() as descriptor:
        yield descriptor


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def deaf(localgcl: Program, broken: int | None) -> Start:
    """Start `localgcl` with that as its standard error."""

    def start(*words: str) -> subprocess.Popen[str]:
        if broken is not None:
            return localgcl.start(*words, stderr=broken)
        localgcl.words[:0] = ["sh", "-c", 'exec "$@" 2>&-', "sh"]
        return localgcl.start(*words)

    return start


@pytest.mark.parametrize("by_click", [False, True], ids=["quickly", "by click"])
def test_what_cannot_be_told_stops_no_command(
    deaf: Start, database: Limiter, path: Path, by_click: bool
) -> None:
    """With -v the command waits, runs and gives its status, and its slot is free afterwards."""
    lease = database.acquire("a", holder="x" * 8000)  # longer than what a pipe takes at once
    process = deaf("run", *(["-vE75"] if by_click else ["-v"]), "a", "sh", "-c", "exit 7")
    until(waiting(database))
    lease.release()
    assert ended(process) == 7
    assert is_clean(database, path)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["run", "-v", "--no-wait", "a", "true"], 75),
        (["run", "-v", "--max-waiting", "0", "-E", "3", "a", "true"], 3),
        (["run", "missing", "true"], 1),
        (["run", "-vn", "missing", "a", "true"], 1),
        (["rate-limit", "missing"], 1),
        (["rate-limit", "--no-such"], 2),
        (["inspect", "missing"], 1),
        (["create"], 2),
        (["no-such-command"], 2),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else "",
)
def test_the_status_is_as_if_it_had_been_told(
    deaf: Start, database: Limiter, path: Path, words: list[str], status: int
) -> None:
    """Errors that nobody can read end a command as they otherwise do."""
    lease = database.acquire("a")
    assert ended(deaf(*words)) == status
    lease.release()
    assert is_clean(database, path)


def test_a_command_that_cannot_be_run_keeps_no_slot(
    deaf: Start, database: Limiter, path: Path
) -> None:
    """What is said of it may take its time: the slot is free before."""
    assert ended(deaf("run", "-v", "a", "no-such-command")) == 127
    assert is_clean(database, path)


def test_a_question_that_nobody_can_read(deaf: Start, database: Limiter) -> None:
    """Without an answer nothing is deleted."""
    process = deaf("delete", "a")
    process.communicate("", timeout=DEADLINE_SECONDS)
    assert process.returncode == 1
    assert [one.name for one in database.read_all()] == ["a"]


def test_the_command_writes_to_what_was_given(localgcl: Program, database: Limiter) -> None:
    """Its own output is its own affair: it is ended by SIGPIPE where nobody reads."""
    with nobody_at_the_other_end() as writer:
        process = localgcl.start("run", "-v", "a", "yes", stderr=writer, stdout=writer)
        assert ended(process) == 128 + signal.SIGPIPE
    script = "cat /proc/self/status; test -e /proc/self/fd/2 || exit 3"
    words = ["sh", "-c", 'exec "$@" 2>&-', "sh", *localgcl.words, "run", "-v", "a"]
    done = subprocess.run([*words, "sh", "-c", script], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 3
    assert not masks(done.stdout)["Ign"] & (bit(signal.SIGPIPE) | bit(signal.SIGXFSZ))


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_closed_for_the_command(
    localgcl: Program, database: Limiter, path: Path, closed: str
) -> None:
    """And nothing that `run` opens takes their place."""
    count = "for one in 0 1 2; do test -e /proc/$$/fd/$one && n=$((n + 1)); done"
    script = f"n=0; {count}; exit $n"
    words = [*localgcl.words, "run", "-v", "a", "sh", "-c", script]
    closing = ["sh", "-c", f'exec "$@" {closed}', "sh", *words]
    done = subprocess.run(closing, stdin=subprocess.DEVNULL, timeout=DEADLINE_SECONDS)
    assert done.returncode == 3 - len(closed.split())
    assert is_clean(database, path)


def test_what_a_slow_reader_has_room_for_is_told(localgcl: Program, database: Limiter) -> None:
    """A non-blocking standard error gets all of it, as long as it takes it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    lease = database.acquire("a", holder="x" * 8000)
    process = localgcl.start("run", "-v", "a", "true", stderr=writer)
    os.close(writer)
    with open(reader, encoding="utf-8") as file:
        assert "waiting for 'a'" in file.readline()
        assert "x" * 8000 in file.readline()
        lease.release()
        assert ended(process) == 0
        assert "got 'a'" in file.read()


# Standard output


@pytest.fixture
def many(database: Limiter) -> Limiter:
    """More limits than a pipe takes the names of."""
    for number in range(60):
        database.create(f"{number} {'x' * 240}", 1)
    return database


LISTINGS = [["ls"], ["ls", "-o", "json"], ["export"], ["metrics"], ["top"]]


@pytest.mark.parametrize("words", LISTINGS, ids=" ".join)
def test_a_reader_that_has_enough(localgcl: Program, many: Limiter, words: list[str]) -> None:
    """`localgcl ls | head -1` ends quietly, with the status that it has otherwise."""
    with nobody_at_the_other_end() as writer:
        process = localgcl.start(*words, stdout=writer)
        _, error = process.communicate(timeout=DEADLINE_SECONDS)
    assert (process.returncode, error) == (0, "")


def test_a_reader_that_has_enough_of_a_change(localgcl: Program, database: Limiter) -> None:
    """What is done is done, and a fault that was found stays one."""
    with nobody_at_the_other_end() as writer:
        for words in (["create", "b", "-l", "1"], ["--help"], ["--version"], ["run", "--help"]):
            process = localgcl.start(*words, stdout=writer)
            assert process.communicate(timeout=DEADLINE_SECONDS)[1] == ""
            assert process.returncode == 0
        Path(f"{database._database.path}-run").chmod(0o755)
        process = localgcl.start("doctor", stdout=writer)
        assert process.communicate(timeout=DEADLINE_SECONDS)[1].startswith("Error: 1 fault(s)")
        assert process.returncode == 1
    assert database.read("b").limit == 1


@pytest.mark.parametrize(
    "words",
    [*LISTINGS, ["--help"], ["--version"], ["run", "--help"], ["create", "b", "-l", "1"]],
    ids=" ".join,
)
@pytest.mark.parametrize("buffered", [True, False], ids=["", "unbuffered"])
def test_output_that_cannot_be_written(
    localgcl: Program, many: Limiter, words: list[str], buffered: bool
) -> None:
    """A full disk is an error of one line, and nothing more is said when the program ends."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1"}
    with full_disk() as descriptor:
        process = localgcl.start(*words, stdout=descriptor, env=environment)
        _, error = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 1
    assert error == f"Error: cannot write: {os.strerror(errno.ENOSPC)}\n"


def test_completion_that_cannot_be_written(localgcl: Program, many: Limiter) -> None:
    """A shell that completes gets a status too, and no traceback."""
    words = {"_LOCALGCL_COMPLETE": "bash_complete", "COMP_WORDS": "localgcl ", "COMP_CWORD": "1"}
    with full_disk() as descriptor:
        process = localgcl.start(stdout=descriptor, env={**os.environ, **words})
        _, error = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 1
    assert error == f"Error: cannot write: {os.strerror(errno.ENOSPC)}\n"


def test_nowhere_to_write_at_all(localgcl: Program, many: Limiter) -> None:
    """With both streams broken there is a status."""
    for words, status in ((["ls"], 1), (["inspect", "missing"], 1), (["create"], 2)):
        with full_disk() as descriptor:
            process = localgcl.start(*words, stdout=descriptor, stderr=descriptor)
            assert ended(process) == status
    for words, status in ((["ls"], 0), (["inspect", "missing"], 1), (["create"], 2)):
        closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *localgcl.words, *words]
        assert subprocess.run(closed, timeout=DEADLINE_SECONDS).returncode == status


def test_a_pipe_that_is_not_to_block(localgcl: Program, many: Limiter) -> None:
    """Output larger than a non-blocking pipe arrives whole, however slowly it is read."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    process = localgcl.start("ls", "-o", "json", stdout=writer)
    os.close(writer)
    with open(reader, encoding="utf-8") as file:
        text = file.read()
    assert ended(process) == 0
    assert text.count('"name"') == 61
    assert len(text) > 16384


@pytest.mark.parametrize("words", [["delete", "a"], ["reset", "a"], ["apply", "-"]], ids=" ".join)
def test_an_answer_that_cannot_be_read(
    localgcl: Program, database: Limiter, words: list[str]
) -> None:
    """A standard input that was opened for writing is no answer."""
    written = os.open(os.devnull, os.O_WRONLY)
    process = localgcl.start(*words, stdin=written)
    os.close(written)
    _, error = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 1
    assert error.splitlines()[-1].startswith("Error: ")
    assert "cannot write" not in error
    assert "Traceback" not in error
    assert [one.name for one in database.read_all()] == ["a"]
