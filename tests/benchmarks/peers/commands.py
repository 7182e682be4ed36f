"""The peers that are commands: who holds a slot is a command that they run."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable

from localgcl import Limiter
from tests.benchmarks.peers.adapter import (
    BURST,
    PLENTY,
    RATE,
    SLOTS,
    Adapter,
    Call,
    now,
)

# Says that it has begun, and ends when it hears something.
_HOLD = "echo; read _"


class Running:
    """A slot that a command holds for as long as it runs; it begins and ends at our word."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        self._argv = argv
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def enter(self) -> None:
        self._process = process = subprocess.Popen(
            self._argv,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )
        assert process.stdout is not None
        if process.stdout.readline() != b"\n":
            raise RuntimeError(f"{self._argv} ended with status {process.wait()}")

    def leave(self) -> None:
        process, self._process = self._process, None
        assert process is not None
        process.communicate(b"\n")

    def kill(self) -> None:
        """Kill all that runs there: the command would else go on, and rightly keep its slot."""
        assert self._process is not None
        for pid in _session(self._process.pid):
            os.kill(pid, signal.SIGKILL)
        # Whoever asks for a pid finds it until then.
        self._process.wait()


def _session(leader: int) -> list[int]:
    """Return the processes of a session."""
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(ProcessLookupError):  # another one that has just ended
            if os.getsid(pid) == leader:
                found.append(pid)
    return found


class _Command(Adapter):
    """`self.argv` runs a command while holding a slot of a limit."""

    settle_seconds = 2.0  # each is a process to be started

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self._slots: list[Running] = []

    def argv(self, limit: str, *command: str) -> list[str]:
        raise NotImplementedError

    def slot(self, limit: str) -> Running:
        slot = Running(self.argv(limit, "sh", "-c", _HOLD), self.environment)
        self._slots.append(slot)
        return slot

    def pair(self, limit: str) -> Call:
        argv = self.argv(limit, "true")
        return lambda: subprocess.run(argv, env=self.environment, check=True)

    def once(self) -> list[str]:
        return self.argv(PLENTY, "true")

    def die(self, say: Callable[[float], None]) -> None:
        at = now()
        self._slots[-1].kill()
        say(at)


class Run(_Command):
    title = "localgcl run"
    settle_seconds = 1.0
    _script = os.path.join(os.path.dirname(sys.executable), "localgcl")

    def prepare(self) -> None:
        with Limiter(self._path()) as limiter:
            for name, slots in SLOTS.items():
                limiter.create(name, slots)
            limiter.create("rate", BURST, slot_decay_per_second=RATE)

    def _path(self) -> str:
        return os.path.join(self.folder, "localgcl.db")

    def _localgcl(self, *arguments: str) -> list[str]:
        return [self._script, "--db", self._path(), *arguments]

    def argv(self, limit: str, *command: str) -> list[str]:
        return self._localgcl("run", limit, "--", *command)

    def rate(self) -> Call:
        argv = self._localgcl("rate-limit", "rate")
        return lambda: subprocess.run(argv, check=True)


class Flock(_Command):
    title = "flock(1)"
    settle_seconds = 0.5
    command = "flock"
    has_rate = False

    def argv(self, limit: str, *command: str) -> list[str]:
        # It has one slot, which they all share.
        return ["flock", os.path.join(self.folder, limit), *command]


class Sem(_Command):
    title = "GNU sem"
    command = "sem"
    has_rate = False

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.environment["HOME"] = folder  # where it has its semaphores
        self.environment.pop("PARALLEL_HOME", None)

    def argv(self, limit: str, *command: str) -> list[str]:
        # It hands one line to a shell, and keeps output back unless told not to.
        return [
            *("sem", "--will-cite", "--fg", "--ungroup", "--id", limit),
            *("--jobs", str(SLOTS[limit]), shlex.join(command)),
        ]
