"""One finding of `doctor`, and how its texts write lists and sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "note", "fault"]

SHOWN = 3  # items of a list in which each says the same


@dataclass(frozen=True)
class Check:
    """One thing that was examined, what was found, and what to do about it."""

    name: str
    status: Status
    detail: str
    remedy: str | None = None


def listed(what: Sequence[str]) -> str:
    """Return the first of these in a row, and how many more there are."""
    shown = ", ".join(what[:SHOWN])
    return shown if len(what) <= SHOWN else f"{shown} and {len(what) - SHOWN} more"


def sized(number: int) -> str:
    """Return a number of bytes in the most readable unit."""
    if number < 1024:
        return f"{number} bytes"
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if number >= 100 * size:
            return f"{number // size} {unit}"
    return f"{number / 1024:.0f} KiB"
