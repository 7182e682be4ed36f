"""A database at rest, and what `doctor` finds in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from localgcl import Limiter
from tests.helpers.doctor import Checks, found
from tests.helpers.programs import Invoke


@pytest.fixture
def known(limiter: Limiter) -> Limiter:
    """A limiter of a database at rest."""
    limiter.create("database", 2)
    limiter.create("api", 10, slot_decay_per_second=0.5)
    limiter.close()
    return limiter


@pytest.fixture
def examine(invoke: Invoke) -> Callable[[], Checks]:
    """Examine the database at `path`."""
    return lambda: found(invoke("doctor", "-o", "json"))
