"""How long tests wait for what others bring about."""

from __future__ import annotations

import time
from collections.abc import Callable

# Only a fault makes anything take as long.
DEADLINE_SECONDS = 30.0


def until(condition: Callable[[], object]) -> None:
    """Wait for what other threads or processes bring about."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.005)
