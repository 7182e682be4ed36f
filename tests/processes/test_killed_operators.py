"""An operator who is killed between COMMIT and the wake-up."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from localgcl import Limiter
from tests.helpers.actors import Actor
from tests.helpers.waiting import DEADLINE_SECONDS, until

pytestmark = pytest.mark.processes

WAYS: dict[str, tuple[str, list[Any], int]] = {
    "a thread": ("acquire", [["db"]], 1),
    "a task": ("acquire_in_loop", ["db"], 1),
    "many threads": ("acquire_in_threads", ["db", 30], 30),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_change_is_noticed(limiter: Limiter, actor: Callable[[], Actor], way: str) -> None:
    """Those who wait have no other event to tell them, and look all the same."""
    verb, arguments, waiters = WAYS[way]
    limiter.create("db", 1)
    limiter.acquire("db")
    waiting, operator = actor(), actor()
    waiting.do("sleep_soundly")
    waiting.tell(verb, *arguments)
    until(lambda: len(limiter.waiters("db")) == waiters)
    operator.tell("raise_and_die", "db", 2)
    assert operator.process.wait(DEADLINE_SECONDS) == -signal.SIGKILL
    assert not isinstance(waiting.answer(), dict)
    assert limiter.waiters("db") == []
