"""The command that shows holders and waiters live."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from localgcl._admin import reading as _reading
from localgcl._admin import usage as _usage
from localgcl._admin.action import together
from localgcl._base import clock as _clock
from localgcl._base.text import printable
from localgcl._doctor import processes
from localgcl._liveness.making import GATE
from localgcl._storage import gate as _gate
from localgcl._storage.creating import existing_folder
from localgcl.cli import _screen
from localgcl.cli._shared import connection_of
from localgcl.cli._types import INTERVAL, KNOWN_NAME
from localgcl.cli.holders import table_of_holders, table_of_waiters
from localgcl.cli.views import table_of_limits
from localgcl.errors import LocalGCLError
from localgcl.models import Holder, Limit, Waiter

if TYPE_CHECKING:
    from localgcl._storage.database import Database

# If a process is stopped inside a transaction, this command still has to react to keys.
_PATIENCE_SECONDS = 1.0


@click.command()
@click.argument("name", type=KNOWN_NAME, required=False)
@click.option(
    "--interval",
    type=INTERVAL,
    metavar="D",
    default=1.0,
    show_default=True,
    help="The time from one frame to the next, 0.1 s to 1 d: 2 (seconds), 0.5s, 1min.",
)
@click.pass_context
def top(ctx: click.Context, name: str | None, interval: float) -> None:
    """Show live what is held and who waits, at the limit NAME or at all; `q` ends it.

    Where there is no terminal, one frame is printed.

    \b
    Example:
      localgcl top
      localgcl top database --interval 0.5
    """
    database = connection_of(ctx)
    path = database.path
    source = _Source(database, name)
    view = source.look(_View())
    if not _screen.is_possible():
        if view.trouble is not None:
            raise click.ClickException(view.trouble)
        click.echo("\n".join(frame(view, path, interval)))
        return
    status = None
    with _screen.Screen() as screen:
        due = time.monotonic() + interval
        while status is None:
            _, rows = screen.size()
            screen.show(frame(view, path, interval, rows))
            status = screen.wait(due)
            if time.monotonic() >= due:
                due = time.monotonic() + interval
                view = source.look_again(view)
    ctx.exit(status)


@dataclass(frozen=True)
class _View:
    """What was seen last, and what prevented seeing more."""

    limits: Sequence[Limit] = ()
    holders: Sequence[Holder] = ()
    waiters: Sequence[Waiter] = ()
    trouble: str | None = None
    at: float = 0.0  # wall time


def _is_shut(path: str) -> bool:
    folder = existing_folder(path)
    return folder is not None and _gate.is_shut(folder)


class _Source:
    """Where the views come from: each is one transaction, so it shows a single moment."""

    def __init__(self, database: Database, name: str | None) -> None:
        self._database = database
        self._name = name
        self._stuck_since: float | None = None

    def look(self, last: _View) -> _View:
        """Return the current state; if transactions do not go on, return what was seen last."""
        now = _clock.now()
        if self._stuck_since is not None and _is_shut(self._database.path):
            # Avoid queueing at the gate again with each frame.
            return replace(last, trouble=self._stuck(now - self._stuck_since))
        name = self._name
        action = together(
            _reading.read_all() if name is None else _reading.read(name),
            _usage.holders(name),
            _usage.waiters(name),
        )
        try:
            limits, holders, waiters = action.run(self._database, now + _PATIENCE_SECONDS)
        except _gate.GateTimeoutError:
            if self._stuck_since is None:
                self._stuck_since = now
            return replace(last, trouble=self._stuck(_clock.now() - self._stuck_since))
        self._stuck_since = None
        if name is not None:
            limits = [limits]
        return _View(limits, holders, waiters, at=_clock.wall())

    def look_again(self, last: _View) -> _View:
        """As `look`, but an error is shown; it may be over by the next look."""
        try:
            return self.look(last)
        except LocalGCLError as error:
            return _View(trouble=str(error), at=_clock.wall())

    def _stuck(self, seconds: float) -> str:
        who = "a process is stopped inside one"
        gate = f"{os.path.realpath(self._database.path)}-run/{GATE}"
        for pid, command, stopped in processes.holders_of(gate):
            who = f"process {pid} ({command}) {'is stopped' if stopped else 'is'} inside one"
        return f"no transaction went on for {seconds:.0f} s: {who}; `localgcl doctor` tells more"


# What a frame looks like


def frame(view: _View, path: str, interval: float, rows: int | None = None) -> list[str]:
    """Return the lines of a frame of `rows` rows; all lines if that is None."""
    clock = time.strftime("%H:%M:%S", time.localtime(view.at)) if view.at else "--:--:--"
    lines = [f"localgcl top  {clock}  every {interval:g} s, q ends  {path}"]
    if view.trouble is not None:
        lines.append(view.trouble)
    elif not view.limits:
        lines.append("No global concurrency limits found.")
    tables: list[tuple[Sequence[Any], Callable[[Any], list[str]]]] = [
        (view.limits, table_of_limits),
        (view.holders, table_of_holders),
        (view.waiters, table_of_waiters),
    ]
    sizes = [len(entries) + 2 if entries else 0 for entries, _ in tables]  # blank line, headings
    given = sizes if rows is None else shares(rows - len(lines), sizes)
    for (entries, table), size, room in zip(tables, sizes, given, strict=True):
        if room == size:
            lines += ["", *table(entries)] if entries else []
        else:
            # Those in use first; the last line says how many more there are.
            seen = sorted(entries, key=_is_idle)[: max(0, room - 3)]
            lines += ["", *table(seen)][: max(0, room - 1)]
            lines += [f"... {len(entries) - len(seen)} more"] if room else []
    return [printable(line) for line in lines]


def _is_idle(one: Limit | Holder | Waiter) -> bool:
    return isinstance(one, Limit) and not (one.active_slots or one.waiting)


def shares(rows: int, sizes: Sequence[int]) -> list[int]:
    """Return how many of `rows` each part gets: what it needs, or as much as any other.

    >>> shares(20, [100, 4, 30])
    [8, 4, 8]
    """
    given = [0] * len(sizes)
    left = max(0, rows)
    by_size = sorted(range(len(sizes)), key=lambda part: sizes[part])
    for place, part in enumerate(by_size):
        given[part] = min(sizes[part], left // (len(sizes) - place))
        left -= given[part]
    return given
