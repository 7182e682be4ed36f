"""Processes that begin together and hand back what they found; none outlives its `with` block."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from localgcl._base import clock

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerProcess

T = TypeVar("T")

# Forked from a process that has the imports behind it, but neither threads nor connections.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["localgcl", "sqlite3", "tests.benchmarks.team"])

# From the word to the beginning: long enough for everybody to have heard it.
_LEAD_SECONDS = 0.05
# So long may a member stay silent before the benchmark gives up on it.
_PATIENCE_SECONDS = 60.0

now = clock.now


class Line:
    """What a member has of its team: the meetings."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection = connection

    def meet(self) -> float:
        """Wait for all the others and for the leader; return the moment at which it goes on."""
        self._connection.send("here")
        begins: float = self._connection.recv()
        time.sleep(max(0.0, begins - now()))
        return begins

    def say(self, word: Any) -> None:
        """Tell the leader something."""
        self._connection.send(word)


class _Failure:
    def __init__(self, told: str) -> None:
        self.told = told


class Team(Generic[T]):
    """One process for each of `arguments`, running `work(line, *arguments)`."""

    def __init__(self, work: Callable[..., T], arguments: Sequence[tuple[Any, ...]]) -> None:
        self._work = work
        self._arguments = arguments
        self.processes: list[ForkServerProcess] = []
        self._lines: list[Connection[Any, Any]] = []

    def __enter__(self) -> Team[T]:
        try:
            for arguments in self._arguments:
                self.start(*arguments)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def start(self, *arguments: Any) -> int:
        """Start one more member and return its index."""
        ours, theirs = _context.Pipe()
        process = _context.Process(target=_run, args=(theirs, self._work, arguments), daemon=True)
        process.start()
        theirs.close()
        self.processes.append(process)
        self._lines.append(ours)
        return len(self._lines) - 1

    def hear(self, index: int) -> Any:
        """Return the next word of a member."""
        line = self._lines[index]
        if not line.poll(_PATIENCE_SECONDS):
            raise TimeoutError(f"a process was silent for {_PATIENCE_SECONDS:.0f} s")
        try:
            word = line.recv()
        except EOFError:
            self.processes[index].join()
            status = self.processes[index].exitcode
            raise RuntimeError(f"a process of the benchmark ended with status {status}") from None
        if isinstance(word, _Failure):
            raise RuntimeError(f"a process of the benchmark failed:\n{word.told}")
        return word

    def meet(self) -> float:
        """Wait until all are there and send them on; return the moment at which they go on."""
        for index in range(len(self._lines)):
            self.hear(index)
        begins = now() + _LEAD_SECONDS
        for line in self._lines:
            line.send(begins)
        return begins

    def results(self) -> list[T]:
        """Return what each member returned."""
        return [self.hear(index) for index in range(len(self._lines))]

    def _end(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()
            process.close()
        for line in self._lines:
            line.close()


def _run(
    connection: Connection[Any, Any], work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    try:
        word = work(Line(connection), *arguments)
    except BaseException:
        word = _Failure(traceback.format_exc())
    try:
        connection.send(word)
        connection.recv()  # until the leader ends this process, or is gone itself
    except (EOFError, BrokenPipeError):
        pass


def together(work: Callable[..., T], arguments: Sequence[tuple[Any, ...]]) -> list[T]:
    """Run `work(line, *arguments)` in a process each; it meets once, before what it measures."""
    with Team(work, arguments) as team:
        team.meet()
        return team.results()
