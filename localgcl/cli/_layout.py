"""The layout of what commands print for people: columns, bars, times."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

# The columns of numbers and times, by heading: a name may begin with a digit too.
_TO_THE_RIGHT = {
    *("EXPECTED", "IN USE", "KEYS", "LIMIT", "PID", "POSITION", "SINCE", "SLOTS", "UPDATED"),
    "WAITING",
}
_UNITS = (("d", 86400), ("h", 3600), ("min", 60))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return rows in aligned columns, numbers to the right, one line each below the headings."""
    lines = [headings, *rows]
    right = [heading in _TO_THE_RIGHT for heading in headings]
    widths = [max(width_of(line[column]) for line in lines) for column in range(len(headings))]
    aligned = []
    for line in lines:
        cells = []
        for text, width, to_the_right in zip(line, widths, right, strict=True):
            space = " " * (width - width_of(text))
            cells.append(space + text if to_the_right else text + space)
        aligned.append("  ".join(cells).rstrip())
    return aligned


def width_of(text: str) -> int:
    """Return the number of columns that a text takes in a terminal."""
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0  # drawn over the character before it
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, columns: int) -> str:
    """Return as much of a text as fits into that number of columns."""
    if text.isascii():
        return text[:columns]
    width = 0
    for place, character in enumerate(text):
        width += _width(character)
        if width > columns:
            return text[:place]
    return text


def bar(used: int, limit: int, width: int = 10) -> str:
    """Return a bar of the slots in use: empty if none are, full only if all are."""
    if limit <= 0:
        filled = width if used else 0
    else:
        filled = min(width, used * width // limit)
        filled = max(filled, 1) if used else filled
    return "#" * filled + "." * (width - filled)


def duration(seconds: float) -> str:
    """Return a time as people say it: 12 s, 3 min, 2 h, 5 d."""
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def length(seconds: float) -> str:
    """Return a time exactly, in the largest unit that has a whole number of it: 90 s, 5 min."""
    for unit, size in _UNITS:
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:.15g} s"
