"""Real processes: actors that are told what to do, and a database of their own for each test."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localgcl import Limiter

# Only a fault makes anything here take as long.
DEADLINE_SECONDS = 30.0


_STOPPED = os.WSTOPPED | os.WNOHANG | os.WNOWAIT


class Actor:
    """A process that answers each line it is told with a line."""

    def __init__(self, database: Path, *account: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.processes.actor", str(database), *map(str, account)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.pid = self.process.pid
        assert self.answer() == "ready"

    def tell(self, verb: str, *arguments: Any) -> None:
        """Tell it to begin something."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([verb, *arguments]) + "\n")

    def answer(self) -> Any:
        """Return its next answer."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], DEADLINE_SECONDS)
        assert ready, "the actor did not answer"
        return json.loads(self.process.stdout.readline())

    def do(self, verb: str, *arguments: Any) -> Any:
        """Tell it something and return the answer."""
        self.tell(verb, *arguments)
        return self.answer()

    def has_answered(self, seconds: float = 0.0) -> bool:
        """Whether an answer can be read within some seconds."""
        assert self.process.stdout is not None
        return bool(select.select([self.process.stdout], [], [], seconds)[0])

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def until_stopped(self) -> None:
        """Wait until it has stopped itself."""
        until(lambda: os.waitid(os.P_PID, self.pid, _STOPPED) is not None)

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.process.wait(DEADLINE_SECONDS)

    def end(self) -> int:
        """Let it end by itself, and return its status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(DEADLINE_SECONDS)

    def close(self) -> None:
        """End it, however it is."""
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that other processes bring about."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.005)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a database that is not there yet."""
    return tmp_path / "limits.db"


@pytest.fixture
def limiter(path: Path) -> Iterator[Limiter]:
    """A limiter on it, in this process."""
    with Limiter(path) as opened:
        yield opened


@pytest.fixture
def actor(path: Path) -> Iterator[Callable[..., Actor]]:
    """Start actors, as a user and its group if these are given, that are ended with the test."""
    started: list[Actor] = []

    def start(*account: int) -> Actor:
        started.append(Actor(path, *account))
        return started[-1]

    yield start
    for one in started:
        one.close()


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


@pytest.fixture
def localgcl(path: Path) -> Iterator[Program]:
    """The program."""
    program = Program(path)
    yield program
    program.close()


@pytest.fixture
def database(limiter: Limiter) -> Limiter:
    """A limiter of a database with one limit of one slot, `a`."""
    limiter.create("a", 1)
    return limiter
