"""Processes in namespaces of their own, which share a database with those of the host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from localgcl import Limiter, _clock
from tests.needs import takes_root

pytestmark = [pytest.mark.processes, takes_root]

AHEAD = ["unshare", "--time", "--fork", "--kill-child", "--boottime", "864000"]
BEHIND = ["unshare", "--time", "--fork", "--kill-child", "--boottime", "-1"]
EXEC = ["unshare", "--time", "--boottime", "864000"]
TIMES = pytest.mark.parametrize("within", [AHEAD, BEHIND, EXEC], ids=["ahead", "behind", "exec"])

CLOCK = "from localgcl import _clock; print(_clock.now())"


def run(within: list[str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a namespace, to its end."""
    command = [*within, sys.executable, *words]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if ran.stderr.startswith("unshare: ") and not os.environ.get("LOCALGCL_TEST_EVERYTHING"):
        pytest.skip(f"{ran.stderr.strip()}; in a container, give it CAP_SYS_ADMIN")
    return ran


def localgcl(within: list[str], path: Path, *words: str) -> int:
    """Run `localgcl` in a namespace, and return its status."""
    return run(within, "-m", "localgcl", "--db", str(path), *words).returncode


@TIMES
def test_one_clock_in_all_time_namespaces(within: list[str]) -> None:
    """Each of them reads the clock that the host reads."""
    before = _clock.now()
    ran = run(within, "-c", CLOCK)
    assert before < float(ran.stdout) < _clock.now(), ran.stderr


@TIMES
def test_decay_in_a_time_namespace(limiter: Limiter, path: Path, within: list[str]) -> None:
    """Slots decay there as they do at the host: a limit admits nobody too early."""
    limiter.create("api", 1, slot_decay_per_second=0.0003)
    limiter.rate_limit("api")
    assert localgcl(within, path, "rate-limit", "--no-wait", "api") == 75


@TIMES
def test_the_host_does_not_wait_for_a_time_to_come(
    limiter: Limiter, path: Path, within: list[str]
) -> None:
    """What was taken in a time namespace has decayed at the host when it is due."""
    limiter.create("api", 1, slot_decay_per_second=20)
    assert localgcl(within, path, "rate-limit", "api") == 0
    limiter.rate_limit("api", timeout_seconds=30)
