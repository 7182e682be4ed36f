"""Processes to which a program does what a lock does not expect: see each kind.

Their descriptors are closed, they run out of descriptors and of threads, they become another
program, and they are forked by C.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import resource
import shlex
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, NoReturn

from localgcl import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    DatabaseError,
)
from localgcl._base import threads as _threads
from tests.endurance.actor import Actor
from tests.endurance.blocking import Blocking
from tests.endurance.wishes import wish
from tests.endurance.worker import fork, leave

_OWN_FILES = 12


class Descriptors:
    """Those of this process: the program closes what it did not open, and uses the numbers."""

    def __init__(self, actor: Actor, rng: random.Random) -> None:
        self._actor = actor
        self._rng = rng
        self._kept = {0, 1, 2, actor.journal.descriptor}
        self._folder = os.path.dirname(actor.journal.path)
        self._files: dict[int, tuple[str, os.stat_result]] = {}

    def close_some(self) -> None:
        """Close all, or a few; sometimes open files of the program's, which have the numbers."""
        self.look()
        if self._rng.random() < 0.5:
            self._close_files()
        kept = self._kept | self._files.keys()
        opened = [int(name) for name in os.listdir("/proc/self/fd") if int(name) not in kept]
        if self._rng.random() < 0.5:
            opened = self._rng.sample(opened, min(len(opened), self._rng.randint(1, 3)))
        for descriptor in opened:
            with contextlib.suppress(OSError):  # that of the listing
                os.close(descriptor)
        if not self._files and self._rng.random() < 0.6:
            self._open_files()

    def _open_files(self) -> None:
        for number in range(_OWN_FILES):
            name = f"{self._folder}/{self._actor.name} {number}"
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            os.set_inheritable(descriptor, bool(number % 2))
            os.write(descriptor, name.encode())
            os.unlink(name)
            self._files[descriptor] = name, os.fstat(descriptor)

    def look(self) -> None:
        """See that the program's files are what they were."""
        for descriptor, (name, before) in self._files.items():
            try:
                now = os.fstat(descriptor)
                found = os.pread(descriptor, 2 * len(name) + 1, 0), now.st_mode, now.st_uid
                place = os.lseek(descriptor, 0, os.SEEK_CUR)
            except OSError as error:
                self._say(f"the program's file {descriptor} was closed: {error!r}")
                continue
            whole = (name.encode(), before.st_mode, before.st_uid)
            if not os.path.samestat(now, before) or found != whole or place != len(name):
                self._say(f"the program's file {descriptor} was changed: {found!r}, at {place}")

    def _say(self, problem: str) -> None:
        self._actor.journal.write("wrong", f"{self._actor.name}: {problem}")

    def _close_files(self) -> None:
        for descriptor in self._files:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._files.clear()


def closers(actor: Actor, until: float) -> None:
    """One thread, which closes the descriptors of this process, holding slots and not."""
    caller, rng = Blocking(actor), actor.rng("closers")
    descriptors = Descriptors(actor, actor.rng("descriptors"))
    while actor.goes_on(until):
        caller.ask(wish(rng), descriptors.close_some, strictly=False)
        descriptors.look()
    leave(caller, rng)


class Shortage:
    """Times in which this process is given no more descriptors, or no more threads."""

    def __init__(self, rng: random.Random) -> None:
        self.turns = 0  # odd while something is short
        self._rng = rng

    def has_been_since(self, turns: int) -> bool:
        """Whether anything was short since there were so many turns."""
        return bool(self.turns % 2) or self.turns != turns

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Have something be short for as long as this lasts."""
        short = self._rng.choice([self._descriptors, self._threads])
        self.turns += 1
        try:
            with short():
                yield
        finally:
            self.turns += 1

    @contextlib.contextmanager
    def _descriptors(self) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._rng.randint(8, highest + 2), hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    @contextlib.contextmanager
    def _threads(self) -> Iterator[None]:
        real: Any = _threads._start_real

        def refused(*_: object) -> NoReturn:
            raise RuntimeError("can't start new thread")

        _threads._start_real = refused
        try:
            yield
        finally:
            _threads._start_real = real


def scarce(actor: Actor, until: float) -> None:
    """Three threads that ask, in a process that is given too little for a while."""
    shortage = Shortage(actor.rng("shortage"))

    def work(name: str) -> None:
        caller, rng = Blocking(actor, shortage=shortage), actor.rng(name)
        while actor.goes_on(until):
            caller.ask(wish(rng))

    workers = [threading.Thread(target=work, args=(f"thread {n}",)) for n in range(3)]
    for worker in workers:
        worker.start()
    rng = actor.rng("turns")
    while actor.goes_on(until):
        time.sleep(rng.uniform(0, 0.3))
        with shortage.turn():
            time.sleep(rng.choice([0.005, 0.05, rng.uniform(0, 0.5)]))
    for worker in workers:
        worker.join()
    leave(Blocking(actor), actor.rng("end"))


# What a holder becomes: it keeps the slot for a while, and ends without a word to the database.
_OTHER_PROGRAM = """sleep {seconds}
read time _ < /proc/uptime
printf 'out\\t%s\\t%s\\nkill\\t%s\\t%s\\n' {tag} $time {name} $time >> {journal}"""


def becomes(actor: Actor, until: float) -> None:
    """One thread that asks a few times, and becomes another program while it holds."""
    caller, rng = Blocking(actor), actor.rng("becomes")
    for _ in range(rng.randint(0, 5)):
        if actor.goes_on(until):
            caller.ask(wish(rng))
    while actor.goes_on(until):
        wanted = wish(rng)
        tag = actor.asks(wanted.names, wanted.slots, True, wanted.weights)
        try:
            # It is kept by this name until the process has become another.
            lease = caller.limiter.acquire(
                wanted.wanted, wanted.occupy, 0.5, strict=True, holder=tag
            )
        except (ConcurrencySlotAcquisitionError, AcquireConcurrencySlotTimeoutError):
            actor.refused(tag, "timed out")
        except DatabaseError as error:
            actor.failed(tag, error)
        else:
            actor.note("in", tag)
            script = _OTHER_PROGRAM.format(
                seconds=f"{rng.uniform(0, 1):.3f}",
                tag=tag,
                name=actor.name,
                journal=shlex.quote(actor.journal.path),
            )
            os.execv("/bin/sh", ["sh", "-c", script, lease.id])  # noqa: S606 - no shell of its own
    actor.journal.write("kill", actor.name, actor.now())


def forks_in_c(actor: Actor, until: float) -> None:
    """One thread, of which C code makes children, holding slots and not: Python is not told."""
    libc = ctypes.PyDLL(None)
    caller, rng, children = Blocking(actor), actor.rng("forks"), 0
    while actor.goes_on(until):
        children += 1
        child = partial(fork, caller, rng, children, by=libc.fork)
        caller.ask(wish(rng), child, strictly=False)
    leave(caller, rng)


KINDS = {one.__name__: one for one in (closers, scarce, becomes, forks_in_c)}
