"""What happened, in the order in which it did: one file to which every process appends lines.

A line is one `write` to a file that is open for appending, so lines are whole whoever is killed,
and a line that was written before another was begun stands before it. The witness judges by that
order, and by times only where a rate is concerned. No line ever waits for another process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator


def now() -> float:
    """Seconds on the clock that all processes share."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Journal:
    """The end to which a process writes."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)

    def write(self, *words: object) -> None:
        """Append a line; no word has a tab or a line break."""
        line = "\t".join(map(str, words)) + "\n"
        os.write(self.descriptor, line.encode())

    def close(self) -> None:
        """Write no more."""
        os.close(self.descriptor)


class Reader:
    """The end from which the witness reads what is new."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - closed by `close`
        self._rest = b""

    def lines(self) -> Iterator[list[str]]:
        """Yield the words of each whole line that is new."""
        text = self._rest + self._file.read()
        *whole, self._rest = text.split(b"\n")
        for line in whole:
            yield line.decode().split("\t")

    def close(self) -> None:
        """Read no more."""
        self._file.close()
