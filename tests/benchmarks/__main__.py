"""`python -m tests.benchmarks`: every figure beside its floor, the peers, and how cost grows."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from tests.benchmarks import (
    crowd,
    growth,
    handover,
    idle,
    pairs,
    rate,
    readme,
    rules,
    rush,
    shell,
    start,
    tasks,
)
from tests.benchmarks.figures import Measure, Row, Setting, progress
from tests.benchmarks.table import HEAD, headline, line_of, render

# In the order of the table.
FIGURES: dict[str, Measure] = {
    "alone": pairs.alone,
    "rules": rules.beside_a_plain_one,
    "throughput": rush.throughput,
    "longest": rush.longest,
    "hand-over": handover.hand_over,
    "crowded": crowd.crowded,
    "rate": rate.rates,
    "window": rules.windows,
    "groups": rules.groups,
    "killed": handover.killed,
    "idle": idle.idle,
    "tasks": tasks.tasks,
    "import": start.start,
    "run": shell.run,
    "growth": growth.growth,
}

NOTES = (
    "The floor is two bare SQLite transactions through one open connection, with SQLite's own pages"
    " of 4,096 bytes, or what the row says. A ratio is the median of the ratios of rounds that take"
    " turns.",
    "Behind a rate r of a limit of n stands how many slots the worst stretch of T seconds has above"
    " n + r * T, as the processes read the clock, which is late where one wakes late. **Asleep**:"
    " the same read by processes that only sleep.",
    "**By a task**: in brackets, the floor's two transactions handed to aiosqlite's thread.",
)
NOTE_ON_RUNS = (
    "Of several runs: measured and floor are the last one's, the ratio goes from the lowest to the"
    " highest, and the last column says in how many of them the target was reached."
)


def main() -> int:
    """Measure, print, and return 1 if any figure does not hold."""
    options = _options()
    signal.signal(signal.SIGTERM, _end)
    status = 0
    for name, section in SECTIONS.items():
        if getattr(options, name):
            status |= section(options)
    return status


def _figures(options: argparse.Namespace) -> int:
    began = headline()
    print(began, end="\n\n")
    runs = [_run(options) for _ in range(options.runs)]
    lines = [line_of(same) for same in zip(*runs, strict=True)]
    notes = NOTES if options.runs == 1 else (*NOTES, NOTE_ON_RUNS)
    _show(options, "figures", began, HEAD, lines, notes)
    return 0 if all(row.holds for rows in runs for row in rows) else 1


def _run(options: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    for name in [name for name in FIGURES if name in (options.only or FIGURES)]:
        with _setting(name, options) as setting:
            rows += FIGURES[name](setting)
    return rows


def _peers(options: argparse.Namespace) -> int:
    from tests.benchmarks.peers import compare, report

    began = headline()
    print(began, end="\n\n")
    with _setting("peers", options) as setting:
        found = compare.compare(setting, options.prefect)
    image = None
    if options.readme:
        from tests.benchmarks.peers import picture

        image = readme.image("peers")
        picture.draw(found, readme.path_of(image))
    _show(options, "peers", began, report.HEAD, report.lines(found), report.notes(found), image)
    return 0


def _curves(options: argparse.Namespace) -> int:
    from tests.benchmarks.curves import measures, report

    began = headline()
    print(began, end="\n\n")
    with _setting("curves", options) as setting:
        found = measures.curves(setting)
    image = None
    if options.readme:
        from tests.benchmarks.curves import picture

        image = readme.image("curves")
        picture.draw(found, readme.path_of(image))
    _show(options, "curves", began, report.HEAD, report.lines(found), report.NOTES, image)
    return 0


SECTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "figures": _figures,
    "peers": _peers,
    "curves": _curves,
}


def _show(
    options: argparse.Namespace,
    section: str,
    began: str,
    head: Sequence[str],
    lines: Sequence[Sequence[str]],
    notes: Sequence[str],
    image: str | None = None,
) -> None:
    """Print a table with its notes, and put both into README.md here if that is wanted."""
    print(render(head, lines, markdown=options.markdown), end="\n\n")
    print("\n".join(notes), end="\n\n")
    if options.readme:
        readme.put(section, began, render(head, lines, markdown=True), notes, image)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "--figures", action="store_true", help="every figure beside its floor (the default)"
    )
    parser.add_argument(
        "--peers", action="store_true", help="other libraries and commands that are installed"
    )
    parser.add_argument(
        "--curves", action="store_true", help="how cost grows with what is in the database"
    )
    parser.add_argument("--all", action="store_true", help=f"all of it: {', '.join(SECTIONS)}")
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        choices=[*FIGURES],
        help=f"of the figures measure this alone; repeatable: {', '.join(FIGURES)}",
    )
    parser.add_argument(
        "--prefect",
        metavar="PYTHON",
        default=sys.executable,
        help="the interpreter that has Prefect (this one)",
    )
    parser.add_argument("--markdown", action="store_true", help="print tables in Markdown")
    parser.add_argument(
        "--readme",
        action="store_true",
        help="put tables and pictures into tests/benchmarks/README.md too",
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, metavar="F", help="take F times as long (1.0)"
    )
    parser.add_argument(
        "--runs", type=int, default=1, metavar="N", help="measure the figures so many times (1)"
    )
    parser.add_argument(
        "--million", action="store_true", help="acquire a million times for the growth figure"
    )
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs takes a whole number from 1")
    if options.only and options.readme:
        parser.error("--readme takes all of the figures, and so no --only")
    for name in SECTIONS:
        setattr(options, name, options.all or getattr(options, name))
    options.figures |= not any(getattr(options, name) for name in SECTIONS)
    return options


@contextlib.contextmanager
def _setting(name: str, options: argparse.Namespace) -> Iterator[Setting]:
    progress(name)
    with tempfile.TemporaryDirectory(prefix="localgcl-benchmark-") as folder:
        yield Setting(folder, scale=options.scale, million=options.million)
    progress("")


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # and so end the processes of the team


if __name__ == "__main__":
    sys.exit(main())
