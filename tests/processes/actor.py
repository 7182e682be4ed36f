"""A process that does what it is told: `python -m tests.processes.actor DATABASE [USER GROUP]`.

It reads a JSON list of a verb and its arguments from each line of standard input, and answers each
with one line of JSON once it is done.
"""

from __future__ import annotations

import asyncio
import fcntl
import functools
import importlib
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from localgcl import AcquireConcurrencySlotTimeoutError, AsyncLimiter, DatabaseError, Lease, Limiter
from localgcl._drivers.blocking import Listener
from localgcl._engine import acquire as _slots
from localgcl._engine import release as _release
from localgcl._engine import request as _outcomes
from localgcl._engine import wait as _wait
from localgcl._storage import database as _database
from localgcl._storage.database import Transaction


class Script:
    """The verbs."""

    def __init__(self, database: str) -> None:
        self.limiter = Limiter(database)
        self.leases: list[Lease] = []

    def create(self, name: str, limit: int) -> None:
        self.limiter.create(name, limit)

    def acquire(self, names: list[str], occupy: int = 1, timeout: float | None = None) -> str:
        self.leases.append(self.limiter.acquire(names, occupy, timeout, strict=True))
        return self.leases[-1].id

    def acquire_in_loop(self, name: str) -> None:
        """Take a slot in a task, whose loop ends with it held."""
        asyncio.run(AsyncLimiter(self.limiter._database.path).acquire(name, strict=True))

    def acquire_in_threads(self, name: str, threads: int) -> None:
        """Take a slot in each of so many threads, one after another, and free it."""

        def take() -> None:
            self.limiter.acquire(name, strict=True).release()

        waiting = [threading.Thread(target=take) for _ in range(threads)]
        for thread in waiting:
            thread.start()
        for thread in waiting:
            thread.join()

    def sleep_soundly(self) -> None:
        """Look at nothing by itself while it waits, but for what the periodic check tells."""
        _wait.NET_SECONDS = Listener.recheck_seconds = math.inf

    def raise_and_die(self, name: str, limit: int) -> None:
        """Raise a limit, and be killed between the commit and whatever comes after it."""
        _database._wake = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        self.limiter.update(name, limit=limit)

    def rate_limit(self, name: str, timeout: float | None = None) -> None:
        self.limiter.rate_limit(name, timeout_seconds=timeout, strict=True)

    def block_loop(self, name: str) -> None:
        """Have a task wait at a rate, and block its loop for ever."""

        async def main() -> None:
            limiter = AsyncLimiter(self.limiter._database.path)
            task = asyncio.create_task(limiter.rate_limit(name, strict=True))
            while not await limiter.waiters(name):
                await asyncio.sleep(0.001)
            print(json.dumps("blocks"), flush=True)
            time.sleep(600)
            await task

        asyncio.run(main())

    def release(self) -> None:
        self.leases.pop().release()

    def fork(self) -> bool:
        """Fork while holding: the child ends its lease, takes and frees one more, and ends."""
        child = os.fork()
        if not child:
            self.leases[-1].release()
            self.limiter.acquire("other", timeout_seconds=5).release()
            os._exit(0)
        return os.waitpid(child, 0)[1] == 0

    def block(self, name: str) -> None:
        """Hold inside a `with` block that only a signal ends."""
        with self.limiter.concurrency(name, strict=True):
            time.sleep(600)

    def stop_inside_acquire(self, name: str) -> None:
        """Stop oneself inside the transaction that takes a slot, which is taken already there."""
        stop = functools.partial(os.kill, os.getpid(), signal.SIGSTOP)
        self.limiter._database.transact(self._taking(name, stop))

    def _taking(self, name: str, then: Callable[[], object]) -> Callable[[Transaction], None]:
        request = _outcomes.Request((name,), 1, holds=True, strict=True, once=True, holder=None)
        listener = Listener(self.limiter._database, request)

        def work(tx: Transaction) -> None:
            assert isinstance(_slots.acquire(tx, request, listener), _outcomes.Granted)
            request.settled = True  # there is nothing that the listener has to undo
            then()

        return work

    def stop_inside_release(self) -> None:
        """Stop oneself inside the transaction that frees a slot, which is free already there."""

        def work(tx: Transaction) -> None:
            assert _release.release_by_id(tx, self.leases[-1].id)
            os.kill(os.getpid(), signal.SIGSTOP)

        self.limiter._database.transact(work)

    def fork_beside_a_transaction(self, name: str, stuck: bool) -> int:
        """Fork while another thread is inside a transaction; the child takes a slot and frees it.

        The thread takes a slot too, and stays for 50 ms, or, where it is `stuck`, to the end.
        """
        inside, ended = threading.Event(), threading.Event()

        def stay() -> None:
            inside.set()
            ended.wait(30 if stuck else 0.05)

        work = self._taking(name, stay)
        thread = threading.Thread(target=self.limiter._database.transact, args=(work,))
        thread.start()
        inside.wait()
        status = self._child_takes(name)
        ended.set()
        thread.join()
        return status

    def _child_takes(self, name: str) -> int:
        child = os.fork()
        if not child:
            status = 1
            try:
                self.limiter.acquire(name, timeout_seconds=30).release()
                status = 0
            except DatabaseError as error:
                status = 2 if "forked" in str(error) else 1
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def fork_asleep(self, beside: str | None = None) -> int:
        """Fork a child that sleeps, `beside` a thread that takes a slot and never ends with it."""
        if beside is not None:
            inside = threading.Event()

            def stay() -> None:
                inside.set()
                time.sleep(60)

            work = self._taking(beside, stay)
            threading.Thread(target=self.limiter._database.transact, args=(work,)).start()
            inside.wait()
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
        return child

    def fork_after_a_shut_gate(self, name: str) -> int:
        """Fail to open the file in time, as the gate is shut, and fork; the child takes a slot."""
        gate = os.open(f"{self.limiter._database.path}-run/gate", os.O_RDWR)
        fcntl.flock(gate, fcntl.LOCK_EX)
        try:
            self.limiter.acquire(name, timeout_seconds=0.05)
        except AcquireConcurrencySlotTimeoutError:
            os.close(gate)
        return self._child_takes(name)

    def fork_and_close(self, name: str) -> int:
        """Fork with the file open, close it here, and have the child take a slot; return its pid.

        The child frees it when this process ends, and ends with it.
        """
        self.limiter.read_all()
        here, there = os.pipe(), os.pipe()
        child = os.fork()
        if not child:
            self.limiter.read_all()
            os.write(there[1], b"open")
            os.read(here[0], 1)
            self.limiter.acquire(name, timeout_seconds=0)
            os.write(there[1], b"held")
            os.close(here[1])
            os.read(here[0], 1)  # to the end of its parent
            os._exit(0)
        os.read(there[0], 4)
        self.limiter.close()
        os.write(here[1], b"!")
        assert os.read(there[0], 4) == b"held"
        return child

    def leave(self) -> None:
        os._exit(3)


def become(user: int, group: int) -> None:
    """Give up root's privileges for those of a user."""
    # What is loaded later could lie in a folder that this user cannot enter.
    for module in ("encodings.ascii", "filelock", "localgcl._admin.limits", "pwd", "uuid"):
        importlib.import_module(module)
    Limiter("/nonexistent/limits.db").read_all()
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)


def main() -> None:
    """Answer until standard input ends."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    database, *account = sys.argv[1:]
    if account:
        become(*map(int, account))
    script = Script(database)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        verb, *arguments = json.loads(line)
        answer: Any
        try:
            answer = getattr(script, verb)(*arguments)
        except (Exception, KeyboardInterrupt) as error:
            answer = {"error": type(error).__name__}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
