"""What is to be done around a fork, in spite of a Ctrl-C."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def at_fork(**callbacks: Callable[[], object]) -> None:
    """As `os.register_at_fork`, for functions that may be called twice in a row, as they are.

    A signal that arrives during the fork is raised as the first of them is entered; Python tells
    of it, passes that one by, and goes on with the next.
    """
    for _ in range(2):
        os.register_at_fork(**callbacks)
