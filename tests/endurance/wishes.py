"""What the processes of a run ask for: random, and the same again for the same seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

# The limits at the beginning: slots, and decay per second.
LIMITS = {
    "one": (1, 0.0),
    "two": (2, 0.0),
    "five": (5, 0.0),
    "many": (12, 0.0),
    "slow": (3, 20.0),
    "fast": (10, 100.0),
}
# Limits that no operator changes, unless he restores the file: slots, and seconds of a window.
WINDOWS = {"window": (4, 0.25)}
TEMPLATE, KEYS = "customer:*", [f"customer:{number}" for number in range(6)]
# A limit of which one waiter gets the only slot and keeps it, while the others sleep.
ASLEEP = "asleep"


@dataclass(frozen=True)
class Wish:
    """One request: what to ask for, how long to wait, and what to do then."""

    names: list[str]
    slots: int
    weights: tuple[int, ...] | None  # the slots of each, if they differ
    holds: bool
    timeout_seconds: float | None
    max_retries: int | None
    hold_seconds: float
    pause_seconds: float
    broken_off_after: float | None  # seconds until it is cancelled or interrupted
    form: str

    @property
    def wanted(self) -> list[str] | dict[str, int]:
        """The names as a call takes them."""
        if self.weights is None:
            return self.names
        return dict(zip(self.names, self.weights, strict=True))

    @property
    def occupy(self) -> int:
        """The slots of each as a call takes them."""
        return self.slots if self.weights is None else 1


def wish_of_a_child(rng: random.Random) -> Wish:
    """Return what a child asks for next whose parent waits for its end, and may hold slots.

    It gives up in the end. Another thread of the parent may wait for those slots, and so block the
    child at a limit that both want.
    """
    wished = wish(rng)
    return replace(wished, timeout_seconds=2.0) if wished.timeout_seconds is None else wished


def wish(rng: random.Random) -> Wish:
    """Return what is asked for next."""
    holds = rng.random() < 0.8
    names = ["slow", "fast", *WINDOWS, rng.choice(list(LIMITS))]
    if holds:
        names = [*LIMITS, rng.choice(KEYS)]
    names = list(dict.fromkeys(rng.sample(names, rng.choice([1, 1, 1, 2, 3]))))
    weights = tuple(rng.choice([1, 1, 2, 3]) for _ in names)
    return Wish(
        names=names,
        weights=weights if rng.random() < 0.15 and len(set(weights)) > 1 else None,
        slots=rng.choice([1, 1, 1, 1, 1, 2, 3, 6]),
        holds=holds,
        timeout_seconds=rng.choice([None, None, 0, 0.01, 0.05, 0.2, rng.uniform(0, 2)]),
        max_retries=rng.choice([None, None, None, None, 0, 1, 3]) if holds else None,
        hold_seconds=rng.choice([0, 0, 0.001, 0.005, 0.02, rng.uniform(0, 0.1)]),
        pause_seconds=rng.choice([0, 0.001, 0.02, rng.uniform(0, 0.1)]),
        broken_off_after=rng.choice([None, None, 0.0005, 0.002, rng.uniform(0, 0.2)]),
        form=rng.choice(["with", "with", "acquire", "function", "decorator"]),
    )
