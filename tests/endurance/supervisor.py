"""One run: processes that come and go, the faults, the witness, and how it all ends."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from localgcl import Limiter
from tests.endurance import actor, served
from tests.endurance.faults import DISK_BYTES, Faults
from tests.endurance.journal import Journal, Reader, now
from tests.endurance.wishes import ASLEEP, KEYS, LIMITS, TEMPLATE, WINDOWS
from tests.endurance.witness import PATIENCE_SECONDS, Witness
from tests.endurance.workers import Server, Worker, Wrapper

# How many are at work at once: two cores are not to be overwhelmed.
_WORKERS = 6
_KINDS = {
    "single": 3,
    "threads": 2,
    "forks": 2,
    "tasks": 3,
    "run": 6,
    "closers": 3,
    "scarce": 2,
    "becomes": 3,
    "forks_in_c": 2,
}

# What waiting may cost: a look for each fault that concerns a waiter, and the start of Python.
_IDLE_SHARE, _IDLE_SECONDS = 0.05, 2.0

_TURN_SECONDS = 0.02


class Run:
    """A run of so many seconds, on these random numbers."""

    def __init__(self, seconds: float, seed: int, directory: str, *, own_disk: bool) -> None:
        self.seconds = seconds
        self.violations: list[str] = []
        self.started: Counter[str] = Counter()
        self.idle_share = 0.0
        self.largest_wal = 0
        self.database = f"{directory}/limits.db"
        self._logs = tempfile.mkdtemp(prefix="endurance-")
        self._rng = random.Random(f"{seed} supervisor")
        os.environ.update(
            {
                actor.DATABASE: self.database,
                actor.JOURNAL: f"{self._logs}/journal",
                actor.SEED: str(seed),
                served.PORT: str(_free_port()),
            }
        )
        self._journal = Journal(f"{self._logs}/journal")
        self._reader = Reader(f"{self._logs}/journal")
        self.witness = Witness(self.violations.append)
        self.faults = Faults(
            random.Random(f"{seed} faults"), self._journal, self.database, own_disk=own_disk
        )
        self._workers: list[Worker] = []
        self._others: list[Worker] = []  # who lasts to the end
        self._server: Server | None = None
        self._count = 0

    def go(self) -> None:
        """Run, and see that nothing is left."""
        with Limiter(self.database) as limiter:
            for name, (slots, decay) in (*LIMITS.items(), (ASLEEP, (1, 0.0))):
                limiter.create(name, slots, slot_decay_per_second=decay)
                self._journal.write("limit", name, slots, decay, 0)
            for name, (slots, seconds) in WINDOWS.items():
                limiter.create(name, slots, window_seconds=seconds)
                self._journal.write("limit", name, slots, 0, seconds)
            limiter.create(TEMPLATE, 1)
            for name in KEYS:
                self._journal.write("limit", name, 1, 0, 0)
        others = self._others
        for module in ("observer", "operating"):
            others.append(self._start(module))
        sleepers = [self._start("worker", "sleepers", self.seconds + 600) for _ in range(2)]
        others.extend(sleepers)
        self._server = Server(self._journal, f"{self._logs}/server.err")
        others.append(self._start("worker", "clients", self.seconds + 600))
        began = time.monotonic()
        while (passed := time.monotonic() - began) < self.seconds:
            while len(self._workers) < _WORKERS and self.seconds - passed > 1:
                kind = self._rng.choices(list(_KINDS), list(_KINDS.values()))[0]
                life = min(self._rng.uniform(1, 8), self.seconds - passed)
                self._workers.append(self._start("worker", kind, life))
            self._turn()
            self.faults.pass_time(self._workers)
            time.sleep(_TURN_SECONDS)
        self.faults.end()
        self.idle_share = sum(map(_cpu_seconds, sleepers)) / self.seconds
        if self.idle_share > _IDLE_SHARE + _IDLE_SECONDS / self.seconds:
            self.witness.wrong(7, f"40 sleeping waiters took {self.idle_share:.1%} of a core")
        with open(f"{self._logs}/journal.end", "wb"):
            pass
        self._workers += others
        self._drain()
        self._end_server()
        self._check_end()
        for what in ("asked", "granted", "views", "sums"):
            if not self.witness.counts[what]:
                self.witness.wrong(0, f"nothing was {what}: this run shows nothing")

    def _start(self, module: str, kind: str = "", life: float = 0.0) -> Worker:
        self._count += 1
        self.started[kind or module] += 1
        name = f"{kind or module}.{self._count}"
        arguments = [kind, name, f"{life:.3f}"] if kind else []
        errors = f"{self._logs}/{name}.err"
        if kind == "run":
            names = self._rng.sample(list(LIMITS), self._rng.choice([1, 1, 2]))
            return Wrapper(name, self._rng, names, self._journal, errors)
        command = [sys.executable, "-m", f"tests.endurance.{module}", *arguments]
        return Worker(name, command, self._journal, errors)

    def _turn(self) -> None:
        """Bury the dead, and read what is new."""
        for worker in [one for one in self._workers if one.is_over()]:
            self._workers.remove(worker)
            if worker.complaint is not None:
                self.witness.wrong(0, worker.complaint)
            else:
                os.unlink(worker.errors)
        with suppress(FileNotFoundError):
            self.largest_wal = max(self.largest_wal, os.stat(f"{self.database}-wal").st_size)
        self.witness.read(self._reader.lines())
        for request in self.witness.too_long(now()):
            self.witness.wrong(2, f"{request} waits longer than anything could take")
            request.killed = True  # said once

    def _drain(self) -> None:
        """Let everybody come to an end."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._workers or len(self._strays()) > 1:  # beside the server
            self._turn()
            time.sleep(_TURN_SECONDS)
            if time.monotonic() > deadline:
                names = [worker.name for worker in self._workers] or self._strays()
                self.witness.wrong(2, f"{names} did not come to an end")
                break
        for worker in self._workers:
            worker.kill()
            worker.process.wait()
        self._turn()

    def _end_server(self) -> None:
        """End it, whose clients are gone."""
        assert self._server is not None
        self._server.signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._server.process.wait(PATIENCE_SECONDS)
        if not self._server.is_over():
            self.witness.wrong(2, "the server did not come to an end")
        elif self._server.complaint is not None:
            self.witness.wrong(0, self._server.complaint)

    def _strays(self) -> list[str]:
        """Return the processes that are left of this run: children of those that were killed."""
        mark = f"{actor.JOURNAL}={self._logs}/journal".encode()
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as file:
                    if mark in file.read().split(b"\0"):
                        found.append(pid)
            except OSError:
                continue  # gone by now, or not ours
        return [pid for pid in found if int(pid) != os.getpid()]

    def _check_end(self) -> None:
        """See that everything is free once somebody has looked."""
        with Limiter(self.database) as limiter:
            for limit in limiter.read_all():
                if limit.slot_decay_per_second == 0 and limit.active_slots:
                    self.witness.wrong(2, f"in the end {limit.name} has {limit.active_slots} taken")
                if limit.waiting:
                    self.witness.wrong(9, f"in the end {limit.waiting} wait for {limit.name}")
            if left := [*limiter.holders(), *limiter.waiters()]:
                self.witness.wrong(2, f"in the end there is left {left}")

            def rows(tx: object) -> list[tuple[str, int]]:
                # A restored file may name clients of the server, who are let go by the clock.
                tables = ("leases", "waits", "waiters", "owners WHERE expires IS NULL")
                return [
                    (table, tx.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # type: ignore[attr-defined]
                    for table in tables
                ]

            counts = limiter._database.transact(rows)
            if any(count for _, count in counts):
                self.witness.wrong(9, f"in the end there are rows: {counts}")
            ((intact,),) = limiter._database.transact(
                lambda tx: tx.execute("PRAGMA integrity_check").fetchall()
            )
            if intact != "ok":
                self.witness.wrong(10, f"in the end the file is damaged: {intact}")
        files = set(os.listdir(f"{self.database}-run")) - {"gate"}
        if files:
            self.witness.wrong(9, f"in the end the run folder has {sorted(files)}")

    def close(self) -> str | None:
        """Close the journal; return where it is kept, as it is where something was wrong."""
        servers = () if self._server is None else (self._server,)
        for worker in (*self._workers, *self._others, *servers):  # of an interrupted run
            worker.signal(signal.SIGKILL)
            worker.process.wait()
        while strays := self._strays():
            for pid in strays:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        self._journal.close()
        self._reader.close()
        if self.violations:
            return f"{self._logs}/journal"
        shutil.rmtree(self._logs)
        return None


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


def _cpu_seconds(worker: Worker) -> float:
    with open(f"/proc/{worker.process.pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def place() -> Iterator[tuple[str, bool]]:
    """Yield a directory for the database, and whether it is on a small disk of its own."""
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="endurance-db-"))
        # As private as what it is mounted on: elsewhere the gate that the operator makes, where a
        # cleaner took it, would be refused as another user's.
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "tmpfs", directory]
        mounted = (
            os.geteuid() == 0
            and shutil.which("mount") is not None
            and subprocess.run(mount, capture_output=True, check=False).returncode == 0
        )
        if mounted:
            stack.callback(subprocess.run, ["umount", "--lazy", directory], check=True)
        yield directory, mounted
