"""`python -m tests.benchmarks`: every figure beside its floor, and whether it holds."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
from collections.abc import Collection, Iterator
from types import FrameType

from tests.benchmarks import (
    crowd,
    growth,
    handover,
    idle,
    pairs,
    peers,
    rate,
    rush,
    shell,
    start,
    tasks,
)
from tests.benchmarks.figures import Measure, Row, Setting
from tests.benchmarks.table import HEAD, headline, render

# In the order of the table.
FIGURES: dict[str, Measure] = {
    "alone": pairs.alone,
    "throughput": rush.throughput,
    "longest": rush.longest,
    "hand-over": handover.hand_over,
    "crowded": crowd.crowded,
    "rate": rate.rates,
    "killed": handover.killed,
    "idle": idle.idle,
    "tasks": tasks.tasks,
    "import": start.start,
    "run": shell.run,
    "growth": growth.growth,
}
PEERS = "peers"

NOTES = (
    "The floor is two bare SQLite transactions, or what the row says. A ratio is the median of the"
    " ratios of rounds that take turns. In brackets behind a rate: the slots that the worst window"
    " has above n + r * T by the readings, which are late where a process wakes late."
)


def main() -> int:
    """Measure, print, and return 1 if any figure does not hold."""
    options = _options()
    signal.signal(signal.SIGTERM, _end)
    print(headline(), end="\n\n")
    rows: list[Row] = []
    for name in _in_order(options.only or FIGURES):
        with _setting(name, options) as setting:
            rows += FIGURES[name](setting)
    if rows:
        lines = [(*_cells(row), "yes" if row.holds else "NO") for row in rows]
        print(render(HEAD, lines, markdown=options.markdown))
        print(f"\n{NOTES}")
    if options.peers or PEERS in (options.only or ()):
        with _setting(PEERS, options) as setting:
            found = list(peers.compare(setting))
        print(f"\n{peers.TITLE}\n")
        print(render(peers.HEAD, found, markdown=options.markdown))
    return 0 if all(row.holds for row in rows) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        choices=[*FIGURES, PEERS],
        help=f"measure this alone; repeatable: {', '.join(FIGURES)}, {PEERS}",
    )
    parser.add_argument(
        "--peers",
        action="store_true",
        help="show beside it the other libraries that are installed",
    )
    parser.add_argument("--markdown", action="store_true", help="print a table in Markdown")
    parser.add_argument(
        "--scale", type=float, default=1.0, metavar="F", help="take F times as long (1.0)"
    )
    parser.add_argument(
        "--million", action="store_true", help="acquire a million times for the growth figure"
    )
    return parser.parse_args()


def _in_order(names: Collection[str]) -> list[str]:
    return [name for name in FIGURES if name in names]


@contextlib.contextmanager
def _setting(name: str, options: argparse.Namespace) -> Iterator[Setting]:
    if sys.stderr.isatty():
        print(f"\r\033[K{name} ...", end="\r", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="localgcl-benchmark-") as folder:
        yield Setting(folder, scale=options.scale, million=options.million)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _cells(row: Row) -> tuple[str, ...]:
    return row.figure, row.measured, row.floor, row.ratio, row.target


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # and so end the processes of the team


if __name__ == "__main__":
    sys.exit(main())
