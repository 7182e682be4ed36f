"""Where something is used up, nothing is lost: descriptors, threads, memory, space, modules.

Each is refused once at every point at which a scenario asks for it. The call succeeds, or is a
DatabaseError that says what is used up; what was held is free afterwards, and later calls work.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from localgcl import Limiter

pytestmark = pytest.mark.processes

REFUSED = [
    ("uncontended", "descriptors"),
    ("gate", "descriptors"),
    ("interrupted", "descriptors"),
    ("awaited", "descriptors"),
    ("administered", "descriptors"),
    ("uncontended", "open-EMFILE"),
    ("uncontended", "open-ENFILE"),
    ("uncontended", "open-ENOSPC"),
    ("uncontended", "open-MemoryError"),
    ("uncontended", "pipe-EMFILE"),
    ("uncontended", "pipe-ENFILE"),
    ("gate", "open-EMFILE"),
    ("gate", "open-ENOMEM"),
    ("gate", "thread-RuntimeError"),
    ("gate", "thread-MemoryError"),
    ("gate", "thread-death"),
    ("held", "open-EMFILE"),
    ("held_with_timeout", "open-EMFILE"),
    ("interrupted", "thread-RuntimeError"),
    ("interrupted", "thread-MemoryError"),
    ("interrupted", "thread-death"),
    ("collected", "thread-RuntimeError"),
    ("collected", "thread-death"),
    ("forked", "open-EMFILE"),
    ("closed", "open-EMFILE"),
    ("administered", "import-EMFILE"),
    ("missing", "import-ImportError"),
    ("awaited", "open-EMFILE"),
    ("awaited", "pipe-EMFILE"),
    ("awaited", "thread-RuntimeError"),
    ("awaited", "thread-MemoryError"),
    ("administered_by_tasks", "open-EMFILE"),
    ("administered_by_tasks", "thread-RuntimeError"),
]


@pytest.mark.parametrize(("scenario", "fault"), REFUSED)
def test_refused_once(limiter: Limiter, path: Path, scenario: str, fault: str) -> None:
    """At every point in turn."""
    limiter.create("a", 1)
    done = subprocess.run(
        [sys.executable, "-m", "tests.processes.exhausted", str(path), scenario, fault],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=110,
    )
    points = done.stdout.splitlines()
    assert points == ["."] * len(points)
    assert points
    assert (limiter.read("a").active_slots, limiter.waiters()) == (0, [])
