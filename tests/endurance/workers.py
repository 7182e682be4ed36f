"""The processes of a run, as their parent sees them: begun, killed, and found to be over."""

from __future__ import annotations

import os
import random
import shlex
import signal
import subprocess
import sys
import time

from tests.endurance.journal import Journal, now
from tests.endurance.served import CREDENTIALS, DESCRIPTORS, PORT
from tests.endurance.witness import PATIENCE_SECONDS

_CANNOT = "cannot be used"  # what a DatabaseError says
_NO_SLOT = 75


class Worker:
    """A process of the run, which nobody but its parent, us, may reap or kill."""

    def __init__(self, name: str, command: list[str], journal: Journal, errors: str) -> None:
        self.name = name
        self.errors = errors
        self.killed = False
        self._journal = journal
        self._over = False
        with open(errors, "wb") as file:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )

    def signal(self, number: int) -> None:
        """Send it a signal, unless it is gone."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """Kill it, and say so before."""
        self._journal.write("kill", self.name, now())
        self.killed = True
        self.signal(signal.SIGKILL)

    def is_over(self) -> bool:
        """Whether it is gone, which the journal then knows."""
        if not self._over and self.process.poll() is not None:
            self._over = True
            self._conclude()
        return self._over

    def _conclude(self) -> None:
        self._journal.write("dead", self.name)

    def _said(self) -> str:
        with open(self.errors, encoding="utf-8", errors="replace") as file:
            return file.read().strip()

    @property
    def complaint(self) -> str | None:
        """Return what is wrong about its end, if anything is."""
        said = self._said()
        status = self.process.returncode
        if said or (status and not (self.killed and status == -signal.SIGKILL)):
            return f"{self.name} ended with status {status}: {said[-2000:]}"
        return None


class Server(Worker):
    """A `localgcl serve` that may have few connections open."""

    def __init__(self, journal: Journal, errors: str) -> None:
        few = f'ulimit -n {DESCRIPTORS}; exec "$@"'
        serve = [sys.executable, "-m", "localgcl", "serve", "--auth", CREDENTIALS]
        command = ["sh", "-c", few, "sh", *serve, "--port", os.environ[PORT]]
        super().__init__("server", command, journal, errors)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._said() and time.monotonic() < deadline:
            time.sleep(0.01)

    @property
    def complaint(self) -> str | None:
        said = self._said()
        serving, *lines = said.split("\n")
        corrupt_rows_error = [
            line for line in lines if _CANNOT not in line
        ]  # a full disk is told of
        if not serving.startswith("Serving ") or corrupt_rows_error or self.process.returncode:
            return f"the server ended with status {self.process.returncode}: {said[-2000:]}"
        return None


# What `localgcl run` runs: it says when it begins and ends, and lives through a SIGTERM. The time
# is of the same clock, but rounded down.
_COMMAND = """trap : TERM; read time _ < /proc/uptime
printf 'began\\t%s\\t%s\\n' {tag} $time >> {journal}
sleep {seconds}
read time _ < /proc/uptime
{end}"""
_END = """printf 'out\\t%s\\t%s\\n' {tag} $time >> {journal}"""


class Wrapper(Worker):
    """A `localgcl run`, whose command keeps the slot when it is killed itself."""

    def __init__(
        self, name: str, rng: random.Random, names: list[str], journal: Journal, errors: str
    ) -> None:
        self._tag = f"{name}-1"
        self._by_rate = rng.random() < 0.2
        words = {"tag": self._tag, "journal": shlex.quote(journal.path)}
        end = "" if self._by_rate else _END.format(**words)
        script = _COMMAND.format(**words, seconds=f"{rng.uniform(0, 0.2):.3f}", end=end)
        also = [word for other in names[1:] for word in ("--also", other)]
        options = [
            *rng.choice([[], [], ["--timeout", "0.2"], ["--no-wait"], ["--max-waiting", "2"]]),
            *(["--rate-limit"] if self._by_rate else []),
        ]
        slots = rng.choice([1, 1, 1, 2])
        journal.write("ask", self._tag, now(), int(not self._by_rate), slots, ",".join(names))
        options += ["--holder", self._tag, "--occupy", str(slots)]
        run = [sys.executable, "-m", "localgcl", "run", *also, *options]
        super().__init__(name, [*run, names[0], "--", "sh", "-c", script], journal, errors)

    def kill(self) -> None:
        self._journal.write("orphan", self._tag)
        self.killed = True
        self.signal(signal.SIGKILL)

    def _conclude(self) -> None:
        status = self.process.returncode
        if self.killed:
            return
        if status == 0:
            if not self._by_rate:
                self._journal.write("free", self._tag, now())
        elif _CANNOT in self._said():
            self._journal.write("lost", self._tag, now(), "run: DatabaseError")
        else:
            reason = "timed out" if status == _NO_SLOT else f"run ended with {status}"
            self._journal.write("not", self._tag, reason, now())
        super()._conclude()

    @property
    def complaint(self) -> str | None:
        said = self._said().splitlines()
        expected = {0: 0, 1: 1, _NO_SLOT: 0, 128 + signal.SIGTERM: 0, -signal.SIGTERM: 0}
        if self.killed or expected.get(self.process.returncode) == len(said):
            return None
        return f"{self.name} ended with status {self.process.returncode}: {said}"
