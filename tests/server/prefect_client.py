"""A process that does with Prefect's client what it is told: `python prefect_client.py`.

It runs under an interpreter that has Prefect and need not have localgcl. It reads a JSON list of a
verb and its arguments from each line of standard input, and answers each with one line of JSON.
"""

from __future__ import annotations

import asyncio
import fcntl
import io
import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def counted(path: str) -> Iterator[None]:
    """Count those inside, over all processes, in a file that also has the most there ever were."""
    _count(path, 1)
    try:
        yield
    finally:
        _count(path, -1)


def _count(path: str, change: int) -> None:
    with open(path, "a+", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        inside, most, turns = json.load(file) if file.read(1) and not file.seek(0) else (0, 0, 0)
        inside += change
        file.truncate(0)
        json.dump([inside, max(most, inside), turns + (change > 0)], file)


class Script:
    """The verbs."""

    def __init__(self) -> None:
        self.stack = ExitStack()

    def cli(self, *arguments: str) -> list[Any]:
        """Run Prefect's command line; return its status and what it wrote on both streams."""
        from prefect.cli import app

        status: Any = 0
        with _written(1) as output, _written(2) as errors:
            try:
                sys.argv = ["prefect", *arguments]
                app()
            except SystemExit as end:
                status = end.code or 0
        return [status, output.getvalue(), errors.getvalue()]

    def hold(self, names: Any, **options: Any) -> str:
        """Enter and leave a block."""
        from prefect.concurrency.sync import concurrency

        with concurrency(names, **options):
            return "held"

    def enter(self, names: Any, **options: Any) -> str:
        """Enter a block, which is left by `leave`."""
        from prefect.concurrency.sync import concurrency

        self.stack.enter_context(concurrency(names, **options))
        return "entered"

    def leave(self) -> str:
        """Leave what was entered."""
        self.stack.close()
        return "left"

    def hold_async(self, names: Any, seconds: float, **options: Any) -> str:
        """Enter an asynchronous block, and leave it after some seconds unless it is cancelled."""
        from prefect.concurrency.asyncio import concurrency

        async def main() -> str:
            async with concurrency(names, **options):
                await asyncio.sleep(seconds)
            return "held"

        return asyncio.run(main())

    def hold_together(self, names: Any, tasks: int) -> str:
        """Have many tasks contend."""
        from prefect.concurrency.asyncio import concurrency

        async def one() -> None:
            async with concurrency(names):
                await asyncio.sleep(0.01)

        async def main() -> str:
            await asyncio.gather(*[one() for _ in range(tasks)])
            return "held"

        return asyncio.run(main())

    def rate(self, name: str, occupy: int, times: int) -> float:
        """Take by rate so many times; return how long that took."""
        from prefect.concurrency.sync import rate_limit

        began = time.monotonic()
        for _ in range(times):
            rate_limit(name, occupy=occupy)
        return time.monotonic() - began

    def pairs(self, name: str, seconds: float) -> list[float]:
        """Enter and leave a block for some seconds; return how long each time took."""
        from prefect.concurrency.sync import concurrency

        took = []
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            began = time.perf_counter()
            with concurrency(name):
                pass
            took.append(time.perf_counter() - began)
        return took

    def jobs(self, name: str, times: int, seconds: float) -> list[float]:
        """Hold a slot so many times for some seconds; return when it began and ended."""
        from prefect.concurrency.sync import concurrency

        began = time.monotonic()
        for _ in range(times):
            with concurrency(name):
                time.sleep(seconds)
        return [began, time.monotonic()]

    def work(self, name: str, times: int, path: str) -> str:
        """Hold a slot so many times, counted while it is held."""
        from prefect.concurrency.sync import concurrency

        for _ in range(times):
            with concurrency(name), counted(path):
                time.sleep(0.005)
        return "done"


@contextmanager
def _written(descriptor: int) -> Iterator[io.StringIO]:
    """Collect what is written to a descriptor."""
    text = io.StringIO()
    kept = os.dup(descriptor)
    stream: IO[str] = sys.stdout if descriptor == 1 else sys.stderr
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), descriptor)
        try:
            yield text
        finally:
            stream.flush()
            os.dup2(kept, descriptor)
            os.close(kept)
            file.seek(0)
            text.write(file.read().decode())


def main() -> None:
    """Answer until standard input ends."""
    script = Script()
    answers = os.fdopen(os.dup(1), "w")  # not to be mixed with what Prefect prints
    os.dup2(2, 1)
    for line in sys.stdin:
        verb, arguments, options = json.loads(line)
        answer: Any
        try:
            answer = getattr(script, verb)(*arguments, **options)
        except (Exception, asyncio.CancelledError) as error:
            kinds = [kind.__name__ for kind in type(error).__mro__]
            answer = {"error": kinds, "text": str(error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
