"""`python -m tests.benchmarks`: every figure beside its floor, and whether it holds."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from types import FrameType

from tests.benchmarks import crowd, growth, handover, idle, pairs, peers, rate, rush, start
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
    "import": start.start,
    "growth": growth.growth,
}


def main() -> int:
    """Measure, print, and return 1 if any figure does not hold."""
    options = _options()
    signal.signal(signal.SIGTERM, _end)
    print(headline(), end="\n\n")
    rows: list[Row] = []
    for name in options.only or ([] if options.peers else FIGURES):
        _say(name)
        with tempfile.TemporaryDirectory(prefix="localgcl-benchmark-") as folder:
            setting = Setting(folder, scale=options.scale, million=options.million)
            rows += FIGURES[name](setting)
    if rows:
        lines = [(*_cells(row), "yes" if row.holds else "NO") for row in rows]
        print(render(HEAD, lines, markdown=options.markdown))
    if options.peers:
        _say("peers")
        with tempfile.TemporaryDirectory(prefix="localgcl-benchmark-") as folder:
            found = list(peers.compare(Setting(folder, scale=options.scale)))
        print(peers.TITLE, end="\n\n")
        print(render(peers.HEAD, found, markdown=options.markdown))
    return 0 if all(row.holds for row in rows) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        choices=FIGURES,
        help=f"measure this figure only; repeatable: {', '.join(FIGURES)}",
    )
    parser.add_argument(
        "--peers",
        action="store_true",
        help="set the other libraries that are installed beside it, instead of the figures",
    )
    parser.add_argument("--markdown", action="store_true", help="print a table in Markdown")
    parser.add_argument(
        "--scale", type=float, default=1.0, metavar="F", help="take F times as long (1.0)"
    )
    parser.add_argument(
        "--million", action="store_true", help="acquire a million times for the growth figure"
    )
    return parser.parse_args()


def _cells(row: Row) -> tuple[str, ...]:
    return row.figure, row.measured, row.floor, row.ratio, row.target


def _say(name: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{name} ...", end="\r", file=sys.stderr, flush=True)


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # and so end the processes of the team


if __name__ == "__main__":
    sys.exit(main())
