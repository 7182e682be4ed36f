"""What `import localgcl` adds to the start of an interpreter."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable

from tests.benchmarks.figures import Row, Setting, millis, times

_ROUNDS = 25


def seconds(code: str, environment: dict[str, str]) -> float:
    """Return how long this interpreter takes to start and run `code`."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    return time.perf_counter() - began


def start(setting: Setting) -> Iterable[Row]:
    """What a program has loaded that is about to ask for a slot, over `python -c pass`."""
    # What is installed is compiled, whatever this environment says of a checkout.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": setting.path("compiled")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    rounds = []
    for _ in range(1 + setting.count(_ROUNDS)):
        below = seconds("pass", environment)
        rounds.append((below, seconds("from localgcl import concurrency", environment) - below))
    del rounds[0]  # that one compiled
    below = statistics.median(below for below, _ in rounds)
    over = statistics.median(over for _, over in rounds)
    yield Row(
        "`from localgcl import concurrency`, over `python -c pass`",
        f"+{millis(over)}",
        millis(below),
        times((below + over) / below),
        "≤ 30 ms",
        over <= 0.03,
    )
