"""What `import localgcl` adds to the start of an interpreter."""

from __future__ import annotations

import functools
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable

from tests.benchmarks.figures import Row, Setting, millis, times

_ROUNDS = 25


def seconds(*arguments: str) -> float:
    """Return how long this interpreter takes to run these arguments."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True)
    return time.perf_counter() - began


def start(setting: Setting) -> Iterable[Row]:
    """`python -c "import localgcl"` over `python -c pass`."""
    floor = functools.partial(seconds, "-c", "pass")
    measured = functools.partial(seconds, "-c", "import localgcl")
    measured()  # writes the compiled modules where they are not there yet
    rounds = [(floor(), measured()) for _ in range(setting.count(_ROUNDS))]
    below = statistics.median(round_[0] for round_ in rounds)
    over = statistics.median(above - base for base, above in rounds)
    yield Row(
        "`import localgcl`, over `python -c pass`",
        f"+{millis(over)}",
        millis(below),
        times((below + over) / below),
        "≤ 30 ms",
        over <= 0.03,
    )
