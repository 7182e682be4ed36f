"""A program that is refused something once: at each point at which it asks for it, in turn.

It is given a database, a scenario and a fault. The points are counted first, in a try in which
nothing is refused. Each try is in a child of its own, and its outcome is printed as a line: a dot,
or what was wrong.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

from localgcl import DatabaseError, Limiter
from localgcl._base import threads

LONGEST_SECONDS = 20
MOST_DESCRIPTORS = 25


def refused(number: int) -> OSError:
    """Return the kernel's refusal."""
    return OSError(number, os.strerror(number))


# What is asked for, what the refusal is, and what the error then says of it.
FAULTS: dict[str, tuple[str, Callable[[], BaseException], str]] = {
    "descriptors": ("limit", AssertionError, "ulimit -n"),  # there are few, for all that opens
    "open-EMFILE": ("open", lambda: refused(errno.EMFILE), "ulimit -n"),
    "open-ENFILE": ("open", lambda: refused(errno.ENFILE), "fs.file-max"),
    "open-ENOSPC": ("open", lambda: refused(errno.ENOSPC), "disk"),
    "open-ENOMEM": ("open", lambda: refused(errno.ENOMEM), "memory"),
    "open-MemoryError": ("open", MemoryError, "memory"),
    "pipe-EMFILE": ("pipe", lambda: refused(errno.EMFILE), "ulimit -n"),
    "pipe-ENFILE": ("pipe", lambda: refused(errno.ENFILE), "fs.file-max"),
    "thread-RuntimeError": ("thread", lambda: RuntimeError("can't start new thread"), "ulimit -u"),
    "thread-MemoryError": ("thread", MemoryError, "memory"),
    "thread-death": ("thread", SystemExit, "ulimit -u"),
    "import-ImportError": ("import", lambda: ImportError("cannot open shared object"), ""),
    "import-EMFILE": ("import", lambda: refused(errno.EMFILE), "ulimit -n"),
    "import-MemoryError": ("import", MemoryError, "memory"),
}


class Fault:
    """Refuses what is asked for at a certain count, from 1, and counts on until it is left."""

    def __init__(self, fault: str, at: int) -> None:
        self.kind, self.error, self.text = FAULTS[fault]
        self.at = at
        self.count = 0
        self._is_over = False
        self._restore: Callable[[], None] = lambda: None

    def __enter__(self) -> Fault:
        if self.kind == "limit":
            self.count = MOST_DESCRIPTORS
            if self.at:
                self._leave_free(self.at - 1)
        elif self.kind == "open":
            os.open = self._checked(os.open)
            builtins.open = self._checked(builtins.open)
        elif self.kind == "pipe":
            os.pipe = self._checked(os.pipe)
        elif self.kind == "thread":
            threads._start_real = self._started(threads._start_real)
            if self.error is not SystemExit:  # Python itself waits for one that dies so early
                setattr(threading.Thread, "start", self._checked(threading.Thread.start))  # noqa: B010
        else:
            sys.meta_path.insert(0, self)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._restore()

    def _leave_free(self, number: int) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + number, hard))
        taken = []
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        for descriptor in taken[:number]:
            os.close(descriptor)

        def restore() -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in taken[number:]:
                os.close(descriptor)

        self._restore = restore

    def is_now(self) -> bool:
        """Count, and return whether it is refused this time."""
        if self._is_over:
            return False
        self.count += 1
        return self.count == self.at

    def _checked(self, real: Any) -> Any:
        def checked(*args: Any, **kwargs: Any) -> Any:
            if self.is_now():
                raise self.error()
            return real(*args, **kwargs)

        return checked

    def _started(self, real: Any) -> Any:
        def started(function: Any, args: Any) -> Any:
            if not self.is_now():
                return real(function, args)
            error = self.error()
            if not isinstance(error, SystemExit):
                raise error

            def dies(*_: Any) -> NoReturn:
                raise error

            return real(dies, args)

        return started

    def find_spec(
        self, name: str, path: object = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Take part in an import, of whole packages and of what is ours."""
        if (name.startswith("localgcl.") or "." not in name) and self.is_now():
            raise self.error()
        return None


def taken(limiter: Limiter) -> list[Any]:
    """Return the ids of who holds and who waits, without what a read loads and clears away."""
    rows = "SELECT lease FROM leases UNION ALL SELECT request FROM waiters"
    return limiter._database.transact(lambda tx: tx.execute(rows).fetchall())


def run_until_committed(call: Callable[[], object]) -> None:
    """Make a call until it succeeds, as another program would that is let."""
    while True:
        with contextlib.suppress(DatabaseError):
            call()
            return


def take(limiter: Limiter, **arguments: Any) -> None:
    """Take a slot and give it back, both in spite of refusals."""
    lease = limiter.acquire("a", strict=True, **arguments)
    try:
        lease.release()
    except DatabaseError:
        lease.release()
        raise


def uncontended(limiter: Limiter) -> Iterator[None]:
    """A slot that is free."""
    yield
    take(limiter)
    take(limiter, timeout_seconds=5)


_SHUT = """
import fcntl, os, sys, time
gate = os.open(sys.argv[1], os.O_RDWR)
fcntl.flock(gate, fcntl.LOCK_EX)
print(flush=True)
time.sleep(0.1)
"""


@contextlib.contextmanager
def shut_gate(limiter: Limiter) -> Iterator[None]:
    """Have another process shut the gate for a moment."""
    command = [sys.executable, "-Sc", _SHUT, f"{limiter._database.path}-run/gate"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        yield


def gate(limiter: Limiter) -> Iterator[None]:
    """The gate is shut for a moment, and who asks has a deadline."""
    taken(limiter)  # which opens the database
    with shut_gate(limiter):
        yield
        take(limiter, timeout_seconds=5)


def held(limiter: Limiter, **arguments: Any) -> Iterator[None]:
    """The slot is held by a thread that gives it back once somebody waits for it."""
    lease = limiter.acquire("a")
    stop = threading.Event()

    def release() -> None:
        while not stop.wait(0.001):
            with contextlib.suppress(DatabaseError):
                if limiter.waiters():
                    break
        run_until_committed(lease.release)

    releasing = threading.Thread(target=release)
    releasing.start()
    try:
        yield
        take(limiter, **arguments)
    finally:
        stop.set()
        releasing.join()


def held_with_timeout(limiter: Limiter) -> Iterator[None]:
    """The same, with a timeout."""
    yield from held(limiter, timeout_seconds=5)


def interrupted(limiter: Limiter) -> Iterator[None]:
    """A signal's handler releases while the program is in another call."""
    lease = limiter.acquire("a")
    yield
    limiter._database.transact(lambda _: lease.release())


def collected(limiter: Limiter) -> Iterator[None]:
    """A block is left by the collector."""
    block = limiter.concurrency("a")
    block.__enter__()
    yield
    del block
    gc.collect()


def forked(limiter: Limiter) -> Iterator[None]:
    """A child is forked in between, and asks by itself."""
    lease = limiter.acquire("a")
    yield
    child = os.fork()
    if not child:
        with contextlib.suppress(DatabaseError):
            take(limiter, timeout_seconds=5)
        os._exit(0)
    try:
        lease.release()
    finally:
        _, status = os.waitpid(child, 0)
        run_until_committed(lease.release)
    assert status == 0, f"the child ended with {status}"


def closed(limiter: Limiter) -> Iterator[None]:
    """The limiter is closed and used again."""
    taken(limiter)
    yield
    limiter.close()
    take(limiter)


def administered(limiter: Limiter) -> Iterator[None]:
    """A limit is made, changed, read and deleted."""
    yield
    limiter.upsert("b", 1)
    limiter.update("b", limit=2)
    limiter.read_all()
    limiter.delete("b")


def missing(limiter: Limiter) -> Iterator[None]:
    """A limit is not there, of which is warned."""
    taken(limiter)
    yield
    limiter.acquire("nothing").release()


def awaited(limiter: Limiter) -> Iterator[None]:
    """Tasks of a new loop contend for the slot."""
    import asyncio

    from localgcl import AsyncLimiter

    other = AsyncLimiter(limiter._database.path)

    async def hold() -> None:
        async with other.concurrency("a", timeout_seconds=5, strict=True):
            await asyncio.sleep(0)

    async def main() -> list[BaseException | None]:
        return await asyncio.gather(*[hold() for _ in range(3)], return_exceptions=True)

    with asyncio.Runner() as runner:
        runner.get_loop()
        yield
        errors = [error for error in runner.run(main()) if error is not None]
        if errors:
            raise errors[0]


def administered_by_tasks(limiter: Limiter) -> Iterator[None]:
    """The awaitable administration."""
    import asyncio

    from localgcl import AsyncLimiter

    async def main() -> None:
        async with AsyncLimiter(limiter._database.path) as other:
            await other.upsert("b", 1)
            await other.read("b")
            await other.delete("b")

    with asyncio.Runner() as runner:
        runner.get_loop()
        yield
        runner.run(main())


SCENARIOS: dict[str, Callable[[Limiter], Iterator[None]]] = {
    one.__name__: one
    for one in (
        uncontended,
        gate,
        held,
        held_with_timeout,
        interrupted,
        collected,
        forked,
        closed,
        administered,
        missing,
        awaited,
        administered_by_tasks,
    )
}


def attempt(path: str, scenario: str, fault: Fault) -> str:
    """Play a scenario with a fault; return what is wrong then."""
    limiter = Limiter(path)
    steps = SCENARIOS[scenario](limiter)
    next(steps)
    with fault:
        try:
            next(steps, None)
        except DatabaseError as error:
            if fault.text not in str(error):
                return f"it says: {error}"
        except BaseException as error:
            return f"{type(error).__name__}: {error}"
    # What could not be freed at once is freed as soon as the process does anything.
    take(limiter, timeout_seconds=LONGEST_SECONDS / 2)
    deadline = time.monotonic() + LONGEST_SECONDS / 4
    while taken(limiter):
        if time.monotonic() > deadline:
            return "something stays taken"
        time.sleep(0.001)
    with shut_gate(limiter):
        take(limiter, timeout_seconds=5)
    return ""


def main() -> None:
    """Try each point in turn, until there are no more."""
    path, scenario, name = sys.argv[1:]
    at, count = 0, 0
    while at <= count:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            signal.alarm(LONGEST_SECONDS)
            fault = Fault(name, at)
            try:
                wrong = attempt(path, scenario, fault)
            except BaseException as error:
                wrong = f"afterwards, {type(error).__name__}: {error}"
            os.write(writer, f"{fault.count}\n{wrong}".encode())
            os._exit(0)
        os.close(writer)
        with open(reader, encoding="utf-8") as answers:
            counted, _, wrong = answers.read().partition("\n")
        _, status = os.waitpid(child, 0)
        if status:
            wrong = f"it hangs, or ended with {status}"
            counted = "0"
        if at == 0:
            count = int(counted)
            wrong = wrong or ("" if count else "never asked for")
        print(f"{at}: {wrong}" if wrong else ".", flush=True)
        at += 1


if __name__ == "__main__":
    main()
