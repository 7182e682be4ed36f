"""The curves as a table: a line for each point."""

from __future__ import annotations

from collections.abc import Iterable

from tests.benchmarks.curves.measures import HAND_OVER, HANDING, PAIR, VISIT, Curve, Point
from tests.benchmarks.figures import NONE, Comparison, duration, times

HEAD = (
    "with",
    "acquire + release",
    "hand-over, p50",
    "sign in, acquire + release, sign out",
    "file",
)

NOTES = (
    "In brackets: how many times the same in a database of one limit and of nobody else, measured"
    " in turns with it; the processes', beside one process, and two for a hand-over; the waiters'"
    f" hand-over, beside a queue of {HANDING}.",
    "**Limits**: others beside the one that is measured. **Leases**: of the very limit that is"
    " measured, by another process. **Waiters**: in the queue of another limit; the hand-over is"
    " that of their own queue, in which the slot goes round.",
    "**Processes**: all acquire and release at once, and the time is that of one pair on the"
    " machine; or they hand the only slot round.",
    "What grows: in a queue of more than eight each hand-over wakes one more, who begins to watch"
    " those before it, and the threads that wait in one process share Python's lock. Who signs in"
    " looks at the FIFOs of all who wait, and who signs out at all limits and leases, once in the"
    " life of a process each; an index would cost every slot instead.",
    "The file is counted once its write-ahead log is in it.",
)


def lines(curves: Iterable[Curve]) -> list[tuple[str, ...]]:
    """Return the table's lines."""
    return [_line(curve, point) for curve in curves for point in curve.points]


def _line(curve: Curve, point: Point) -> tuple[str, ...]:
    figures = [_cell(point.figures.get(figure)) for figure in (PAIR, HAND_OVER, VISIT)]
    name = curve.one if point.value == 1 else curve.name
    return f"{point.value:,} {name}", *figures, _size(point.bytes)


def _cell(found: Comparison | None) -> str:
    return NONE if found is None else f"{duration(found.measured)} ({times(found.ratio)})"


def _size(size: int) -> str:
    return f"{size / 1024:,.0f} KiB"
