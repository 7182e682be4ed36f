"""What a figure is: a function that measures, and the rows that it gives."""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

# What stands where a figure has no floor, or its target is not a ratio.
NONE = "-"


@dataclass(frozen=True)
class Row:
    """One line of the table; everything but `holds` as people read it."""

    figure: str
    measured: str
    floor: str
    ratio: str
    target: str
    holds: bool


@dataclass(frozen=True)
class Setting:
    """What a figure is given: an empty folder of its own, and how long to take.

    `scale` multiplies every duration and count; `million` asks for the growth figure in full.
    """

    folder: str
    scale: float = 1.0
    million: bool = False

    def path(self, name: str) -> str:
        """Return the path of a file in the folder."""
        return os.path.join(self.folder, name)

    def count(self, usual: int) -> int:
        """Return `usual`, scaled, and at least 1."""
        return max(1, round(usual * self.scale))


# A figure: to add one, write such a function and name it in `__main__.FIGURES`.
Measure = Callable[[Setting], Iterable[Row]]


@dataclass(frozen=True)
class Comparison:
    """The medians of what was measured and of its floor, and of the ratios of their rounds."""

    measured: float
    floor: float
    ratio: float


def compare(measured: Callable[[], float], floor: Callable[[], float], rounds: int) -> Comparison:
    """Take turns, floor first, and compare within each turn.

    What else the machine does comes and goes in seconds: it hits both halves of a turn alike, and
    drops out of the median of the turns' ratios, which is not quite the ratio of the medians.
    """
    pairs = []
    for _ in range(rounds):
        below = floor()
        pairs.append((measured(), below))
    return Comparison(
        statistics.median(above for above, _ in pairs),
        statistics.median(below for _, below in pairs),
        statistics.median(above / below for above, below in pairs),
    )


def micros(seconds: float) -> str:
    """Return a duration in microseconds, for a row."""
    return f"{seconds * 1e6:.1f} µs"


def millis(seconds: float) -> str:
    """Return a duration in milliseconds, for a row."""
    return f"{seconds * 1e3:.1f} ms"


def times(ratio: float) -> str:
    """Return a ratio, for a row."""
    return f"{ratio:.2f}x"


def duration(seconds: float) -> str:
    """Return a duration in the unit that suits it, for a row."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.{1 if seconds < 0.01 else 0}f} ms"
    return f"{seconds:.1f} s"


def progress(text: str) -> None:
    """Say on standard error what is measured now; on a terminal the next word takes its place."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="\r", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)
