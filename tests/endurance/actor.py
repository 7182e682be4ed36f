"""What every process of the run has: its name, its journal, its random numbers, its requests."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Iterable

from tests.endurance.journal import Journal, now
from tests.endurance.wishes import Wish

# Where a process of the run finds the rest.
DATABASE, JOURNAL, SEED = "LOCALGCL_DB", "ENDURANCE_JOURNAL", "ENDURANCE_SEED"


class Actor:
    """A process, by the name under which the witness knows it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.database = os.environ[DATABASE]
        self.journal = Journal(os.environ[JOURNAL])
        self._numbers = itertools.count(1)
        self.now = now

    def rename(self, name: str) -> None:
        """Be another process from here on: a forked one."""
        parent, self.name = self.name, name
        self._numbers = itertools.count(1)
        self.journal.write("born", name, parent)

    def rng(self, purpose: str) -> random.Random:
        """Return random numbers that are the same for the same seed."""
        return random.Random(f"{os.environ[SEED]} {self.name} {purpose}")

    def goes_on(self, until: float) -> bool:
        """Whether there is time left."""
        return time.monotonic() < until and not os.path.exists(f"{self.journal.path}.end")

    def asks(
        self, names: list[str], slots: int, holds: bool, weights: Iterable[int] | None = None
    ) -> str:
        """Note that a request begins, and return its tag."""
        tag = f"{self.name}-{next(self._numbers)}"
        each = slots if weights is None else ",".join(map(str, weights))
        self.journal.write("ask", tag, now(), int(holds), each, ",".join(names))
        return tag

    def note(self, verb: str, tag: str, *words: object) -> None:
        """Note what became of a request, as of now."""
        self.journal.write(verb, tag, now(), *words)

    def refused(self, tag: str, reason: str) -> None:
        """Note that a request was not granted."""
        self.journal.write("not", tag, reason, now())

    def failed(self, tag: str, error: BaseException, circumstance: str = "") -> None:
        """Note that the database failed."""
        self.note("lost", tag, f"{circumstance}{_words(error)}")

    def tell(self, verb: str, error: BaseException) -> None:
        """Note an error that concerns no request."""
        self.journal.write(verb, _words(error))

    def asks_for(self, wish: Wish) -> str:
        """Note that a wish becomes a request, and return its tag."""
        return self.asks(wish.names, wish.slots, wish.holds, wish.weights)


def _words(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
