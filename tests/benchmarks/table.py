"""Tables for people: aligned in a terminal, or in Markdown."""

from __future__ import annotations

import datetime
import os
import platform
import sqlite3
from collections.abc import Sequence

from tests.benchmarks.figures import NONE, Row

HEAD = ("figure", "measured", "floor", "ratio", "target", "holds")


def line_of(same: Sequence[Row]) -> tuple[str, ...]:
    """Return the line of a figure that was measured in each of one or several runs."""
    last = same[-1]
    held, ratio = "yes" if last.holds else "NO", last.ratio
    if len(same) > 1:
        held = f"{sum(row.holds for row in same)} of {len(same)}"
        if ratio != NONE:
            ratios = sorted((row.ratio for row in same), key=lambda ratio: float(ratio.rstrip("x")))
            ratio = f"{ratios[0]} to {ratios[-1]}"
    return last.figure, last.measured, last.floor, ratio, last.target, held


def headline() -> str:
    """Return when, and on what, this is measured."""
    return (
        f"{today()}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version},"
        f" {len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.machine()},"
        f" load {os.getloadavg()[0]:.1f} at the beginning"
    )


def today() -> str:
    """Return the date, for people."""
    return f"{datetime.datetime.now(datetime.UTC):%-d %B %Y}"


def render(head: Sequence[str], lines: Sequence[Sequence[str]], *, markdown: bool) -> str:
    """Return the lines under their head, the columns aligned; Markdown reads as well."""
    table = [list(head), *map(list, lines)]
    if markdown:
        table = [[cell.replace("|", "\\|") for cell in line] for line in table]
    widths = [max(len(line[column]) for line in table) for column in range(len(head))]
    table.insert(1, ["-" * width for width in widths])
    padded = (
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in table
    )
    if markdown:
        return "\n".join(f"| {' | '.join(line)} |" for line in padded)
    return "\n".join("  ".join(line).rstrip() for line in padded)
