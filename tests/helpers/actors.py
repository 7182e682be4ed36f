"""Real processes that do what they are told."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.helpers.waiting import DEADLINE_SECONDS, until

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
