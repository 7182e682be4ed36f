"""What `localgcl run` costs a cron job: its start and end, and its memory while it waits."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from localgcl import Limiter
from tests.benchmarks.figures import NONE, Row, Setting, compare, millis, times

_ROUNDS = 25
_MEBIBYTE = 1024  # in kibibytes, as /proc counts
_PATIENCE_SECONDS = 30.0


def run(setting: Setting) -> Iterable[Row]:
    """`localgcl run NAME true` beside an empty interpreter and beside GNU sem."""
    path = setting.path("run.db")
    with Limiter(path) as limiter:
        limiter.create("a", 2)
    # What is installed is compiled, whatever this environment says of a checkout.
    environment = {
        **os.environ,
        "PYTHONPYCACHEPREFIX": setting.path("compiled"),
        "HOME": setting.folder,
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    script = Path(sys.executable).with_name("localgcl")
    ours = [str(script), "--db", path, "run", "a", "true"]
    yield _row(setting, ours, [sys.executable, "-c", "pass"], "`python -c pass`", 5.5, environment)
    if shutil.which("sem") is not None:
        # It begins by asking, on a terminal, to be cited.
        Path(setting.path(".parallel")).mkdir()
        Path(setting.path(".parallel/will-cite")).touch()
        sem = ["sem", "--fg", "--id", "benchmark", "-j2", "true"]
        yield _row(setting, ours, sem, "GNU `sem`", 0.85, environment)
    yield _waiting(path, ours, environment)


def _row(
    setting: Setting,
    ours: Sequence[str],
    floor: Sequence[str],
    name: str,
    most: float,
    environment: dict[str, str],
) -> Row:
    def seconds(words: Sequence[str]) -> float:
        began = time.perf_counter()
        subprocess.run(words, env=environment, check=True, stderr=subprocess.DEVNULL)
        return time.perf_counter() - began

    seconds(ours), seconds(floor)  # those compiled
    found = compare(lambda: seconds(ours), lambda: seconds(floor), setting.count(_ROUNDS))
    return Row(
        f"`localgcl run NAME true`, beside {name}",
        millis(found.measured),
        millis(found.floor),
        times(found.ratio),
        f"≤ {most}x",
        found.ratio <= most,
    )


def _waiting(path: str, ours: Sequence[str], environment: dict[str, str]) -> Row:
    with Limiter(path) as limiter:
        lease = limiter.acquire("a", 2)
        with subprocess.Popen(ours, env=environment) as waiter:
            deadline = time.monotonic() + _PATIENCE_SECONDS
            while not limiter.waiters("a"):
                assert time.monotonic() < deadline, "it does not wait"
                time.sleep(0.01)
            status = Path(f"/proc/{waiter.pid}/status").read_text()
            lease.release()
    (kibibytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    resident = int(kibibytes) / _MEBIBYTE
    return Row(
        "resident memory of a `localgcl run` that waits",
        f"{resident:.1f} MiB",
        NONE,
        NONE,
        "≤ 20 MiB",
        resident <= 20,
    )
