"""What goes wrong: processes are killed and stopped, files vanish, the disk is full."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator

from tests.endurance.journal import Journal, now
from tests.endurance.workers import Worker, Wrapper

Workers = list[Worker]

# The disk of the database, where it has one of its own.
DISK_BYTES = 16_000_000


@contextlib.contextmanager
def cleaners_kept_out(journal: str, *, wait: bool) -> Iterator[bool]:
    """Let no cleaner take the gate while an operator who replaces the file relies on it.

    Without `wait`, yield whether nobody else is at it.
    """
    lock = os.open(f"{journal}.cleaner", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(lock)


# What a file is swapped for, by a path and a file to which a link may lead.
_VICTIMS_TEXT = "not a file of localgcl's"
_INTRUDERS: dict[str, Callable[[str, str], None]] = {
    "nothing": lambda _, __: None,
    "a symlink": lambda path, victim: os.symlink(victim, path),
    "a dangling symlink": lambda path, victim: os.symlink(f"{victim} that is not there", path),
    "a hard link": lambda path, victim: os.link(victim, path),
    "a directory": lambda path, _: os.mkdir(path),
    "a FIFO": lambda path, _: os.mkfifo(path),
}


class Faults:
    """Does one thing after another to the processes of a run."""

    def __init__(
        self, rng: random.Random, journal: Journal, database: str, *, own_disk: bool
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._rng = rng
        self._say = journal.write
        self._journal = journal.path
        self._database = database
        self._filler = f"{database}.filler"
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._next = time.monotonic()
        self._victim = f"{database}.victim"
        with open(self._victim, "x", encoding="ascii") as file:
            file.write(_VICTIMS_TEXT)
        os.chmod(self._victim, 0o640)
        self._deeds: dict[Callable[[Workers], None], int] = {
            self.stop: 8,
            self.kill: 5,
            self.terminate: 2,
            self.delete_files: 3,
            self.swap: 3,
            self.write_bytes: 2,
        }
        if own_disk:
            self._deeds[self.fill_disk] = 1

    def pass_time(self, workers: Workers) -> None:
        """Do what is due to these workers."""
        moment = time.monotonic()
        for item in [one for one in self._later if one[0] <= moment]:
            self._later.remove(item)
            item[1]()
        if moment >= self._next:
            self._next = moment + self._rng.uniform(0.02, 0.3)
            deed = self._rng.choices(list(self._deeds), list(self._deeds.values()))[0]
            deed(workers)

    def end(self) -> None:
        """Take back whatever can be taken back."""
        for _, undo in self._later:
            undo()
        self._later.clear()

    def _undo(self, seconds: float, undo: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + seconds, undo))

    def kill(self, workers: Workers) -> None:
        """Kill a process with SIGKILL."""
        if workers:
            self.counts["killed"] += 1
            self._rng.choice(workers).kill()

    def terminate(self, workers: Workers) -> None:
        """Send SIGTERM to a `localgcl run`."""
        runs = [worker for worker in workers if isinstance(worker, Wrapper)]
        if runs:
            self.counts["terminated"] += 1
            self._rng.choice(runs).signal(signal.SIGTERM)

    def stop(self, workers: Workers) -> None:
        """Stop a process, and let it go on a little later."""
        if workers:
            worker = self._rng.choice(workers)
            worker.signal(signal.SIGSTOP)
            self.counts["stopped"] += 1
            seconds = self._rng.choice([0.002, 0.02, 0.1, self._rng.uniform(0, 1.0)])
            self._undo(seconds, lambda: worker.signal(signal.SIGCONT))

    def delete_files(self, _: Workers) -> None:
        """Delete FIFOs, or all the files of the run folder, or the folder."""
        folder = f"{self._database}-run"
        with (
            cleaners_kept_out(self._journal, wait=False) as alone,
            contextlib.suppress(FileNotFoundError),
        ):
            if not alone:
                return
            names = sorted(os.listdir(folder))
            if self._rng.random() < 0.5:
                names = self._rng.sample(names, min(len(names), 3))
            self.counts["files deleted"] += len(names)
            self._say("shake", "*")
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{folder}/{name}")
            if self._rng.random() < 0.3:
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
            self._say("calm", "*")

    def swap(self, _: Workers) -> None:
        """Put something in the place of a file of the run folder, or nothing, for a moment."""
        folder = f"{self._database}-run"
        with contextlib.ExitStack() as stack:
            if not stack.enter_context(cleaners_kept_out(self._journal, wait=False)):
                return
            try:
                names = sorted(os.listdir(folder))
            except FileNotFoundError:
                return
            whole = [name for name in names if name == "gate" or len(name) >= 32]
            if not whole:
                return
            name = self._rng.choice(["gate", *whole])
            path, aside = f"{folder}/{name}", f"{self._database}.aside"
            intruder = self._rng.choice(list(_INTRUDERS))
            self._say("trouble")
            self.counts[f"swapped for {intruder}"] += 1
            with contextlib.suppress(FileNotFoundError):
                os.rename(path, aside)
            with contextlib.suppress(FileExistsError):  # its owner has made it again by now
                _INTRUDERS[intruder](path, self._victim)
            puts_back = self._rng.random() < 0.5
            kept = stack.pop_all()

            def undo() -> None:
                with kept:
                    with contextlib.suppress(NotADirectoryError, FileNotFoundError):
                        os.rmdir(path)
                    if puts_back:
                        with contextlib.suppress(FileNotFoundError):
                            os.rename(aside, path)
                    else:
                        for left in (aside, path):
                            with contextlib.suppress(FileNotFoundError):
                                os.unlink(left)
                    self._say("better", now())
                self.look_at_victim()

            self._undo(self._rng.choice([0, 0.02, self._rng.uniform(0, 0.2)]), undo)

    def look_at_victim(self) -> None:
        """See that nothing was done to the file to which links led."""
        status = os.stat(self._victim)
        with open(self._victim, encoding="latin-1") as file:
            found = file.read(), status.st_mode & 0o7777, status.st_uid
        if found != (_VICTIMS_TEXT, 0o640, os.geteuid()):
            self._say("wrong", f"a file outside the run folder was changed: {found}")

    def write_bytes(self, _: Workers) -> None:
        """Write into every FIFO what nobody asked for."""
        folder = f"{self._database}-run"
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(folder):
                if len(name) >= 32:
                    with contextlib.suppress(OSError):
                        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW
                        fifo = os.open(f"{folder}/{name}", flags)
                        try:
                            if not stat.S_ISFIFO(os.fstat(fifo).st_mode):
                                continue  # what another fault has put there
                            os.write(fifo, self._rng.randbytes(self._rng.choice([1, 8, 4096])))
                        finally:
                            os.close(fifo)
            self.counts["bytes written to FIFOs"] += 1

    def fill_disk(self, _: Workers) -> None:
        """Leave no byte free, and free it again a little later."""
        if os.path.exists(self._filler):
            return
        self._say("trouble")
        with open(self._filler, "wb", buffering=0) as filler:
            for size in (65536, 4096, 512, 1):
                with contextlib.suppress(OSError):
                    while True:
                        filler.write(b"\0" * size)
        self.counts["disk filled"] += 1
        self._undo(self._rng.uniform(0.05, 0.8), self._free_disk)

    def _free_disk(self) -> None:
        os.unlink(self._filler)
        self._say("better", now())
